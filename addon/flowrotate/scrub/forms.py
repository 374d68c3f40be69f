"""How a secret may be written, and which secrets went out lately. Pure."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar
from urllib.parse import quote, quote_plus

from flowrotate.secret import Secret

T = TypeVar("T")

SHORTEST = 8
"""Characters. A shorter secret is not looked for: it would be found in words that are not it."""
LATELY = 16
"""Values that went out last are looked for in every answer, not only in that to their request."""

_ORDINARY = re.compile(r"[A-Za-z0-9._-]*")  # no escape of any language changes these
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_PAGES: tuple[dict[str, str], ...] = (
    {},  # Python without quote
    {'"': "&quot;", "'": "&#x27;"},  # Python
    {'"': "&quot;", "'": "&#39;"},  # JavaScript, Ruby
    {'"': "&quot;", "'": "&#039;"},  # PHP
    {'"': "&#34;", "'": "&#39;"},  # Jinja, and Go's html
    {'"': "&#34;", "'": "&#39;", "+": "&#43;"},  # Go's html/template
    {'"': "&quot;", "'": "&#x27;", "`": "&#x60;", "=": "&#x3D;"},  # Handlebars
    {'"': "&quot;", "'": "&#39;", "`": "&#x60;", "=": "&#x3D;", "/": "&#x2F;"},  # Mustache
)
TELLING = 12
"""Bytes of a form at least, and half of it, that tell it where it breaks off."""


@dataclass(frozen=True, slots=True, eq=False)
class Forms:
    """`plain` as texts hold it, escaped or not, `coded` in base64, hex and JSON that is
    in JSON, `every` is both.

    `lower` is the same in lower case, and `halves` as much as tells each where it breaks off.
    """

    alias: bytes
    plain: tuple[bytes, ...] = field(repr=False)
    coded: tuple[bytes, ...] = field(repr=False)
    every: tuple[bytes, ...] = field(repr=False)
    lower: tuple[bytes, ...] = field(repr=False)
    halves: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, secret: Secret, blob: str | None = None) -> "Forms":
        """`blob` is what the secret goes out in, where that is not the secret itself.

        A secret that is too short to be looked for has no forms.
        """
        return _forms(secret, secret.alias, blob)


@lru_cache(1024)
def _forms(secret: Secret, alias: str, blob: str | None) -> Forms:
    text = secret.reveal()
    plain: dict[bytes, None] = {}
    coded: dict[bytes, None] = {}
    if len(text) >= SHORTEST:
        plain = dict.fromkeys(_plain(text))
        coded = dict.fromkeys(_coded(text.encode("utf-8", "surrogateescape")))
        coded |= dict.fromkeys(form for form in _json_in_json(text) if form not in plain)
        if blob:
            coded |= dict.fromkeys(_plain(blob))
    every = (*plain, *coded)
    return Forms(
        alias.encode(),
        tuple(plain),
        tuple(coded),
        every,
        tuple(form.lower() for form in every),
        tuple(form[: half_of(form)] for form in every),
    )


def half_of(form: bytes) -> int:
    return max(TELLING, (len(form) + 1) // 2)


def _plain(text: str) -> Iterator[bytes]:
    yield text.encode("utf-8", "surrogateescape")
    if _ORDINARY.fullmatch(text):
        return
    escaped = list(_escaped(text))
    pages = [text.translate({ord(c): to for c, to in (_MARKUP | page).items()}) for page in _PAGES]
    for form in (*_json(text), *pages, *escaped):
        yield form.encode("utf-8", "surrogateescape")
    with suppress(UnicodeEncodeError):
        yield text.encode("latin-1")  # what mitmproxy reads where no charset is told
    for form in escaped:
        yield re.sub("%..", lambda found: found[0].lower(), form).encode()
    for form in _quoted(text):
        yield form.encode("utf-8", "surrogateescape")


def _escaped(text: str) -> Iterator[str]:
    """In URLs and forms: Python, JavaScript (encodeURIComponent, encodeURI), Java."""
    for safe in ("", "/", "!'()*", ";,/?:@&=+$!*'()#"):
        yield quote(text, safe=safe)
    yield quote_plus(text)
    yield quote_plus(text, safe="*").replace("~", "%7E")


def _json(text: str) -> Iterator[str]:
    """As the writers of JSON escape it: Python, PHP (\\/), Go (\\u003c), .NET (\\u002B), Gson."""
    for ascii_only in (True, False):
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield written
        yield written.replace("/", "\\/")
        for escaped in (r"[<>&]", r"\\\"|[<>&'+`]", r"[<>&'=]"):
            lower = re.sub(escaped, lambda found: f"\\u{ord(found[0][-1]):04x}", written)
            yield lower
            yield re.sub(r"\\u....", lambda found: "\\u" + found[0][2:].upper(), lower)


def _json_in_json(text: str) -> Iterator[bytes]:
    """A document in a text of another, as errors and logs hold it: escaped once more."""
    for written in () if _ORDINARY.fullmatch(text) else _json(text):
        again = json.dumps(written, ensure_ascii=False)[1:-1].encode("utf-8", "surrogateescape")
        yield again
        if "\\/" in written:
            yield again.replace(b"/", b"\\/")


def _quoted(text: str) -> Iterator[str]:
    """As mitmproxy quotes bytes and texts in its messages.

    Whether a ' in it is escaped depends on what else is quoted: with both marks behind it, it is.
    """
    data = text.encode("utf-8", "surrogateescape")
    for written in (repr(data + b"'\"")[2:-4], repr(text + "'\"")[1:-4]):
        yield written
        yield written.replace("\\'", "'")


def _coded(text: bytes) -> Iterator[bytes]:
    """In base64, whatever precedes it (RFC 4648, 4 and 5), and in hex."""
    for ahead, first in ((0, 0), (1, 2), (2, 3)):
        written = base64.b64encode(bytes(ahead) + text)
        # Without the characters that tell of what is before and behind it, too.
        core = written[first : (ahead + len(text)) * 8 // 6]
        yield core
        yield core.translate(_URL_SAFE)
        # In a URL, and in JSON as PHP and .NET write it.
        yield core.replace(b"/", b"%2F").replace(b"+", b"%2B")
        yield core.replace(b"/", b"\\/")
        yield core.replace(b"+", b"\\u002B")
    yield text.hex().encode()
    yield text.hex().upper().encode()


class Lately(Generic[T]):
    """The latest so many different ones, in the order in which they came.

    It belongs to the event loop.
    """

    __slots__ = ("_known", "_most", "items")

    def __init__(self, most: int = LATELY) -> None:
        self._most = most
        self._known: dict[T, None] = {}
        self.items: tuple[T, ...] = ()

    def note(self, item: T) -> None:
        if item in self._known:
            return
        self._known[item] = None
        if len(self._known) > self._most:
            del self._known[self.items[0]]
        self.items = tuple(self._known)

    def beside(self, own: Iterable[T]) -> tuple[T, ...]:
        """These, and `own`."""
        more = [item for item in own if item not in self._known]
        return (*self.items, *more) if more else self.items
