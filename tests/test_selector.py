"""The selector against a slow, obvious model, and the older plugin's concurrency cases."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flowrotate.secret import Secret
from flowrotate.selector.roster import TRIAL_AFTER
from flowrotate.selector.selector import Selector
from flowrotate.selector.standing import BY_HAND, Credential
from flowrotate.verdict import NOTHING, OK, Action, Verdict

DISABLE = Verdict(Action.DISABLE, reason="401")


def cooldown(seconds: float) -> Verdict:
    return Verdict(Action.COOLDOWN, seconds, "429")


def credential(id: str, secret: str = "") -> Credential:
    text = Secret(secret or f"sk-{id}", f"[rotate:pool/{id}]")
    return Credential(id, text, text)


def selector(*ids: str) -> Selector:
    made = Selector()
    made.replace([credential(id) for id in ids], 0.0)
    return made


def picks(s: Selector, n: int, now: float = 0.0) -> list[str]:
    return [c.id if (c := s.pick(now)) else "-" for _ in range(n)]


def take(s: Selector, id: str, now: float = 0.0) -> Credential:
    """Pick until it is this one's turn."""
    while (picked := s.pick(now)) and picked.id != id:
        pass
    assert picked
    return picked


def states(s: Selector, now: float = 0.0) -> dict[str, str]:
    return {status.id: status.state.value for status in s.statuses(now)}


def test_file_order_then_again() -> None:
    assert picks(selector("a", "b", "c"), 7) == list("abcabca")


def test_none_ready() -> None:
    assert Selector().pick(0.0) is None


def test_one_that_leaves_makes_nobody_skip_or_repeat() -> None:
    s = selector(*"abcd")
    a, _ = s.pick(0.0), s.pick(0.0)
    assert a
    s.report(a, DISABLE, 401, 0.0)
    assert picks(s, 6) == list("cdbcdb")


def test_one_that_comes_back_waits_for_its_turn() -> None:
    s = selector(*"abc")
    s.report(take(s, "a"), cooldown(10), 429, 0.0)
    assert picks(s, 3, 5.0) == list("bcb")
    assert picks(s, 6, 10.0) == list("cbacba")


def test_tried_ones_are_passed_over_and_keep_their_turn() -> None:
    s = selector(*"abc")
    first = s.pick(0.0)
    assert first
    s2 = s.pick(0.0, {first})
    assert s2
    assert s2.id == "b"
    third = s.pick(0.0, {first, s2})
    assert third
    assert third.id == "c"
    assert s.pick(0.0, {first, s2, third}) is None
    assert picks(s, 3) == list("abc")


def test_cooling_ends_on_time_not_before() -> None:
    s = selector("a")
    s.report(take(s, "a"), cooldown(30), 429, 100.0)
    assert s.pick(129.999) is None
    assert s.ready_in(129.0) == 1.0
    assert picks(s, 1, 130.0) == ["a"]
    assert s.ready_in(130.0) == 0.0


def test_a_later_shorter_time_never_shortens_a_running_one() -> None:
    s = selector("a")
    a = take(s, "a")
    s.report(a, cooldown(100), 429, 0.0)
    s.report(a, cooldown(10), 429, 1.0)
    assert s.ready_in(1.0) == 99.0
    s.report(a, cooldown(100), 429, 2.0)
    assert s.ready_in(2.0) == 100.0
    assert s.pick(101.0) is None
    assert picks(s, 1, 102.0) == ["a"]


def test_disabled_does_not_come_back_by_time_or_cooldown_or_success() -> None:
    s = selector("a", "b")
    a = take(s, "a")
    s.report(a, DISABLE, 401, 0.0)
    s.report(a, cooldown(1), 429, 0.0)
    s.report(a, OK, 200, 0.0)
    s.report(a, NOTHING, 500, 0.0)
    assert picks(s, 3, 1799.0) == list("bbb")
    assert states(s, 1e9) == {"a": "disabled", "b": "ready"}


def test_none_to_come_is_none() -> None:
    s = selector("a")
    s.report(take(s, "a"), DISABLE, 401, 0.0)
    assert s.ready_in(0.0) is None


def test_reset_brings_back_all_but_what_was_disabled_by_hand() -> None:
    s = selector(*"abc")
    s.report(take(s, "a"), DISABLE, 401, 0.0)
    s.report(take(s, "b"), cooldown(99), 429, 0.0)
    s.disable("c", 0)
    s.reset(0)
    assert states(s) == {"a": "ready", "b": "ready", "c": "disabled"}
    s.enable("c", 0)
    assert states(s)["c"] == "ready"
    assert [x.failed for x in s.statuses(0.0)] == [1, 1, 0]


def test_what_is_in_flight() -> None:
    s = selector("a")
    a = take(s, "a")
    assert take(s, "a") is a
    s.release(a)
    assert [x.in_flight for x in s.statuses(0.0)] == [1]


