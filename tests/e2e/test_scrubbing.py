"""What an upstream echoes of a credential reaches the client, the flow and the log as its alias.

An upstream sends exact bytes; what the client gets is compared with them, byte for byte, but for
the alias and what says how long and how packed the body is.
"""

import base64
import gzip
import html
import json
import re
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import brotli  # type: ignore[import-untyped]  # it has no types
import h2.config  # type: ignore[import-untyped, unused-ignore]  # h2 is typed since 4.2
import h2.connection  # type: ignore[import-untyped, unused-ignore]
import h2.events  # type: ignore[import-untyped, unused-ignore]
import h2.exceptions  # type: ignore[import-untyped, unused-ignore]
import httpx
import pytest
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader
from mitmproxy.net.http.http1.assemble import assemble_response

from flowrotate.demo.message import Headers
from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Raw, Reply, Request, ThreadedUpstream, json_reply
from tests.test_scrub_charsets import CHARSETS
from tests.test_unpack import like_zlib, raw_deflate, zstd

from .raw_h2 import request
from .test_commands import CONTROL
from .test_failover import is_quiet
from .world import World, bearers, forms, pool, secret, tunnel

A = secret("a")
ODD = "p/ä+w=o&r\"d<\\>'~7f3a9c"
"""A password with all that is escaped somewhere; it goes out in base64, with a user name."""
BLOB = base64.b64encode(f"user:{ODD}".encode())
SECRETS = {
    "pool": A,
    "odd": ODD,
    "query": "q/ü&w+=%41'7f3a9c",
    "jwt": "jwt-canary/0123456789abcdef0123456789",
}
ALIAS = {
    "pool": b"[rotate:pool/a]",
    "odd": b"[rotate:odd/p]",
    "query": b"[rotate:query/q]",
    "jwt": b"[rotate:jwt/j]",
}


@dataclass(frozen=True, slots=True)
class Echo:
    """What an upstream sends of a secret, and what is to be got of it."""

    sent: bytes
    got: bytes

    def __add__(self, more: bytes) -> "Echo":
        return Echo(self.sent + more, self.got + more)

    def __radd__(self, before: bytes) -> "Echo":
        return Echo(before + self.sent, before + self.got)


Write = Callable[[str, bytes], Echo]


def plainly(write: Callable[[str], str | bytes]) -> Write:
    def echo(secret: str, alias: bytes) -> Echo:
        written = write(secret)
        return Echo(written.encode() if isinstance(written, str) else written, alias)

    return echo


def in_base64(ahead: bytes, encode: Callable[[bytes], bytes] = base64.b64encode) -> Write:
    """Of a text in which something is before the secret, and behind it; that stays."""

    def echo(secret: str, alias: bytes) -> Echo:
        written = encode(ahead + secret.encode() + b"-?>")
        first = -(-len(ahead) * 8 // 6)
        last = (len(ahead) + len(secret.encode())) * 8 // 6
        return Echo(written, written[:first] + alias + written[last:])

    return echo


def percent_lower(text: str) -> str:
    return re.sub("%..", lambda found: found[0].lower(), quote(text, safe=""))


def json_upper(text: str) -> str:
    """As .NET writes it: everything that HTML could take for its own, in capital hex."""
    escaped = json.dumps(text)[1:-1].replace('\\"', "\\u0022")
    for letter in "&'+<>":
        escaped = escaped.replace(letter, f"\\u{ord(letter):04X}")
    return re.sub(r"\\u(....)", lambda found: "\\u" + found[1].upper(), escaped)


def json_php(text: str) -> str:
    return json.dumps(text)[1:-1].replace("/", "\\/")


def json_go(text: str) -> str:
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    for letter in "&<>":
        escaped = escaped.replace(letter, f"\\u{ord(letter):04x}")
    return escaped


FORMS: dict[str, Write] = {
    "plain": plainly(str),
    "base64": in_base64(b""),
    "base64 after one": in_base64(b"?"),
    "base64 after two": in_base64(b"?>"),
    "base64 after three": in_base64(b"?>?"),
    "base64 after four": in_base64(b"a:?>"),
    "base64 for URLs": in_base64(b"?>?", base64.urlsafe_b64encode),
    "base64 for URLs after one": in_base64(b"?", base64.urlsafe_b64encode),
    "base64 for URLs after two": in_base64(b"?>", base64.urlsafe_b64encode),
    "hex": plainly(lambda text: text.encode().hex()),
    "HEX": plainly(lambda text: text.encode().hex().upper()),
    "URL": plainly(lambda text: quote(text, safe="")),
    "url": plainly(percent_lower),
    "URL but /": plainly(quote),
    "form": plainly(quote_plus),
    "JSON": plainly(lambda text: json.dumps(text)[1:-1]),
    "JSON in UTF-8": plainly(lambda text: json.dumps(text, ensure_ascii=False)[1:-1]),
    "JSON of PHP": plainly(lambda text: json_php(text)),
    "JSON of Go": plainly(json_go),
    "JSON of .NET": plainly(json_upper),
    "JSON in JSON": plainly(lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1]),
    "JSON in JSON, of PHP": plainly(lambda text: json_php(json_php(text))),
    "JSON in JSON, of .NET": plainly(lambda text: json_upper(json_upper(text))),
    "Latin-1": plainly(lambda text: text.encode("latin-1")),
    "HTML": plainly(html.escape),
    "HTML text": plainly(partial(html.escape, quote=False)),
    "HTML of PHP": plainly(lambda text: html.escape(text).replace("&#x27;", "&#039;")),
    "HTML of Go": plainly(
        lambda text: html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    ),
    "encodeURIComponent": plainly(lambda text: quote(text, safe="!'()*")),
    "repr": plainly(lambda text: repr(text.encode())[2:-1]),
    "twice": lambda text, alias: Echo(text.encode() * 2, alias * 2),
}


