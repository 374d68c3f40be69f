"""The demo's upstream byte by byte: what httpx cannot send, or does not show."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import h2.config  # type: ignore[import-untyped, unused-ignore]  # h2 is typed since 4.2
import h2.connection  # type: ignore[import-untyped, unused-ignore]
import h2.errors  # type: ignore[import-untyped, unused-ignore]
import h2.events  # type: ignore[import-untyped, unused-ignore]
import pytest

from flowrotate.demo.certs import Authority, make_authority
from flowrotate.demo.upstream import Raw, ThreadedUpstream, json_reply

from .test_upstream import app


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA with a leaf for this machine."""
    return make_authority(tmp_path_factory.mktemp("tls"), ["localhost", "127.0.0.1"])


@pytest.fixture(scope="module")
def upstream(authority: Authority) -> Iterator[ThreadedUpstream]:
    """One upstream with TLS for this module."""
    with ThreadedUpstream(app, leaf=authority.leaf) as server:
        yield server


@pytest.fixture(scope="module")
def plain() -> Iterator[ThreadedUpstream]:
    """An upstream without TLS."""
    with ThreadedUpstream(app, leaf=None) as server:
        yield server


def exchange(port: int, *parts: bytes) -> Iterator[bytes]:
    """Send each part, and yield what came back before the next one is sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        for part in parts:
            sock.sendall(part)
            yield sock.recv(65536)


def test_expect_100_continue(plain: ThreadedUpstream) -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    interim, final = exchange(plain.port, head, b"hi")
    assert interim.startswith(b"HTTP/1.1 100 ")
    assert final.startswith(b"HTTP/1.1 200 ")
    assert plain.requests[-1].body == b"hi"


def test_chunked_request_with_trailers(plain: ThreadedUpstream) -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    (answer,) = exchange(plain.port, head + b"2\r\nhi\r\n0\r\nX-Sum: 2\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert (plain.requests[-1].body, plain.requests[-1].trailers) == (b"hi", (("x-sum", "2"),))


def test_chunked_reply_with_trailers(plain: ThreadedUpstream) -> None:
    request = b"GET /trailers HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", plain.port), timeout=10) as sock:
        sock.sendall(request)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.endswith(b"\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n")


def test_pipelined_requests(plain: ThreadedUpstream) -> None:
    request = b"GET /204 HTTP/1.1\r\nhost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", plain.port), timeout=10) as sock:
        sock.sendall(request * 3)
        answers = b""
        while answers.count(b"HTTP/1.1 204") < 3 and (data := sock.recv(65536)):
            answers += data
    assert answers.count(b"HTTP/1.1 204") == 3


@pytest.mark.parametrize("garbage", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_nonsense_is_400(plain: ThreadedUpstream, garbage: bytes) -> None:
    (answer,) = exchange(plain.port, garbage)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_raw_takes_the_connection_over() -> None:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        writer.write((await reader.readexactly(4)).upper())
        await writer.drain()

    with ThreadedUpstream(lambda _: Raw(run), leaf=None) as server:
        head = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
        first, second, end = exchange(server.port, head, b"ping", b"")
    assert (first.split()[1], second, end) == (b"101", b"PING", b"")


def h2_exchange(port: int, authority: Authority, path: str, *, finish: bool = True) -> list[Any]:
    """Send a body, then trailers if it is to finish; the events until the stream is closed."""
    context = ssl.create_default_context(cafile=authority.ca)
    context.set_alpn_protocols(["h2"])
    conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    conn.initiate_connection()
    names = {":method": "POST", ":scheme": "https", ":authority": "localhost", ":path": path}
    conn.send_headers(1, list(names.items()))
    conn.send_data(1, b"body")
    if finish:
        conn.send_headers(1, [("x-sum", "4")], end_stream=True)
    ends: Any = (h2.events.StreamEnded, h2.events.StreamReset)[0 if finish else 1 :]
    events: list[Any] = []
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        while not any(isinstance(event, ends) for event in events):
            tls.sendall(conn.data_to_send())
            events += conn.receive_data(tls.recv(65536))
    return events


def test_h2_trailers_both_ways(upstream: ThreadedUpstream, authority: Authority) -> None:
    events = h2_exchange(upstream.port, authority, "/trailers")
    assert upstream.requests[-1].trailers == (("x-sum", "4"),)
    received = [e for e in events if type(e) is h2.events.TrailersReceived]
    assert [list(e.headers) for e in received] == [[(b"x-sum", b"4")]]


def test_h2_reset_code(upstream: ThreadedUpstream, authority: Authority) -> None:
    last = h2_exchange(upstream.port, authority, "/reset")[-1]
    assert last.error_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


def test_h2_early_answer(authority: Authority) -> None:
    """RFC 9113, 8.1: the whole response, then RST_STREAM(NO_ERROR), in the middle of a body."""
    early = json_reply({}, 429)
    with ThreadedUpstream(app, leaf=authority.leaf, early=lambda _: early) as server:
        events = h2_exchange(server.port, authority, "/", finish=False)
    kinds = [type(e) for e in events if getattr(e, "stream_id", 0) == 1]
    wanted = [h2.events.ResponseReceived, h2.events.StreamEnded, h2.events.StreamReset]
    assert [kind for kind in kinds if kind in wanted] == wanted
    assert events[-1].error_code == h2.errors.ErrorCodes.NO_ERROR
