"""Streams with a secret in them: aliases come out, at once, and nothing is lost.

Where it matters that nothing is held back, the upstream sends a piece only when the client has got
all of the one before.
"""

import asyncio
import gzip
import hashlib
import re
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import brotli  # type: ignore[import-untyped]  # it has no types
import httpx
import pytest
import wsproto.events as ws
from wsproto.connection import Connection, ConnectionType
from wsproto.extensions import Extension, PerMessageDeflate

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Raw, Reply, Request, Reset, ThreadedUpstream, json_reply

from .test_commands import CONTROL, run
from .test_failover import BOTH, UPSTREAMS, is_quiet
from .test_scrubbing import in_base64
from .world import World, bearers, client, forms, pool, secret, trusting, tunnel

A, ALIAS = secret("a").encode(), b"[rotate:pool/a]"
FITTED = ALIAS + b"***"
HEX = A.hex().encode()


class Feed:
    """What an upstream answers, piece by piece, as a test tells it to."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        self._fields = fields
        self._pieces: SimpleQueue[bytes | Reset | None] = SimpleQueue()
        self._more = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def send(self, *pieces: bytes | Reset | None) -> None:
        """None is the end."""
        for piece in pieces:
            self._pieces.put(piece)
        if self._loop:
            self._loop.call_soon_threadsafe(self._more.set)

    def reply(self) -> Reply:
        self._loop = asyncio.get_running_loop()
        return Reply(200, self._fields, self._body())

    async def _body(self) -> AsyncIterator[bytes]:
        while True:
            self._more.clear()
            while not self._pieces.empty():
                piece = self._pieces.get()
                if piece is None:
                    return
                if isinstance(piece, Reset):
                    raise piece
                yield piece
            await self._more.wait()


@dataclass(slots=True)
class Streaming:
    """A proxy, upstreams for HTTP/1.1 and HTTP/2, and clients for both."""

    proxy: Proxy
    upstreams: dict[str, ThreadedUpstream]
    plain: ThreadedUpstream
    clients: dict[bool, httpx.Client] = field(repr=False)

    @contextmanager
    def listen(
        self, feed: Feed, http2: bool, alpn: str, pool: str = "pool", status: int = 200
    ) -> Iterator["Listener"]:
        FEEDS[path := f"/{pool}/{next(NUMBERS)}"] = feed
        c, upstream = self.clients[http2], self.upstreams[alpn]
        with c.stream("GET", upstream.url(path)) as answer:
            assert answer.status_code == status
            yield Listener(answer, answer.iter_raw(), lambda: c.get(upstream.url("/nothing")))

    def raw(self, feed: Feed, alpn: str, version: str) -> bytes:
        """The very bytes that an HTTP/1 client gets."""
        FEEDS[path := f"/pool/{next(NUMBERS)}"] = feed
        authority = f"localhost:{self.upstreams[alpn].port}"
        with tunnel(self.proxy, authority, ["http/1.1", "h2"]) as tls:
            head = f"GET {path} {version}\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
            tls.sendall(head.encode())
            return b"".join(iter(lambda: tls.recv(65536), b""))


FRAMING = {"content-length", "transfer-encoding"}


@dataclass(slots=True)
class Listener:
    answer: httpx.Response
    pieces: Iterator[bytes]
    settle: Callable[[], object]
    """Return when the proxy has taken all that was sent before: an answer came after it."""
    got: bytes = b""

    def hears(self, text: bytes) -> None:
        """The next of what comes."""
        while len(self.got) < len(text):
            self.got += next(self.pieces)
        assert self.got[: len(text)] == text
        self.got = self.got[len(text) :]

    def ends(self, text: bytes = b"") -> None:
        """The last of what comes."""
        assert self.got + b"".join(self.pieces) == text

    def breaks(self, text: bytes = b"") -> None:
        """The last of what comes, and then no end.

        What comes of an HTTP/2 upstream without a length has none in HTTP/1: it ends with its
        connection, as in bare mitmproxy.
        """
        head = self.answer
        endless = head.http_version == "HTTP/1.1" and head.headers.keys().isdisjoint(FRAMING)
        with nullcontext() if endless else pytest.raises(httpx.RemoteProtocolError):
            for piece in self.pieces:
                self.got += piece
        assert self.got == text


FEEDS: dict[str, Feed] = {}
NUMBERS = count()
"""One for each feed, whichever thread takes it."""


def answer(request: Request) -> Reply:
    if bearers([request]) == ["b"]:
        return json_reply({"key": secret("b")}, 429)
    feed = FEEDS.get(request.target)
    return feed.reply() if feed else Reply()


RAW: dict[str, Sequence[bytes]] = {}
"""By path: what is sent at once, and then for each byte that comes."""


def upgrade(request: Request) -> Raw:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *rest = RAW[request.target]
        writer.write(first)
        for piece in rest:
            await reader.readexactly(1)
            writer.write(piece)

    return Raw(run)


Upstreams = dict[str, ThreadedUpstream]


@pytest.fixture(scope="module")
def upstreams(shared: World) -> Upstreams:
    return {alpn: shared.upstream(answer, alpn=[alpn]) for alpn in ("http/1.1", "h2")}


@contextmanager
def started(
    world: World, upstreams: Upstreams, *scripts: Path, **options: str
) -> Iterator[Streaming]:
    plain = world.upstream(upgrade, tls=False)
    hosts = [plain.url("", "127.0.0.1"), *(f"localhost:{u.port}" for u in upstreams.values())]
    proxy = world.proxy(
        pool(hosts, "a", paths=["/pool/**"]),
        pool(hosts, "bc", name="two", paths=["/two/**"], strategy="fill-first"),
        scripts=[SCRIPT, CONTROL, *scripts],
        options={"connection_strategy": "lazy", **options},
    )
    # mitmproxy offers an upstream what its client offers: a client that likes both speaks HTTP/1,
    # and the upstream may speak HTTP/2 all the same.
    verify = trusting(proxy.ca)
    transport = httpx.HTTPTransport(verify=verify, http2=True, proxy=httpx.Proxy(proxy.url))
    with httpx.Client(transport=transport, timeout=20) as h1, client(proxy, http2=True) as h2:
        yield Streaming(proxy, upstreams, plain, {False: h1, True: h2})
        is_quiet(proxy)


@pytest.fixture(scope="module")
def streaming(shared: World, upstreams: Upstreams) -> Iterator[Streaming]:
    capture = shared.folder / "streams.mitm"
    options = {"save_stream_file": str(capture), "flow_detail": "4"}
    with started(shared, upstreams, **options) as made:
        yield made
    made.proxy.stop()
    assert b"[rotate:pool/a]" in capture.read_bytes()
    assert forms(capture.read_bytes() + made.proxy.text.encode()) == []


class Packer:
    """A packed stream; after each piece, all of it can be unpacked."""

    def __init__(self, encoding: str) -> None:
        self._each = [FLUSHED[name]() for name in encoding.split(", ") if name]

    def __call__(self, piece: bytes) -> bytes:
        for pack in self._each:
            piece = pack(piece)
        return piece


def flushed_zlib(wbits: int) -> Callable[[bytes], bytes]:
    packer = zlib.compressobj(wbits=wbits)
    return lambda piece: packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)


def flushed_brotli() -> Callable[[bytes], bytes]:
    packer = brotli.Compressor()
    return lambda piece: packer.process(piece) + packer.flush()


def flushed_zstd() -> Callable[[bytes], bytes]:
    """By the library that the mitmproxy of this interpreter brings: 12 has another than 11."""
    try:
        packer = import_module("backports.zstd").ZstdCompressor()
        return lambda piece: bytes(packer.compress(piece, mode=packer.FLUSH_BLOCK))
    except ModuleNotFoundError:
        older = import_module("zstandard")
    packer = older.ZstdCompressor().compressobj()
    flush = older.COMPRESSOBJ_FLUSH_BLOCK
    return lambda piece: bytes(packer.compress(piece) + packer.flush(flush))


FLUSHED: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "gzip": lambda: flushed_zlib(31),
    "deflate": lambda: flushed_zlib(15),
    "raw deflate": lambda: flushed_zlib(-15),
    "br": flushed_brotli,
    "zstd": flushed_zstd,
}
ENCODINGS = ["", "gzip", "deflate", "raw deflate", "br", "zstd", "gzip, br"]
KINDS = ["text/event-stream", "application/x-ndjson", "text/plain"]

EVENTS: list[tuple[bytes, bytes]] = [
    (b"data: 0\n\n", b"data: 0\n\n"),
    (b'data: {"key": "' + A + b'"}\n\n', b'data: {"key": "' + ALIAS + b'"}\n\n'),
    (b"data: " + A + b"\n\n", b"data: " + ALIAS + b"\n\n"),
    (b"data: " + A[:9] + b"\n\n", b"data: " + A[:9] + b"\n\n"),
    (b"data: " + A[:17] + b"\n", b"data: " + A[:17] + b"\n"),
    (b"data: s\n", b"data: s\n"),
    (HEX + b"\r\n", ALIAS + b"\r\n"),
    (b"key=" + A, b"key=" + ALIAS),
    (b"x" * 70_000 + A + b"\n", b"x" * 70_000 + ALIAS + b"\n"),
    (b": the end\n\n", b": the end\n\n"),
]
"""What is sent and what comes, each before the next one is sent."""


def coded(encoding: str) -> list[tuple[str, str]]:
    return [("content-encoding", encoding.removeprefix("raw "))] if encoding else []


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_event_comes_before_the_next(
    streaming: Streaming, encoding: str, http2: bool, alpn: str
) -> None:
    for kind in KINDS:
        feed, pack = Feed(("content-type", kind), *coded(encoding)), Packer(encoding)
        with streaming.listen(feed, http2, alpn) as client:
            assert "content-encoding" not in client.answer.headers
            for sent, got in EVENTS:
                feed.send(pack(sent))
                client.hears(got)
            feed.send(None)
            client.ends()


@BOTH
@UPSTREAMS
def test_with_a_length_each_event_keeps_its_size(
    streaming: Streaming, http2: bool, alpn: str
) -> None:
    length = str(sum(len(sent) for sent, _ in EVENTS))
    feed = Feed(("content-type", "text/event-stream"), ("content-length", length))
    with streaming.listen(feed, http2, alpn) as client:
        assert client.answer.headers["content-length"] == length
        for sent, got in EVENTS:
            feed.send(sent)
            size = len(sent) - len(got) + len(ALIAS)
            client.hears(got.replace(ALIAS, ALIAS.ljust(size, b"*")))
        feed.send(None)
        client.ends()


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("encoding", ["", "gzip"])
@pytest.mark.parametrize("charset", ["utf-16-le", "cp037", "utf-7"])
def test_in_another_charset_it_goes_on_in_utf_8(
    streaming: Streaming, charset: str, encoding: str, http2: bool, alpn: str
) -> None:
    pack = Packer(encoding)
    events = [pack(sent.decode().encode(charset)) for sent, _ in EVENTS]
    kind = ("content-type", f"text/event-stream; charset={charset}")
    for length in ([], [("content-length", str(sum(map(len, events))))]):
        feed, pack = Feed(kind, *coded(encoding), *length), Packer(encoding)
        with streaming.listen(feed, http2, alpn) as client:
            assert client.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert "content-length" not in client.answer.headers
            for sent, got in EVENTS:
                feed.send(pack(sent.decode().encode(charset)))
                client.hears(got)
            feed.send(None)
            client.ends()


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_packed_and_with_a_length_it_has_none_any_more(
    streaming: Streaming, encoding: str, http2: bool, alpn: str
) -> None:
    pack = Packer(encoding)
    first, second = pack(b"data: " + A + b"\n\n"), pack(b"data: 1\n\n")
    length = ("content-length", str(len(first) + len(second)))
    feed = Feed(("content-type", "text/event-stream"), *coded(encoding), length)
    with streaming.listen(feed, http2, alpn) as client:
        assert "content-length" not in client.answer.headers
        feed.send(first)
        client.hears(b"data: " + ALIAS + b"\n\n")
        feed.send(second, None)
        client.ends(b"data: 1\n\n")


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("form", [A, HEX], ids=["plain", "hex"])
def test_cut_at_every_byte(streaming: Streaming, form: bytes, http2: bool, alpn: str) -> None:
    feed = Feed()
    with streaming.listen(feed, http2, alpn) as client:
        for size in range(len(form) + 1):
            feed.send(b"key: ")
            client.hears(b"key: ")
            feed.send(form[:size])
            client.settle()
            feed.send(form[size:] + b"\n")
            client.hears(ALIAS + b"\n")
        feed.send(None)
        client.ends()


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_byte_by_byte(streaming: Streaming, encoding: str, http2: bool, alpn: str) -> None:
    feed, pack = Feed(*coded(encoding)), Packer(encoding)
    body = pack(b"".join(sent for sent, _ in EVENTS[:8]) + A[:7])
    with streaming.listen(feed, http2, alpn) as client:
        feed.send(*(body[at : at + 1] for at in range(len(body))), None)
        client.ends(b"".join(got for _, got in EVENTS[:8]) + A[:7])


# What is left when the body ends: all of a beginning, and the alias for as much as tells.
ENDS = [(A[:n], A[:n] if n < 12 else ALIAS) for n in (1, 3, 11, 12, 17)] + [(b"", b""), (A, ALIAS)]


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
def test_the_end_of_it(streaming: Streaming, encoding: str, http2: bool, alpn: str) -> None:
    for sent, got in ENDS:
        feed, pack = Feed(*coded(encoding)), Packer(encoding)
        with streaming.listen(feed, http2, alpn) as client:
            feed.send(pack(b"data: " + sent), None)
            client.ends(b"data: " + got)


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
def test_a_break_in_the_middle(streaming: Streaming, encoding: str, http2: bool, alpn: str) -> None:
    """What came before it is delivered, and the client sees that there was more."""
    for sent, got in ENDS:
        feed, pack = Feed(*coded(encoding)), Packer(encoding)
        with streaming.listen(feed, http2, alpn) as client:
            feed.send(pack(b"data: " + sent))
            client.hears(b"data: ")
            client.settle()
            feed.send(Reset())
            client.breaks(got)


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_what_cannot_be_unpacked_any_more(
    streaming: Streaming, encoding: str, http2: bool, alpn: str
) -> None:
    """Nobody knows what is in there, and the client has the head already."""
    feed, pack = Feed(*coded(encoding)), Packer(encoding)
    with streaming.listen(feed, http2, alpn) as client:
        feed.send(pack(b"data: " + A + b"\n"))
        client.hears(b"data: " + ALIAS + b"\n")
        feed.send(b"\xff" * 1000)
        client.breaks()
    assert streaming.clients[http2].get(streaming.upstreams[alpn].url("/")).status_code == 200


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "odd", "gzip, gzip, gzip, gzip"])
def test_what_is_not_packed_though_it_says_so(
    streaming: Streaming, encoding: str, http2: bool, alpn: str
) -> None:
    feed = Feed(*coded(encoding))
    with streaming.listen(feed, http2, alpn) as client:
        feed.send(b"data: " + A + b"\n")
        client.hears(b"data: " + ALIAS + b"\n")
        feed.send(b"data: 1\n", None)
        client.ends(b"data: 1\n")


FRAMED = [
    *("application/grpc", "application/grpc+proto", "application/connect+proto"),
    "application/vnd.amazon.eventstream",
]


@BOTH
@pytest.mark.parametrize("kind", FRAMED)
def test_messages_that_end_with_the_beginning_of_a_secret(
    streaming: Streaming, kind: str, http2: bool
) -> None:
    """Their readers know how long they are, and wait for the last byte."""
    feed = Feed(("content-type", kind))
    with streaming.listen(feed, http2, "h2") as client:
        for size in range(4):
            feed.send(b"\0\0\0\0\7 " + A[:size])
            client.hears(b"\0\0\0\0\7 " + A[:size])
            feed.send(A[size:] + b"\0")
            client.hears(ALIAS + b"\0")
        feed.send(A[:3], None)
        client.ends(A[:3])


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("kind", ["connect+json", "grpc+json", "grpc-web+json", "json"])
def test_messages_with_their_length_before_them(
    streaming: Streaming, kind: str, http2: bool, alpn: str
) -> None:
    """Its zeros are not those of UTF-32."""
    feed = Feed(("content-type", f"application/{kind}"))
    messages = [b"\0\0\0\0\x10" + b'{"delta": "one"}', b"\0\0\0\0\2{}", b"\2\0\0\0\2{}"]
    with streaming.listen(feed, http2, alpn) as client:
        for message in messages:
            feed.send(message)
            client.hears(message)
        feed.send(b'\0\0\0\0\x14{"' + A + b'"}', None)
        client.ends(b'\0\0\0\0\x14{"' + ALIAS + b'"}')


def test_a_stream_after_a_failover(streaming: Streaming) -> None:
    """The credential that failed is scrubbed from it, too."""
    feed = Feed(("content-type", "text/event-stream"))
    with streaming.listen(feed, False, "http/1.1", "two") as client:
        feed.send(f"data: {secret('b')} {secret('c')}\n\n".encode())
        client.hears(b"data: [rotate:two/b] [rotate:two/c]\n\n")
        feed.send(None)
        client.ends()
    run(streaming.proxy, "rotate.reset")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_client_of_http_1_0(streaming: Streaming, encoding: str) -> None:
    """It knows no chunks: the end of the connection is the end of the body."""
    pack = Packer(encoding)
    body = pack(b"data: " + A + b"\n\n")
    feed = Feed(
        ("content-type", "text/event-stream"),
        ("content-length", str(len(body))),
        *coded(encoding),
    )
    feed.send(body, None)
    head, _, got = streaming.raw(feed, "http/1.1", "HTTP/1.0").partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert got == b"data: " + (ALIAS if encoding else FITTED) + b"\n\n"


# Written piece by piece, so that an addon of the user's sees each as it is.
OWN_SCRIPT = """
def responseheaders(flow):
    if "/pool/" in flow.request.path:
        flow.response.stream = marked if "x-mark" in flow.response.headers else True


