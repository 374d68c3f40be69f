"""One request's way, step by step, where no traffic could get the timing right."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from mitmproxy.http import Headers, HTTPFlow, Request, Response
from mitmproxy.test import tflow

from flowrotate import attempt, outcome, passage
from flowrotate.config.pools import parse
from flowrotate.config.spec import Source
from flowrotate.guard import Refusal
from flowrotate.passage import Passage
from flowrotate.rotator import ROTATOR
from flowrotate.secret import Secret
from flowrotate.settings import Settings
from flowrotate.sources.resolve import ResolvedPool


@pytest.fixture(autouse=True)
def rotator() -> Iterator[None]:
    before = ROTATOR.settings, ROTATOR.pools
    yield
    ROTATOR.swap(before[0], [pool.resolved for pool in before[1].values()])


def use(text: str) -> None:
    (spec,) = parse(text.encode(), "x.yaml").pools
    sources = [c.source for c in spec.credentials]
    secrets = [s.value for s in sources if isinstance(s, Source)]
    resolved = [s if isinstance(s, Secret) else Secret(s, "") for s in secrets]
    ROTATOR.swap(Settings(), [ResolvedPool(spec, tuple(resolved))])


def flow(**headers: str) -> HTTPFlow:
    made = tflow.tflow(req=Request.make("GET", "https://a.test/", headers=Headers(host="a.test")))
    made.request.headers.update(headers)
    made.client_conn.peername = ("127.0.0.1", 1)
    made.server_conn.address, made.server_conn.sni = ("a.test", 443), "a.test"
    made.live = True
    return made


def chosen_for(made: HTTPFlow) -> Passage:
    chosen = passage.decide(made, ())
    assert isinstance(chosen, Passage)
    assert attempt.pick(made, chosen) is None
    return chosen


def on_its_way(made: HTTPFlow) -> Passage:
    assert passage.enter(made) is None
    return chosen_for(made)


def test_a_reload_changes_nothing_for_a_request_in_flight() -> None:
    use("{hosts: [a.test], inject: 'x-api-key: {secret}', credentials: [sk-canary]}")
    made = flow(authorization="mine")
    chosen = on_its_way(made)
    basic = "inject: 'Authorization: Basic {basic}', username: user"
    use(f"{{hosts: [b.test], {basic}, credentials: [sk-canary]}}")
    sealed: Any = attempt.seal(made, chosen, ("a.test", 443), "a.test")
    assert sealed.headers["x-api-key"] == "sk-canary"
    assert "authorization" not in sealed.headers


def test_the_flow_never_holds_what_goes_on_the_wire() -> None:
    use("{hosts: [a.test], credentials: [sk-canary]}")
    made = flow(authorization="Bearer mine")
    chosen = on_its_way(made)
    sealed: Any = attempt.seal(made, chosen, ("a.test", 443), "a.test")
    assert sealed.headers["authorization"] == "Bearer sk-canary"
    assert made.request.headers["authorization"] == "Bearer [rotate:default/default-1]"
    assert "canary" not in str(made.get_state())
    shown = repr([chosen, chosen.pool, chosen.credential, ROTATOR])
    assert "canary" not in shown
    assert "mine" not in shown


def test_a_request_that_comes_into_a_pool_late_loses_its_credentials_everywhere() -> None:
    use("{hosts: [a.test], credentials: [sk-canary]}")
    made = flow(authorization="Bearer mine")
    made.request.trailers = Headers(authorization="mine", host="evil.test", checksum="kept")
    chosen_for(made)
    assert "mine" not in str(made.get_state())
    assert list(made.request.trailers) == ["checksum"]


def test_what_the_user_wrote_on_a_flow_stays() -> None:
    use("{hosts: [a.test], credentials: [sk-canary]}")
    made = flow()
    made.comment, made.marked = "look here", ":grapes:"
    on_its_way(made)
    assert (made.comment, made.marked) == ("look here", ":grapes:")
    assert made.metadata["rotate"]["credential"] == "default-1"


def test_nothing_is_kept_of_a_flow_that_is_gone() -> None:
    use("{hosts: [a.test], credentials: [sk-canary]}")
    before = len(passage.PASSAGES)
    made = flow()
    passage.enter(made)
    assert len(passage.PASSAGES) == before + 1
    del made
    gc.collect()
    assert len(passage.PASSAGES) == before


def test_who_waits_comes_before_who_comes_just_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(ROTATOR, "clock", lambda: now)

    async def run() -> None:
        nonlocal now
        use("{hosts: [a.test], hold: 60, retries: 0, credentials: [sk-canary, sk-other]}")
        limited = Response.make(429, b"", {"retry-after": "30"})
        for _ in range(2):
            assert not outcome.learn(flow(), on_its_way(flow()), limited, repeatable=True)
        early, late = flow(), flow()
        waiting = chosen_for(early)
        assert waiting.waiter
        # The cooldown is over, and the alarm has not rung yet.
        now += 30
        newcomer = chosen_for(late)
        assert isinstance(attempt.resume(early, waiting), Passage)
        picked = [p.credential.id for p in (waiting, newcomer) if p.credential]
        assert picked == ["default-1", "default-2"]

    asyncio.run(run())


@pytest.mark.parametrize(
    "change", ["methods: [POST]", "inject: 'x-api-key: {secret}'", "paths: [/other]"]
)
def test_a_reload_is_obeyed_by_who_waits(change: str) -> None:
    """Whose pool has it no more is decided anew; what was picked meanwhile goes back."""

    async def run() -> None:
        use("{hosts: [a.test], hold: 60, credentials: [{id: a, secret: sk-a, disabled: true}]}")
        waiting = on_its_way(made := flow(authorization="Bearer mine"))
        use("{hosts: [a.test], hold: 60, credentials: [{id: a, secret: sk-a}], " + change + "}")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.waiter
        assert waiting.waiter.credential
        assert attempt.resume(made, waiting) is None
        (status,) = ROTATOR.pools["default"].selector.statuses(0)
        assert status.in_flight == 0
        passage.PASSAGES[made] = waiting
        anew = passage.decide(made, ())
        if "inject" in change:
            assert isinstance(anew, Passage)
            assert attempt.pick(made, anew) is None
            assert made.request.headers["x-api-key"] == "[rotate:default/a]"
            assert "authorization" not in made.request.headers
        else:
            assert anew is None
            assert made.request.headers["authorization"] == "Bearer mine"

    asyncio.run(run())


def test_a_request_that_is_killed_while_it_waits_takes_nothing_along() -> None:
    async def run() -> None:
        use("{hosts: [a.test], hold: 60, credentials: [{id: a, secret: sk-a, disabled: true}]}")
        waiting = on_its_way(flow())
        pool = waiting.pool
        pool.selector.enable("a", 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [s.in_flight for s in pool.selector.statuses(0)] == [1]
        attempt.leave(waiting)
        assert [s.in_flight for s in pool.selector.statuses(0)] == [0]
        assert not pool.room.queue

    asyncio.run(run())


def sealed(made: HTTPFlow, chosen: Passage) -> Any:
    return attempt.seal(made, chosen, ("a.test", 443), "a.test")


@pytest.mark.parametrize("edit", ["reload", "header", "host", "path"])
def test_g1_what_changed_during_a_wait_is_checked_again(edit: str) -> None:
    """A reload that takes the Host's name away; a user's edit of the flow that waits."""

    async def run() -> None:
        one = "credentials: [{id: a, secret: sk-a%s}]"
        use("{hosts: [a.test, b.test], hold: 60, " + one % ", disabled: true" + "}")
        waiting = on_its_way(made := flow(host="b.test"))
        if edit == "reload":
            use("{hosts: [a.test], hold: 60, " + one % "" + "}")
        else:
            waiting.pool.selector.enable("a", 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        fields = made.request.data.headers.fields
        if edit == "header":
            made.request.data.headers.fields = (*fields, (b"x", b"1\r\nHost: evil.test"))
        elif edit == "host":
            made.request.headers["host"] = "evil.test"
        elif edit == "path":
            made.request.data.path = b"/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"
        assert isinstance(attempt.resume(made, waiting), Passage)
        assert isinstance(sealed(made, waiting), Refusal)

    asyncio.run(run())


def test_g1_what_changed_between_two_attempts_is_checked_again() -> None:
    use("{hosts: [a.test], credentials: [sk-a, sk-b]}")
    made = flow()
    first = on_its_way(made)
    assert isinstance(sealed(made, first), Request)
    assert outcome.learn(made, first, Response.make(429), repeatable=True)
    made.request.headers["host"] = "evil.test"
    assert isinstance(attempt.again(made, first), Passage)
    assert isinstance(sealed(made, first), Refusal)
