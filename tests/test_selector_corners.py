"""The selector's corners: reloads, trials and scopes that meet."""

import pytest

from flowrotate.selector.ring import POINTS
from flowrotate.selector.roster import MOST_SCOPES, TRIAL_AFTER, Roster
from flowrotate.selector.standing import Terms
from flowrotate.selector.strategies import Wish
from flowrotate.verdict import OK

from .test_scopes import NAMES_NO_TIME, fresh, left, of, scoped
from .test_selector import DISABLE, cooldown, credential, picks, selector, states, take
from .test_strategies import member, members, pool


def test_what_ended_while_nobody_asked_comes_back_in_that_order() -> None:
    s = selector(*"abc")
    assert picks(s, 3) == list("abc")
    s.report(of(s, "a"), cooldown(1), 429, 0.0)
    s.report(of(s, "a"), cooldown(3), 429, 0.0)
    s.report(of(s, "b"), cooldown(2), 429, 0.0)
    s.report(of(s, "c"), cooldown(99), 429, 0.0)
    assert picks(s, 2, 10.0) == ["b", "a"]


def test_what_the_file_disables_is_never_tried_and_cools_no_more() -> None:
    for verdict in (DISABLE, cooldown(3600)):
        s = fresh("ab")
        s.report(of(s, "a"), verdict, 401, 0.0)
        s.replace([member("a"), member("b")], 10.0, off=["a"])
        assert picks(s, 3, 1e6) == list("bbb")
        s.replace([member("a"), member("b")], 1e6)
        assert (states(s, 1e6)["a"], s.ready_in(1e6)) == ("ready", 0.0)
    s = fresh("a")
    s.report(of(s, "a"), cooldown(3600), 429, 0.0)
    s.replace([member("a")], 1.0, off=["a"])
    s.replace([member("a")], 2.0)
    assert s.ready_in(2.0) == 0.0
    assert s.report(of(s, "a"), cooldown(30), 429, 2.0) == 30.0


def test_one_that_is_due_when_the_file_disables_it_is_not_tried() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    s.thaws_in(TRIAL_AFTER)
    s.replace([member("a"), member("b")], TRIAL_AFTER, off=["a"])
    assert picks(s, 2, TRIAL_AFTER) == list("bb")


def test_a_trial_is_not_for_who_has_tried_it() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    picked = s.pick(TRIAL_AFTER, [of(s, "a")])
    assert picked is of(s, "b")
    assert s.pick(TRIAL_AFTER, [of(s, "a"), of(s, "b")]) is None
    assert picks(s, 1, TRIAL_AFTER) == ["a"]


def test_a_trial_that_succeeds_does_not_undo_what_was_disabled_by_hand_meanwhile() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    assert picks(s, 1, TRIAL_AFTER) == ["a"]
    s.disable("a", TRIAL_AFTER + 1)
    s.report(of(s, "a"), OK, 200, TRIAL_AFTER + 2)
    assert states(s, TRIAL_AFTER + 2)["a"] == "disabled"


def test_a_later_success_is_no_trial_when_the_trial_was_answered() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    assert picks(s, 1, TRIAL_AFTER) == ["a"]
    s.report(of(s, "a"), DISABLE, 401, TRIAL_AFTER)
    s.report(of(s, "a"), OK, 200, TRIAL_AFTER + 1)
    assert states(s, TRIAL_AFTER + 1)["a"] == "disabled"


def test_a_reset_ends_the_cooldowns_and_the_rows_of_failures_in_scopes_too() -> None:
    s = fresh("ab")
    for id in "ab":
        s.report(of(s, id), cooldown(10), 429, 0.0, "x")
    s.reset(1.0, ["a"])
    assert scoped(s, "x", 1.0, 2) == "aa"
    s = fresh("ab")
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 0.0, "x")
    s.reset(60.0)
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 61.0, "x")
    assert dict(s.statuses(61.0)[0].scopes) == {"x": 60.0}