def marked(data):
    print("SEEN", data, flush=True)
    return data.upper() if data else [b".", b"end"]
"""


@pytest.fixture(scope="module")
def of_the_user(shared: World, upstreams: Upstreams) -> Iterator[Streaming]:
    script = shared.folder / "own_script.py"
    script.write_text(OWN_SCRIPT)
    with started(shared, upstreams, script, rotate_stream="false") as made:
        yield made
    assert forms(made.proxy.text.encode()) == []


@BOTH
@UPSTREAMS
def test_a_script_that_streams(of_the_user: Streaming, http2: bool, alpn: str) -> None:
    length = ("content-length", str(len(A) + 2))
    for fields, got in (
        ((), ALIAS),
        ((length,), FITTED),
        ((("content-type", "a/b"), length), FITTED),
    ):
        feed = Feed(*fields)
        with of_the_user.listen(feed, http2, alpn) as client:
            feed.send(b"." + A)
            client.hears(b"." + got)
            feed.send(b"\n", None)
            client.ends(b"\n")


@BOTH
@UPSTREAMS
def test_a_script_that_changes_what_it_streams(
    of_the_user: Streaming, http2: bool, alpn: str
) -> None:
    for encoding in ENCODINGS:
        feed, pack = Feed(("x-mark", "1"), *coded(encoding)), Packer(encoding)
        with of_the_user.listen(feed, http2, alpn) as client:
            feed.send(pack(b"key: " + A[:7]))
            client.hears(b"KEY: ")
            feed.send(pack(A[7:] + b"\n"), None)
            client.ends(ALIAS.upper() + b"\n.end")
    assert "SEEN b'[rotate:pool/a]\\n'\nSEEN b''\n" in of_the_user.proxy.text


@UPSTREAMS
def test_the_end_of_chunks_is_told_once(of_the_user: Streaming, alpn: str) -> None:
    """HTTP/2's last frame may be empty, which in chunks is an end, too."""
    feed = Feed(("content-type", "text/event-stream"), ("content-length", "3"), *coded("gzip"))
    feed.send(b"ok\n", None)
    got = of_the_user.raw(feed, alpn, "HTTP/1.1")
    assert got.endswith(b"\r\n\r\n3\r\nok\n\r\n0\r\n\r\n")


