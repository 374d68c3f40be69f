"""What lasts: thousands of clients, a full disk, a clock that jumps, and an end in the middle."""

import json
import re
import resource
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream, json_reply

from . import test_leaving_clients as leaving
from .oauth_server import OAuthServer
from .test_broken_upstreams import say
from .test_commands import CONTROL
from .test_failover import is_quiet
from .test_minted import guarded_by, minted, start
from .world import World, client, forms, pool, tunnel

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")

CLIENTS = 1000


# Many clients


@dataclass(frozen=True, slots=True)
class Size:
    """Of a process, from proc(5)."""

    threads: int
    files: int
    kilobytes: int

    @classmethod
    def of(cls, pid: int) -> "Size":
        process = Path(f"/proc/{pid}")
        lines = (process / "status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines)
        return cls(
            int(fields["Threads"]),
            len(list((process / "fd").iterdir())),
            int(fields["VmRSS"].split()[0]),
        )


def come_and_go(scene: leaving.Scene, n: int) -> None:
    """`n` clients, of whom none says all that it came to say, or hears an answer."""
    connect = f"CONNECT {scene.authority} HTTP/1.1\r\n\r\n".encode()
    whole = leaving.request(f"http://{scene.address}/v1/silent", scene.address)
    for said in [b"", connect, whole[: len(whole) // 2], whole]:
        for batch in range(n // 100):
            socks = [leaving.connected(scene) for _ in range(20)]
            for sock in socks:
                sock.sendall(said)
            for sock in socks:
                leaving.leave(sock, leaving.HOW[batch % 2])
    for k in range(n // 5):
        with tunnel(scene.proxy, scene.authority, [("h2", "http/1.1")[k % 2]]) as tls:
            leaving.leave(tls, leaving.HOW[k // 2 % 2])


def test_a_thousand_clients_that_leave_cost_nothing(shared: World) -> None:
    scene = leaving.make_scene(shared)
    come_and_go(scene, CLIENTS)
    leaving.forgets(scene)
    before = Size.of(scene.proxy.pid)
    come_and_go(scene, CLIENTS)
    leaving.forgets(scene)
    after = Size.of(scene.proxy.pid)
    # The event loop has some for names, as many as there were lookups at once.
    assert after.threads <= before.threads + 32
    assert after.files <= before.files + 2
    assert after.kilobytes <= before.kilobytes + 8 * 1024


# A full disk


def fill_disk(proxy: Proxy) -> None:
    """From now on it can write to no file."""
    resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (0, 0))


def test_where_flows_cannot_be_saved_it_ends_as_bare_mitmproxy_does(world: World) -> None:
    """mitmproxy would rather end than let something through that it was to record."""
    upstream = world.upstream()
    spec = pool([f"localhost:{upstream.port}"])
    for scripts, pools in (((), []), ((SCRIPT,), [spec])):
        proxy = world.proxy(*pools, scripts=scripts, args=["-w", "/dev/full"])
        with client(proxy) as c, suppress(httpx.TransportError):
            for _ in range(100):
                c.post(upstream.url(), content=b"x" * 1000)
        assert proxy.wait() == 1
        assert "No space left on device" in proxy.text
        assert "flowrotate/" not in proxy.text
        assert "internal fault" not in proxy.text
        assert forms(proxy.text.encode()) == []


def test_a_refresh_token_that_cannot_be_written(world: World) -> None:
    """The old one stays in its file, whole; requests go on with the new one."""
    with OAuthServer() as server:
        upstream = guarded_by(world, server)
        file = world.folder / "refresh"
        file.touch(mode=0o600)
        first = server.refresh_token()
        file.write_text(first)
        spec = minted(server, grant="refresh_token", refresh_token={"file": str(file)})
        proxy = start(world, upstream, spec)
        c = world.client(proxy)
        fill_disk(proxy)
        for n in range(3):
            assert c.get(upstream.url("/")).status_code == 200
            server.revoke_all()
            assert server.requests == n + 1
        assert file.read_text() == first
        assert [entry.name for entry in world.folder.glob("*refresh*")] == ["refresh"]
        proxy.wait_for("the new one cannot be written")
        is_quiet(proxy)


# A clock that jumps

JUMP = """
import time
from mitmproxy import command

real, ahead = time.time, 0.0
time.time = lambda: real() + ahead

@command.command("test.jump")
def jump(seconds: str) -> None:
    global ahead
    ahead = float(seconds)
"""
DAY = 86400
JUMPS = pytest.mark.parametrize("seconds", [DAY, -DAY])
KEY = "canary-jwt-key-0123456789-0123456789"


def on_time(request: Request) -> Reply:
    """By path. The dates are those of an upstream whose clock is right."""
    date = [("date", http_date(0))]
    match request.target:
        case "/hour":
            return json_reply({}, 429, [("retry-after", "3600")])
        case "/date":
            return json_reply({}, 429, [("retry-after", http_date(100)), *date])
        case "/reset":
            reset = f"{time.time() + 100:.0f}"
            return json_reply({}, 429, [("x-ratelimit-reset-requests", reset), *date])
        case "/second/limited":
            return json_reply({}, 429, [("retry-after", "1")])
        case "/jwt/refused":
            return json_reply({}, 401)
        case "/jwt/checked":
            token = (request.header("authorization") or "").removeprefix("Bearer ")
            try:
                jwt.decode(token, KEY, ["HS256"])
            except jwt.InvalidTokenError:
                return json_reply({}, 401)
    return json_reply({})


def http_date(seconds: float) -> str:
    """So many seconds from now."""
    return formatdate(time.time() + seconds, usegmt=True)


@dataclass(frozen=True, slots=True)
class Clockwork:
    """A proxy whose wall clock can be set, and what its pools need."""

    proxy: Proxy
    upstream: ThreadedUpstream
    server: OAuthServer
    pools: list[dict[str, Any]]
    file: Path
    client: httpx.Client

    def jump(self, seconds: int) -> None:
        assert say(self.proxy, f"test.jump {seconds}") == "None"

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.upstream.url(path))

    def seconds_left(self) -> float:
        (state,) = re.findall(r"pool/a: cooling (\d+) s", say(self.proxy, "rotate.status"))
        return float(state)


@pytest.fixture(scope="module")
def running(shared: World) -> Iterator[Clockwork]:
    script = shared.folder / "jump.py"
    script.write_text(JUMP)
    upstream = shared.upstream(on_time)
    signed = {"algorithm": "HS256", "key": {"secret": KEY}, "claims": {"sub": "me"}, "ttl": 600}
    with OAuthServer() as server:
        pools: list[dict[str, Any]] = [
            pool([], "a", paths=["/hour", "/date", "/reset"]),
            pool([], "h", name="held", paths=["/second/**"], hold=20),
            {"name": "minted", "paths": ["/token"], "credentials": [minted(server)]},
            {"name": "signed", "paths": ["/jwt/**"], "credentials": [{"id": "j", "jwt": signed}]},
        ]
        for spec in pools:
            spec["hosts"] = [f"localhost:{upstream.port}"]
        file = shared.secrets(*pools, name="clock.json")
        options = {"rotate_secrets": str(file)}
        proxy = shared.proxy(scripts=[script, SCRIPT, CONTROL], options=options)
        yield Clockwork(proxy, upstream, server, pools, file, shared.client(proxy))


@pytest.fixture
def clockwork(running: Clockwork) -> Clockwork:
    running.jump(0)
    say(running.proxy, "rotate.reset")
    return running


@JUMPS
def test_a_jump_neither_ends_nor_prolongs_a_cooldown(clockwork: Clockwork, seconds: int) -> None:
    clockwork.get("/hour")
    asked = len(clockwork.upstream.requests)
    clockwork.jump(seconds)
    assert 3500 < clockwork.seconds_left() <= 3600
    answer = clockwork.get("/hour")
    assert answer.headers["x-rotate-error"] == "exhausted"
    assert 3500 < int(answer.headers["retry-after"]) <= 3601
    assert len(clockwork.upstream.requests) == asked
    is_quiet(clockwork.proxy)


@JUMPS
def test_a_cooldown_ends_in_its_time(clockwork: Clockwork, seconds: int) -> None:
    began = time.monotonic()
    clockwork.get("/second/limited")
    clockwork.jump(seconds)
    assert clockwork.get("/second/").status_code == 200
    assert time.monotonic() - began > 0.9
    is_quiet(clockwork.proxy)


@JUMPS
@pytest.mark.parametrize("path", ["/date", "/reset"])
def test_a_date_counts_by_the_upstreams_own_clock(
    clockwork: Clockwork, path: str, seconds: int
) -> None:
    clockwork.jump(seconds)
    clockwork.get(path)
    assert 70 < clockwork.seconds_left() <= 101
    is_quiet(clockwork.proxy)


@JUMPS
def test_a_token_lives_as_long_as_it_was_to(clockwork: Clockwork, seconds: int) -> None:
    assert clockwork.get("/token").status_code == 200
    assert clockwork.get("/jwt/checked").status_code == 200
    clockwork.jump(seconds)
    assert clockwork.get("/token").status_code == 200
    assert clockwork.get("/jwt/checked").status_code == 200
    assert clockwork.server.requests == 1
    is_quiet(clockwork.proxy)


@JUMPS
def test_a_token_with_the_times_of_a_wrong_clock_is_replaced(
    clockwork: Clockwork, seconds: int
) -> None:
    clockwork.jump(seconds)
    assert clockwork.get("/jwt/refused").status_code == 401
    say(clockwork.proxy, "rotate.reset")
    assert clockwork.get("/jwt/").status_code == 200  # with a new one
    clockwork.jump(0)
    assert clockwork.get("/jwt/checked").status_code == 200
    statuses = say(clockwork.proxy, "rotate.status")
    assert "signed/j: ready" in statuses
    is_quiet(clockwork.proxy)


@JUMPS
def test_a_changed_file_is_seen(clockwork: Clockwork, seconds: int) -> None:
    clockwork.get("/hour")
    clockwork.jump(seconds)
    said = len(clockwork.proxy.text)
    clockwork.pools[0]["cooldown"] = 77 + seconds // DAY
    clockwork.file.write_text(json.dumps({"pools": clockwork.pools}))
    clockwork.proxy.wait_for("reloaded: ", 20, after=said)
    assert 3500 < clockwork.seconds_left() <= 3600
    is_quiet(clockwork.proxy)


# An end in the middle


WITHIN = ["/v1/silent", "/v1/half", "/v1/events", "/v1/429", "/v1/held", "/minted/"]


def test_sigterm_with_requests_of_every_kind_in_flight(world: World) -> None:
    leaving.TOKENS.clear()
    scene = leaving.make_scene(world)
    answers: list[Future[httpx.Response]] = []
    with ThreadPoolExecutor(2 * len(WITHIN)) as threads:
        for path in WITHIN:
            if path == "/v1/held":
                say(scene.proxy, "rotate.disable pool/a")
                say(scene.proxy, "rotate.disable pool/b")
            for http2 in (False, True):
                c = world.client(scene.proxy, http2=http2, timeout=60)
                answers.append(threads.submit(c.get, scene.tls.url(path)))
            if path.startswith("/v1/") and path != "/v1/held":
                leaving.until(partial(is_asked_twice, scene, path))
        leaving.until(lambda: say(scene.proxy, "test.waiting") == "2")
        leaving.until(lambda: "minted/m: ready, in flight 2" in say(scene.proxy, "rotate.status"))
        said = len(scene.proxy.text)
        assert scene.proxy.stop(signal.SIGTERM) == 0
        leaving.TOKENS.set()
        for answer in answers:
            assert isinstance(answer.exception(20), httpx.TransportError)
    last_words = scene.proxy.text[said:]
    assert forms(scene.proxy.text.encode()) == []
    assert "canary" not in scene.proxy.text
    assert "flowrotate/" not in last_words
    assert "pending" not in last_words
    # Python 3.11 prints one for each client that is there, of bare mitmproxy too.
    assert last_words.count("Traceback") == last_words.count("handler.handle_client()")


def is_asked_twice(scene: leaving.Scene, path: str) -> bool:
    return [request.target for request in scene.tls.requests].count(path) >= 2
