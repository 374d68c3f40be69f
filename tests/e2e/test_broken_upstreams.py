"""Upstreams that break, at every byte and in every way: the client gets what bare mitmproxy gives.

Two proxies ask the same server, ours and one without the addon. Only a 429 that another credential
can make good is answered otherwise. Whatever happens, no credential stays in flight.
"""

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from flowrotate.demo.proxy import SCRIPT, Proxy

from .test_commands import CONTROL
from .test_failover import is_quiet
from .world import World, client, forms, pool, secret, tunnel

End = Literal["fin", "rst", "keep"]
ENDS: tuple[End, ...] = ("fin", "rst")
RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER on, for no seconds: close() resets."""

NOBODY = "127.0.0.1:1"
"""Nothing listens there."""

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="Linux only")


@dataclass(frozen=True, slots=True)
class Act:
    """What an upstream sends to a stream's request, part by part, and how it then ends."""

    parts: Callable[[int], Sequence[bytes]]
    end: End = "fin"


def plainly(answer: bytes, end: End = "fin") -> Act:
    return Act(lambda _: [answer], end)


Handshake = Callable[[bytes, ssl.SSLContext], bytes]
"""What a broken server sends to a ClientHello, before it hangs up."""


class Broken:
    """An upstream that does what `acts` say of a path; credential b, and other paths, it serves.

    `handshakes` are for the next connections, in order.
    """

    def __init__(self, leaf: Path | None = None, alpn: str = "http/1.1") -> None:
        self.acts: dict[str, Act] = {}
        self.handshakes: list[Handshake | None] = []
        self._ending: set[int] = set()
        """The threads whose connections end."""
        self._tls = _server_context(leaf, alpn) if leaf else None
        self._good = GOOD_H2 if alpn == "h2" else plainly(GOOD)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> "Broken":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with sock:
                handshake = self.handshakes.pop(0) if self.handshakes else None
                if self._tls and handshake:
                    sock.sendall(handshake(sock.recv(65536), self._tls))
                    self._hang_up(sock, "fin")
                elif self._tls:
                    with self._tls.wrap_socket(sock, server_side=True) as tls:
                        self._answer(tls, http2=tls.selected_alpn_protocol() == "h2")
                else:
                    self._answer(sock, http2=False)
        except OSError:
            pass
        finally:
            self._ending.discard(threading.get_ident())

    def _answer(self, stream: socket.socket, *, http2: bool) -> None:
        for number, path, credential in (_requests_h2 if http2 else _requests)(stream):
            served = credential == f"Bearer {secret('b')}"
            act = self._good if served else self.acts.get(path, self._good)
            if act.end != "keep":
                self._ending.add(threading.get_ident())
            *parts, last = act.parts(number)
            for part in parts:
                stream.sendall(part)
                # What an error or a reset overtakes is lost to the other side.
                _until_read(stream)
            stream.sendall(last)
            if act.end != "keep":
                self._hang_up(stream, act.end)
                return

    def _hang_up(self, stream: socket.socket, end: End) -> None:
        if end == "rst":
            _until_read(stream)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return
        # To close with something unread would be a reset.
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(65536):
            pass

    def wait(self) -> None:
        """Return when every connection that was to end has ended: none of them is used again."""
        deadline = time.monotonic() + 20
        while self._ending and time.monotonic() < deadline:
            time.sleep(0.001)


def _requests(stream: socket.socket) -> Iterator[tuple[int, str, str]]:
    head = b""
    while data := stream.recv(65536):
        head += data
        if head.endswith(b"\r\n\r\n"):
            line, *fields = head.decode().splitlines()
            given = dict(field.lower().split(": ", 1) for field in fields if field)
            yield 0, line.split()[1], given.get("authorization", "").capitalize()
            head = b""


def _requests_h2(stream: socket.socket) -> Iterator[tuple[int, str, str]]:
    decoder = Decoder()
    with stream.makefile("rb") as reader:
        reader.read(24)
        while head := reader.read(9):
            frame, length = Frame.parse_frame_header(memoryview(head))
            frame.parse_body(memoryview(reader.read(length)))
            if isinstance(frame, HeadersFrame):
                fields = dict(decoder.decode(frame.data, raw=True))
                path, credential = fields[b":path"], fields.get(b"authorization", b"")
                yield frame.stream_id, path.decode(), credential.decode()