@dataclass(frozen=True, slots=True)
class Coding:
    """How a body is packed, if it is, and whether it goes on unpacked when an alias is in it."""

    said: Sequence[str]
    pack: Callable[[bytes], bytes]
    unpacks: bool = True


def members(pack: Callable[[bytes], bytes], between: bytes = b"") -> Callable[[bytes], bytes]:
    """Packed in two, with the secret in both of them."""

    def packed(text: bytes) -> bytes:
        return pack(text[:17]) + between + pack(text[17:])

    return packed


def gz(data: bytes, name: bytes = b"") -> bytes:
    """A gzip member that says of which file it is (RFC 1952, 2.3.1)."""
    packed = gzip.compress(data, mtime=0)
    return packed[:3] + b"\x08" + packed[4:10] + name + b"\0" + packed[10:] if name else packed


CODINGS: dict[str, Coding] = {
    "none": Coding([], bytes, unpacks=False),
    "identity": Coding(["identity"], bytes, unpacks=False),
    "gzip": Coding(["gzip"], gz),
    "x-gzip": Coding(["X-GZip"], gz),
    "gzip, stored": Coding(["gzip"], lambda text: gzip.compress(text, 0)),
    "gzip, two members": Coding(["gzip"], members(gz)),
    "gzip, padded between": Coding(["gzip"], members(gz, b"\0\0\0")),
    "gzip, as zlib": Coding(["gzip"], zlib.compress),
    "gzip and more": Coding(["gzip"], lambda text: gz(text) + b"more"),
    "gzip with a name": Coding(["gzip"], partial(gz, name=A.encode())),
    "deflate": Coding(["deflate"], zlib.compress),
    "deflate, raw": Coding(["deflate"], raw_deflate),
    "deflate, raw, as zlib begins": Coding(["deflate"], like_zlib),
    "br": Coding(["br"], brotli.compress),
    "zstd": Coding(["zstd"], zstd),
    "zstd, two frames": Coding(["zstd"], members(zstd)),
    "gzip, br": Coding(["gzip, br"], lambda text: brotli.compress(gz(text))),
    "gzip and br": Coding(["gzip", "br"], lambda text: brotli.compress(gz(text))),
    "unknown": Coding(["odd"], bytes, unpacks=False),
    "gzip, not packed": Coding(["gzip"], bytes, unpacks=False),
    "br, not packed": Coding(["br"], bytes, unpacks=False),
    "gzip, gzip, not packed": Coding(["gzip, gzip"], bytes, unpacks=False),
}


def message(
    status: str | bytes, fields: Sequence[tuple[bytes, bytes]], body: bytes | None = None
) -> bytes:
    length = [] if body is None else [(b"Content-Length", b"%d" % len(body))]
    lines = [name + b": " + value for name, value in (*fields, *length)]
    line = status if isinstance(status, bytes) else status.encode()
    return b"\r\n".join([b"HTTP/1.1 " + line, *lines, b"", body or b""])


def packed(coding: Coding, text: bytes, *, as_it_was: bool = True) -> bytes:
    said = [(b"Content-Encoding", name.encode()) for name in coding.said]
    kept = said if as_it_was or not coding.unpacks else []
    body = coding.pack(text) if as_it_was or not coding.unpacks else text
    return message("200 OK", [(b"Content-Type", b"text/plain"), *kept, (b"X-Own", b"1")], body)