def test_a_report_tells_the_seconds_of_its_scope() -> None:
    s = fresh("ab")
    assert s.report(of(s, "a"), cooldown(10), 429, 0.0, "x") == 10.0
    assert s.report(of(s, "a"), cooldown(1), 429, 1.0, "x") == 9.0
    assert s.report(of(s, "a"), cooldown(1), 429, 1.0, "y") == 1.0


def test_disabled_ones_do_not_count_as_cooling() -> None:
    s = fresh("ab")
    s.report(of(s, "b"), cooldown(1000), 429, 0.0)
    s.disable("b", 0.0)
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 0.0)
    s.report(of(s, "a"), NAMES_NO_TIME, 429, 60.0)
    assert left(s, 60.0) == {"a": 120}


def test_a_report_on_one_that_is_gone_leaves_nothing_behind() -> None:
    s = fresh("ab")
    gone = take(s, "a")
    s.report(gone, cooldown(99), 429, 0.0, "x")
    s.replace([member("b"), member("c")], 0.0)
    for scope in (None, "x"):
        s.report(gone, cooldown(99), 429, 0.0, scope)
    s.report(gone, DISABLE, 401, 0.0)
    r = s._roster
    known = set(r.members.values())
    kept = [r.disabled, *(scope.until for scope in (r.base, *r.scopes.values()))]
    assert all(set(each) <= known for each in kept)
    assert {c for _, _, c in r.timers._heap} <= known
    assert s.has_other(0.0, [], waiting=True)
    for id in "bc":
        s.report(of(s, id), cooldown(5), 429, 0.0)
    assert s.has_other(0.0, [of(s, "b")], waiting=True)


def test_a_scope_that_fails_again_is_a_latest_one() -> None:
    s = fresh("ab")
    for n in range(MOST_SCOPES):
        s.report(of(s, "a"), cooldown(1000), 429, 0.0, f"m{n}")
    s.report(of(s, "b"), cooldown(1000), 429, 0.0, "m0")
    s.report(of(s, "a"), cooldown(1000), 429, 0.0, "new")
    assert scoped(s, "m0", n=1) == "-"
    assert "a" in scoped(s, "m1")


def test_limits_come_and_go_while_a_scope_cools() -> None:
    s = pool([member("a", Terms(max_in_flight=1)), member("b", Terms(max_in_flight=1))])
    s.report(of(s, "a"), cooldown(10), 429, 0.0, "x")
    assert scoped(s, None, n=3) in ("ab-", "ba-")
    for id in "ab":
        s.release(of(s, id))
    assert scoped(s, "x", 1.0, 2) == "b-"


def test_one_that_is_disabled_when_its_cooldown_in_a_scope_ends_stays_out_of_it() -> None:
    s = fresh("abc")
    s.report(of(s, "a"), cooldown(10), 429, 0.0, "x")
    s.report(of(s, "b"), cooldown(99), 429, 0.0, "x")
    s.disable("a", 1.0)
    assert scoped(s, "x", 11.0, 3) == "ccc"


def test_an_order_of_a_scope_is_gone_when_nothing_cools_in_it() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), cooldown(10), 429, 0.0, "x")
    s.thaws_in(10.0)
    assert s._roster.scopes["x"].order is None
    s.report(of(s, "a"), cooldown(10), 429, 20.0, "x")
    s.replace([member("b")], 20.0)
    assert s._roster.scopes["x"].order is None


def test_least_busy_counts_in_a_scope_too() -> None:
    s = pool(members(1, 1, 1), "least-busy")
    s.report(of(s, "c"), cooldown(10), 429, 0.0, "x")
    assert sorted(scoped(s, "x", n=4)) == list("aabb")
    s.release(of(s, "b"))
    s.release(of(s, "b"))
    assert scoped(s, "x", n=2) == "bb"