def _until_read(sock: socket.socket) -> None:
    """Return when the program on the other side has taken all that was sent."""
    deadline = time.monotonic() + 20
    while _unread(sock.getpeername()[1], sock.getsockname()[1]) and time.monotonic() < deadline:
        time.sleep(0.001)


def _unread(port: int, peer: int) -> int:
    """Bytes that wait to be read from one socket on loopback: sock_diag(7), inet_diag_req_v2."""
    here = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    asked = struct.pack("=LHHLLBBBBL", 72, 20, 1, 0, 0, socket.AF_INET, 6, 0, 0, 0xFFFFFFFF)
    asked += struct.pack("!HH16s16s", port, peer, here, here) + struct.pack("=LQ", 0, 2**64 - 1)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:
        kernel.send(asked)
        told = kernel.recv(4096)
    (kind,) = struct.unpack_from("=H", told, 4)
    return int(struct.unpack_from("=L", told, 72)[0]) if kind == 20 else 0


def _server_context(leaf: Path, alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(leaf)
    context.set_alpn_protocols([alpn])
    return context


def headers(stream: int, *fields: tuple[str, str], end: bool = False) -> bytes:
    # Never indexed: so they read the same on every connection.
    encoded = Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields])
    flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
    return HeadersFrame(stream, encoded, flags=flags).serialize()


def data(stream: int, content: bytes, *, end: bool = False) -> bytes:
    return DataFrame(stream, content, flags=["END_STREAM"] if end else []).serialize()


BODY = b'{"last": true}\n'


def answer_h1(_: int, status: int) -> list[bytes]:
    """Its head, and its body in two pieces."""
    line = b"HTTP/1.1 %d Odd\r\nRetry-After: 77\r\nContent-Length: 15\r\n\r\n"
    return [line % status, BODY[:3], BODY[3:]]


def answer_h2(stream: int, status: int, body: bytes = BODY) -> list[bytes]:
    """Frame by frame."""
    fields = (":status", str(status)), ("content-length", str(len(body)))
    return [
        SettingsFrame(0).serialize(),
        SettingsFrame(0, flags=["ACK"]).serialize(),
        headers(stream, *fields),
        data(stream, body[:3]),
        data(stream, body[3:], end=True),
    ]


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
GOOD_H2 = Act(lambda stream: [b"".join(answer_h2(stream, 200, b"good"))])


@dataclass(frozen=True, slots=True)
class Pair:
    """Our proxy and a bare one, each with a client for TLS, and what they ask."""

    proxies: tuple[Proxy, Proxy]
    clients: tuple[httpx.Client, httpx.Client]
    plain: Broken
    tls: Broken
    h2: Broken
    http2: bool

    @property
    def ours(self) -> Proxy:
        return self.proxies[0]

    def act(self, path: str, act: Act) -> None:
        """In both pools."""
        for name in ("/one", "/two"):
            for upstream in (self.plain, self.tls, self.h2):
                upstream.acts[name + path] = act


def paired(world: World, strategy: str) -> Iterator[Pair]:
    """A pool with one credential, and one that has another for what fails with the first."""
    leaf = world.authority.leaf
    with Broken() as plain, Broken(leaf) as tls, Broken(leaf, "h2") as h2:
        hosts = [plain.url, f"localhost:{tls.port}", f"localhost:{h2.port}"]
        pools = [
            pool(hosts, ids, name=name, paths=[f"/{name}/**"], strategy="fill-first")
            for name, ids in (("one", "a"), ("two", "ab"))
        ]
        nobody = pool(
            ["http://name.invalid", "name.invalid", f"http://{NOBODY}", NOBODY], name="three"
        )
        options = {"connection_strategy": strategy}
        ours = options | {"rotate_stream": "false"}
        proxies = (
            world.proxy(*pools, nobody, scripts=[SCRIPT, CONTROL], options=ours),
            world.proxy(scripts=(), options=options),
        )
        # Who dials first offers only what the upstream has.
        http2 = strategy == "lazy"
        clients = world.client(proxies[0], http2=http2), world.client(proxies[1], http2=http2)
        yield Pair(proxies, clients, plain, tls, h2, http2)