def test_what_kept_a_credential_from_being_picked_at_a_time() -> None:
    s = selector(*"abc")
    s.report(take(s, "a"), cooldown(10), 429, 5.0)
    s.report(take(s, "b"), DISABLE, 401, 5.0)
    s.disable("c", 5.0)
    s.reset(20.0)
    s.enable("c", 30.0)
    kept = [
        {id: outage.reason for id, outage in s.outages_at(then).items() if outage}
        for then in (4.9, 5.0, 15.0, 20.0, 30.0)
    ]
    everybody = {"a": "429", "b": "401", "c": BY_HAND}
    assert kept == [{}, everybody, {"b": "401", "c": BY_HAND}, {"c": BY_HAND}, {}]


def test_only_the_latest_outages_are_kept() -> None:
    s = selector("a")
    for n in range(100):
        a = take(s, "a")
        s.report(a, cooldown(1), 429, 2.0 * n)
        s.thaws_in(2.0 * n + 1)
    assert [o.since for o in a.outages] == [2.0 * n for n in range(92, 100)]


def test_an_unknown_id_is_a_key_error() -> None:
    s = selector("a")
    acts: tuple[Callable[[str], None], ...] = (
        lambda id: s.enable(id, 0),
        lambda id: s.disable(id, 0),
        lambda id: s.reset(0, [id]),
    )
    for act in acts:
        with pytest.raises(KeyError):
            act("b")


def test_counters_and_last_status() -> None:
    s = selector("a")
    a = take(s, "a")
    s.report(a, OK, 200, 0.0)
    s.report(a, NOTHING, 500, 0.0)
    s.report(a, cooldown(5), 429, 0.0)
    (status,) = s.statuses(1.0)
    assert (status.picked, status.ok, status.failed, status.last_status) == (1, 1, 1, 429)
    assert (status.reason, status.seconds_left) == ("429", 4.0)


def test_repr_is_the_state_at_a_glance_and_no_secret() -> None:
    s = selector("a", "b")
    s.report(take(s, "a"), cooldown(5), 429, 0.0)
    assert repr(s) == "Selector(a:cooling b:ready)"
    assert "sk-" not in repr([take(s, "b"), s.statuses(0.0)])


def test_replace_keeps_the_standing_of_an_unchanged_secret_and_its_turn() -> None:
    s = selector(*"abcd")
    a = take(s, "a")
    s.report(a, cooldown(50), 429, 0.0)
    s.disable("d", 0)
    assert picks(s, 1) == ["b"]
    s.replace([credential("new"), credential("renamed", "sk-a"), *map(credential, "bcd")], 0.0)
    assert states(s) == {
        "new": "ready",
        "renamed": "cooling",
        "b": "ready",
        "c": "ready",
        "d": "disabled",
    }
    assert picks(s, 3) == ["c", "b", "new"]
    assert a.id == "renamed"
    assert picks(s, 4, 50.0) == ["c", "b", "new", "renamed"]


def test_replace_with_a_changed_secret_starts_ready() -> None:
    s = selector("a")
    s.report(take(s, "a"), DISABLE, 401, 0.0)
    s.replace([credential("a", "sk-other")], 0.0)
    assert states(s) == {"a": "ready"}


def test_what_the_file_disables_comes_back_when_the_file_says_so() -> None:
    s = Selector()
    s.replace([credential("a"), credential("b")], 0.0, off=["a"])
    s.reset(0)
    assert states(s) == {"a": "disabled", "b": "ready"}
    s.replace([credential("a"), credential("b")], 0.0)
    assert states(s) == {"a": "ready", "b": "ready"}


def test_a_report_on_one_that_is_gone_changes_nothing() -> None:
    s = selector("a")
    gone = take(s, "a")
    s.replace([credential("a", "sk-other")], 0.0)
    s.report(gone, cooldown(99), 429, 0.0)
    s.report(gone, DISABLE, 401, 0.0)
    assert picks(s, 2) == ["a", "a"]
    assert s.ready_in(0.0) == 0.0


def test_cooldowns_that_are_passed_over_do_not_pile_up() -> None:
    s = selector("a", "b")
    a = take(s, "a")
    for n in range(1000):
        s.report(a, cooldown(1000 + n), 429, 0.0)
        s.reset(0)
    assert len(s._roster.timers) < 100