TEXT = (b'{"echo": "', b'", "more": "' + b"x" * 99 + b'"}\n')


def with_body(status: str, *fields: tuple[bytes, bytes]) -> Callable[[bytes], bytes]:
    return lambda text: message(status, fields, TEXT[0] + text + TEXT[1])


Encode = Callable[[str], bytes]
TOLD: dict[str, tuple[str, str, Encode]] = {
    **{
        f"{charset} {n}": (f'text/html; a="B"; charset={charset}', 'text/html; a="B"', encode)
        for n, (charset, encode) in enumerate(CHARSETS)
    },
    "a mark": ("text/plain", "text/plain", lambda text: b"\xff\xfe" + text.encode("utf-16-le")),
    "JSON alone": ("application/json", "application/json", lambda text: text.encode("utf-16-be")),
    "a page": (
        "text/html",
        "text/html",
        lambda text: b"<meta charset=cp037>" + text.encode("cp037"),
    ),
}
"""By name: what the Content-Type says of a text, what stays of that, and how it is written."""


def in_charset(told: str, text: str, *, as_it_was: bool = True) -> bytes:
    kind, kept, encode = TOLD[told]
    body = encode(text)
    if as_it_was:
        return message("200 OK", [(b"Content-Type", kind.encode())], body)
    charset = {"a mark": "utf-16", "JSON alone": "utf-16-be", "a page": "cp037"}.get(told)
    read = body.decode(charset or kind.rpartition("=")[2].strip('"'))
    read = read.replace(A, ALIAS["pool"].decode())
    return message("200 OK", [(b"Content-Type", f"{kept}; charset=utf-8".encode())], read.encode())


PLACES: dict[str, Callable[[bytes], bytes]] = {
    "a value": lambda text: message("200 OK", [(b"X-Echo", b"Bearer " + text)], b"ok"),
    "two values": lambda text: message("200 OK", [(b"X", text), (b"X", b'"' + text + b'"')], b"ok"),
    "Location": lambda text: message(
        "302 Found", [(b"Location", b"https://api.example.test/?key=" + text)], b""
    ),
    "Set-Cookie": lambda text: message("200 OK", [(b"Set-Cookie", b"k=" + text + b"; A")], b""),
    "304": lambda text: message("304 Not Modified", [(b"ETag", b'"' + text + b'"')]),
    "204": lambda text: message("204 No Content", [(b"X-Echo", text)]),
    "a reason": lambda text: message(b"200 OK, " + text, [], b"ok"),
    "206": with_body("206 Partial Content", (b"Content-Range", b"bytes 5-9/99")),
    "400": with_body("400 Bad Request"),
    "401": with_body("401 Unauthorized", (b"WWW-Authenticate", b'Bearer realm="x"')),
    "403": with_body("403 Forbidden"),
    "429": with_body("429 Too Many Requests", (b"Retry-After", b"1")),
    "500": with_body("500 Internal Server Error"),
}  # fmt: skip


def clean(got: bytes) -> bytes:
    """What is told of a body that was changed tells the truth."""
    head, _, body = got.partition(b"\r\n\r\n")
    return (
        re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head)
        + b"\r\n\r\n"
        + body
    )


ANSWERS: dict[str, dict[str, bytes]] = {}
"""By path, and by credential; "" is any other."""
REPLIES: dict[str, Reply] = {}


def send(request: Request) -> Raw | Reply:
    async def run(_: Any, writer: Any) -> None:
        answers = ANSWERS[request.target.partition("?")[0]]
        writer.write(answers.get(bearers([request])[0], answers[""]))

    return tell(request) if "/echo?" in request.target else Raw(run)


def reply(request: Request) -> Reply:
    return tell(request) if "/echo?" in request.target else REPLIES[request.target]


def tell(request: Request) -> Reply:
    """What was asked, and what can be read in it."""
    scheme, _, given = (request.header("authorization") or "").partition(" ")
    read = b""
    if scheme == "Basic":
        read = base64.b64decode(given)
    elif "." in given:
        read = base64.urlsafe_b64decode(given.split(".")[1] + "==")
    said = {"headers": request.headers, "url": request.target, "read": read.decode()}
    where = [("Location", f"https://api.example.test{request.target}"), ("X-Again", given)]
    return json_reply([said, json.dumps(said), quote(json.dumps(said))], headers=where)