@pytest.fixture(scope="module")
def of_large_bodies(shared: World, upstreams: Upstreams) -> Iterator[Streaming]:
    with started(shared, upstreams, stream_large_bodies="1k", rotate_stream="false") as made:
        yield made


LARGE = [b"x" * 2000 + A[:9], A[9:] + b"\n" + b"y" * 70_000 + A + b"\n", HEX + b"\n"]
"""A piece each; the first is enough to be streamed from there on."""


@BOTH
@UPSTREAMS
def test_a_large_body_of_known_length(of_large_bodies: Streaming, http2: bool, alpn: str) -> None:
    feed = Feed(("content-length", str(sum(map(len, LARGE)))))
    with of_large_bodies.listen(feed, http2, alpn) as client:
        feed.send(LARGE[0])
        client.hears(b"x" * 2000)
        feed.send(*LARGE[1:], None)
        hexed = ALIAS.ljust(len(HEX), b"*")
        client.ends(FITTED + b"\n" + b"y" * 70_000 + FITTED + b"\n" + hexed + b"\n")


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("encoding", ["", "gzip, br"])
def test_a_large_body_of_unknown_length(
    of_large_bodies: Streaming, encoding: str, http2: bool, alpn: str
) -> None:
    """It is kept, and then it is too large: what is there already is streamed, too."""
    feed, pack = Feed(*coded(encoding)), Packer(encoding)
    # Packed, it is as large only where nothing repeats.
    noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(99))
    feed.send(pack(noise + LARGE[0]))
    with of_large_bodies.listen(feed, http2, alpn) as client:
        client.hears(noise + b"x" * 2000)
        feed.send(*map(pack, LARGE[1:]), None)
        client.ends(ALIAS + b"\n" + b"y" * 70_000 + ALIAS + b"\n" + ALIAS + b"\n")