class Model:
    """A list that is walked. One entry a credential: id, state, until."""

    def __init__(self, ids: list[str]) -> None:
        self.queue = list(ids)
        self.until: dict[str, float] = {}
        self.disabled: dict[str, str] = {}
        self.trials: dict[str, float] = {}

    def thaw(self, now: float) -> None:
        for id, until in sorted(self.until.items(), key=lambda item: item[1]):
            if until <= now:
                del self.until[id]
                self.queue.append(id)

    def pick(self, now: float, tried: set[str]) -> str | None:
        self.thaw(now)
        for id, when in sorted(self.trials.items(), key=lambda item: item[1]):
            if when <= now and id not in tried:
                self.trials[id] = now + TRIAL_AFTER
                return id
        for id in self.queue:
            if id not in tried:
                self.queue.remove(id)
                self.queue.append(id)
                return id
        return None

    def cool(self, id: str, until: float) -> None:
        if id not in self.disabled and until > self.until.get(id, 0.0):
            self.until[id] = until
            if id in self.queue:
                self.queue.remove(id)

    def disable(self, id: str, reason: str, now: float) -> None:
        self.until.pop(id, None)
        self.trials.pop(id, None)
        self.disabled[id] = reason
        if reason != BY_HAND:
            self.trials[id] = now + TRIAL_AFTER
        if id in self.queue:
            self.queue.remove(id)

    def enable(self, id: str) -> None:
        self.until.pop(id, None)
        self.disabled.pop(id, None)
        self.trials.pop(id, None)
        if id not in self.queue:
            self.queue.append(id)


class SelectorMachine(RuleBasedStateMachine):
    """Whatever happens, in whatever order: the selector and the model do the same."""

    @initialize(n=st.integers(1, 6))
    def start(self, n: int) -> None:
        self.ids = [f"c{i}" for i in range(n)]
        self.real = selector(*self.ids)
        self.model = Model(self.ids)
        self.now = 0.0
        self.held: dict[str, Credential] = {}

    def hold(self, picked: Credential | None) -> str | None:
        if picked is None:
            return None
        self.held[picked.id] = picked
        return picked.id

    @rule(tried=st.sets(st.integers(0, 5)))
    def pick(self, tried: set[int]) -> None:
        names = {f"c{n}" for n in tried} & self.held.keys()
        picked = self.hold(self.real.pick(self.now, {self.held[n] for n in names}))
        assert picked == self.model.pick(self.now, names)

    @rule(seconds=st.one_of(st.integers(1, 50), st.integers(600, 1900)))
    def later(self, seconds: int) -> None:
        self.now += seconds

    # Times that differ, or the order of two that end at once would be by chance.
    @rule(data=st.data(), seconds=st.floats(0.5, 99.5))
    def cool(self, data: st.DataObject, seconds: float) -> None:
        if self.held:
            id = data.draw(st.sampled_from(sorted(self.held)))
            if self.now + seconds in self.model.until.values():
                return
            self.model.thaw(self.now)
            self.real.ready_in(self.now)
            self.real.report(self.held[id], cooldown(seconds), 429, self.now)
            self.model.cool(id, self.now + seconds)

    @rule(data=st.data(), by_hand=st.booleans())
    def disable(self, data: st.DataObject, by_hand: bool) -> None:
        candidates = self.ids if by_hand else sorted(self.held)
        if not candidates:
            return
        id = data.draw(st.sampled_from(candidates))
        if by_hand:
            self.real.disable(id, self.now)
            self.model.disable(id, BY_HAND, self.now)
        elif id not in self.model.disabled:
            self.real.report(self.held[id], DISABLE, 401, self.now)
            self.model.disable(id, "401", self.now)

    @rule(data=st.data())
    def enable(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self.ids))
        self.real.enable(id, self.now)
        self.model.enable(id)

    @rule()
    def reset(self) -> None:
        self.real.reset(self.now)
        for id in self.ids:
            if self.model.disabled.get(id) != BY_HAND:
                self.model.enable(id)

    @invariant()
    def same_states(self) -> None:
        if not hasattr(self, "model"):
            return
        self.model.thaw(self.now)
        expected = {
            id: "disabled"
            if id in self.model.disabled
            else "cooling"
            if id in self.model.until
            else "ready"
            for id in self.ids
        }
        assert states(self.real, self.now) == expected


SelectorMachine.TestCase.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None
)
TestSelectorMachine = SelectorMachine.TestCase


def test_a_pick_does_not_look_at_the_pool() -> None:
    """Counted, not timed: it looks at as much in a pool that is 1000 times larger."""

    def looked_at(n: int) -> int:
        seen = 0

        class Counting(set[Credential]):
            def __contains__(self, item: object) -> bool:
                nonlocal seen
                seen += 1
                return super().__contains__(item)

        s = Selector()
        s.replace([credential(str(i)) for i in range(n)], 0.0)
        for i in range(n - n // 4):
            s.report(s._roster.members[str(i)], cooldown(1000), 429, 0.0)
        for _ in range(100):
            s.pick(1.0, Counting([credential("tried")]))
        return seen

    assert looked_at(40_000) == looked_at(40) == 100
