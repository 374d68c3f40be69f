"""The ways to choose, each by what a user would notice of it."""

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrotate.config.spec import Strategy
from flowrotate.secret import Secret
from flowrotate.selector.roster import Roster
from flowrotate.selector.selector import Selector
from flowrotate.selector.standing import Credential, Terms
from flowrotate.selector.strategies import ANY, Wish
from flowrotate.verdict import OK

from .test_selector import DISABLE, cooldown, picks

STRATEGIES: tuple[Strategy, ...] = ("round-robin", "fill-first", "least-busy", "random", "sticky")


def member(id: str, terms: Terms | None = None) -> Credential:
    text = Secret(f"sk-{id}", f"[rotate:pool/{id}]")
    return Credential(id, text, text, terms or Terms())


def members(*weights: int) -> list[Credential]:
    return [member("abcdefgh"[n], Terms(place=n, weight=w)) for n, w in enumerate(weights)]


def pool(
    who: Iterable[Credential], strategy: Strategy = "round-robin", *, pins: bool = False
) -> Selector:
    made = Selector(Roster(Random(7)))
    made.replace(list(who), 0.0, strategy=strategy, pins=pins)
    return made


def asked(s: Selector, session: str | None, tried: Collection[Credential] = ()) -> str:
    picked = s.pick(0.0, tried, Wish(session))
    return picked.id if picked else "-"


def test_three_to_one_over_any_window_of_four() -> None:
    order = picks(pool(members(3, 1)), 100)
    for start in range(97):
        assert Counter(order[start : start + 4]) == {"a": 3, "b": 1}


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_weights_are_exact_over_any_window_of_their_sum(weights: list[int]) -> None:
    total = sum(weights)
    order = picks(pool(members(*weights)), 2 * total)
    wanted = dict(zip("abcdefgh", weights, strict=False))
    window = Counter(order[:total])
    assert window == wanted
    for leaving, coming in zip(order[:total], order[total:], strict=True):
        window[leaving] -= 1
        window[coming] += 1
        assert window == wanted


@pytest.mark.parametrize(
    ("weights", "period"),
    [((2, 1), "aba"), ((3, 2), "ababa"), ((4, 2), "abaaba"), ((3, 3, 1), "ababcab")],
)
def test_weights_are_smooth(weights: tuple[int, ...], period: str) -> None:
    assert "".join(picks(pool(members(*weights)), 3 * len(period))) == 3 * period


def test_fill_first_stays_with_the_first_that_is_ready() -> None:
    s = pool(members(1, 1, 1), "fill-first")
    assert picks(s, 3) == list("aaa")
    a = s.pick(0.0)
    assert a
    s.report(a, cooldown(10), 429, 0.0)
    assert picks(s, 3) == list("bbb")
    assert picks(s, 3, 10.0) == list("aaa")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_lowest_priority_number_goes_first_whatever_the_strategy(strategy: Strategy) -> None:
    spare = member("spare", Terms(place=0, priority=1))
    s = pool([spare, *members(1, 1)], strategy)
    seen = Counter(picks(s, 40))
    assert set(seen) <= set("ab")
    for credential in (c for c in s._roster.members.values() if c is not spare):
        s.report(credential, DISABLE, 401, 0.0)
    assert picks(s, 2) == ["spare", "spare"]


def test_least_busy_is_the_one_with_the_fewest_requests_in_flight() -> None:
    s = pool(members(1, 1, 1), "least-busy")
    assert sorted(picks(s, 3)) == list("abc")
    b = s._roster.members["b"]
    s.release(b)
    assert picks(s, 1) == ["b"]
    assert sorted(picks(s, 3)) == list("abc")


def test_least_busy_by_weight() -> None:
    s = pool(members(3, 1), "least-busy")
    assert Counter(picks(s, 40)) == {"a": 30, "b": 10}


def test_random_is_by_weight_and_by_chance() -> None:
    order = picks(pool(members(3, 1), "random"), 4000)
    seen = Counter(order)
    assert 2850 < seen["a"] < 3150
    pairs = Counter(pairwise(order))
    # Independent draws: after a `b` comes another as often as ever.
    assert 0.15 < pairs["b", "b"] / seen["b"] < 0.35


def test_a_session_stays_with_its_credential() -> None:
    s = pool(members(1, 1, 1, 1, 1, 1), "sticky")
    home = {f"s{n}": asked(s, f"s{n}") for n in range(600)}
    assert {session: asked(s, session) for session in home} == home
    assert min(Counter(home.values()).values()) > 50
    again = pool(members(1, 1, 1, 1, 1, 1), "sticky")
    assert {session: asked(again, session) for session in home} == home


def test_losing_one_of_six_moves_only_its_own_and_they_come_back() -> None:
    s = pool(members(1, 1, 1, 1, 1, 1), "sticky")
    home = {f"s{n}": asked(s, f"s{n}") for n in range(600)}
    s.disable("c", 0.0)
    moved = {session: asked(s, session) for session in home}
    assert {x for x in home if home[x] != moved[x]} == {x for x in home if home[x] == "c"}
    # Not all to one neighbour.
    assert len({moved[x] for x in home if home[x] == "c"}) == 5
    s.enable("c", 0.0)
    assert {session: asked(s, session) for session in home} == home


