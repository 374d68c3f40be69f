"""For the leak audit: upstreams that send back what they got as the credential, in every way."""

import base64
import gzip
import json
import re
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import brotli  # type: ignore[import-untyped]  # it has no types
import h2.config  # type: ignore[import-untyped, unused-ignore]  # h2 is typed since 4.2
import h2.connection  # type: ignore[import-untyped, unused-ignore]
import h2.events  # type: ignore[import-untyped, unused-ignore]
from hpack import Encoder
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame

from flowrotate.demo.upstream import Raw, Reply, Request
from tests.test_unpack import like_zlib, raw_deflate, zstd

from .audit import WRITINGS


@dataclass(frozen=True, slots=True)
class Given:
    """What an upstream got as the credential: the secret itself, and as it came."""

    secret: str
    wire: str

    @property
    def texts(self) -> list[str]:
        """Everything that it may write of it."""
        bare = self.wire.rpartition(" ")[2]
        return [
            *(write(self.secret) for write in WRITINGS.values()),
            self.wire,
            json.dumps(bare)[1:-1],
        ]

    @property
    def body(self) -> bytes:
        return "\n".join(self.texts).encode()


def given(fields: Mapping[str, str], target: str) -> Given:
    if found := re.search("[?&]key=([^&]*)", target):
        return Given(unquote(found[1]), found[1])
    wire = fields.get("x-own-key") or fields.get("authorization", "")
    scheme, _, value = wire.rpartition(" ")
    if scheme == "Basic":
        return Given(base64.b64decode(value).decode().partition(":")[2], wire)
    return Given(value, wire)


JSON = ("content-type", "application/json")
TEXT = ("content-type", "text/plain")
EVENTS = ("content-type", "text/event-stream")
PACKED: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd,
    "gzip, br": lambda body: brotli.compress(gzip.compress(body)),
    "raw": raw_deflate,
    "raw, as zlib begins": like_zlib,
}
CODECS: Mapping[str, Callable[[bytes], bytes]] = {
    "zip": zlib.compress,
    "quopri": lambda body: b"".join(b"=%02X" % byte for byte in body),
    "deflateraw": raw_deflate,
}
"""What no server sends, and mitmproxy reads."""


async def _pieces(parts: Iterable[bytes]) -> Any:
    for part in parts:
        yield part


def _cut(data: bytes, size: int) -> Any:
    return _pieces(data[at : at + size] for at in range(0, len(data), size))


Echo = Callable[[Given], Reply]

CHARSETS = ("utf-16", "utf-32-be", "cp037", "utf-7", "unicode_escape")
"""That are no superset of ASCII."""


def _written_in(charset: str, size: int = 0) -> Echo:
    """A text, whole or in pieces of so many bytes."""

    def echo(got: Given) -> Reply:
        data = got.body.decode().encode(charset)
        headers = [("content-type", f"text/plain; charset={charset}")]
        return Reply(200, headers, _cut(data, size) if size else data)

    return echo


def _packed(name: str, kind: tuple[str, str] = TEXT, size: int = 0) -> Echo:
    """A body, whole or in pieces of so many bytes."""
    pack, encoding = {**PACKED, **CODECS}[name], "deflate" if name.startswith("raw") else name

    def echo(got: Given) -> Reply:
        data = pack(got.body)
        headers = [kind, ("content-encoding", encoding)]
        return Reply(200, headers, _cut(data, size) if size else data)

    return echo


