"""For the leak audit: canaries, how they may be written, and where that is searched."""

import base64
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader
from mitmproxy.tcp import TCPFlow

MINE = "mine-canary/~~~???>>><'&+=%41-7f3a9c"
"""What a client sends as its own credential."""


def canary(kind: str) -> str:
    """A secret of one kind of source, with all that is escaped anywhere."""
    return f"canary-{kind}/~~~???>>><'\"&%41\\+=7f3a9c=="


def _escape(chars: str, form: str) -> Callable[[str], str]:
    return lambda text: re.sub(chars, lambda found: form.format(ord(found[0][-1])), text)


def _in_base64(ahead: int, encode: Callable[[bytes], bytes]) -> Callable[[str], str]:
    return lambda text: encode(b"x" * ahead + text.encode() + b"behind").decode()


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _jinja(text: str) -> str:
    return html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


WRITINGS: Mapping[str, Callable[[str], str]] = {
    "plain": str,
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "URL": lambda text: quote(text, safe=""),
    "URL in lower case": lambda text: re.sub(
        "%..", lambda found: found[0].lower(), quote(text, safe="")
    ),
    "URL's path": quote,
    "form": quote_plus,
    "JavaScript's encodeURIComponent": lambda text: quote(text, safe="!'()*"),
    "JavaScript's encodeURI": lambda text: quote(text, safe=";,/?:@&=+$!*'()#"),
    "Java's URLEncoder": lambda text: quote_plus(text, safe="*").replace("~", "%7E"),
    "JSON": _json,
    "PHP's JSON": lambda text: _json(text).replace("/", "\\/"),
    "JSON in JSON": lambda text: _json(_json(text)),
    "Go's JSON": lambda text: _escape("[<>&]", "\\u{:04x}")(_json(text)),
    ".NET's JSON": lambda text: _escape(r"\\\"|[<>&'+`]", "\\u{:04X}")(_json(text)),
    "Gson": lambda text: _escape("[<>&'=]", "\\u{:04x}")(_json(text)),
    "HTML": html.escape,
    "HTML's text": lambda text: html.escape(text, quote=False),
    "PHP's HTML": lambda text: html.escape(text).replace("&#x27;", "&#039;"),
    "Jinja": _jinja,
    "Go's HTML": lambda text: _jinja(text).replace("+", "&#43;"),
    "Handlebars": lambda text: _escape("[=`]", "&#x{:X};")(html.escape(text)),
    "Mustache": lambda text: _escape("[=`/]", "&#x{:X};")(
        html.escape(text).replace("&#x27;", "&#39;")
    ),
    "repr": lambda text: repr(text.encode())[2:-1],
    **{f"base64 after {n}": _in_base64(n, base64.b64encode) for n in range(3)},
    **{f"base64 for URLs after {n}": _in_base64(n, base64.urlsafe_b64encode) for n in range(3)},
    "base64 in a URL": lambda text: quote(_in_base64(0, base64.b64encode)(text), safe=""),
    "base64 in PHP's JSON": lambda text: _in_base64(0, base64.b64encode)(text).replace("/", "\\/"),
    "base64 in .NET's JSON": lambda text: _in_base64(0, base64.b64encode)(text).replace(
        "+", "\\u002B"
    ),
}


def forms_of(text: str) -> Iterator[tuple[str, bytes]]:
    """What is searched for, by the name of the writing."""
    for name, write in WRITINGS.items():
        written = write(text).encode()
        # What surrounds the secret changes the first and last characters of its base64.
        yield name, written[6:-14] if name.startswith("base64") else written
    yield "half of it", text.encode()[: len(text) // 2 + 1]
    yield "in lower case", text.lower().encode()


Found = tuple[str, str, str]


def search(artefacts: Mapping[str, bytes], secrets: Mapping[str, str]) -> list[Found]:
    """(artefact, secret, form) for each that is found; secrets by name."""
    wanted = [(name, *form) for name, text in secrets.items() for form in forms_of(text)]
    return [
        (where, name, form)
        for where, data in artefacts.items()
        for name, form, written in wanted
        if written in data
    ]


def seen(capture: Path) -> bytes:
    """A file of flows as it is written, and all that is packed or encoded in it."""
    with capture.open("rb") as file:
        flows = list(FlowReader(file).stream())
    return b"\n".join([capture.read_bytes(), *(part for flow in flows for part in _decoded(flow))])


def _decoded(flow: Flow) -> Iterator[bytes]:
    if isinstance(flow, TCPFlow):
        yield b"".join(message.content for message in flow.messages if not message.from_client)
    if isinstance(flow, HTTPFlow):
        for message in filter(None, (flow.request, flow.response)):
            content = message.get_content(strict=False) or b""
            with suppress(ValueError, LookupError):
                text = (message.get_text(strict=False) or "").encode("utf-8", "surrogateescape")
                yield from {content, text} - {message.raw_content}


def strings(data: bytes) -> bytes:
    """A JSON document, and every text in it as it is meant."""

    def texts(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from (text for pair in value.items() for part in pair for text in texts(part))
        elif isinstance(value, list):
            yield from (text for part in value for text in texts(part))

    found = "\n".join(texts(json.loads(data)))
    return data + b"\n" + found.encode("utf-8", "surrogatepass")