class BadHttp2:
    """An HTTP/2 server that answers each request with what h2 itself would not send."""

    def __init__(self, leaf: Path) -> None:
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(leaf)
        self._tls.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> "BadHttp2":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        # What comes after a goodbye is against the rules of h2.
        ends = suppress(OSError, h2.exceptions.ProtocolError)
        with ends, sock, self._tls.wrap_socket(sock, server_side=True) as tls:
            self._talk(tls)

    def _talk(self, tls: ssl.SSLSocket) -> None:
        config = h2.config.H2Configuration(
            client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        while data := tls.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    path = dict(event.headers)[b":path"].decode()
                    BAD[path.removeprefix("/pool/")](connection, event.stream_id)
            tls.sendall(connection.data_to_send())


def exchange(proxy: Proxy, url: str, method: str = "GET") -> bytes:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
        host = url.split("/")[2]
        head = f"{method} {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode())
        got = b""
        while data := sock.recv(65536):
            got += data
    return got


@dataclass(slots=True)
class Echoing:
    """A proxy, and upstreams that send what they are told to."""

    proxy: Proxy
    plain: ThreadedUpstream
    tls: ThreadedUpstream
    bad: BadHttp2
    over_h2: httpx.Client = field(repr=False)

    def get(self, answer: bytes, pool: str = "odd", method: str = "GET", **others: bytes) -> bytes:
        """All that a client gets for these bytes; some credentials get `others`."""
        ANSWERS[path := f"/{pool}/{len(ANSWERS)}"] = {"": answer, **others}
        return exchange(self.proxy, self.plain.url(path, "127.0.0.1"), method)

    def get_h2(
        self, fields: Headers, body: bytes, pool: str = "odd", **more: Any
    ) -> tuple[list[tuple[str, str]], bytes]:
        """Fields and body of an answer, as they come."""
        REPLIES[path := f"/{pool}/{len(REPLIES)}"] = Reply(headers=fields, body=body, **more)
        with self.over_h2.stream("GET", self.tls.url(path)) as got:
            return got.headers.multi_items(), b"".join(got.iter_raw())

    def reset(self) -> None:
        exchange(self.proxy, "http://control.test/run?rotate.reset")


def pools(*hosts: str) -> list[dict[str, Any]]:
    basic = {"inject": "Authorization: Basic {basic}", "username": "user"}
    odd, query = {"id": "p", "secret": ODD}, {"id": "q", "secret": SECRETS["query"]}
    # As the older plugin's credentials: the token tells what it was signed with.
    claims = {"clientSecret": SECRETS["jwt"]}
    minted = {"algorithm": "HS256", "key": {"secret": SECRETS["jwt"]}, "claims": claims}
    return [
        pool(hosts, "a", paths=["/pool/**"]),
        pool(hosts, "bc", name="two", paths=["/two/**"], strategy="fill-first"),
        pool(hosts, "", name="odd", paths=["/odd/**"], **basic) | {"credentials": [odd]},
        pool(hosts, "", name="query", paths=["/query/**"], inject="?key={secret}")
        | {"credentials": [query]},
        pool(hosts, "", name="jwt", paths=["/jwt/**"])
        | {"credentials": [{"id": "j", "jwt": minted}]},
    ]


Upstreams = tuple[ThreadedUpstream, ThreadedUpstream, BadHttp2]


@pytest.fixture(scope="module")
def upstreams(shared: World) -> Iterator[Upstreams]:
    with BadHttp2(shared.authority.leaf) as bad:
        yield shared.upstream(send, tls=False), shared.upstream(reply, alpn=["h2"]), bad


def start(world: World, upstreams: Upstreams, **options: Any) -> Echoing:
    plain, tls, bad = upstreams
    hosts = [plain.url("", "127.0.0.1"), f"localhost:{tls.port}", f"localhost:{bad.port}"]
    proxy = world.proxy(*pools(*hosts), scripts=[SCRIPT, CONTROL], **options)
    return Echoing(proxy, plain, tls, bad, world.client(proxy, http2=True))


@pytest.fixture(scope="module")
def echoing(shared: World, upstreams: Upstreams) -> Iterator[Echoing]:
    made = start(shared, upstreams)
    yield made
    is_quiet(made.proxy)


each_coding = pytest.mark.parametrize("coding", CODINGS)
each_place = pytest.mark.parametrize("place", PLACES)


def echo(form: str, pool: str = "odd") -> Echo:
    return FORMS[form](SECRETS[pool], ALIAS[pool])


def found(data: bytes) -> list[str]:
    """The secrets that can be read in some bytes, and in which form."""
    every = [
        (name, form, write(secret, b"|"))
        for name, secret in SECRETS.items()
        for form, write in FORMS.items()
    ]
    return [f"{name} in {form}" for name, form, echo in every if core(echo) in data] + forms(data)


def core(echo: Echo) -> bytes:
    before, _, behind = echo.got.partition(b"|")
    return echo.sent[len(before) : len(echo.sent) - len(behind)]


@each_coding
def test_in_a_body(echoing: Echoing, coding: str) -> None:
    how = CODINGS[coding]
    for form in FORMS:
        text = TEXT[0] + echo(form) + TEXT[1]
        got = echoing.get(packed(how, text.sent))
        assert (form, got) == (form, packed(how, text.got, as_it_was=False))


@pytest.mark.parametrize("told", TOLD)
def test_in_a_text_of_another_charset(echoing: Echoing, told: str) -> None:
    """It goes on in UTF-8, where there is a secret in it."""
    text = f'{{"echo": "{A}", "more": "äx"}}'
    got = echoing.get(in_charset(told, text), "pool")
    assert got == in_charset(told, text, as_it_was=False)
    kept = in_charset(told, text.replace("canary", "bird"))
    assert echoing.get(kept, "pool") == kept


@each_coding
def test_in_a_body_over_http2(echoing: Echoing, coding: str) -> None:
    how = CODINGS[coding]
    said = [("content-encoding", name) for name in how.said]
    for form in FORMS:
        text = TEXT[0] + echo(form) + TEXT[1]
        body = how.pack(text.sent)
        got = echoing.get_h2([("x-own", "1"), *said, ("content-length", str(len(body)))], body)
        clean = text.got if how.unpacks else how.pack(text.got)
        kept = [] if how.unpacks else said
        assert got == ([("x-own", "1"), *kept, ("content-length", str(len(clean)))], clean)


@each_place
def test_elsewhere(echoing: Echoing, place: str) -> None:
    put = PLACES[place]
    for form in FORMS:
        text = echo(form)
        assert (form, echoing.get(put(text.sent))) == (form, clean(put(text.got)))
        if place in ("401", "403", "429"):
            echoing.reset()


NAMES = [
    A,
    A.upper(),
    f"before-{A}-behind",
    A.encode().hex(),
    base64.b64encode(f"?>{A}".encode()).decode(),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_field_whose_name_tells_is_left_out(echoing: Echoing, name: str) -> None:
    fields = [(b"X-Before", b"1"), (f"X-{name}".encode(), b"2"), (b"X-Behind", b"3")]
    got = echoing.get(message("200 OK", fields, b"ok"), "pool")
    assert got == message("200 OK", [fields[0], fields[2]], b"ok")
    sent = [("x-before", "1"), (f"x-{name.lower()}", "2"), ("content-length", "2")]
    assert echoing.get_h2(sent, b"ok", "pool") == ([sent[0], sent[2]], b"ok")


def test_fields_over_http2(echoing: Echoing) -> None:
    for form in FORMS:
        text = echo(form)
        fields = [("x-echo", text.sent.decode("latin-1")), ("content-length", "0")]
        clean = [("x-echo", text.got.decode("latin-1")), ("content-length", "0")]
        assert echoing.get_h2(fields, b"") == (clean, b"")
        fields = [("location", "/?" + fields[0][1]), ("content-length", "0")]
        clean = [("location", "/?" + clean[0][1]), ("content-length", "0")]
        assert echoing.get_h2(fields, b"", status=302) == (clean, b"")


@pytest.mark.parametrize("length", [False, True], ids=["streamed", "whole"])
@pytest.mark.parametrize("body", [b"", b"x" * 30, A.encode()])
def test_trailers(echoing: Echoing, body: bytes, length: bool) -> None:
    fields = [("content-length", str(len(body)))] if length else []
    trailers = [("x-echo", f"Bearer {A}"), (f"x-{A}", "1"), ("grpc-status", "0")]
    REPLIES[path := f"/pool/{len(REPLIES)}"] = Reply(200, fields, body, trailers)
    got, text = last_fields(echoing, path)
    assert got == [(b"x-echo", b"Bearer " + ALIAS["pool"]), (b"grpc-status", b"0")]
    assert text == body.replace(A.encode(), ALIAS["pool"])


def last_fields(echoing: Echoing, path: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The trailers of an answer, and its body."""
    config = h2.config.H2Configuration(header_encoding=None)
    connection, body, trailers = h2.connection.H2Connection(config), b"", []
    with tunnel(echoing.proxy, f"localhost:{echoing.tls.port}", ["h2"]) as tls:
        connection.initiate_connection()
        head = request(f"localhost:{echoing.tls.port}", path=path)
        connection.send_headers(1, head, end_stream=True)
        tls.sendall(connection.data_to_send())
        while data := tls.recv(65536):
            for event in connection.receive_data(data):
                match event:
                    case h2.events.DataReceived():
                        body += event.data
                    case h2.events.TrailersReceived():
                        trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
                    case h2.events.StreamEnded():
                        return trailers, body
    raise AssertionError("the proxy hung up")


def test_what_was_sent_itself(echoing: Echoing) -> None:
    """User name and password in base64: all of it is one form."""
    sent = message("200 OK", [(b"X", b"Basic " + BLOB)], b"<" + BLOB + b">")
    clean = message("200 OK", [(b"X", b"Basic " + ALIAS["odd"])], b"<" + ALIAS["odd"] + b">")
    assert echoing.get(sent) == clean


def test_an_answer_to_head(echoing: Echoing) -> None:
    for how in ([], [(b"Content-Encoding", b"gzip")]):
        fields = [(b"X-Echo", ODD.encode()), *how, (b"Content-Length", b"99")]
        clean = [(b"X-Echo", ALIAS["odd"]), *how, (b"Content-Length", b"99")]
        got = echoing.get(message("200 OK", fields), method="HEAD")
        assert got == message("200 OK", clean)


def test_digests_of_a_body_go_with_what_they_are_about(echoing: Echoing) -> None:
    digests = [(b"Content-MD5", b"x"), (b"Digest", b"x"), (b"Content-Digest", b"x")]
    for how, text in (([], ODD.encode()), ([(b"Content-Encoding", b"gzip")], gz(ODD.encode()))):
        got = echoing.get(message("200 OK", [*digests, (b"ETag", b"x"), *how], text))
        assert got == message("200 OK", [(b"ETag", b"x")], ALIAS["odd"])
    kept = message("200 OK", [*digests, (b"ETag", b"x")], b"nothing")
    assert echoing.get(kept) == kept


ALIKE = {
    "cut": A.encode()[:-1] + b" ",
    "longer": A.encode()[:-1] + b"-" + A.encode()[-1:],
    "in capitals": A.encode().upper(),
    "over two lines": A.encode()[:9] + b"\n" + A.encode()[9:],
    "an alias": b"[rotate:pool/a]",
    "hex, shifted": A.encode().hex().encode()[1:] + b"0",
    "beginnings": b"s sk sk- sk-c " + A.encode()[:11],
    "one that never went out": secret("z").encode(),
    "no UTF-8": bytes(range(256)) * 9,
    "nothing": b"",
    "much": b"sk-canary " * 200_000,
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_shows_none_comes_through_byte_for_byte(echoing: Echoing, name: str) -> None:
    text = ALIKE[name]
    for coding, how in CODINGS.items():
        if coding != "gzip with a name":
            sent = packed(how, text)
            assert (coding, echoing.get(sent, "pool") == sent) == (coding, True)


def test_a_head_that_shows_none_comes_through_byte_for_byte(echoing: Echoing) -> None:
    fields = [(b"x-OWN", b"\xff\x80"), (b"X-Empty", b""), (b"X", A[:-1].encode()), (b"x", b'"')]
    for status in (b"200 ", b"200 sk-canary", b"299 \xff", b"404 Not Found"):
        sent = message(status, fields, b"ok")
        assert echoing.get(sent, "pool") == sent


SPOILED = {
    "cut": gz(b"x" * 99)[:-9],
    "a wrong checksum": gz(b"x" * 99)[:-8] + bytes(8),
    "the end of one": gz(b"x" * 99)[5:],
    "nothing packed": gz(b""),
    "its head alone": gz(b"x" * 99)[:10],
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_packed_badly_comes_through_byte_for_byte(echoing: Echoing, name: str) -> None:
    sent = message("200 OK", [(b"Content-Encoding", b"gzip")], SPOILED[name])
    assert echoing.get(sent) == sent


@pytest.mark.parametrize("size", [70_000, 600_000, 3_000_000])
@pytest.mark.parametrize("coding", ["none", "gzip", "br", "zstd"])
def test_far_down_in_a_body(echoing: Echoing, coding: str, size: int) -> None:
    how, before = CODINGS[coding], bytes(n * n % 251 for n in range(251)) * (size // 251)
    text = before + Echo(A.encode(), ALIAS["pool"]) + b" and so on"
    got = echoing.get(packed(how, text.sent), "pool")
    assert got == packed(how, text.got, as_it_was=False)


def test_a_host_in_no_pool_may_say_what_it_likes(echoing: Echoing) -> None:
    echoing.get(message("200 OK", [], b""), "pool")
    for put in PLACES.values():
        assert echoing.get(put(A.encode()), "none") == put(A.encode())


def test_credentials_of_other_requests(echoing: Echoing) -> None:
    for name in SECRETS:
        echoing.get(message("200 OK", [], b""), name)
    text = " ".join([*SECRETS.values(), secret("z")]).encode()
    clean = b" ".join([*ALIAS.values(), secret("z").encode()])  # z never went out
    for name in SECRETS:
        got = echoing.get(message("200 OK", [(b"X", text)], text), name)
        assert got == message("200 OK", [(b"X", clean)], clean)


def failed(text: bytes) -> bytes:
    return message("429 Too Many Requests", [(b"Retry-After", b"9"), (b"X-Echo", text)], text)


BOTH_SECRETS = f"{secret('b')} {secret('c')}".encode()
BOTH_ALIASES = b"[rotate:two/b] [rotate:two/c]"


def test_the_answer_to_the_second_attempt(echoing: Echoing) -> None:
    good = message("200 OK", [(b"X", BOTH_SECRETS)], BOTH_SECRETS)
    got = echoing.get(good, "two", b=failed(secret("b").encode()))
    assert got == message("200 OK", [(b"X", BOTH_ALIASES)], BOTH_ALIASES)
    echoing.reset()


def test_the_last_of_failing_answers(echoing: Echoing) -> None:
    got = echoing.get(failed(BOTH_SECRETS), "two")
    assert got == failed(BOTH_ALIASES)
    echoing.reset()


def test_a_failing_answer_that_was_kept_because_none_came_after_it(echoing: Echoing) -> None:
    got = echoing.get(failed(BOTH_SECRETS), "two", c=b"")
    assert got == failed(BOTH_ALIASES)
    echoing.reset()


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_a_service_that_tells_what_it_was_asked(echoing: Echoing, name: str, http2: bool) -> None:
    """Not what a test makes of the secret: what came over the wire, in JSON, twice packed."""
    path = f"/{name}/echo?a=1"
    if http2:
        got = echoing.over_h2.get(echoing.tls.url(path))
        text, location = got.content, got.headers["location"].encode()
    else:
        text = exchange(echoing.proxy, echoing.plain.url(path, "127.0.0.1"))
        location = re.findall(rb"Location: (.*)", text)[0]
    assert ALIAS[name] in text
    assert found(text + location) == []
    assert b"eyJ" not in text  # as every token begins
    if name == "query":
        assert ALIAS[name] in location


BROKEN = {
    "garbage": b"\0\xff {}\r\n\r\n",
    "half a line": b"HTTP/1.1 200 {}",
    "half a head": b"HTTP/1.1 200 OK\r\nX-Echo: {}\r\n",
    "half a head with a quotation mark": b"HTTP/1.1 200 OK\r\nX-Echo: {}'\"\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\n{}\r\n\r\n",
    "no status": b"HTTP/1.1 {} OK\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
    "a coding that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: {}\r\n\r\n",
    "a length that tells of another": b"HTTP/1.1 200 OK\r\nContent-Length: 1 {}'\"\r\n\r\n",
}
"""Answers that mitmproxy quotes when it says what is wrong with them."""
UNQUOTED = {
    "a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n",
    "a name with blanks": b"HTTP/1.1 200 OK\r\nX {} : 1\r\nContent-Length: 0\r\n\r\n",
    "more than it says": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n {}",
    "before the answer": b"HTTP/1.1 100 OK\r\nX: {}\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("name", SECRETS)
def test_a_broken_answer(echoing: Echoing, broken: str, name: str) -> None:
    got = echoing.get(BROKEN[broken].replace(b"{}", SECRETS[name].encode()), name)
    assert got.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert got.count(ALIAS[name]) == 1
    assert found(got) == []
    assert SECRETS[name].encode()[-9:] not in got  # nor the end of it


@pytest.mark.parametrize("broken", ["garbage", "half a line", "half a head"])
def test_a_broken_answer_with_half_a_secret(echoing: Echoing, broken: str) -> None:
    for size in range(12, len(A)):
        got = echoing.get(BROKEN[broken].replace(b"{}", A[:size].encode()), "pool")
        assert got.count(ALIAS["pool"]) == 1
        assert A[:12].encode() not in got


@pytest.mark.parametrize("broken", UNQUOTED)
@pytest.mark.parametrize("name", SECRETS)
def test_an_odd_answer(echoing: Echoing, broken: str, name: str) -> None:
    got = echoing.get(UNQUOTED[broken].replace(b"{}", SECRETS[name].encode()), name)
    assert got.startswith(b"HTTP/1.1 ")
    assert found(got) == []


def says_goodbye(data: bytes) -> Callable[[Any, int], None]:
    return lambda connection, _: connection.close_connection(2, additional_data=data)


def sends(name: str, value: str) -> Callable[[Any, int], None]:
    fields = [(":status", "200"), (name, value)]
    return lambda connection, stream: connection.send_headers(stream, fields, end_stream=True)


BAD: dict[str, Callable[[Any, int], None]] = {
    "goodbye": says_goodbye(A.encode()),
    "goodbye-cut": says_goodbye(b"no: " + A.encode()),
    "goodbye-half": says_goodbye(b"no, key: " + A.encode()),
    "name": sends(f"X-{A}", "1"),
    "pseudo": sends(f":{A}", "1"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_broken_answer_over_http2(echoing: Echoing, bad: str) -> None:
    got = echoing.over_h2.get(f"https://localhost:{echoing.bad.port}/pool/{bad}")
    assert got.status_code == 502
    assert ALIAS["pool"] in got.content
    assert found(got.content) == []
    assert A[:9].encode().hex().encode() not in got.content


def everything() -> Iterator[tuple[str, bytes, bytes]]:
    """Each place, form and coding of this file: what of it, what is sent, what is to come."""
    for form in FORMS:
        put = PLACES["500"]
        yield form, put(echo(form).sent), clean(put(echo(form).got))
    for form in ("plain", "JSON", "base64 after one"):
        for place, put in PLACES.items():
            yield f"{form} in {place}", put(echo(form).sent), clean(put(echo(form).got))
        text = TEXT[0] + echo(form) + TEXT[1]
        for coding, how in CODINGS.items():
            got = packed(how, text.got, as_it_was=False)
            yield f"{form} in {coding}", packed(how, text.sent), got
    quoted = f'"{A}"'
    for told in TOLD:
        yield told, in_charset(told, quoted), in_charset(told, quoted, as_it_was=False)


def test_told_not_to_scrub_it_does_not(shared: World, upstreams: Upstreams) -> None:
    off = start(shared, upstreams, options={"rotate_scrub": "false", "rotate_fail": "500=ignore"})
    changed = [what for what, sent, _ in everything() if off.get(sent) != sent]
    assert changed == []
    assert found(off.get(message("200 OK", [], ODD.encode()))) == ["odd in plain"]


def test_captures_and_logs(shared: World, upstreams: Upstreams) -> None:
    """What is saved is what the client got; and nobody wrote down what it was made from."""
    capture, har = shared.folder / "flows.mitm", shared.folder / "flows.har"
    options = {
        "termlog_verbosity": "debug",
        "flow_detail": "4",
        "hardump": str(har),
        "rotate_fail": "500=ignore",
    }
    loud = start(shared, upstreams, options=options, args=["-w", str(capture)])
    expected = [message("200 OK", [], b"")]
    loud.get(expected[0], "pool")
    for what, sent, got in everything():
        assert (what, loud.get(sent)) == (what, got)
        expected.append(got)
    for broken in (*BROKEN.values(), *UNQUOTED.values()):
        for name, text in SECRETS.items():
            loud.get(broken.replace(b"{}", text.encode()), name)
    for bad in BAD:
        loud.over_h2.get(f"https://localhost:{loud.bad.port}/pool/{bad}")
    for name in SECRETS:
        loud.over_h2.get(loud.tls.url(f"/{name}/echo?a=1"))
    loud.proxy.stop()
    with capture.open("rb") as file:
        flows = [flow for flow in FlowReader(file).stream() if isinstance(flow, HTTPFlow)]
    answers = [flow.response for flow in flows if flow.response]
    assert [assemble_response(answer) for answer in answers[: len(expected)]] == expected
    errors = [flow.error.msg for flow in flows if flow.error]
    assert len(errors) >= len(BROKEN) * len(SECRETS)
    assert found("\n".join(errors).encode()) == []
    assert found(capture.read_bytes() + loud.proxy.text.encode()) == []
    assert [answer for answer in answers if found(answer.get_content(strict=False) or b"")] == []
    exported = [entry["response"] for entry in json.loads(har.read_text())["log"]["entries"]]
    assert found(json.dumps(exported, ensure_ascii=False).encode()) == []
    for content in (answer["content"] for answer in exported):
        raw = content.get("text", "").encode()
        assert found(base64.b64decode(raw) if "encoding" in content else raw) == []