@pytest.fixture(scope="module")
def lazy(shared: World) -> Iterator[Pair]:
    yield from paired(shared, "lazy")


@pytest.fixture
def pair(lazy: Pair) -> Pair:
    """As new, whatever the test before left behind."""
    say(lazy.ours, "rotate.reset")
    lazy.tls.handshakes.clear()
    return lazy


@pytest.fixture(scope="module")
def eager(shared: World) -> Iterator[Pair]:
    """These dial as soon as a client says where it wants to go."""
    yield from paired(shared, "eager")


def ask(proxy: Proxy, url: str) -> tuple[bytes, str]:
    """All that comes back for one request in HTTP/1, and how it ends."""
    got = b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
        sock.sendall(
            f"GET {url} HTTP/1.1\r\nHost: {url.split('/')[2]}\r\n"
            "Authorization: Bearer placeholder\r\nConnection: close\r\n\r\n".encode()
        )
        try:
            while data := sock.recv(65536):
                got += data
        except ConnectionResetError:
            return got, "reset"
    return got, "end"


def ask_h2(c: httpx.Client, url: str, upstream: Broken) -> tuple[int, bytes] | str:
    try:
        answer = c.get(url, headers={"Authorization": "Bearer placeholder"})
    except httpx.HTTPError as e:
        return type(e).__name__
    finally:
        upstream.wait()
    return answer.status_code, answer.content


def say(proxy: Proxy, command: str) -> str:
    """As `run`, but fast: for loops."""
    said, _ = ask(proxy, f"http://control.test/run?{command.replace(' ', '%20')}")
    return said.partition(b"\r\n\r\n")[2].decode()


def cools(pair: Pair) -> bool:
    """Whether a credential does; afterwards none does any more."""
    found = "cooling" in say(pair.ours, "rotate.status")
    if found:
        say(pair.ours, "rotate.reset")
    return found


def see(pair: Pair, upstream: Broken, path: str) -> list[Any]:
    """What a client sees of a path through our proxy, and through a bare one."""
    url = f"{upstream.url}/one{path}"
    if upstream is pair.plain:
        return [ask(proxy, url) for proxy in pair.proxies]
    return [ask_h2(c, url, upstream) for c in pair.clients]


def is_mended(pair: Pair, upstream: Broken, path: str) -> bool:
    """Whether the pool with a second credential gives a good answer."""
    found = is_good(pair, upstream, f"/two{path}")
    if found:
        say(pair.ours, "rotate.reset")
    return found


def is_good(pair: Pair, upstream: Broken, path: str) -> bool:
    url = upstream.url + path
    if upstream is pair.plain:
        return ask(pair.ours, url) == (GOOD, "end")
    return ask_h2(pair.clients[0], url, upstream) == (200, b"good")


def lands(proxy: Proxy) -> None:
    """Nothing stays in flight."""
    deadline = time.monotonic() + 20
    while "in flight" in (status := say(proxy, "rotate.status")):
        assert time.monotonic() < deadline, status
        time.sleep(0.02)


def settles(pair: Pair) -> None:
    """Nothing stays in flight, and a good request is served."""
    lands(pair.ours)
    is_quiet(pair.ours)
    cools(pair)
    upstreams = (pair.plain, pair.tls, pair.h2) if pair.http2 else (pair.plain, pair.tls)
    assert [is_good(pair, upstream, "/one/good") for upstream in upstreams].count(False) == 0


def names(table: Sequence[tuple[Any, ...]]) -> list[str]:
    return [row[0] for row in table]


def cut(frames: Callable[[int, int], list[bytes]], n: int, status: int, stream: int) -> list[bytes]:
    return [b"".join(frames(stream, status))[:n]]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("kind", ["plain", "tls", "h2"])
