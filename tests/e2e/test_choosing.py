"""Strategies, sessions, pins, limits and scopes, with real traffic."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream, json_reply

from .test_commands import CONTROL, run
from .test_failover import BOTH, is_quiet
from .world import World, bearers, pool, secret


def start(
    world: World, upstream: ThreadedUpstream, ids: str, *each: dict[str, Any], **keys: Any
) -> Proxy:
    """`each` are further keys of the credentials."""
    spec = pool([f"localhost:{upstream.port}"], ids, **keys)
    for credential, more in zip(spec["credentials"], each, strict=False):
        credential.update(more)
    return world.proxy(spec, scripts=[SCRIPT, CONTROL])


def test_three_to_one(world: World) -> None:
    upstream = world.upstream()
    c = world.client(start(world, upstream, "ab", {"weight": 3}))
    for _ in range(24):
        c.get(upstream.url("/"))
    order = bearers(upstream.requests)
    for n in range(21):
        assert Counter(order[n : n + 4]) == {"a": 3, "b": 1}


def test_fill_first_and_priorities(world: World) -> None:
    upstream = world.upstream()
    proxy = start(world, upstream, "abc", {"priority": 1}, strategy="fill-first")
    c = world.client(proxy)
    for commands in ((), ("rotate.disable pool/b",), ("rotate.disable pool/c",)):
        for command in commands:
            run(proxy, command)
        c.get(upstream.url("/"))
        c.get(upstream.url("/"))
    assert bearers(upstream.requests) == list("bbccaa")


def test_least_busy(world: World) -> None:
    gate = threading.Event()

    def app(request: Request) -> Reply:
        return json_reply({"id": bearers([request])[0]})

    async def slowly(request: Request) -> Reply:
        if request.target == "/slow":
            await asyncio.to_thread(gate.wait)
        return app(request)

    upstream = world.upstream(slowly)
    proxy = start(world, upstream, "ab", strategy="least-busy")
    c = world.client(proxy)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(c.get, upstream.url("/slow"))
        while not upstream.requests:
            time.sleep(0.01)
        (busy,) = bearers(upstream.requests)
        for _ in range(5):
            assert c.get(upstream.url("/fast")).json()["id"] != busy
        gate.set()
        slow.result()
    is_quiet(proxy)


SESSIONS = [f"session-{n}" for n in range(40)]


@pytest.mark.parametrize(
    "key", ["header:x-session", "json:/user", "path:/t", "header:authorization"]
)
def test_a_session_keeps_its_credential_and_a_loss_moves_only_its_own(
    world: World, key: str
) -> None:
    upstream = world.upstream()
    proxy = start(world, upstream, "abcdef", strategy="sticky", sticky=key)
    c = world.client(proxy)

    def homes() -> dict[str, str]:
        before = len(upstream.requests)
        for session in SESSIONS:
            c.post(
                upstream.url(f"/t/{session}/x" if key.startswith("path") else "/"),
                headers={"x-session": session, "authorization": f"Bearer {session}"},
                json={"user": session if key.startswith("json") else "all"},
            )
        return dict(zip(SESSIONS, bearers(upstream.requests[before:]), strict=True))

    home = homes()
    assert homes() == home
    assert len(set(home.values())) >= 4
    lost = home[SESSIONS[0]]
    run(proxy, f"rotate.disable pool/{lost}")
    moved = homes()
    assert {s for s in SESSIONS if moved[s] != home[s]} == {s for s in SESSIONS if home[s] == lost}
    run(proxy, f"rotate.enable pool/{lost}")
    assert homes() == home


def test_a_client_keeps_its_credential(world: World) -> None:
    upstream = world.upstream()
    c = world.client(start(world, upstream, "abcdef", strategy="sticky", sticky="client"))
    for _ in range(10):
        c.get(upstream.url("/"))
    assert len(set(bearers(upstream.requests))) == 1


def test_pinned_paths_belong_to_the_first_account(world: World) -> None:
    upstream = world.upstream()
    proxy = start(world, upstream, "abc", pin=["/v1/files/**"])
    c = world.client(proxy)
    for path in ("/v1/files", "/x", "/v1/files/7?a=b", "/x", "/x", "/v1/files/%37", "/x"):
        c.get(upstream.url(path))
    by_path = [
        (r.target, id) for r, id in zip(upstream.requests, bearers(upstream.requests), strict=True)
    ]
    assert [id for path, id in by_path if path.startswith("/v1/files")] == list("aaa")
    assert [id for path, id in by_path if path == "/x"] == list("abca")
    run(proxy, "rotate.disable pool/a")
    c.get(upstream.url("/v1/files/7"))
    assert bearers(upstream.requests)[-1] == "b"


@BOTH
def test_headers_go_out_with_their_credential_and_are_in_no_flow(world: World, http2: bool) -> None:
    upstream = world.upstream()
    capture = world.folder / "flows.mitm"
    spec = pool([f"localhost:{upstream.port}"], "ab")
    spec["credentials"][0]["headers"] = {"OpenAI-Organization": "org-canary", "X-Extra": "1"}
    proxy = world.proxy(spec, args=["-w", str(capture)])
    c = world.client(proxy, http2=http2)
    for _ in range(2):
        c.get(upstream.url("/"), headers={"openai-organization": "mine"})
    proxy.stop()
    sent = [(r.all("openai-organization"), r.all("x-extra")) for r in upstream.requests]
    assert sent == [(["org-canary"], ["1"]), (["mine"], [])]
    assert b"org-canary" not in capture.read_bytes()


def limited_by_model(request: Request) -> Reply:
    model = json.loads(request.body)["model"]
    if bearers([request]) == ["a"] and model == "large":
        return json_reply({}, 429, [("Retry-After", "100")])
    return json_reply({"model": model})


@BOTH
def test_a_limit_of_one_model_costs_the_others_nothing(world: World, http2: bool) -> None:
    upstream = world.upstream(limited_by_model)
    proxy = start(world, upstream, "ab", cooldown_by="json:/model")
    c = world.client(proxy, http2=http2)

    def ask(*models: str) -> str:
        before = len(upstream.requests)
        for model in models:
            assert c.post(upstream.url("/"), json={"model": model}).status_code == 200
        return "".join(bearers(upstream.requests[before:]))

    assert ask("large", "large") == "abb"
    assert sorted(ask("small", "small", "small", "small")) == list("aabb")
    assert ask("large", "large") == "bb"
    status = run(proxy, "rotate.status")[1]
    assert "pool/a: ready, cooling 100 s for large" in status.replace(" 99 s", " 100 s")
    run(proxy, "rotate.disable pool/b")
    answer = c.post(upstream.url("/"), json={"model": "large"})
    assert answer.status_code == 429
    assert 95 <= int(answer.headers["retry-after"]) <= 101
    listed = answer.json()["error"]["credentials"]
    assert [(x["id"], x["state"]) for x in listed] == [("a", "cooling"), ("b", "disabled")]
    assert ask("small") == "a"
    is_quiet(proxy)


def test_rpm_passes_over_and_says_when(world: World) -> None:
    upstream = world.upstream()
    proxy = start(world, upstream, "ab", {"rpm": 2}, {"rpm": 3})
    c = world.client(proxy)
    answers = [c.get(upstream.url("/")) for _ in range(6)]
    assert [a.status_code for a in answers] == [200] * 5 + [429]
    assert Counter(bearers(upstream.requests)) == {"a": 2, "b": 3}
    assert 50 <= int(answers[-1].headers["retry-after"]) <= 61
    error = answers[-1].json()["error"]
    assert (
        error["message"]
        == "no credential of pool pool is ready, or they are at limits of their own"
    )
    assert {x["reason"] for x in error["credentials"]} == {"rpm"}
    assert "pool/a: ready, at its rpm for " in run(proxy, "rotate.status")[1]


@BOTH
def test_max_in_flight_holds_and_wakes_when_a_slot_comes_free(world: World, http2: bool) -> None:
    active, peak = Counter[str](), Counter[str]()

    async def app(request: Request) -> Reply:
        (id,) = bearers([request])
        active[id] += 1
        peak[id] = max(peak[id], active[id])
        await asyncio.sleep(0.05)
        active[id] -= 1
        return json_reply({})

    upstream = world.upstream(app)
    limits: Sequence[dict[str, Any]] = ({"max_in_flight": 2}, {"max_in_flight": 1})
    proxy = start(world, upstream, "ab", *limits, hold=30)
    c = world.client(proxy, http2=http2)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda n: c.get(upstream.url(f"/{n}")), range(60)))
    assert {a.status_code for a in answers} == {200}
    assert len(upstream.requests) == 60
    assert peak == {"a": 2, "b": 1}
    is_quiet(proxy)


def test_a_limit_on_the_address_ends_for_all_at_once(world: World) -> None:
    limited = True

    def app(_: Request) -> Reply:
        return json_reply({}, 429 if limited else 200)

    upstream = world.upstream(app)
    proxy = start(world, upstream, "abc", cooldown=1, hold=5)
    c = world.client(proxy)
    for _ in range(3):
        # All three fail, together, again and again.
        before = len(upstream.requests)
        assert c.get(upstream.url("/")).status_code == 429
        assert len(upstream.requests) - before == 3
    limited = False
    began = time.monotonic()
    assert c.get(upstream.url("/")).status_code == 200
    assert time.monotonic() - began < 1.5


def test_a_secret_is_in_no_metadata_of_a_wish(world: World) -> None:
    upstream = world.upstream()
    capture = world.folder / "flows.mitm"
    spec = pool(
        [f"localhost:{upstream.port}"], "ab", strategy="sticky", sticky="header:authorization"
    )
    proxy = world.proxy(spec, args=["-w", str(capture)])
    mine = secret("mine")
    world.client(proxy).get(upstream.url("/"), headers={"Authorization": f"Bearer {mine}"})
    proxy.stop()
    assert mine.encode() not in capture.read_bytes()
    assert mine not in proxy.text