def test_a_reload_forgets_no_trial_and_no_minute() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), DISABLE, 401, 0.0)
    s.replace([member(id) for id in "abc"], 1.0)
    assert s.thaws_in(1.0) == TRIAL_AFTER - 1
    assert "a" in picks(s, 1, TRIAL_AFTER)
    s = fresh("a", Terms(rpm=1))
    assert picks(s, 1) == ["a"]
    s.replace([member("a", Terms(rpm=1)), member("b", Terms(rpm=1))], 1.0)
    assert picks(s, 2, 1.0) == ["b", "-"]
    assert s.thaws_in(1.0) == 59.0


def test_a_session_belongs_to_the_new_name_of_a_credential() -> None:
    s = pool(members(1, 1, 1), "sticky")
    s.replace([credential("z", "sk-a"), *members(1, 1, 1)[1:]], 0.0, strategy="sticky")
    other = pool([member("z"), *members(1, 1, 1)[1:]], "sticky")
    for n in range(60):
        wish = Wish(f"s{n}")
        mine, its = s.pick(0.0, (), wish), other.pick(0.0, (), wish)
        assert mine
        assert its
        assert mine.id == its.id
    s.disable("z", 0.0)
    assert len(s._roster.own()._tiers[0].ring._points) == 2 * POINTS  # type: ignore[union-attr]


def test_what_goes_on_the_wire_is_as_the_latest_file_says() -> None:
    s = fresh("a")
    again = member("a")
    again.value = credential("x", "Basic other").secret
    s.replace([again], 0.0)
    assert of(s, "a").value is again.value


def test_what_was_tried_twice_counts_once() -> None:
    """A minted credential with a second token is in `tried` twice."""
    s = fresh("ab")
    for id in "ab":
        s.report(of(s, id), cooldown(5), 429, 0.0)
    assert s.has_other(0.0, [of(s, "a"), of(s, "a")], waiting=True)


def test_many_scopes_do_not_rebuild_the_timers_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    s = fresh("abcdefgh")
    rebuilt = 0
    whole = type(s._roster)._set_timers

    def counted(self: Roster) -> None:
        nonlocal rebuilt
        rebuilt += 1
        whole(self)

    monkeypatch.setattr(type(s._roster), "_set_timers", counted)
    for n in range(MOST_SCOPES):
        for id in "abcdefgh":
            s.report(of(s, id), cooldown(1000 + n), 429, 0.0, f"m{n}")
    assert rebuilt < 20


def test_who_was_passed_over_does_not_get_all_those_turns_at_once() -> None:
    s = selector(*"abc")
    for _ in range(31):
        s.pick(0.0, [of(s, "a")])
    assert sorted(picks(s, 6)) == list("aabbcc")


@pytest.mark.parametrize("terms", [Terms(), Terms(max_in_flight=1)])
def test_a_queue_keeps_no_entries_of_the_past(terms: Terms) -> None:
    s = pool([member(id, terms) for id in "abc"], "least-busy")
    for _ in range(1000):
        picked = s.pick(0.0)
        assert picked
        s.release(picked)
    assert len(s._roster.own()._tiers[0].queue._heap) < 50


@pytest.mark.parametrize("scope", [None, "x"])
def test_a_shorter_answer_shortens_no_scope_and_a_reset_starts_over(scope: str | None) -> None:
    s = fresh("ab")
    s.report(of(s, "a"), cooldown(100), 429, 0.0, scope)
    assert s.report(of(s, "a"), cooldown(10), 429, 1.0, scope) == 99.0
    assert s.ready_in(1.0, scope) == 0.0
    assert "a" not in scoped(s, scope, 50.0)
    s.reset(50.0)
    assert s.report(of(s, "a"), cooldown(10), 429, 50.0, scope) == 10.0
    assert "a" in scoped(s, scope, 60.0)