def test_cut_at_every_byte(pair: Pair, kind: str, status: int, end: End) -> None:
    """A 429 counts from the moment that its head is whole."""
    upstream: Broken = getattr(pair, kind)

    frames = answer_h2 if kind == "h2" else answer_h1
    *before, _, _ = frames(1, status)
    odd: list[object] = []
    for n in range(len(b"".join(frames(1, status))) + 1):
        path = f"/{status}/{end}/{n}"
        act = Act(partial(cut, frames, n, status), end)
        upstream.acts["/one" + path] = upstream.acts["/two" + path] = act
        ours, bare = see(pair, upstream, path)
        fails = status == 429 and n >= len(b"".join(before))
        found = [ours == bare, cools(pair), status == 429 and is_mended(pair, upstream, path)]
        if found != [True, fails, fails]:
            odd.append((n, found, ours, bare))
    assert odd == []
    settles(pair)


LINE = b"HTTP/1.1 {} Odd\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
ODD = b"Content-Length: 3\r\n\r\nodd"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"3\r\nodd\r\n0\r\n\r\n"
# By name; {} is the status.
FAULTS: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("only a line end", b"\r\n"),
    ("half a line", b"HTTP/1.1 {}"),
    ("half a head", LINE + b"Content-Length: 2\r\n"),
    ("garbage", bytes(range(256)) * 4),
    ("garbage that ends as a head does", b"\0\xff{}\r\n\r\n"),
    ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    ("HTTP/0.9", b"<html>hello</html>"),
    ("HTTP/2 without asking", b"\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0\r\n\r\n"),
    ("TLS without asking", b"\x15\3\3\0\2\2\x28"),
    ("a large head", LINE + b"X: y\r\n" * 2_000 + EMPTY),
    ("no reason", b"HTTP/1.1 {}\r\nContent-Length: 2\r\n\r\n{}"),
    ("HTTP/9.9", b"HTTP/9.9 {} Odd\r\nContent-Length: 2\r\n\r\n{}"),
    ("a line with more", b"HTTP/1.1 {} Odd\0\x7f\r\n" + EMPTY),
    ("status 99", b"HTTP/1.1 99 Odd\r\n" + EMPTY),
    ("status 4290", b"HTTP/1.1 4290 Odd\r\n" + EMPTY),
    ("status -1", b"HTTP/1.1 -1 Odd\r\n" + EMPTY),
    ("status x", b"HTTP/1.1 x Odd\r\n" + EMPTY),
    ("no colon", LINE + b"odd\r\n" + EMPTY),
    ("no name", LINE + b": odd\r\n" + EMPTY),
    ("a space before the colon", LINE + b"Content-Length : 0\r\n\r\n"),
    ("a folded line", LINE + b"A: b\r\n c\r\n" + EMPTY),
    ("a folded first line", LINE + b" A: b\r\n" + EMPTY),
    ("controls in a value", LINE + b"A: \0\1\xff\r\n" + EMPTY),
    ("line feeds alone", b"HTTP/1.1 {} Odd\nContent-Length: 2\n\nok"),
    ("returns alone", b"HTTP/1.1 {} Odd\rContent-Length: 2\r\rok"),
    ("two lengths", LINE + b"Content-Length: 2\r\n" + ODD),
    ("one length twice", LINE + b"Content-Length: 3\r\n" + ODD),
    ("a list of lengths", LINE + b"Content-Length: 3, 3\r\n\r\nodd"),
    ("a negative length", LINE + b"Content-Length: -1\r\n\r\nodd"),
    ("a signed length", LINE + b"Content-Length: +3\r\n\r\nodd"),
    ("a hexadecimal length", LINE + b"Content-Length: 0x3\r\n\r\nodd"),
    ("an empty length", LINE + b"Content-Length: \r\n\r\nodd"),
    ("a length in other digits", LINE + b"Content-Length: \xd9\xa3\r\n\r\nodd"),
    ("an endless length", LINE + b"Content-Length: " + b"9" * 400 + b"\r\n\r\nodd"),
    ("longer than it says", LINE + b"Content-Length: 1\r\n\r\nodd"),
    ("shorter than it says", LINE + b"Content-Length: 100\r\n\r\nodd"),
    ("no length", LINE + b"\r\nodd"),
    ("two answers", (LINE + ODD) * 2),
    (
        "a length, and chunked",
        LINE + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    ),
    ("chunked", CHUNKED + CHUNKS),
    *(
        (f"chunked: {name}", CHUNKED + chunks)
        for name, chunks in [
            ("nothing", b""),
            ("half a size", b"3"),
            ("a bad size", b"odd\r\nodd\r\n0\r\n\r\n"),
            ("a negative size", b"-3\r\nodd\r\n0\r\n\r\n"),
            ("a signed size", b"+3\r\nodd\r\n0\r\n\r\n"),
            ("a huge size", b"f" * 30 + b"\r\nodd\r\n0\r\n\r\n"),
            ("too small a size", b"1\r\nodd\r\n0\r\n\r\n"),
            ("too large a size", b"9\r\nodd\r\n0\r\n\r\n"),
            ("an extension", b"3;odd=1\r\nodd\r\n0\r\n\r\n"),
            ("an endless extension", b"3;" + b"x" * 100_000),
            ("no last chunk", b"3\r\nodd\r\n"),
            ("half a last chunk", b"3\r\nodd\r\n0\r\n"),
        ]
    ),
    (
        "chunked twice",
        LINE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    ),
    ("an unknown coding", LINE + b"Transfer-Encoding: odd\r\n\r\nodd"),
    ("identity", LINE + b"Transfer-Encoding: identity\r\n\r\nodd"),
    ("chunked in HTTP/1.0", b"HTTP/1.0 {} Odd\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS),
    ("no gzip", LINE + b"Content-Encoding: gzip\r\n" + ODD),
    ("an unknown encoding", LINE + b"Content-Encoding: odd\r\n" + ODD),
    ("204 with a body", b"HTTP/1.1 204 None\r\n" + ODD),
    ("304 with a body", b"HTTP/1.1 304 Same\r\n" + ODD),
    ("odd keep-alive", LINE + b"Connection: keep-alive, close\r\n" + ODD),
]


