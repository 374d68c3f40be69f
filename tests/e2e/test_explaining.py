"""What a flow and a command tell of a failover; replays and resumed flows fail over too."""

import json
import re
import threading
import time

import httpx
import pytest
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, json_reply

from .test_commands import CONTROL, run
from .test_failover import BOTH, app, is_quiet
from .test_leaks import ask_api
from .world import World, bearers, pool


def limited(_: object) -> object:
    return json_reply({}, 429, [("Retry-After", "30")])


def web(
    world: World,
    port: int,
    upstream_port: int,
    ids: str,
    options: dict[str, str] | None = None,
    **keys: str,
) -> Proxy:
    proxy = world.proxy(
        pool([f"localhost:{upstream_port}"], ids, **keys),
        options=options,
        command="mitmweb",
        args=["--no-web-open-browser", "--web-port", str(port)],
        scripts=[SCRIPT, CONTROL],
    )
    proxy.wait_for("Web server listening")
    return proxy


def test_why_and_what_the_flow_shows(world: World, free_port: int) -> None:
    upstream = world.upstream(app(b=limited, d=401))
    proxy = web(world, free_port, upstream.port, "abcde")
    c = world.client(proxy)
    run(proxy, "rotate.disable pool/a")
    assert c.get(upstream.url("/one")).json()["id"] == "c"
    assert c.get(upstream.url("/two")).json()["id"] == "e"
    assert run(proxy, "rotate.why '~u /one'")[1] == (
        "a: skipped, disabled by hand; b: tried, 429 Retry-After 30; c: served 200; "
        "2 more: ready, it was not their turn"
    )
    told = run(proxy, "rotate.why '~u /two'")[1]
    assert "b: skipped, cooling " in told
    assert "d: tried, 401; e: served 200" in told
    httpx.head("http://control.test/run?test.waiting", proxy=proxy.url)
    assert run(proxy, "rotate.why '~m HEAD'") == (
        200,
        "this flow belongs to no pool that is there now",
    )
    one = next(f for f in json.loads(ask_api(proxy, "flows")) if f["request"]["path"] == "/one")
    assert one["comment"] == ("Flow Rotate: b answered 429, cooling for 30 s; c answered 200")
    assert one["marked"] in (":repeat:", "🔁")


def test_why_knows_the_limits_of_one_model(world: World, free_port: int) -> None:
    def large_is_limited(request: Request) -> Reply:
        if bearers([request]) == ["a"] and b"large" in request.body:
            return json_reply({}, 429, [("Retry-After", "30")])
        return json_reply({})

    upstream = world.upstream(large_is_limited)
    proxy = web(world, free_port, upstream.port, "ab", cooldown_by="json:/model")
    c = world.client(proxy)
    for path, model in (("/first", "large"), ("/large", "large"), ("/small", "small")):
        assert c.post(upstream.url(path), json={"model": model}).status_code == 200
    said = run(proxy, "rotate.why '~u /large'")[1]
    assert re.fullmatch("a: skipped, cooling [23][0-9] s after 429; b: served 200", said)
    assert "cooling" not in run(proxy, "rotate.why '~u /small'")[1]


@BOTH
def test_attempts_in_the_saved_flow(world: World, http2: bool) -> None:
    upstream = world.upstream(app(a=limited, b=401))
    capture = world.folder / "flows.mitm"
    proxy = world.proxy(
        pool([f"localhost:{upstream.port}"], "abc"),
        args=["-w", str(capture)],
        options={"rotate_expose": "true"},
    )
    before = time.time()
    answer = world.client(proxy, http2=http2).get(upstream.url("/"))
    assert answer.headers["x-rotate-credential"] == "pool/c"
    assert answer.headers["x-rotate-attempts"] == "3"
    proxy.stop()
    with capture.open("rb") as file:
        (flow,) = FlowReader(file).stream()
    assert isinstance(flow, HTTPFlow)
    attempts = flow.metadata["rotate"]["attempts"]
    assert [(a["credential"], a["status"], a["verdict"]) for a in attempts] == [
        ("a", 429, "cooldown"),
        ("b", 401, "disable"),
        ("c", 200, "ok"),
    ]
    assert attempts[0]["retry_after"] == "30"
    assert all(0 < a["seconds"] < 5 and before - 1 < a["at"] < time.time() for a in attempts)
    assert flow.request.headers["authorization"] == "Bearer [rotate:pool/c]"


