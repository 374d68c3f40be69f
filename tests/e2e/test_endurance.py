"""G7: full disks, clocks that jump, connections by the thousand, and an end in the middle of it."""

import asyncio
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from time import time

import httpx
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, json_reply

from .test_commands import CONTROL, run
from .test_hold import waiting
from .world import World, bearers, client, forms, pool, tunnel

DAY = 86_400
JUMP = """
import time
real, offset = time.time, 0.0
def jumped():
    return real() + offset
time.time = jumped
def requestheaders(flow):
    global offset
    if flow.request.host == "control.test" and flow.request.path.startswith("/run?jump"):
        offset = float(flow.request.path.partition("=")[2])
        from mitmproxy import http
        flow.response = http.Response.make(200)
"""


def until(there: Callable[[], bool], seconds: float = 20) -> None:
    end = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if there():
            return
        end.wait(0.05)
    assert there()


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("days", [-1, 1])
def test_a_wall_clock_that_jumps(world: World, days: int, form: str) -> None:
    """Neither comes a credential back with it, nor does it stay a day longer."""
    jump = world.folder / "jump.py"
    jump.write_text(JUMP)

    def app(_: Request) -> Reply:
        if bearers(upstream.requests).count("a") > 1:
            return json_reply({})
        # By the upstream's own clock, as the answer says, which does not jump.
        after = "3" if form == "seconds" else formatdate(time() + 4, usegmt=True)
        return json_reply({}, 429, [("Retry-After", after), ("Date", formatdate(usegmt=True))])

    upstream = world.upstream(app)
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], "a"), scripts=[jump, SCRIPT, CONTROL])
    url = f"https://localhost:{upstream.port}/"
    with client(proxy) as c:
        run(proxy, f"jump={-days * DAY}")
        assert c.get(url).status_code == 429
        run(proxy, f"jump={days * DAY}")
        refused = c.get(url)
        assert (refused.status_code, len(upstream.requests)) == (429, 1)
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        proxy_says = "cooling"
        until(lambda: proxy_says not in run(proxy, "rotate.status")[1])
        assert c.get(url).status_code == 200
    assert bearers(upstream.requests) == ["a", "a"]


@pytest.mark.parametrize("with_addon", [False, True])
def test_a_full_disk_under_the_saved_flows(world: World, with_addon: bool) -> None:
    """mitmproxy itself ends then, rather than let traffic through that is not recorded."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    upstream = world.upstream()
    pools = [pool([f"localhost:{upstream.port}"])] if with_addon else []
    scripts = [SCRIPT] if with_addon else []
    proxy = world.proxy(*pools, scripts=scripts, args=["-w", "/dev/full"])
    url = f"https://localhost:{upstream.port}/"
    with ThreadPoolExecutor(1) as pool_of_one, suppress(httpx.HTTPError), client(proxy) as c:
        pool_of_one.submit(c.post, url, content=b"x" * 100_000)
        assert proxy.wait() == 1
    assert forms(proxy.text.encode()) == []
    assert "flowrotate" not in proxy.text.split("Traceback")[-1] or not with_addon


def drop_tcp(proxy: Proxy, _: int) -> None:
    socket.create_connection(("127.0.0.1", proxy.port)).close()


def drop_half_a_request(proxy: Proxy, port: int) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as raw:
        raw.sendall(f"POST http://localhost:{port}/ HTTP/1.1\r\nHost: localh".encode())


def drop_connect(proxy: Proxy, port: int) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as raw:
        raw.sendall(f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
        raw.recv(100)


def drop_in_tls(proxy: Proxy, port: int) -> None:
    with suppress(OSError), tunnel(proxy, f"localhost:{port}") as tls:
        tls.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")


def drop_unread(proxy: Proxy, port: int) -> None:
    with suppress(OSError), tunnel(proxy, f"localhost:{port}") as tls:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())


DROPS = (drop_tcp, drop_half_a_request, drop_connect, drop_in_tls, drop_unread)


def holdings(proxy: Proxy) -> tuple[int, int, int]:
    """Open files, threads, and KiB of memory."""
    process = Path(f"/proc/{proxy.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    files = len(list((process / "fd").iterdir()))
    return files, int(status["Threads"]), int(status["VmRSS"].split()[0])


def test_a_thousand_connections_that_are_dropped(world: World) -> None:
    upstream = world.upstream()
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), scripts=[SCRIPT, CONTROL])

    def drop(times: int) -> None:
        with ThreadPoolExecutor(20) as threads:
            for drop in DROPS * (times // len(DROPS)):
                threads.submit(drop, proxy, upstream.port)

    drop(300)
    until(lambda: holdings(proxy)[0] < 40)
    files, threads, memory = holdings(proxy)
    drop(1000)
    until(lambda: holdings(proxy)[0] <= files + 3)
    after = holdings(proxy)
    assert after[1] <= threads + 2
    # mitmproxy keeps some of each flow and connection in caches of its own.
    assert after[2] <= memory + 30_000
    assert world.client(proxy).get(f"https://localhost:{upstream.port}/").status_code == 200
    assert "in flight" not in run(proxy, "rotate.status")[1]


def test_sigterm_with_requests_in_flight(world: World) -> None:
    """One that waits for a credential, one for its answer, one in the middle of a stream."""
    began = threading.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"data: 1\n\n"
            began.set()
            await asyncio.sleep(0.05)

    async def app(request: Request) -> Reply:
        if request.target == "/slow":
            await asyncio.sleep(60)
        return Reply(200, [("content-type", "text/event-stream")], endless())

    upstream = world.upstream(app)
    host = f"localhost:{upstream.port}"
    held = pool([host], "c", name="held", paths=["/held"], hold=60)
    held["credentials"][0]["disabled"] = True
    proxy = world.proxy(pool([host], "ab", paths=["/s*"]), held, scripts=[SCRIPT, CONTROL])

    def ask(path: str) -> None:
        with suppress(httpx.HTTPError), client(proxy, timeout=60) as c:
            c.get(f"https://{host}{path}")

    with ThreadPoolExecutor(3) as threads:
        for path in ("/held", "/slow", "/stream"):
            threads.submit(ask, path)
        assert began.wait(20)
        waiting(proxy, 1)
        until(lambda: len(upstream.requests) == 2)
        assert run(proxy, "rotate.status")[1].count("in flight") == 2
        assert proxy.stop(signal.SIGTERM) == 0
    assert sorted(bearers(upstream.requests)) == ["a", "b"]
    assert forms(proxy.text.encode()) == []
    assert "flowrotate" not in "".join(proxy.text.split("Traceback")[1:])
