"""How long a credential is out, and for which requests: backoff, trials, scopes, limits."""

from collections.abc import Collection

import pytest

from flowrotate.selector.roster import MOST_SCOPES, TRIAL_AFTER
from flowrotate.selector.selector import Selector
from flowrotate.selector.standing import FULL, PACED, Credential, Terms
from flowrotate.selector.strategies import Wish
from flowrotate.verdict import NOTHING, OK, Action, Verdict

from .test_selector import DISABLE, cooldown, picks, states, take
from .test_strategies import member, pool

NAMES_NO_TIME = Verdict(Action.COOLDOWN, 60, "429", backoff=True)


def of(s: Selector, id: str) -> Credential:
    return s._roster.members[id]


def fresh(ids: str, terms: Terms | None = None) -> Selector:
    return pool([member(id, terms) for id in ids])


def left(s: Selector, now: float) -> dict[str, float]:
    return {x.id: x.seconds_left for x in s.statuses(now) if x.seconds_left}


def scoped(s: Selector, scope: str | None, now: float = 0.0, n: int = 4) -> str:
    got = (s.pick(now, (), Wish(scope=scope)) for _ in range(n))
    return "".join(c.id if c else "-" for c in got)


def test_a_cooldown_that_nobody_named_doubles_up_to_half_an_hour() -> None:
    s, now = fresh("ab"), 0.0
    lengths = []
    for _ in range(7):
        s.report(of(s, "a"), NAMES_NO_TIME, 429, now)
        lengths.append(left(s, now)["a"])
        now += lengths[-1]
    assert lengths == [60, 120, 240, 480, 960, 1800, 1800]


def test_a_longer_cooldown_than_half_an_hour_stays_what_the_file_says() -> None:
    s = fresh("ab")
    for now in (0.0, 4000.0):
        s.report(of(s, "a"), Verdict(Action.COOLDOWN, 3600, "429", backoff=True), 429, now)
        assert left(s, now) == {"a": 3600}


def test_what_the_answer_names_is_not_doubled() -> None:
    s = fresh("ab")
    for now in (0.0, 30.0, 60.0):
        s.report(of(s, "a"), cooldown(30), 429, now)
        assert left(s, now) == {"a": 30}


def test_a_success_ends_the_row_of_failures() -> None:
    s = fresh("ab")
    a = of(s, "a")
    for verdict, now in ((NAMES_NO_TIME, 0.0), (OK, 60.0), (NAMES_NO_TIME, 61.0)):
        s.report(a, verdict, 429, now)
    assert left(s, 61.0) == {"a": 60}


@pytest.mark.parametrize("verdict", [NOTHING, DISABLE])
def test_nothing_else_ends_it(verdict: Verdict) -> None:
    s = fresh("ab")
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 0.0)
    s.report(of(s, "b"), verdict, 500, 30.0)
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 60.0)
    assert left(s, 60.0) == {"a": 120}


def test_answers_to_requests_of_one_moment_are_one_failure() -> None:
    s = fresh("ab")
    for now in (0.0, 0.1, 0.2):
        s.report(of(s, "a"), NAMES_NO_TIME, 429, now)
    assert left(s, 0.2) == {"a": 60}
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 61.0)
    assert left(s, 61.0) == {"a": 120}


def test_a_limit_on_the_address_does_not_double() -> None:
    """All fail, again and again: the pool is back one plain cooldown after the last answer."""
    s, now = fresh("abc"), 0.0
    for _ in range(5):
        for id in "abc":
            s.report(of(s, id), NAMES_NO_TIME, 429, now)
        assert max(left(s, now).values()) == 60
        now += 60.0
    assert scoped(s, None, now, 3) in ("abc", "bca", "cab")


def test_one_that_fails_alone_doubles_though_another_is_disabled() -> None:
    s = fresh("ab")
    s.disable("b", 0.0)
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 0.0)
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 60.0)
    assert left(s, 60.0) == {"a": 120}


def test_a_disabled_one_is_tried_by_one_request_every_half_hour() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    assert picks(s, 3, TRIAL_AFTER - 1) == list("bbb")
    assert picks(s, 4, TRIAL_AFTER) == list("abbb")
    s.report(of(s, "a"), DISABLE, 401, TRIAL_AFTER)
    assert picks(s, 2, 2 * TRIAL_AFTER - 1) == list("bb")
    assert picks(s, 2, 2 * TRIAL_AFTER) == list("ab")
    assert states(s, 2 * TRIAL_AFTER)["a"] == "disabled"