def gzip_bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def brotli_bomb(megabytes: int) -> bytes:
    packer = brotli.Compressor(quality=1, lgwin=24)
    pieces = [packer.process(bytes(1 << 20)) for _ in range(megabytes)]
    return b"".join([*pieces, packer.finish()])


def zstd_bomb(megabytes: int) -> bytes:
    """Blocks that repeat one byte, 128 KiB each (RFC 8878, 3.1.1.2)."""
    block, last = (1 << 17) << 3 | 2, 1 << 3 | 1
    blocks = (block.to_bytes(3, "little") + b"\0") * (megabytes * 8)
    return b"\x28\xb5\x2f\xfd\x00\x68" + blocks + last.to_bytes(3, "little") + b"x"


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip": ("gzip", lambda: gzip_bomb(64)),
    "gzip in gzip": ("gzip, gzip", lambda: gzip.compress(gzip_bomb(1) * 2048)),
    "gzip in gzip in gzip": (
        "gzip, gzip, gzip",
        lambda: gzip.compress(gzip.compress(gzip_bomb(1) * 2048)),
    ),
    "br": ("br", lambda: brotli_bomb(512)),
    "zstd": ("zstd", lambda: zstd_bomb(2048)),
}
"""From some hundred bytes to 64 KiB or so; some GiB come out."""
MOST_RESIDENT = 512 << 20