def test_a_scope_has_pins_and_sessions_of_its_own() -> None:
    s = pool(members(1, 1, 1), "sticky", pins=True)
    s.report(of(s, "a"), cooldown(10), 429, 0.0, "x")

    def seen(scope: str | None) -> tuple[str, set[str]]:
        for _ in range(2):
            pinned = s.pick(0.0, (), Wish(pinned=True, scope=scope))
        assert pinned
        sessions = (s.pick(0.0, (), Wish(f"s{n}", scope=scope)) for n in range(60))
        return pinned.id, {c.id for c in sessions if c}

    assert seen("x") == ("b", set("bc"))
    assert seen("y") == ("a", set("abc"))


def test_pins_follow_the_order_of_the_file() -> None:
    s = pool(members(1, 1), pins=True)
    s.replace([member("b", Terms(place=0)), member("a", Terms(place=1))], 0.0, pins=True)
    picked = s.pick(0.0, (), Wish(pinned=True))
    assert picked is of(s, "b")


def test_one_that_cools_stays_out_when_a_request_of_it_ends() -> None:
    s = pool(members(1, 1), "least-busy")
    a = take(s, "a")
    s.report(a, cooldown(10), 429, 0.0)
    s.release(a)
    assert picks(s, 2) == ["b", "b"]


def test_a_second_try_with_a_new_token_counts_against_its_limits() -> None:
    s = pool([member("a", Terms(max_in_flight=1)), member("b")])
    a = of(s, "a")
    s.pick_again(a, 0.0)
    assert picks(s, 2) == ["b", "b"]
    s.release(a)
    assert "a" in picks(s, 2)


def test_one_that_is_enabled_stays_so_until_the_file_says_something_new() -> None:
    s = fresh("ab")
    s.replace([member("a"), member("b")], 0.0, off=["a"])
    s.enable("a", 1.0)
    s.replace([member("a"), member("b"), member("c")], 2.0, off=["a"])
    assert states(s, 2.0)["a"] == "ready"
    s.replace([member("a"), member("b")], 3.0)
    s.replace([member("a"), member("b")], 4.0, off=["a"])
    assert states(s, 4.0)["a"] == "disabled"


def test_a_trial_keeps_to_the_limits_of_its_credential() -> None:
    s = pool([member("a", Terms(max_in_flight=1)), member("b")])
    held = take(s, "a")
    s.report(held, DISABLE, 401, 0.0)
    assert picks(s, 2, TRIAL_AFTER) == list("bb")
    s.release(held)
    assert picks(s, 1, TRIAL_AFTER) == ["a"]


def test_reports_on_who_is_out_take_no_scope_from_who_cools() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), cooldown(3600), 429, 0.0, "kept")
    s.report(of(s, "b"), DISABLE, 401, 0.0)
    for n in range(2 * MOST_SCOPES):
        s.report(of(s, "b"), cooldown(10), 429, 1.0, f"m{n}")
    assert s.statuses(1.0)[0].scopes == (("kept", 3599.0),)


def test_a_session_in_a_scope_goes_where_its_credential_would_be_lost_to() -> None:
    s = pool(members(1, 1, 1, 1), "sticky")
    for n in range(40):
        wish = Wish(f"s{n}", scope="large")
        home = s.pick(0.0, (), wish)
        assert home
        other = s.pick(0.0, [home], wish)
        s.report(home, cooldown(10), 429, 0.0, "large")
        assert s.pick(0.0, (), wish) is other
        assert s.pick(0.0, (), Wish(f"s{n}", scope="small")) is home
        s.reset(0.0)


def test_a_trial_goes_on_with_a_new_token() -> None:
    s = fresh("ab")
    s.report(of(s, "a"), DISABLE, 403, 0.0)
    assert not s.pick_again(of(s, "a"), 1.0)
    tried = s.pick(TRIAL_AFTER)
    assert tried is of(s, "a")
    assert s.pick_again(tried, TRIAL_AFTER)
    s.report(tried, OK, 200, TRIAL_AFTER)
    assert states(s, TRIAL_AFTER)["a"] == "ready"