def test_a_trial_that_succeeds_brings_it_back() -> None:
    woken: list[int] = []
    s = fresh("ab")
    s.changed = lambda: woken.append(1)
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    assert picks(s, 1, TRIAL_AFTER) == ["a"]
    assert not woken
    s.report(of(s, "a"), OK, 200, TRIAL_AFTER)
    assert states(s, TRIAL_AFTER) == {"a": "ready", "b": "ready"}
    assert woken


@pytest.mark.parametrize("verdict", [NOTHING, cooldown(9)])
def test_a_trial_that_proves_nothing_is_repeated_later(verdict: Verdict) -> None:
    s = fresh("ab")
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    assert picks(s, 1, TRIAL_AFTER) == ["a"]
    s.report(of(s, "a"), verdict, 500, TRIAL_AFTER)
    assert picks(s, 2, TRIAL_AFTER + 10) == list("bb")
    assert picks(s, 1, 2 * TRIAL_AFTER) == ["a"]


def test_a_late_success_of_one_that_is_disabled_is_no_trial() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    s.report(of(s, "a"), OK, 200, 1.0)
    assert states(s, 1.0)["a"] == "disabled"


def test_what_was_disabled_by_hand_is_never_tried() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    s.disable("a", 1.0)
    assert picks(s, 2, 1e6) == list("bb")


@pytest.mark.parametrize(
    ("wish", "others", "picked"),
    [
        (Wish(repeatable=False), "b", "b"),
        (Wish(repeatable=False), "", "a"),
        (Wish(pinned=True), "b", "b"),
        (Wish(pinned=True), "", "a"),
        (Wish(), "b", "a"),
    ],
)
def test_who_may_try_one(wish: Wish, others: str, picked: str) -> None:
    s = pool([member(id) for id in "a" + others], pins=True)
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    got = s.pick(TRIAL_AFTER, (), wish)
    assert (got.id if got else "-") == picked


def test_a_waiter_is_woken_for_a_trial() -> None:
    s = fresh("a")
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    assert s.thaws_in(0.0) == TRIAL_AFTER
    assert s.ready_in(0.0) is None


def test_a_success_with_nothing_left_parks_it_until_the_reset() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), Verdict(Action.OK, 20, "remaining"), 200, 0.0)
    (a, _) = s.statuses(0.0)
    assert (a.state.value, a.reason, a.ok, a.failed) == ("cooling", "remaining", 1, 0)
    assert picks(s, 2, 19.9) == list("bb")
    assert "a" in picks(s, 2, 20.0)
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 20.0)
    assert left(s, 20.0) == {"a": 60}


def test_a_scope_cools_for_its_own_requests_only() -> None:
    s = fresh("abc")
    s.report(of(s, "a"), cooldown(10), 429, 0.0, "large")
    assert "a" not in scoped(s, "large")
    assert set(scoped(s, "small", n=3)) == set(scoped(s, None, n=3)) == set("abc")
    assert states(s) == {"a": "ready", "b": "ready", "c": "ready"}
    assert s.statuses(4.0)[0].scopes == (("large", 6.0),)
    assert "a" in scoped(s, "large", 10.0)
    assert s.statuses(10.0)[0].scopes == ()


def test_all_out_in_a_scope() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), cooldown(10), 429, 0.0, "large")
    s.report(of(s, "b"), cooldown(20), 429, 0.0, "large")
    assert scoped(s, "large", n=1) == "-"
    assert (s.ready_in(1.0, "large"), s.ready_in(1.0, "small"), s.ready_in(1.0)) == (9.0, 0.0, 0.0)
    assert s.thaws_in(1.0) == 9.0
    assert not s.has_other(1.0, [], waiting=False, scope="large")
    assert s.has_other(1.0, [], waiting=True, scope="large")
    assert s.has_other(1.0, [], waiting=False)


def test_backoff_counts_in_each_scope_by_itself() -> None:
    s = fresh("ab")
    for now, scope in ((0.0, "x"), (60.0, "x"), (60.0, "y")):
        s.report(of(s, "a"), NAMES_NO_TIME, 429, now, scope)
    assert dict(s.statuses(60.0)[0].scopes) == {"x": 120.0, "y": 60.0}
    s.report(of(s, "a"), OK, 200, 180.0, "x")
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 181.0, "x")
    assert dict(s.statuses(181.0)[0].scopes)["x"] == 60.0


def test_disabled_is_disabled_in_every_scope_and_reset_clears_all() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), cooldown(10), 429, 0.0, "x")
    s.report(of(s, "a"), DISABLE, 401, 0.0, "x")
    assert "a" not in scoped(s, "x") + scoped(s, "y")
    s.reset(1.0)
    assert "a" in scoped(s, "x", 1.0)