@BOTH
def test_a_replay_fails_over(world: World, http2: bool) -> None:
    upstream = world.upstream(app(b=limited))
    capture, again = world.folder / "first.mitm", world.folder / "again.mitm"
    spec = pool([f"localhost:{upstream.port}"], "abc")
    proxy = world.proxy(spec, args=["-w", str(capture)])
    world.client(proxy, http2=http2).post(upstream.url("/"), content=b"x" * 1000)
    proxy.stop()
    spec = pool([f"localhost:{upstream.port}"], "bc")
    replaying = world.proxy(spec, args=["-C", str(capture), "-w", str(again)])
    replaying.wait_for("<< .*200")
    replaying.stop()
    assert bearers(upstream.requests) == ["a", "b", "c"]
    assert [len(r.body) for r in upstream.requests] == [1000] * 3


def test_a_flow_that_was_intercepted_fails_over(world: World, free_port: int) -> None:
    upstream = world.upstream(app(a=limited, b=401))
    proxy = web(world, free_port, upstream.port, "abc", {"intercept": "~d localhost & ~q"})
    c = world.client(proxy)
    answers: list[httpx.Response] = []
    url = upstream.url("/held")
    thread = threading.Thread(target=lambda: answers.append(c.post(url, content=b"x")))
    thread.start()
    deadline = time.monotonic() + 10
    while not any(f["intercepted"] for f in json.loads(ask_api(proxy, "flows"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert upstream.requests == []
    run(proxy, "flow.resume '~u /held'")
    thread.join(10)
    assert [a.status_code for a in answers] == [200]
    assert bearers(upstream.requests) == ["a", "b", "c"]
    is_quiet(proxy)


def test_a_response_that_is_intercepted_holds_no_credential(world: World, free_port: int) -> None:
    upstream = world.upstream(app())
    proxy = web(world, free_port, upstream.port, "a", {"intercept": "~d localhost & ~s"})
    c = world.client(proxy)
    thread = threading.Thread(target=lambda: c.get(upstream.url("/held")))
    thread.start()
    deadline = time.monotonic() + 10
    while not any(f["intercepted"] for f in json.loads(ask_api(proxy, "flows"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "in flight" not in run(proxy, "rotate.status")[1]
    run(proxy, "flow.resume '~u /held'")
    thread.join(10)


@pytest.mark.parametrize("step", ["attempt.again", "upstream.detach"])
def test_g6_a_fault_between_attempts(world: World, step: str) -> None:
    """Nothing hangs: the client gets our own answer."""
    upstream = world.upstream(app(a=limited))
    module, name = step.split(".")
    where = "flowrotate.wire.failover" if module == "upstream" else "flowrotate.attempt"
    script = world.folder / "breaking.py"
    script.write_text(
        "import importlib\n"
        "def running():\n"
        f"    module = importlib.import_module('{where}')\n"
        "    def fault(*args, **named):\n"
        "        raise RuntimeError('sk-canary-a-7f3a9c')\n"
        f"    module.{name} = fault\n"
    )
    spec = pool([f"localhost:{upstream.port}"], "abc")
    proxy = world.proxy(spec, scripts=[SCRIPT, CONTROL, script])
    c = world.client(proxy)
    answer = c.get(upstream.url("/"))
    assert (answer.status_code, answer.headers["x-rotate-error"]) == (502, "internal")
    assert c.get(upstream.url("/")).status_code == 200
    is_quiet(proxy)
    assert "sk-canary" not in proxy.text
