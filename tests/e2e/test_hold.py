"""None ready: a bounded wait, first come first served, and an answer that retries can work with."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream, json_reply

from .test_commands import CONTROL, run
from .test_failover import BOTH, is_quiet
from .world import World, bearers, client, pool

LIMITED: set[str] = set()


def app(request: Request) -> Reply:
    (id,) = bearers([request])
    if id in LIMITED:
        LIMITED.discard(id)
        return json_reply({}, 429, [("Retry-After", "600")])
    return json_reply({"id": id, "target": request.target})


@pytest.fixture
def upstream(world: World) -> ThreadedUpstream:
    LIMITED.clear()
    return world.upstream(app)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as made:
        yield made


def start(world: World, upstream: ThreadedUpstream, ids: str = "a", hold: int = 60) -> Proxy:
    spec = pool([f"localhost:{upstream.port}"], ids, hold=hold)
    return world.proxy(spec, scripts=[SCRIPT, CONTROL])


def exhaust(proxy: Proxy) -> None:
    """Nobody is ready, for as long as nobody is enabled."""
    for line in run(proxy, "rotate.status")[1].splitlines():
        run(proxy, f"rotate.disable {line.partition(':')[0]}")
    assert "ready" not in run(proxy, "rotate.status")[1]


def waiting(proxy: Proxy, n: int) -> None:
    """Return when so many requests wait."""
    deadline = time.monotonic() + 10
    while run(proxy, "test.waiting")[1] != str(n):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@BOTH
@pytest.mark.parametrize("woken_by", ["rotate.enable pool/a", "reload"])
def test_woken_the_moment_that_one_is_ready(
    world: World,
    upstream: ThreadedUpstream,
    threads: ThreadPoolExecutor,
    http2: bool,
    woken_by: str,
) -> None:
    proxy = start(world, upstream)
    c = world.client(proxy, http2=http2)
    url = upstream.url("/")
    assert c.get(url).status_code == 200
    exhaust(proxy)
    answer = threads.submit(c.post, url, content=b"x")
    waiting(proxy, 1)
    if woken_by == "reload":
        file = world.secrets(pool([f"localhost:{upstream.port}"], "b", hold=60), name="new.json")
        with httpx.Client(proxy=proxy.url, trust_env=False) as control:
            control.get(f"http://control.test/set?rotate_secrets={file}").raise_for_status()
    else:
        assert run(proxy, woken_by)[0] == 200
    assert answer.result(2).status_code == 200
    is_quiet(proxy)


@BOTH
def test_woken_by_the_end_of_a_cooldown(world: World, http2: bool) -> None:
    first: list[str] = []

    def once(request: Request) -> Reply:
        first.append(request.target)
        limited = len(first) == 1
        return json_reply({}, 429 if limited else 200, [("Retry-After", "2")] * limited)

    upstream = world.upstream(once)
    proxy = start(world, upstream)
    c = world.client(proxy, http2=http2)
    # The only one is tried already: nothing to wait for.
    assert c.get(upstream.url("/first")).status_code == 429
    began = time.monotonic()
    assert c.get(upstream.url("/second")).status_code == 200
    assert 1.5 < time.monotonic() - began < 2.5
    is_quiet(proxy)


def test_a_failover_waits_for_one_that_is_not_tried(
    world: World, upstream: ThreadedUpstream, threads: ThreadPoolExecutor
) -> None:
    proxy = start(world, upstream, "ab")
    LIMITED.update("a")
    run(proxy, "rotate.disable pool/b")
    c = world.client(proxy)
    assert c.get(upstream.url("/")).status_code == 429  # b is disabled: nobody comes back
    run(proxy, "rotate.enable pool/b")
    run(proxy, "rotate.reset")
    LIMITED.update("ab")
    c.get(upstream.url("/"))
    run(proxy, "rotate.reset pool/a")
    LIMITED.update("a")
    answer = threads.submit(c.get, upstream.url("/"))
    waiting(proxy, 1)
    run(proxy, "rotate.reset pool/a")  # tried already
    waiting(proxy, 1)
    run(proxy, "rotate.reset pool/b")
    assert answer.result(2).json()["id"] == "b"
    is_quiet(proxy)


def test_first_come_first_served(
    world: World, upstream: ThreadedUpstream, threads: ThreadPoolExecutor
) -> None:
    proxy = start(world, upstream)
    exhaust(proxy)
    answers: list[Future[httpx.Response]] = []
    for n in range(8):
        c = world.client(proxy)
        answers.append(threads.submit(c.get, upstream.url(f"/{n}")))
        waiting(proxy, n + 1)
    run(proxy, "rotate.enable pool/a")
    assert [a.result(5).status_code for a in answers] == [200] * 8
    assert [r.target for r in upstream.requests] == [f"/{n}" for n in range(8)]
    is_quiet(proxy)


@BOTH
def test_nothing_is_dialled_before_the_wait_is_over(
    world: World, threads: ThreadPoolExecutor, http2: bool
) -> None:
    """An upstream that closes connections which idle for half a second loses no request."""
    upstream = world.upstream(app, alpn=["h2" if http2 else "http/1.1"])
    proxy = start(world, upstream)
    c = world.client(proxy, http2=http2)
    assert c.get(upstream.url("/")).status_code == 200
    exhaust(proxy)
    answer = threads.submit(c.post, upstream.url("/"), content=b"x" * 1000)
    waiting(proxy, 1)
    upstream.drop()
    time.sleep(0.2)
    run(proxy, "rotate.enable pool/a")
    assert answer.result(5).status_code == 200
    is_quiet(proxy)


@BOTH
def test_at_its_end_the_answer_says_when_to_come_back(world: World, http2: bool) -> None:
    upstream = world.upstream(lambda _: json_reply({}, 429, [("Retry-After", "30")]))
    proxy = start(world, upstream, hold=1)
    c = world.client(proxy, http2=http2)
    c.get(upstream.url("/"))
    began = time.monotonic()
    answer = c.get(upstream.url("/"))
    assert 0.9 < time.monotonic() - began < 2
    assert (answer.status_code, answer.headers["x-rotate-error"]) == (429, "exhausted")
    assert 28 <= int(answer.headers["retry-after"]) <= 30
    assert len(upstream.requests) == 1
    is_quiet(proxy)


@BOTH
def test_clients_that_leave_are_forgotten_at_once(
    world: World, upstream: ThreadedUpstream, http2: bool
) -> None:
    proxy = start(world, upstream)
    exhaust(proxy)

    def leave() -> None:
        with client(proxy, http2=http2, timeout=1) as c, pytest.raises(httpx.TimeoutException):
            c.post(upstream.url("/"), content=b"x")

    leaving = [threading.Thread(target=leave) for _ in range(5)]
    for thread in leaving:
        thread.start()
    for thread in leaving:
        thread.join()
    waiting(proxy, 0)
    assert run(proxy, "test.tasks")[1] == "0"
    run(proxy, "rotate.enable pool/a")
    assert world.client(proxy).get(upstream.url("/")).status_code == 200
    assert len(upstream.requests) == 1
    is_quiet(proxy)


def test_a_streamed_request_waits_too(
    world: World, upstream: ThreadedUpstream, threads: ThreadPoolExecutor
) -> None:
    proxy = start(world, upstream)
    run(proxy, "set stream_large_bodies 1k")
    exhaust(proxy)
    c = world.client(proxy)
    answer = threads.submit(c.post, upstream.url("/"), content=b"x" * 300_000)
    waiting(proxy, 1)
    run(proxy, "rotate.enable pool/a")
    assert answer.result(5).status_code == 200
    assert [len(r.body) for r in upstream.requests] == [300_000]
    is_quiet(proxy)


def test_the_openai_sdks_own_retry_succeeds(world: World) -> None:
    openai = pytest.importorskip("openai")
    statuses = iter([429, 200])

    def once(_: Request) -> Reply:
        reply = {"id": "x", "object": "model", "created": 1, "owned_by": "x"}
        status = next(statuses)
        return json_reply(reply, status, [("Retry-After", "2")] if status == 429 else [])

    upstream = world.upstream(once)
    proxy = start(world, upstream, hold=0)
    c = world.client(proxy)
    assert c.get(upstream.url("/")).status_code == 429
    sdk = openai.OpenAI(
        api_key="placeholder", base_url=upstream.url("/v1"), max_retries=1, http_client=c
    )
    # Its first try finds nobody ready; it comes back when our Retry-After says so.
    assert sdk.models.retrieve("x").id == "x"
