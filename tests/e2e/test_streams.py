"""Live answers reach the client as they come, also after a failover; a break stays a break."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Raw, Reply, Request, Reset, json_reply

from .test_commands import CONTROL, run
from .test_failover import BOTH, UPSTREAMS, app, is_quiet
from .world import World, bearers, client, pool, tunnel

EVERY = 0.2
LATE = 0.06
SSE = [("content-type", "text/event-stream; charset=utf-8")]


async def events(n: int = 6) -> AsyncIterator[bytes]:
    for k in range(n):
        if k:
            await asyncio.sleep(EVERY)
        yield b"data: %d\n\n" % k


def arrivals(c: httpx.Client, url: str) -> tuple[float, list[float]]:
    """Seconds until the first event of a stream, and those between the events."""
    began = time.monotonic()
    with c.stream("GET", url) as answer:
        assert answer.status_code == 200
        at = [time.monotonic() for line in answer.iter_lines() if line.startswith("data: ")]
    return at[0] - began, [b - a for a, b in pairwise(at)]


@BOTH
@UPSTREAMS
def test_events_keep_their_distance_after_a_failover(world: World, http2: bool, alpn: str) -> None:
    upstream = world.upstream(app(a=429, b=401, c=lambda _: Reply(200, SSE, events())), alpn=[alpn])
    options = {"connection_strategy": "lazy"}
    spec = pool([f"localhost:{upstream.port}"], "abc")
    proxy = world.proxy(spec, options=options, scripts=[SCRIPT, CONTROL])
    c = world.client(proxy, http2=http2)
    _, between = arrivals(c, upstream.url("/"))
    assert len(between) == 5
    assert all(EVERY - LATE < gap < EVERY + LATE for gap in between), between
    assert bearers(upstream.requests) == ["a", "b", "c"]
    is_quiet(proxy)


KINDS = [
    "text/event-stream",
    "application/x-ndjson",
    "application/stream+json",
    "application/vnd.amazon.eventstream",
]


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_what_comes_piece_by_piece_goes_on_piece_by_piece(world: World, kind: str | None) -> None:
    """By its type even with a length, and whatever has no length."""
    more = asyncio.Event()
    loops = []

    async def two() -> AsyncIterator[bytes]:
        loops.append(asyncio.get_running_loop())
        yield b"first"
        await more.wait()
        yield b"second"

    headers = [("content-type", kind), ("content-length", "11")] if kind else []
    upstream = world.upstream(lambda _: Reply(200, headers, two()))
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], "a"))
    c = world.client(proxy)
    with c.stream("GET", upstream.url("/")) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"first"
        loops[0].call_soon_threadsafe(more.set)
        assert b"".join(pieces) == b"second"
    if kind == "text/event-stream":
        off = world.proxy(
            pool([f"localhost:{upstream.port}"], "a"), options={"rotate_stream": "false"}
        )
        more.clear()
        with client(off, timeout=0.5) as c, pytest.raises(httpx.ReadTimeout):
            c.get(upstream.url("/"))


def flows(capture: Path) -> list[HTTPFlow]:
    with capture.open("rb") as file:
        return [flow for flow in FlowReader(file).stream() if isinstance(flow, HTTPFlow)]


@BOTH
def test_a_flow_shows_a_streamed_body_unless_it_is_long(world: World, http2: bool) -> None:
    async def body(chunks: int) -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield b"x" * 65536

    upstream = world.upstream(
        lambda r: Reply(200, [], body(int(r.target.removeprefix("/")))), alpn=["h2", "http/1.1"]
    )
    capture = world.folder / "flows.mitm"
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], "a"), args=["-w", str(capture)])
    c = world.client(proxy, http2=http2)
    sizes = [len(c.get(upstream.url(f"/{n}")).content) for n in (0, 1, 16, 17)]
    assert sizes == [0, 65536, 1 << 20, 17 * 65536]
    proxy.stop()
    bodies = [flow.response.raw_content for flow in flows(capture) if flow.response]
    assert bodies == [b"", b"x" * 65536, b"x" * (1 << 20), None]


def resident(proxy: Proxy) -> int:
    """Bytes."""
    status = Path(f"/proc/{proxy.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def test_memory_stays_flat_however_long_the_body(world: World) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here")

    async def long() -> AsyncIterator[bytes]:
        for _ in range(3000):
            yield b"x" * 65536

    upstream = world.upstream(lambda _: Reply(200, [], long()), alpn=["http/1.1"])
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], "a"))
    c = world.client(proxy)
    with c.stream("GET", upstream.url("/")) as answer:
        pieces = answer.iter_raw(65536)
        for _ in range(100):
            next(pieces)
        before = resident(proxy)
        got = sum(len(piece) for piece in pieces)
    assert got == 2900 * 65536
    assert resident(proxy) - before < 16 << 20


@BOTH
@UPSTREAMS
def test_a_break_in_the_middle_is_passed_on_as_a_break(
    world: World, http2: bool, alpn: str
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"data: 0\n\n"
        await asyncio.sleep(0.05)
        raise Reset

    upstream = world.upstream(app(a=429, b=lambda _: Reply(200, SSE, broken())), alpn=[alpn])
    options = {"connection_strategy": "lazy"}
    spec = pool([f"localhost:{upstream.port}"], "abc")
    proxy = world.proxy(spec, options=options, scripts=[SCRIPT, CONTROL])
    c = world.client(proxy, http2=http2)
    with c.stream("GET", upstream.url("/")) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        assert next(pieces) == b"data: 0\n\n"
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    assert bearers(upstream.requests) == ["a", "b"]
    is_quiet(proxy)


@BOTH
def test_a_client_that_leaves_in_the_middle_of_a_stream(world: World, http2: bool) -> None:
    left = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"data: 0\n\n"
                await asyncio.sleep(0.01)
        finally:
            left.append(True)

    upstream = world.upstream(lambda _: Reply(200, SSE, endless()))
    spec = pool([f"localhost:{upstream.port}"], "a")
    proxy = world.proxy(spec, scripts=[SCRIPT, CONTROL])
    with client(proxy, http2=http2) as c, c.stream("GET", upstream.url("/")) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        assert "in flight 1" in run(proxy, "rotate.status")[1]
    deadline = time.monotonic() + 5
    while not left and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == [True]  # the upstream is told
    is_quiet(proxy)


def handshake(request: Request) -> Reply | Raw:
    """A WebSocket that sends back the bytes that it gets, after the 101."""
    if bearers([request]) != ["c"]:
        return json_reply({}, {"a": 429, "b": 401}[bearers([request])[0]])

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The accept value that belongs to the key below (RFC 6455, 1.3).
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        # The server's frames are not masked: "hello" as text.
        while await reader.read(65536):
            writer.write(b"\x81\x05hello")

    return Raw(echo)


def test_a_websocket_handshake_fails_over_and_then_is_left_alone(world: World) -> None:
    upstream = world.upstream(handshake, alpn=["http/1.1"])
    spec = pool([f"localhost:{upstream.port}"], "abc")
    proxy = world.proxy(spec, scripts=[SCRIPT, CONTROL])
    with tunnel(proxy, f"localhost:{upstream.port}") as tls:
        tls.sendall(
            b"GET /live HTTP/1.1\r\nHost: localhost:%d\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % upstream.port
        )
        assert tls.recv(65536).startswith(b"HTTP/1.1 101 ")
        for _ in range(3):
            tls.sendall(b"\x81\x80\0\0\0\0")  # a masked, empty text frame
            assert tls.recv(65536) == b"\x81\x05hello"
        time.sleep(2.2)  # the alarms of both swallowings come late
        tls.sendall(b"\x81\x80\0\0\0\0")
        assert tls.recv(65536) == b"\x81\x05hello"
        is_quiet(proxy)
    assert bearers(upstream.requests) == ["a", "b", "c"]