def test_a_scope_sees_who_leaves_and_comes_meanwhile() -> None:
    s = fresh("abc")
    s.report(of(s, "a"), cooldown(100), 429, 0.0, "x")
    s.disable("b", 1.0)
    assert scoped(s, "x", 1.0) == "cccc"
    s.enable("b", 2.0)
    assert set(scoped(s, "x", 2.0)) == set("bc")
    s.replace([member(id) for id in "acd"], 3.0)
    assert set(scoped(s, "x", 3.0)) == set("cd")
    assert set(scoped(s, None, 3.0)) == set("acd")
    assert set(scoped(s, "x", 100.0)) == set("acd")


def test_only_the_latest_scopes_are_kept() -> None:
    s = fresh("ab")
    for n in range(MOST_SCOPES + 10):
        s.report(of(s, "a"), cooldown(1000), 429, 0.0, f"m{n}")
    assert len(s.statuses(0.0)[0].scopes) == MOST_SCOPES
    assert "a" in scoped(s, "m9")
    assert "a" not in scoped(s, "m10") + scoped(s, f"m{MOST_SCOPES + 9}")


def test_what_a_scope_kept_from_being_picked_is_remembered() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), cooldown(10), 429, 0.0, "x")
    kept = [s.outages_at(5.0, scope)["a"] for scope in ("x", "y", None)]
    assert [outage.reason if outage else "" for outage in kept] == ["429", "", ""]


def test_rpm_passes_one_over_until_the_minute_is_over() -> None:
    s = pool([member("a", Terms(rpm=2)), member("b")])
    assert picks(s, 6) == list("ababbb")
    assert (s.statuses(1.0)[0].reason, s.statuses(1.0)[0].seconds_left) == (PACED, 59.0)
    assert picks(s, 2, 59.9) == list("bb")
    assert sorted(picks(s, 4, 60.0)) == list("aabb")
    assert picks(s, 2, 61.0) == list("bb")


def test_rpm_is_a_sliding_minute() -> None:
    s = fresh("a", Terms(rpm=2))
    assert [picks(s, 1, now) for now in (0.0, 30.0, 59.0, 60.0, 61.0, 90.0)] == [
        ["a"],
        ["a"],
        ["-"],
        ["a"],
        ["-"],
        ["a"],
    ]
    assert s.thaws_in(91.0) == 29.0
    assert s.ready_in(91.0) == 29.0


def test_max_in_flight_passes_one_over_until_a_request_is_over() -> None:
    woken: list[int] = []
    s = pool([member("a", Terms(max_in_flight=1)), member("b")])
    s.changed = lambda: woken.append(1)
    assert picks(s, 3) == list("abb")
    assert s.statuses(0.0)[0].reason == FULL
    s.release(of(s, "b"))
    assert not woken
    s.release(of(s, "a"))
    assert woken
    assert "a" in picks(s, 2, 1.0)


def test_a_full_one_is_free_in_a_second_as_far_as_anybody_knows() -> None:
    s = fresh("a", Terms(max_in_flight=1))
    assert picks(s, 2) == ["a", "-"]
    assert s.ready_in(0.0) == 1.0
    assert s.has_other(0.0, [], waiting=True)


def test_limits_hold_in_scopes_too_and_for_pins() -> None:
    s = pool([member("a", Terms(rpm=1)), member("b")], pins=True)
    s.report(of(s, "b"), cooldown(1), 429, 0.0, "x")
    assert scoped(s, "x", n=2) == "a-"
    got = s.pick(0.0, (), Wish(pinned=True))
    assert got is of(s, "b")


def test_a_release_while_the_lock_is_held_counts_later() -> None:
    """The garbage collector ends requests in the middle of anything."""
    s = fresh("ab")
    a = take(s, "a")

    class Interrupting(list[Credential]):
        def __contains__(self, item: object) -> bool:
            s.release(a)
            return super().__contains__(item)

    tried: Collection[Credential] = Interrupting()
    assert s.pick(0.0, tried)
    assert [x.in_flight for x in s.statuses(0.0)] == [0, 1]


def test_limits_may_change_with_a_reload() -> None:
    s = fresh("a", Terms(max_in_flight=1))
    assert picks(s, 2) == ["a", "-"]
    s.replace([member("a", Terms(max_in_flight=2))], 0.0)
    assert picks(s, 2) == ["a", "-"]
    s.replace([member("a")], 0.0)
    assert picks(s, 2) == ["a", "a"]
