"""The demo's upstream alone, spoken to directly over HTTP/1.1 and HTTP/2."""

import asyncio
import hashlib
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from flowrotate.demo.certs import Authority, make_authority
from flowrotate.demo.upstream import (
    Raw,
    Reply,
    Request,
    Reset,
    ThreadedUpstream,
    Upstream,
    json_reply,
)

SIZES = [0, 1, 300_000, 20_000_000]
VERSIONS = pytest.mark.parametrize("http2", [False, True], ids=["1.1", "2"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA with a leaf for this machine."""
    return make_authority(tmp_path_factory.mktemp("tls"), ["localhost", "127.0.0.1"])


def client(authority: Authority, http2: bool = False) -> httpx.Client:
    """A client that trusts the upstream."""
    context = ssl.create_default_context(cafile=authority.ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    transport = httpx.HTTPTransport(verify=context, http2=http2, trust_env=False)
    return httpx.Client(transport=transport, trust_env=False, timeout=20)


async def app(request: Request) -> Reply | Reset | Raw:
    """What the tests below ask for, by path."""
    match request.target:
        case "/chunks":
            return Reply(200, body=_chunks(b"one", b"", b"two"))
        case "/broken":
            return Reply(200, body=_chunks(b"one", Reset(2)))
        case "/reset":
            return Reset(11)
        case "/raise":
            raise ValueError("a bug")
        case "/trailers":
            return Reply(200, body=b"body", trailers=[("x-sum", "4")])
        case "/204" | "/304":
            return Reply(int(request.target[1:]))
        case _ if request.target.startswith("/bytes/"):
            return Reply(200, body=bytes(int(request.target[7:])))
    return json_reply(
        {
            "method": request.method,
            "size": len(request.body),
            "sha256": hashlib.sha256(request.body).hexdigest(),
        }
    )


async def _chunks(*parts: bytes | Reset) -> AsyncIterator[bytes]:
    for part in parts:
        if isinstance(part, Reset):
            raise part
        yield part
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def upstream(authority: Authority) -> Iterator[ThreadedUpstream]:
    """One upstream with TLS for this module."""
    with ThreadedUpstream(app, leaf=authority.leaf) as server:
        yield server


@VERSIONS
@pytest.mark.parametrize("size", SIZES)
def test_bodies_both_ways(
    upstream: ThreadedUpstream, authority: Authority, http2: bool, size: int
) -> None:
    body = b"x" * size
    with client(authority, http2) as c:
        up = c.post(upstream.url(), content=body)
        down = c.get(upstream.url(f"/bytes/{size}"))
    assert up.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert up.json()["sha256"] == hashlib.sha256(body).hexdigest()
    assert len(down.content) == size


@VERSIONS
@pytest.mark.parametrize("path", ["/204", "/304", "/bytes/5"])
def test_no_body_where_http_allows_none(
    upstream: ThreadedUpstream, authority: Authority, http2: bool, path: str
) -> None:
    with client(authority, http2) as c:
        first = c.head(upstream.url(path))
        second = c.get(upstream.url("/bytes/3"))
    assert (first.content, second.content) == (b"", bytes(3))
    assert upstream.requests[-1].connection == upstream.requests[-2].connection


@VERSIONS
def test_streamed_chunks(upstream: ThreadedUpstream, authority: Authority, http2: bool) -> None:
    with client(authority, http2) as c:
        assert c.get(upstream.url("/chunks")).content == b"onetwo"


@VERSIONS
def test_requests_are_recorded(
    upstream: ThreadedUpstream, authority: Authority, http2: bool
) -> None:
    headers = [("X-Two", "1"), ("x-two", "2")]
    with client(authority, http2) as c:
        c.post(upstream.url("/a?b=c"), content=b"body", headers=headers)
    request = upstream.requests[-1]
    assert (request.method, request.target, request.body) == ("POST", "/a?b=c", b"body")
    assert request.authority == f"localhost:{upstream.port}"
    assert request.http_version == ("2" if http2 else "1.1")
    assert request.all("X-TWO") == ["1", "2"]
    assert request.header("x-none") is None


@VERSIONS
@pytest.mark.parametrize("path", ["/reset", "/broken"])
def test_reset_breaks_off(
    upstream: ThreadedUpstream, authority: Authority, http2: bool, path: str
) -> None:
    with client(authority, http2) as c, pytest.raises(httpx.RemoteProtocolError):
        c.get(upstream.url(path))


@VERSIONS
def test_bug_in_the_app_is_500(
    upstream: ThreadedUpstream,
    authority: Authority,
    http2: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with client(authority, http2) as c:
        assert c.get(upstream.url("/raise")).status_code == 500
    assert "ValueError: a bug" in caplog.text


def test_streams_of_one_connection_run_at_once(authority: Authority) -> None:
    barrier = asyncio.Barrier(20)

    async def meet(_: Request) -> Reply:
        await barrier.wait()
        return Reply(204)

    async def ask(url: str) -> list[int]:
        # httpx's own lock on an HTTP/2 connection is not safe for threads.
        async with httpx.AsyncClient(verify=context, http2=True, http1=False) as c:
            return [r.status_code for r in await asyncio.gather(*(c.get(url) for _ in range(20)))]

    context = ssl.create_default_context(cafile=str(authority.ca))
    with ThreadedUpstream(meet, leaf=authority.leaf) as server:
        statuses = asyncio.run(ask(server.url()))
    assert statuses == [204] * 20


@pytest.mark.parametrize("size", [0, 300_000])
def test_early_answer(authority: Authority, size: int) -> None:
    """An answer that does not wait for the body; the connection stays of use."""
    with (
        ThreadedUpstream(app, leaf=authority.leaf, early=lambda _: json_reply({}, 429)) as server,
        client(authority) as c,
    ):
        for _ in range(2):
            assert c.post(server.url(), content=bytes(size)).status_code == 429
        assert [(r.body, r.connection) for r in server.requests] == [(b"", 1)] * 2


@VERSIONS
def test_client_that_leaves_ends_its_app(
    authority: Authority, http2: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()

    async def forever() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    with ThreadedUpstream(lambda _: Reply(body=forever()), leaf=authority.leaf) as server:
        with client(authority, http2) as c, c.stream("GET", server.url()) as response:
            assert next(response.iter_raw()) == b"first"
        assert ended.wait(10)
    assert not caplog.records


@pytest.mark.parametrize("http2", [False, True])
def test_stop_ends_open_connections(authority: Authority, http2: bool) -> None:
    async def forever() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.get_running_loop().create_future()

    server = ThreadedUpstream(lambda _: Reply(body=forever()), leaf=authority.leaf)
    server.start()
    idle = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    with idle, client(authority, http2) as c, c.stream("GET", server.url()) as response:
        parts = response.iter_raw()
        assert next(parts) == b"first"
        server.stop()
        with pytest.raises(httpx.TransportError):
            next(parts)
        assert idle.recv(1) == b""  # it was in the middle of its TLS handshake
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


@pytest.mark.parametrize("names", [["other.test"], ["localhost"]], ids=["wrong name", "expired"])
def test_bad_leaf_is_refused(
    authority: Authority, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    leaf = authority.issue(names, expired=names == ["localhost"])
    with (
        ThreadedUpstream(app, leaf=leaf) as server,
        client(authority) as c,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        c.get(server.url())
    assert not caplog.records


def test_files_of_an_authority(authority: Authority, tmp_path: Path) -> None:
    again = make_authority(tmp_path / "new", ["::1", "*.example.test"])
    assert again.leaf.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" not in again.ca.read_bytes()
    assert again.issue(["a"]) != again.issue(["a"]) != authority.leaf


def test_port_in_use_is_an_error(upstream: ThreadedUpstream) -> None:
    with pytest.raises(OSError, match="in use"):
        ThreadedUpstream(app, leaf=None, port=upstream.port).start()


async def _ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_inside_a_running_loop() -> None:
    async def main() -> bytes:
        async with Upstream(app, leaf=None) as server:
            return await _ask(server.port)

    head, body = asyncio.run(main()).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body)["method"] == "GET"