@pytest.fixture(scope="module")
def bombed(shared: World, upstreams: Upstreams) -> Iterator[Streaming]:
    """In a proxy of its own, whose memory is looked at."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here")
    with started(shared, upstreams) as made:
        yield made
        status = Path(f"/proc/{made.proxy.pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak
    assert int(peak[1]) * 1024 < MOST_RESIDENT


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_that_is_kept_whole(bombed: Streaming, bomb: str) -> None:
    """Looked at as far as it goes, it comes through as it is."""
    encoding, make = BOMBS[bomb]
    body = make()
    feed = Feed(*coded(encoding), ("content-length", str(len(body))))
    feed.send(body, None)
    with bombed.listen(feed, False, "http/1.1") as client:
        client.ends(body)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_that_is_streamed(bombed: Streaming, bomb: str) -> None:
    encoding, make = BOMBS[bomb]
    feed = Feed(*coded(encoding))
    with bombed.listen(feed, False, "http/1.1") as client:
        feed.send(make(), None)
        if bomb == "gzip":  # of 64 KiB it cannot make more
            client.ends(bytes(64 << 20))
        else:
            client.breaks()


WITH_SECRET: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip": ("gzip", lambda: gzip.compress(A) + gzip_bomb(64) * 3),
    "gzip in gzip": ("gzip, gzip", lambda: gzip.compress(gzip.compress(A) + gzip_bomb(1) * 2048)),
    "zstd": ("zstd", lambda: flushed_zstd()(A) + zstd_bomb(2048)[6:]),
}


@pytest.mark.parametrize("bomb", WITH_SECRET)
def test_a_bomb_with_a_secret_in_it(bombed: Streaming, bomb: str) -> None:
    encoding, make = WITH_SECRET[bomb]
    body = make()
    feed = Feed(*coded(encoding), ("content-length", str(len(body))))
    feed.send(body, None)
    with bombed.listen(feed, False, "http/1.1", status=502) as client:
        assert b"too large to be changed" in b"".join(client.pieces)


SLOW: dict[str, tuple[bytes, bytes]] = {
    "utf-7": (b"+", b"A"),
    "unicode_escape": (b"\\N{", b"A"),
    "cp864": (b"", b"\xff"),
}
"""Charsets, and what takes long in them: they hold all of it back, or none of it is in them."""


def in_charset(charset: str) -> tuple[str, bytes]:
    start, more = SLOW[charset]
    return f"text/plain; charset={charset}", gzip.compress(start + more * (48 << 20), 1)


@pytest.mark.parametrize("charset", SLOW)
def test_what_takes_long_in_its_charset(bombed: Streaming, charset: str) -> None:
    """Whole, it is refused; streamed, it breaks off."""
    kind, body = in_charset(charset)
    told = [("content-type", kind), *coded("gzip")]
    feed = Feed(*told, ("content-length", str(len(body))))
    feed.send(body, None)
    with bombed.listen(feed, False, "http/1.1", status=502) as client:
        assert b"charset" in b"".join(client.pieces)
    feed = Feed(*told)
    feed.send(body, None)
    with (
        bombed.listen(feed, False, "http/1.1") as client,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        list(client.pieces)


@pytest.mark.parametrize("charset", ["", *SLOW])
def test_others_are_served_meanwhile(bombed: Streaming, charset: str) -> None:
    encoding, make = BOMBS["gzip in gzip"]
    kind, body = "", make()
    if charset:
        encoding, (kind, body) = "gzip", in_charset(charset)
    c, upstream = bombed.clients[False], bombed.upstreams["http/1.1"]

    def throw(n: int) -> None:
        told, length = [("content-type", kind)] if kind else [], len(body)
        feed = Feed(*coded(encoding), *told, *[("content-length", str(length))] * (n % 2))
        feed.send(body, None)
        status = 502 if kind and n % 2 else 200
        with (
            bombed.listen(feed, False, "http/1.1", status=status) as client,
            suppress(httpx.RemoteProtocolError),
        ):
            list(client.pieces)

    with ThreadPoolExecutor(4) as threads:
        thrown = [threads.submit(throw, n) for n in range(8)]
        for _ in range(20):
            assert c.get(upstream.url("/pool/")).status_code == 200
        for future in thrown:
            future.result()


def fitted(size: int) -> bytes:
    return ALIAS[:size].ljust(size, b"*")


@pytest.mark.parametrize(("sent", "got"), ENDS)
def test_an_upstream_that_ends_too_early(streaming: Streaming, sent: bytes, got: bytes) -> None:
    """Without a reset: by what it said of the length, there is more to come."""
    said = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    body = b"data: " + sent
    head = said + b"Content-Length: 99\r\n\r\n"
    length = len(sent) if got == ALIAS else 0
    assert exchange(streaming, [head + body]) == head + b"data: " + (fitted(length) or got)
    head = said + b"Transfer-Encoding: chunked\r\n\r\n"
    came = exchange(streaming, [head + b"%x\r\n%s\r\n" % (len(body), body)])
    assert came.startswith(head)
    chunks = re.findall(rb"[0-9a-f]+\r\n(.*?)\r\n", came.removeprefix(head))
    assert b"".join(chunks) == b"data: " + got
    assert b"" not in chunks


def exchange(streaming: Streaming, answer: Sequence[bytes]) -> bytes:
    """All that a client gets; each byte that it sends gets a piece of the answer."""
    RAW[path := f"/pool/{len(RAW)}"] = answer
    with asking(streaming, path) as sock:
        return b"".join(iter(lambda: sock.recv(65536), b""))


@contextmanager
def asking(streaming: Streaming, path: str, *more: str) -> Iterator[socket.socket]:
    url = streaming.plain.url(path, "127.0.0.1")
    with socket.create_connection(("127.0.0.1", streaming.proxy.port), timeout=20) as sock:
        lines = (f"GET {url} HTTP/1.1", f"Host: {url.split('/')[2]}", *more, "", "")
        sock.sendall("\r\n".join(lines).encode())
        yield sock


@contextmanager
def upgraded(
    streaming: Streaming, protocol: str, fields: Sequence[str], answer: Sequence[bytes]
) -> Iterator[tuple[socket.socket, bytes]]:
    """A connection that speaks another protocol from now on, and what has been said in it."""
    head = "\r\n".join(
        ("HTTP/1.1 101 Switching Protocols", f"Upgrade: {protocol}", "Connection: Upgrade", *fields)
    )
    RAW[path := f"/pool/{len(RAW)}"] = (head.encode() + b"\r\n\r\n" + answer[0], *answer[1:])
    asked = (f"Upgrade: {protocol}", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    with asking(streaming, path, *asked) as sock:
        got = b""
        while b"\r\n\r\n" not in got:
            got += sock.recv(65536)
        told, _, rest = got.partition(b"\r\n\r\n")
        assert told == head.encode()
        yield sock, rest


Said = tuple[Any, ...]
BYE: Said = ("close", 1000, "bye")


def text(*parts: str) -> list[ws.Event]:
    return [
        ws.TextMessage(part, message_finished=n == len(parts)) for n, part in enumerate(parts, 1)
    ]


def data(*parts: bytes) -> list[ws.Event]:
    return [
        ws.BytesMessage(part, message_finished=n == len(parts)) for n, part in enumerate(parts, 1)
    ]


ID, SHOWN = A.decode(), ALIAS.decode()
LOGIN = in_base64(b"user:")(ID, ALIAS)
WEBSOCKET: dict[str, tuple[list[ws.Event], list[Said]]] = {
    "text": (text(f"key {ID}, ä"), [("text", f"key {SHOWN}, ä")]),
    "binary": (data(b"\xff" + A + b"\0"), [("data", b"\xff" + ALIAS + b"\0")]),
    "hex": (text(HEX.decode()), [("text", SHOWN)]),
    "base64": (data(LOGIN.sent), [("data", LOGIN.got)]),
    "one after the other": (
        [*text(ID), *data(A), *text("nothing")],
        [("text", SHOWN), ("data", ALIAS), ("text", "nothing")],
    ),
    "cut anywhere": (
        [event for n in range(19) for event in text(ID[:n], ID[n:])],
        [("text", SHOWN)] * 19,
    ),
    "cut anywhere, binary": (
        [event for n in range(19) for event in data(A[:n], A[n:])],
        [("data", ALIAS)] * 19,
    ),
    "byte by byte": (text(*ID, " "), [("text", SHOWN + " ")]),
    "half of it": (text(ID[:17]), [("text", SHOWN)]),
    "long": (
        text("x" * 70_000 + ID, "y" * 70_000),
        [("text", "x" * 70_000 + SHOWN + "y" * 70_000)],
    ),
    "a ping between": (
        [*text(ID[:9], "")[:1], ws.Ping(A), *text(ID[9:])],
        [("ping", ALIAS), ("text", SHOWN)],
    ),
    "ping": ([ws.Ping(b"key " + A)], [("ping", b"key " + ALIAS)]),
    "pong": ([ws.Pong(HEX)], [("pong", ALIAS)]),
    "close": ([ws.CloseConnection(1008, f"not {ID}")], [("close", 1008, f"not {SHOWN}")]),
    "untouched": (
        [*text("a", "", "b"), *data(bytes(range(256))), ws.Ping(b"sk-canary"), ws.Pong()],
        [("text", "ab"), ("data", bytes(range(256))), ("ping", b"sk-canary"), ("pong", b"")],
    ),
}


# wsproto itself forgets that a message is deflated when a ping comes between its frames.
DEFLATED = [(what, True) for what in WEBSOCKET if what != "a ping between"]


@pytest.mark.parametrize(("what", "deflate"), [*((what, False) for what in WEBSOCKET), *DEFLATED])
@pytest.mark.parametrize("at_once", [False, True], ids=["", "at once"])
def test_a_websocket(streaming: Streaming, what: str, at_once: bool, deflate: bool) -> None:
    """Right behind the 101, in the same packet, or later."""
    events, expected = WEBSOCKET[what]
    if expected[-1][0] != "close":
        events, expected = [*events, ws.CloseConnection(1000, "bye")], [*expected, BYE]
    server = Connection(ConnectionType.SERVER, extensions(deflate))
    client = Connection(ConnectionType.CLIENT, extensions(deflate))
    fields = ["Sec-WebSocket-Extensions: permessage-deflate"] if deflate else []
    frames = b"".join(map(server.send, events))
    answer = [frames] if at_once else [b"", frames]
    with upgraded(streaming, "websocket", fields, answer) as (sock, got):
        if not at_once:
            sock.sendall(client.send(ws.Ping()))
        heard: list[ws.Event] = []
        while not (heard and isinstance(heard[-1], ws.CloseConnection)):
            client.receive_data(got)
            heard += client.events()
            got = sock.recv(65536)
    assert list(said(heard)) == expected


BROKEN_SEAM = """
from flowrotate.wire import scrubbing

