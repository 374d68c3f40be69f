"""What is derived from the credentials' standing is in line with it, whatever happened."""

from hypothesis import given, settings
from hypothesis import strategies as st

from flowrotate.selector.selector import Selector
from flowrotate.selector.standing import Credential, State, Terms
from flowrotate.selector.strategies import Order, Wish
from flowrotate.verdict import OK, Action, Verdict

from .test_selector import DISABLE
from .test_strategies import STRATEGIES, member, pool

IDS = "abcd"
SCOPES = (None, "x", "y")
LIMITS = (Terms(), Terms(rpm=2), Terms(max_in_flight=2), Terms(weight=3, priority=1))


def standing(order: Order) -> set[Credential]:
    return {c for tier in order._tiers.values() for c in tier.queue}


def check(s: Selector, now: float) -> None:
    s.thaws_in(now)
    r = s._roster
    members = set(r.members.values())
    free = {c for c in members if c.state is State.READY and not c.limit(now)}
    assert {c for c in members if c.free} == free == standing(r.own())
    assert r.disabled == {c for c in members if c.state is State.DISABLED}
    assert set(r.due) <= r.disabled
    assert {c for c in members if c.state is State.COOLING} == set(r.base.until)
    for scope in r.scopes.values():
        assert set(scope.until) <= members
        assert all(until > now for until in scope.until.values())
        assert (scope.order is None) == (not scope.until)
        if scope.order:
            assert standing(scope.order) == free - set(scope.until)
            if scope.order._pins:
                assert set(scope.order._pins) == free - set(scope.until)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(STRATEGIES),
    st.lists(
        st.tuples(
            st.sampled_from("pppcckdteRLr"),
            st.integers(0, 3),
            st.sampled_from(SCOPES),
            st.sampled_from((0.5, 3.5, 61.0, 1900.0)),
        ),
        min_size=15,
        max_size=40,
    ),
)
def test_everything_derived_is_in_line(
    strategy: str, acts: list[tuple[str, int, str | None, float]]
) -> None:
    who = {id: member(id, LIMITS[n]) for n, id in enumerate(IDS)}
    s = pool(who.values(), strategy, pins=True)  # type: ignore[arg-type]
    now, held = 0.0, list[Credential]()
    for act, n, scope, seconds in acts:
        c = s._roster.members.get(IDS[n])
        match act:
            case "p":
                tried = {x for x in s._roster.members.values() if x.id < IDS[n]}
                picked = s.pick(now, tried, Wish(scope=scope))
                if picked:
                    held.append(picked)
                    assert picked not in tried
            case "c" if c:
                s.report(c, Verdict(Action.COOLDOWN, seconds, "429", backoff=True), 429, now, scope)
            case "k" if c:
                s.report(c, OK, 200, now, scope)
            case "d" if c:
                s.report(c, DISABLE, 401, now, scope)
            case "t":
                now += seconds
            case "e" if c:
                s.enable(c.id, now)
            case "R":
                s.reset(now)
            case "L":
                ids = [id for id in IDS if id != IDS[n]] if seconds > 3 else list(IDS)
                terms = LIMITS if seconds == 61.0 else (LIMITS[n],) * 4
                s.replace(
                    [member(id, terms[IDS.index(id)]) for id in ids],
                    now,
                    off=ids[:1] if seconds == 0.5 else (),
                    strategy=STRATEGIES[n],
                    pins=n % 2 == 0,
                )
            case "r" if held:
                s.release(held.pop())
        check(s, now)
    for c in held:
        s.release(c)
    assert not any(x.in_flight for x in s.statuses(now))