def test_a_failover_of_a_session_goes_where_its_loss_would_send_it() -> None:
    s = pool(members(1, 1, 1, 1, 1, 1), "sticky")
    for n in range(50):
        first = s._roster.members[asked(s, f"s{n}")]
        second = asked(s, f"s{n}", [first])
        s.disable(first.id, 0.0)
        assert asked(s, f"s{n}") == second != first.id
        s.enable(first.id, 0.0)


def test_a_heavier_one_has_more_sessions() -> None:
    s = pool(members(3, 1), "sticky")
    seen = Counter(asked(s, f"s{n}") for n in range(2000))
    assert 1300 < seen["a"] < 1700


def test_no_session_is_round_robin() -> None:
    s = pool(members(1, 1, 1), "sticky")
    assert [asked(s, None) for _ in range(6)] == list("abcabc")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pinned_is_the_first_ready_one_in_file_order(strategy: Strategy) -> None:
    first = member("z", Terms(place=0, priority=9))
    s = pool([first, *[member("ab"[n], Terms(place=n + 1)) for n in range(2)]], strategy, pins=True)

    def pinned() -> list[str]:
        got = (s.pick(0.0, (), Wish(pinned=True)) for _ in range(2))
        return [c.id if c else "-" for c in got]

    assert pinned() == ["z", "z"]
    s.disable("z", 0.0)
    assert pinned() == ["a", "a"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_strategy_after_a_reload_keeps_the_standing(strategy: Strategy) -> None:
    s = pool(members(1, 1, 1))
    s.report(s._roster.members["a"], cooldown(50), 429, 0.0)
    s.disable("b", 0.0)
    s.replace(members(1, 1, 1), 1.0, strategy=strategy, pins=True)
    assert picks(s, 3, 1.0) == list("ccc")
    assert "a" in picks(s, 9, 50.0)


def test_other_weights_priorities_and_places_after_a_reload() -> None:
    s = pool(members(1, 1))
    picks(s, 7)
    s.replace(members(1, 3), 0.0)
    assert Counter(picks(s, 40)) == {"a": 10, "b": 30}
    s = pool(members(1, 1), "fill-first")
    s.replace(
        [member("b", Terms(place=0)), member("a", Terms(place=1))], 0.0, strategy="fill-first"
    )
    assert picks(s, 2) == ["b", "b"]
    s.replace(
        [member("b", Terms(place=0, priority=1)), member("a", Terms(place=1))],
        0.0,
        strategy="fill-first",
    )
    assert picks(s, 2) == ["a", "a"]


class Watched(set[Credential]):
    """Counts how many credentials a pick looks at."""

    looks = 0

    def __contains__(self, item: object) -> bool:
        self.looks += 1
        return super().__contains__(item)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("pinned", [False, True])
def test_no_strategy_looks_at_the_pool(strategy: Strategy, pinned: bool) -> None:
    """Counted, not timed: the looks of 100 picks, of which 75 % of the pool cool."""

    def looks(size: int) -> int:
        who = [member(str(n), Terms(place=n)) for n in range(size)]
        s = pool(who, strategy, pins=True)
        for credential in who[: size * 3 // 4]:
            s.report(credential, cooldown(1000), 429, 0.0)
        tried = Watched([member("tried")])
        for n in range(100):
            picked = s.pick(1.0, tried, Wish(f"s{n}", pinned))
            assert picked
            s.report(picked, OK, 200, 1.0)
            s.release(picked)
        return tried.looks

    assert looks(4000) == looks(40) == 100


def test_a_session_does_not_walk_a_ring_on_which_nobody_is_left() -> None:
    who = [member(str(n), Terms(place=n)) for n in range(40)]
    s = pool(who, "sticky")
    for credential in who:
        s.report(credential, cooldown(1000), 429, 0.0, "large")
    tried = Watched([member("tried")])
    assert s.pick(1.0, tried, Wish("s", scope="large")) is None
    assert tried.looks == 0


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(STRATEGIES),
    st.lists(st.tuples(st.sampled_from("pcdexr"), st.integers(0, 5)), max_size=60),
)
def test_whatever_happens_only_ready_ones_that_were_not_tried_are_picked(
    strategy: Strategy, acts: list[tuple[str, int]]
) -> None:
    who = [member("abcdef"[n], Terms(place=n, weight=n + 1, priority=n // 4)) for n in range(6)]
    s = pool(who, strategy, pins=True)
    off: set[str] = set()
    until: dict[str, float] = {}
    held: list[Credential] = []
    for now, (act, n) in enumerate(acts):
        id = "abcdef"[n]
        match act:
            case "d":
                s.disable(id, now)
                off.add(id)
            case "e":
                s.enable(id, now)
                off.discard(id)
                until.pop(id, None)
            case "c" if id not in off:
                s.report(who[n], cooldown(3.5), 429, now)
                until[id] = now + 3.5
            case "r" if held:
                s.release(held.pop())
            case _:
                tried = set(who[:n])
                ready = {c.id for c in who if until.get(c.id, 0) <= now} - off
                picked = s.pick(now, tried, Wish(id if n % 2 else None, pinned=n == 4))
                allowed = ready - {c.id for c in tried}
                assert (picked.id if picked else "-") in (allowed or {"-"})
                held += [picked] if picked else []
    assert [s.in_flight for s in s.statuses(len(acts))] == [held.count(c) for c in who]


def test_any_wishes_for_nothing() -> None:
    assert Wish() == ANY
