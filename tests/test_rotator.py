"""The process-wide pools: looked up by place, swapped whole, their state kept."""

from collections.abc import Sequence

import pytest

from flowrotate.guard import Place
from flowrotate.rotator import Rotator
from flowrotate.settings import Settings
from flowrotate.verdict import OK, Action, Verdict
from tests.parsing import resolved


def rotator(*pools: str, now: float = 100.0, settings: Settings | None = None) -> Rotator:
    made = Rotator(clock=lambda: now, wall=lambda: 1e9)
    made.swap(settings or Settings(), resolved(f"{{pools: [{', '.join(pools)}]}}"))
    return made


def pool(
    name: str, hosts: str, rest: str = "", credentials: Sequence[str] = ("sk-1", "sk-2")
) -> str:
    return f"{{name: {name}, hosts: [{hosts}], credentials: [{', '.join(credentials)}]{rest}}}"


def found(made: Rotator, host: str, method: str = "GET", path: str = "/", **place: object) -> str:
    where = {"tls": True, "host": host, "port": 443, "server_name": host} | place
    hit = made.find(Place(**where), method, path)  # type: ignore[arg-type]
    return hit.name if hit else "-"


def test_pools_by_host_path_and_method() -> None:
    made = rotator(
        pool("a", "a.test"),
        pool("wild", "'*.wild.test'"),
        pool("get", "b.test", ", methods: [GET], paths: [/v1/**]"),
        pool("post", "b.test", ", methods: [POST]"),
        pool("plain", "'http://c.test'"),
        pool("any", "'d.test:*'"),
    )
    assert found(made, "a.test") == "a"
    assert found(made, "a.test", port=444) == found(made, "a.test", tls=False, port=80) == "-"
    assert found(made, "x.wild.test") == found(made, "y.x.wild.test") == "wild"
    assert found(made, "wild.test") == found(made, "xwild.test") == "-"
    assert found(made, "b.test", "GET", "/v1/x") == "get"
    assert found(made, "b.test", "GET", "/v2/x") == "-"
    assert found(made, "b.test", "POST", "/v2/x") == "post"
    assert found(made, "c.test", tls=False, port=80) == "plain"
    assert found(made, "c.test") == "-"
    assert found(made, "d.test", port=9) == "any"


def test_an_address_that_is_dialled_with_tls_is_found_by_its_server_name() -> None:
    made = rotator(pool("a", "a.test"))
    assert found(made, "192.0.2.1", server_name="a.test") == "a"
    assert found(made, "b.test", server_name="a.test") == "-"


def test_a_swap_keeps_the_state_of_pools_that_stay() -> None:
    made = rotator(pool("a", "a.test"), pool("b", "b.test"))
    first = made.pools["a"].selector.pick(100.0)
    assert first
    made.pools["a"].selector.report(first, Verdict(Action.COOLDOWN, 60, "429"), 429, 100.0)
    unchanged = made.pools["b"]
    made.swap(
        Settings(cooldown=5),
        resolved(f"{{pools: [{pool('a', 'x.test')}, {pool('b', 'b.test')}]}}"),
    )
    assert made.pools["b"] is unchanged
    assert repr(made.pools["a"].selector) == "Selector(a-1:cooling a-2:ready)"
    assert (found(made, "a.test"), found(made, "x.test")) == ("-", "a")
    assert made.pools["a"].cooldown(made.settings) == 5


def test_a_pools_own_rules_go_before_the_options() -> None:
    made = rotator(pool("a", "a.test", ", fail: {403: disable}, cooldown: 7"))
    assert made.pools["a"].rules(Settings()) == ((403, 403, "disable"),)
    assert made.pools["a"].cooldown(Settings(cooldown=60)) == 7


def test_not_configured_is_broken_until_a_swap() -> None:
    made = Rotator()
    assert made.broken
    made.swap(Settings(), [])
    assert not made.broken


def test_exhausted_says_when_to_come_back() -> None:
    made = rotator(pool("a", "a.test"))
    selector = made.pools["a"].selector
    for seconds in (30.2, 90.0):
        picked = selector.pick(100.0)
        assert picked
        selector.report(picked, Verdict(Action.COOLDOWN, seconds, "429"), 429, 100.0)
    refusal = made.exhausted(made.pools["a"])
    assert (refusal.status, refusal.type) == (429, "rotate_exhausted")
    # A whole second more than the time that is left, so that nobody comes back too early.
    assert refusal.headers == {"X-Rotate-Error": "exhausted", "Retry-After": "31"}
    assert refusal.details == {
        "pool": "a",
        "retry_after": 31,
        "credentials": [
            {"id": "a-1", "state": "cooling", "reason": "429", "seconds_left": 30.2},
            {"id": "a-2", "state": "cooling", "reason": "429", "seconds_left": 90.0},
        ],
    }


def test_exhausted_for_good_is_503_without_a_time() -> None:
    made = rotator(pool("a", "a.test", credentials=["sk-1"]))
    made.pools["a"].selector.disable("a-1", 0)
    refusal = made.exhausted(made.pools["a"])
    assert (refusal.status, refusal.headers) == (503, {"X-Rotate-Error": "exhausted"})
    assert refusal.details["retry_after"] is None


def test_a_credential_by_name() -> None:
    made = rotator(pool("a", "a.test"))
    target, id = made.target("a/a-2")
    assert (target.name, id) == ("a", "a-2")
    for text in ("a/x", "x/a-1", "a", "", "a/a-1/"):
        with pytest.raises(KeyError):
            made.target(text)


def test_nothing_of_it_prints_a_secret() -> None:
    made = rotator(pool("a", "a.test", credentials=["sk-canary-1"]))
    picked = made.pools["a"].selector.pick(100.0)
    assert picked
    made.pools["a"].selector.report(picked, OK, 200, 100.0)
    assert "canary" not in repr([made, made.pools, picked])