ECHOES: Mapping[str, Echo] = {
    "a body": lambda g: Reply(200, [TEXT], g.body),
    "JSON": lambda g: Reply(200, [JSON], json.dumps([g.secret, g.wire]).encode()),
    "an error page": lambda g: Reply(500, [("content-type", "text/html")], b"<p>" + g.body),
    "a wrong request": lambda g: Reply(400, [JSON], json.dumps({"error": g.wire}).encode()),
    "header values": lambda g: Reply(
        200, [(f"x-{n}", text) for n, text in enumerate(g.texts)], b"{}"
    ),
    "a header's name": lambda g: Reply(200, [("x-" + g.secret.encode().hex(), "1")]),
    "a redirect": lambda g: Reply(302, [("location", "/?key=" + quote(g.secret, safe=""))]),
    "a cookie": lambda g: Reply(200, [("set-cookie", f"k={quote(g.secret)}; Path=/")]),
    "no content": lambda g: Reply(204, [("x-key", g.wire)]),
    "not modified": lambda g: Reply(304, [("etag", f'"{g.secret}"')]),
    "events": lambda g: Reply(
        200, [EVENTS], _pieces(f"data: {text}\n\n".encode() for text in g.texts)
    ),
    "lines": lambda g: Reply(
        200, [("content-type", "application/x-ndjson")], _pieces(g.body.splitlines(keepends=True))
    ),
    "bytes": lambda g: Reply(200, [EVENTS], _cut(g.secret.encode() + b"\n" + g.wire.encode(), 1)),
    "pieces": lambda g: Reply(200, [EVENTS], _cut(g.body, 29)),
    "pieces of a whole": lambda g: Reply(200, [TEXT], _cut(g.body, 29)),
    "frames": lambda g: Reply(200, [("content-type", "application/grpc")], _cut(g.body, 11)),
    "behind 60 KiB": lambda g: Reply(200, [TEXT], b"." * 60_000 + g.body),
    "behind 300 KiB": lambda g: Reply(200, [TEXT], b"." * 300_000 + json.dumps(g.secret).encode()),
    "its end": lambda g: Reply(200, [TEXT], b"." * 100 + g.secret.encode()[:-4]),
    "no gzip": lambda g: Reply(200, [TEXT, ("content-encoding", "gzip")], g.body),
    "UTF-16 with a mark alone": lambda g: Reply(
        200, [TEXT], _cut(g.body.decode().encode("utf-16"), 29)
    ),
    "JSON in UTF-16": lambda g: Reply(
        200, [JSON], _cut(json.dumps(g.secret).encode("utf-16-le"), 29)
    ),
    **{charset: _written_in(charset) for charset in CHARSETS},
    **{f"{charset} in pieces": _written_in(charset, 7) for charset in CHARSETS},
    **{name: _packed(name) for name in (*PACKED, *CODECS)},
    **{f"{name} in pieces": _packed(name, EVENTS, 7) for name in (*PACKED, *CODECS)},
}
"""By name, what an upstream sends of what it got."""

ONLY_HTTP2: Mapping[str, Echo] = {
    "trailers": lambda g: Reply(
        200, [TEXT], b"ok", trailers=[(f"x-{n}", text) for n, text in enumerate(g.texts)]
    ),
}

# As bytes; {} is what came as the credential.
BROKEN: Mapping[str, bytes] = {
    "garbage": b"{}\r\n\r\n",
    "a bad version": b"{} 200 OK\r\n\r\n",
    "a bad status": b"HTTP/1.1 {}\r\n\r\n",
    "a reason": b"HTTP/1.1 200 {}\r\nContent-Length: 2\r\n\r\nok",
    "a bad line": b"HTTP/1.1 200 OK\r\n{}\r\n\r\n",
    "a bad name": b"HTTP/1.1 200 OK\r\nX {}: y\r\nContent-Length: 0\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nX-Key: {}",
    "a bad length": b"HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 {}\r\nContent-Length: 1\r\nContent-Length: {}\r\n\r\n",
    "a bad coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: {}\r\n\r\n",
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n.\r\n9{}",
    "a body that breaks off": b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{}",
    "more than one answer": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{}\r\n\r\n",
    "an early hint": b"HTTP/1.1 103 Hints\r\nLink: {}\r\n\r\nHTTP/1.1 200 {}\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: y\r\n {}\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 {}\r\nUpgrade: odd\r\nConnection: upgrade\r\n\r\n{} {}",
    "half a gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 999\r\n\r\n{}",
    "HTTP 2": b"\0\0\x40\x04\0\0\0\0\0{}\r\n\r\n",
}


def written(got: Given, writing: str) -> str:
    return got.wire if writing == "as it came" else WRITINGS[writing](got.secret)


def broken(request: Request) -> Raw:
    """An HTTP/1 upstream that sends one of BROKEN, in one of WRITINGS, by the request's path."""
    _, _, name, writing, *_ = map(unquote, request.target.partition("?")[0].split("/"))
    text = written(given(dict(request.headers), request.target), writing)

    async def run(_: Any, writer: Any) -> None:
        writer.write(BROKEN[name].replace(b"{}", text.encode()))

    return Raw(run)


def frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    """A WebSocket's, as a server sends it (RFC 6455, 5.2)."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)
    return bytes([128 * last + opcode]) + length + payload


def sockets(request: Request) -> Raw:
    """A WebSocket that sends what it got in every kind of frame."""
    got = given(dict(request.headers), request.target)
    text = got.secret.encode()
    frames = [
        *(frame(opcode, got.body) for opcode in (1, 2)),
        *(frame(opcode, part.encode()[:125]) for opcode in (9, 10) for part in got.texts),
        frame(1, text[:9], last=False) + frame(9, text) + frame(0, text[9:]),
        frame(2, text[:20], last=False) + frame(0, b"", last=False) + frame(0, text[20:]),
        frame(1, text, last=False),
        frame(8, (1000).to_bytes(2) + text),
    ]

    async def run(_: Any, writer: Any) -> None:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Extensions: x-%s\r\nX-Key: %s\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            % (text.hex().encode(), got.wire.encode())
        )
        for sent in frames:
            writer.write(sent)
            await writer.drain()

    return Raw(run)


def _head(stream: int, *fields: tuple[bytes, bytes], ends: bool = False) -> bytes:
    # Not by Huffman's code: what is searched for shall be there to be found.
    data = Encoder().encode(fields, huffman=False)
    flags = ["END_HEADERS", *(["END_STREAM"] if ends else [])]
    return bytes(HeadersFrame(stream, data, flags=flags).serialize())


def _ok(stream: int, *more: tuple[bytes, bytes], ends: bool = True) -> bytes:
    return _head(stream, (b":status", b"200"), *more, ends=ends)


def _data(stream: int, data: bytes) -> bytes:
    return bytes(DataFrame(stream, data, flags=["END_STREAM"]).serialize())


def _other(kind: int, payload: bytes) -> bytes:
    """A frame of any kind, right or wrong, on the connection's own stream (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, 0]) + bytes(4) + payload


