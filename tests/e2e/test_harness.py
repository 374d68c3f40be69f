"""The upstream behind a bare mitmproxy: what the other tests stand on."""

import asyncio
import hashlib
from pathlib import Path

import httpx
import pytest

from flowrotate.demo.certs import Authority
from flowrotate.demo.proxy import Proxy
from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream

from .world import World, client, trusting

BODY = bytes(range(256)) * 20_000  # 5 MB


def echo(request: Request) -> Reply:
    return Reply(body=request.body)


@pytest.fixture(scope="module")
def bare(shared: World) -> Proxy:
    return shared.proxy(scripts=())


@pytest.fixture(scope="module")
def echoing(shared: World) -> ThreadedUpstream:
    return shared.upstream(echo)


@pytest.mark.parametrize("http2", [False, True], ids=["1.1", "2"])
def test_five_megabytes_both_ways(
    shared: World, bare: Proxy, echoing: ThreadedUpstream, http2: bool
) -> None:
    response = shared.client(bare, http2=http2).post(echoing.url(), content=BODY)
    assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert echoing.requests[-1].http_version == ("2" if http2 else "1.1")
    assert hashlib.sha256(response.content).digest() == hashlib.sha256(BODY).digest()


async def h2_requests(proxy: Proxy, url: str, n: int) -> list[httpx.Response]:
    """`n` requests at once over one HTTP/2 connection to the proxy."""
    transport = httpx.AsyncHTTPTransport(
        verify=trusting(proxy.ca),
        http1=False,
        http2=True,
        limits=httpx.Limits(max_connections=1),
        proxy=httpx.Proxy(proxy.url),
    )
    async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=20) as c:
        # httpcore knows only after one request that a tunnel speaks HTTP/2 and can be shared.
        await c.get(url)
        return await asyncio.gather(*(c.post(f"{url}{i}", content=str(i)) for i in range(n)))


def test_streams_share_one_connection_and_run_at_once(world: World, bare: Proxy) -> None:
    meeting = asyncio.Barrier(20)

    async def meet(request: Request) -> Reply:
        if request.method == "POST":
            await meeting.wait()
        return echo(request)

    upstream = world.upstream(meet)
    responses = asyncio.run(h2_requests(bare, upstream.url("/"), 20))
    assert [r.text for r in responses] == [str(i) for i in range(20)]
    assert {r.connection for r in upstream.requests} == {1}


def test_upstream_with_a_bad_certificate_is_refused(
    world: World, bare: Proxy, authority: Authority
) -> None:
    upstream = world.upstream(leaf=authority.issue(["localhost"], expired=True))
    response = world.client(bare).get(upstream.url())
    assert (response.status_code, upstream.requests) == (502, [])


def test_stop_is_clean(world: World) -> None:
    proxy = world.proxy(scripts=())
    upstream = world.upstream(echo)
    with client(proxy) as c:
        assert c.get(upstream.url()).status_code == 200
    # Of a client that is still there, asyncio on Python 3.11 prints a CancelledError.
    proxy.wait_for("client disconnect")
    assert proxy.stop() == 0
    assert "Traceback" not in proxy.text


def test_bad_start_is_an_exit_status(world: World) -> None:
    proxy = world.make_proxy(scripts=(Path("no-such-script.py"),))
    assert proxy.run_to_exit() == 1
    assert "No such script" in proxy.text