# To HTTP/2 clients bare mitmproxy never ends its answer to these.
FAULTS_H1 = [
    ("a head without an end", LINE + b"X-Long: " + b"x" * 500_000),
    ("headers without an end", LINE + b"X-Long: y\r\n" * 50_000),
    ("100 and nothing", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ("100 and then more", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Odd\r\n" + ODD),
    ("103 and then more", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 429 Odd\r\n" + ODD),
    (
        "101 without asking",
        b"HTTP/1.1 101 Switching\r\nUpgrade: odd\r\nConnection: upgrade\r\n\r\nodd",
    ),
]
NO_HEAD = (b"Cannot parse", b"unexpected server response", b"server closed connection")


@pytest.mark.parametrize(("name", "answer"), FAULTS + FAULTS_H1, ids=names(FAULTS + FAULTS_H1))
def test_an_odd_answer(pair: Pair, name: str, answer: bytes) -> None:
    for status in (200, 429):
        path = f"/{status}/{name.replace(' ', '-')}"
        pair.act(path, plainly(answer.replace(b"{}", b"%d" % status)))
        fails = status == 429 and b"{}" in answer
        for upstream in [pair.plain, pair.tls] if (name, answer) in FAULTS else [pair.plain]:
            ours, bare = see(pair, upstream, path)
            assert ours == bare
            if upstream is pair.plain:
                fails = fails and not any(text in bare[0] for text in NO_HEAD)
            assert cools(pair) == fails
            assert (status == 429 and is_mended(pair, upstream, path)) == fails
    settles(pair)


def reset(code: int, stream: int) -> bytes:
    return RstStreamFrame(stream, code).serialize()


# What comes on a stream, and whether the rest of the answer follows; else the connection ends, or
# with None goes on without it.
FAULTS_H2: list[tuple[str, Callable[[int], bytes], bool | None]] = [
    ("nothing", lambda _: b"", False),
    ("GOAWAY before it", lambda _: GoAwayFrame(0, 0).serialize(), False),
    ("GOAWAY after it", lambda _: GoAwayFrame(0, 1001).serialize(), True),
    ("GOAWAY for an error", lambda _: GoAwayFrame(0, 1001, 2).serialize(), False),
    *((f"RST_STREAM {code}", partial(reset, code), None) for code in (0, 1, 7, 8, 11, 13, 255)),
    ("RST_STREAM of none", lambda n: RstStreamFrame(n + 1000, 8).serialize(), True),
    ("HTTP/1", lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
    ("garbage", lambda _: bytes(range(255, 0, -1)), False),
    ("a frame that is too large", lambda n: b"\x7f\0\0\0\0\0\0\0%c" % n + b"x" * 20_000, False),
    ("an unknown frame", lambda n: b"\0\0\3\x77\0\0\0\0%codd" % n, True),
    ("DATA on no stream", lambda _: b"\0\0\3\0\0\0\0\0\0odd", False),
    ("DATA on another stream", lambda n: data(n + 2, b"odd"), False),
    ("HEADERS on a stream of its own", lambda _: headers(2, (":status", "200"), end=True), False),
    ("CONTINUATION of nothing", lambda n: b"\0\0\3\x09\4\0\0\0%codd" % n, False),
    ("HEADERS that nobody can unpack", lambda n: b"\0\0\1\1\4\0\0\0%c\x80" % n, False),
    ("HEADERS without a status", lambda n: headers(n, ("a", "b")), False),
    ("two statuses", lambda n: headers(n, (":status", "200"), (":status", "429")), False),
    ("a status that is none", lambda n: headers(n, (":status", "odd")), False),
    ("an upper-case name", lambda n: headers(n, (":status", "200"), ("A", "b")), False),
    ("103", lambda n: headers(n, (":status", "103"), ("link", "x")), True),
    ("a window of nothing", lambda n: WindowUpdateFrame(n, 1).serialize()[:-1] + b"\0", False),
    ("a window too wide", lambda n: WindowUpdateFrame(n, 2**31 - 1).serialize(), False),
    ("bad SETTINGS", lambda _: b"\0\0\6\4\0\0\0\0\0\0\2\0\0\0\7", False),
    ("SETTINGS of an odd size", lambda _: b"\0\0\5\4\0\0\0\0\0\0\2\0\0\0", False),
    ("PING", lambda _: PingFrame(0, b"12345678").serialize(), True),
    ("PING answered unasked", lambda _: PingFrame(0, b"12345678", flags=["ACK"]).serialize(), True),
    ("an end too early", lambda n: data(n, b"", end=True), None),
    ("more than it says", lambda n: data(n, b"x" * 100), False),
    ("padding without an end", lambda n: b"\0\0\1\0\x08\0\0\0%c\xff" % n, False),
    ("trailers", lambda n: headers(n, ("a", "b"), end=True), False),
    ("trailers with a status", lambda n: headers(n, (":status", "200"), end=True), False),
]
AFTER = [0, 2, 3, 4, 5]
"""So many of an answer's frames: the first two are SETTINGS, the third is its head."""


def with_fault(
    fault: Callable[[int], bytes], after: int, status: int, stream: int, *, rest: bool
) -> list[bytes]:
    before, behind = answer_h2(stream, status)[:after], answer_h2(stream, status)[after:]
    return [b"".join(before), b"".join([fault(stream), *behind] if rest else [fault(stream)])]


@pytest.mark.parametrize(("name", "fault", "rest"), FAULTS_H2, ids=names(FAULTS_H2))
def test_an_odd_frame(
    pair: Pair, name: str, fault: Callable[[int], bytes], rest: bool | None
) -> None:
    odd: list[object] = []
    for n in AFTER:
        for status in (200, 429):
            path = f"/{name.replace(' ', '-')}/{n}/{status}"
            pair.h2.acts["/one" + path] = pair.h2.acts["/two" + path] = Act(
                partial(with_fault, fault, n, status, rest=bool(rest)),
                "keep" if rest is None else "fin",
            )
            ours, bare = see(pair, pair.h2, path)
            fails = status == 429 and (n >= 3 or bare == (429, BODY))
            found = [ours == bare, cools(pair), status == 429 and is_mended(pair, pair.h2, path)]
            if found != [True, fails, fails]:
                odd.append((path, found, ours, bare))
    assert odd == []
    settles(pair)


def sends(content: bytes) -> Handshake:
    return lambda _hello, _context: content


def sends_flight(end: int | None, more: bytes = b"") -> Handshake:
    """What a real server sends first, as far as `end`."""

    def handshake(hello: bytes, context: ssl.SSLContext) -> bytes:
        came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        came.write(hello)
        with suppress(ssl.SSLWantReadError):
            context.wrap_bio(came, goes, server_side=True).do_handshake()
        return goes.read()[:end] + more

    return handshake


HANDSHAKES: list[tuple[str, Handshake]] = [
    ("nothing", sends(b"")),
    ("plain-HTTP", sends(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")),
    ("garbage", sends(bytes(range(256)))),
    ("zeros", sends(bytes(1000))),
    ("an-echo", lambda hello, _: hello),
    ("handshake_failure", sends(b"\x15\3\3\0\2\2\x28")),
    ("close_notify", sends(b"\x15\3\3\0\2\1\0")),
    ("a-record-that-is-too-long", sends(b"\x16\3\3\xff\xff" + bytes(100))),
    ("a-ServerHello-of-SSL-3", sends(b"\x16\3\0\0\x2a\2\0\0\x26\3\0" + bytes(36))),
    ("a-byte", sends_flight(1)),
    ("half-a-ServerHello", sends_flight(60)),
    ("all-but-a-byte", sends_flight(-1)),
    ("no-word-more", sends_flight(None)),
]


@pytest.mark.parametrize(("name", "handshake"), HANDSHAKES, ids=names(HANDSHAKES))
def test_a_broken_handshake(pair: Pair, eager: Pair, name: str, handshake: Handshake) -> None:
    for asked in (pair, eager):
        url, seen = f"{asked.tls.url}/one/{name}", []
        for proxy in asked.proxies:
            # As often as anybody tries.
            asked.tls.handshakes[:] = [handshake] * 9
            with client(proxy, http2=asked.http2) as c:
                seen.append(ask_h2(c, url, asked.tls))
        asked.tls.handshakes.clear()
        assert seen[0] == seen[1]
        assert seen[0][0] == 502
        assert not cools(asked)
        settles(asked)


@pytest.mark.parametrize(("name", "handshake"), HANDSHAKES, ids=names(HANDSHAKES))
def test_a_broken_handshake_on_the_way_to_the_next_attempt(
    pair: Pair, name: str, handshake: Handshake
) -> None:
    """The client gets the answer that there was, and the second credential is spared."""
    path = f"/two/then/{name}"
    pair.tls.acts[path] = Act(partial(answer_h1, status=429))
    pair.tls.handshakes[:] = [None, handshake]
    with client(pair.ours, http2=True) as c:
        assert ask_h2(c, pair.tls.url + path, pair.tls) == (429, BODY)
    assert pair.tls.handshakes == []
    status = say(pair.ours, "rotate.status")
    assert re.findall(r"two/(.): (\w+)", status) == [("a", "cooling"), ("b", "ready")]
    settles(pair)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["name.invalid", NOBODY])
def test_nobody_to_ask(pair: Pair, host: str, scheme: str) -> None:
    url = f"{scheme}://{host}/"
    if scheme == "http":
        seen: list[Any] = [ask(proxy, url) for proxy in pair.proxies]
        assert b" 502 " in seen[0][0]
    else:
        seen = [ask_h2(c, url, pair.tls) for c in pair.clients]
        assert seen[0][0] == 502
    assert seen[0] == seen[1]
    assert not cools(pair)
    settles(pair)


def test_what_crashes_mitmproxy_itself_holds_no_credential(world: World) -> None:
    """HTTP/1 trailers do, and in 12.x garbage after a handshake. The client is left waiting."""
    with Broken() as plain, Broken(world.authority.leaf) as tls:
        hosts = [plain.url, f"localhost:{tls.port}"]
        options = {"connection_strategy": "lazy"}
        proxy = world.proxy(pool(hosts, "a"), scripts=[SCRIPT, CONTROL], options=options)
        for status in (200, 429):
            answer = CHUNKED.replace(b"{}", b"%d" % status) + b"0\r\nA: b\r\n\r\n"
            plain.acts["/"] = plainly(answer, "keep")
            said = len(proxy.text)
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
                sock.sendall(
                    b"GET %s/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"
                    % (plain.url.encode(), plain.port)
                )
                proxy.wait_for("crashed", 20, after=said)
            lands(proxy)
        say(proxy, "rotate.reset")
        said = len(proxy.text)
        tls.handshakes.append(sends_flight(None, b"garbage"))
        with tunnel(proxy, f"localhost:{tls.port}") as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % tls.port)
            proxy.wait_for("server disconnect", 20, after=said)
        lands(proxy)
        assert forms(proxy.text.encode()) == []