BROKEN_HTTP2: Mapping[str, Callable[[int, bytes], bytes]] = {
    "a farewell": lambda _, t: bytes(GoAwayFrame(0, 0, 1, t).serialize()),
    "a farewell behind": lambda n, t: _ok(n) + bytes(GoAwayFrame(0, n, 0, t).serialize()),
    "a reset": lambda n, t: _ok(n, (b"x", t), ends=False) + bytes(RstStreamFrame(n, 2).serialize()),
    "a name in capitals": lambda n, t: _ok(n, (b"X-Key", t)),
    "a bad name": lambda n, t: _ok(n, (b"x " + t, b"y")),
    "a bad value": lambda n, t: _ok(n, (b"x-key", b"y\r\n" + t)),
    "a forbidden one": lambda n, t: _ok(n, (b"connection", t), (b"transfer-encoding", t)),
    "no status": lambda n, t: _head(n, (b"x-key", t), ends=True),
    "two statuses": lambda n, t: _ok(n, (b":status", t)),
    "a bad status": lambda n, t: _head(n, (b":status", t), ends=True),
    "an unknown pseudo-header": lambda n, t: _ok(n, (b":" + t, t)),
    "a bad length": lambda n, t: _ok(n, (b"content-length", t), ends=False) + _data(n, t),
    "a wrong length": lambda n, t: _ok(n, (b"content-length", b"1"), ends=False) + _data(n, t),
    "no head": lambda n, t: _data(n, t),
    "of a stream that is none": lambda n, t: _data(n + 2, t),
    "trailers that go on": lambda n, t: _ok(n, ends=False) + _head(n, (b"x-key", t)),
    "bad trailers": lambda n, t: _ok(n, ends=False) + _head(n, (b":status", t), ends=True),
    "an early hint": lambda n, t: _head(n, (b":status", b"103"), (b"link", t)) + _ok(n),
    "HTTP 1": lambda _, t: b"HTTP/1.1 400 %s\r\n\r\n%s" % (t, t),
    "a setting": lambda _, t: _other(4, t),
    "a ping": lambda n, t: _other(6, t[:8]) + _ok(n),
    "a promise": lambda _, t: _other(5, t),
    "an alternative": lambda n, t: _other(10, b"\0\x01x" + t) + _ok(n),
    "an unknown frame": lambda n, t: _other(250, t) + _ok(n),
    "a frame of no size": lambda _, t: b"\xff\xff\xff\0\0\0\0\0\1" + t,
    "half a head": lambda n, t: _ok(n, (b"x-key", t + b"." * 99))[:-20],
    "bad compression": lambda n, t: bytes(
        HeadersFrame(n, b"\xff\xff\xff\xff" + t, flags=["END_HEADERS"]).serialize()
    ),
}
"""Frames for a stream's number and a text."""


class Http2:
    """An upstream that sends what BROKEN_HTTP2 says of a path, and ends the connection."""

    def __init__(self, leaf: Path) -> None:
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(leaf)
        self._tls.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> "Http2":
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
        sock.settimeout(20)
        with suppress(OSError), sock, self._tls.wrap_socket(sock, server_side=True) as tls:
            config = h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
            connection = h2.connection.H2Connection(config)
            connection.initiate_connection()
            answer = b""
            while not answer:
                tls.sendall(connection.data_to_send())
                for event in connection.receive_data(tls.recv(65536)):
                    if isinstance(event, h2.events.RequestReceived):
                        fields = {str(name): str(value) for name, value in event.headers}
                        answer = self._answer(event.stream_id, fields)
            tls.sendall(answer)
            tls.shutdown(socket.SHUT_WR)
            while tls.recv(65536):
                pass

    def _answer(self, stream: int, fields: Mapping[str, str]) -> bytes:
        got = given(fields, fields[":path"])
        _, _, name, writing = map(unquote, fields[":path"].partition("?")[0].split("/"))
        return BROKEN_HTTP2[name](stream, written(got, writing).encode())