def broken(connection, scrubber):
    raise AttributeError("server_ws")

scrubbing.scrub_messages = broken
"""


def test_a_websocket_that_cannot_be_scrubbed(world: World, upstreams: Upstreams) -> None:
    """Nothing of what it says comes through; it ends, and the proxy goes on."""
    script = world.folder / "broken_seam.py"
    script.write_text(BROKEN_SEAM)
    frames = Connection(ConnectionType.SERVER).send(text(f"key {ID}")[0])
    with started(world, upstreams, script, flow_detail="4") as broken:
        for answer in ([frames], [b"", frames]):
            client = Connection(ConnectionType.CLIENT)
            with upgraded(broken, "websocket", [], answer) as (sock, got):
                if len(answer) > 1:
                    with suppress(ConnectionError):
                        sock.sendall(client.send(ws.Ping()))
                with suppress(ConnectionError):
                    got += b"".join(iter(lambda: sock.recv(65536), b""))
            client.receive_data(got)
            assert [type(event) for event in client.events()] == [ws.CloseConnection]
        good = broken.upstreams["h2"].url("/pool/")
        assert broken.clients[True].get(good).status_code == 200
    assert "internal fault: AttributeError" in broken.proxy.text
    assert forms(broken.proxy.text.encode()) == []


def extensions(deflate: bool) -> list[Extension]:
    if not deflate:
        return []
    made = PerMessageDeflate()
    made.finalize("permessage-deflate")
    return [made]


def said(events: Iterable[ws.Event]) -> Iterator[Said]:
    """In plain words, a message whole."""
    parts: list[Any] = []
    for event in events:
        match event:
            case ws.Message(data=part, message_finished=finished):
                parts.append(part)
                if finished:
                    kind = "text" if isinstance(part, str) else "data"
                    yield kind, "".join(parts) if kind == "text" else b"".join(map(bytes, parts))
                    parts = []
            case ws.Ping(payload=payload):
                yield "ping", bytes(payload)
            case ws.Pong(payload=payload):
                yield "pong", bytes(payload)
            case ws.CloseConnection(code=code, reason=reason):
                yield "close", code, reason


def tunnelled(size: int) -> tuple[bytes, bytes]:
    """What comes of so many bytes of a secret, and of the others when they are there, too.

    Who speaks another protocol may wait for the last of a few bytes.
    """
    if size == len(A):
        return FITTED, b""
    return (A[:size], fitted(len(A) - size)) if size < 4 else (b"", FITTED)


@pytest.mark.parametrize("size", range(len(A) + 1))
def test_another_protocol(streaming: Streaming, size: int) -> None:
    answer = [b"", b"\0key: " + A[:size], A[size:] + b"\xff"]
    first, second = tunnelled(size)
    with upgraded(streaming, "odd", [], answer) as (sock, got):
        sock.sendall(b".")
        while len(got) < len(b"\0key: " + first):
            got += sock.recv(65536)
        assert got == b"\0key: " + first
        sock.sendall(b".")
        assert b"".join(iter(lambda: sock.recv(65536), b"")) == second + b"\xff"


@pytest.mark.parametrize(("sent", "got"), ENDS)
def test_the_end_of_another_protocol(streaming: Streaming, sent: bytes, got: bytes) -> None:
    with upgraded(streaming, "odd", [], [b"", b"key: " + sent]) as (sock, rest):
        sock.sendall(b".")
        rest += b"".join(iter(lambda: sock.recv(65536), b""))
    assert rest == b"key: " + (fitted(len(sent)) if got == ALIAS else got)
