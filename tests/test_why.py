"""A request's credentials, explained."""

import pytest

from flowrotate.secret import Secret
from flowrotate.selector.selector import Selector
from flowrotate.selector.standing import BY_HAND, Credential, State, Status, Terms
from flowrotate.verdict import Action, Verdict
from flowrotate.why import MOST, explain, in_words


def selector(*ids: str) -> Selector:
    made = Selector()
    made.replace([Credential(id, Secret(id, id), Secret(id, id)) for id in ids], 0.0)
    return made


def attempt(id: str, status: int | None, verdict: str, **more: object) -> dict[str, object]:
    return {"credential": id, "status": status, "verdict": verdict, "seconds": 0.1, **more}


def test_tried_skipped_and_served() -> None:
    s = selector("key-a", "key-b", "key-c", "key-d", "key-e", "key-f")
    for id, verdict, status in (
        ("key-a", Verdict(Action.COOLDOWN, 60, "429"), 429),
        ("key-d", Verdict(Action.DISABLE, 0, "401"), 401),
    ):
        s.report(s._roster.members[id], verdict, status, 100.0)
    s.disable("key-e", 100.0)
    attempts = [
        attempt("key-b", 429, "cooldown", retry_after="30"),
        attempt("key-f", None, "nothing"),
        attempt("gone", 500, "nothing"),
        attempt("key-c", 200, "ok"),
    ]
    # What happened since changes nothing of what is told.
    then = 119.0
    s.reset(130.0)
    s.enable("key-e", 130.0)
    assert explain(attempts, s.statuses(140.0), s.outages_at(then), then).split("; ") == [
        "key-a: skipped, cooling 41 s after 429",
        "key-b: tried, 429 Retry-After 30",
        "key-c: served 200",
        "key-d: skipped, disabled after 401",
        "key-e: skipped, disabled by hand",
        "key-f: tried, no answer",
        "gone: tried, 500",
    ]


def test_at_a_limit_of_its_own() -> None:
    s = Selector()
    terms = {"a": Terms(rpm=1), "b": Terms(max_in_flight=1), "c": Terms()}
    s.replace([Credential(id, Secret(id, id), Secret(id, id), terms[id]) for id in "abc"], 0.0)
    a, b = s.pick(1.0), s.pick(1.0)
    assert a
    assert b
    s.release(b)
    s.statuses(5.0)
    picked = [attempt("c", 200, "ok")]

    def said(then: float) -> list[str]:
        return explain(picked, s.statuses(100.0), s.outages_at(then), then).split("; ")[:2]

    assert said(2.0) == ["a: skipped, at its rpm", "b: skipped, at its max_in_flight"]
    assert said(6.0) == ["a: skipped, at its rpm", "c: served 200"]
    assert said(61.0)[0] == "c: served 200"


def test_one_that_could_not_be_minted() -> None:
    s = selector("a")
    tried = attempt("a", None, "cooldown", reason="mint")
    assert explain([tried], s.statuses(0), {}, 0) == "a: could not be minted"


def test_off_in_the_file_and_not_its_turn() -> None:
    s = selector()
    s.replace([Credential(id, Secret(id, id), Secret(id, id)) for id in "abc"], 0.0, off="a")
    said = explain([attempt("b", 200, "ok")], s.statuses(0), s.outages_at(0), 0)
    assert said == (
        "a: skipped, disabled in the secrets file; b: served 200; "
        "1 more: ready, it was not their turn"
    )


def test_a_large_pool_is_not_listed_whole() -> None:
    s = selector(*(f"k{n}" for n in range(1000)))
    for n in range(500):
        s.disable(f"k{n}", 0.0)
    said = explain([attempt("k999", 200, "ok")], s.statuses(1), s.outages_at(1), 1)
    assert said.count(";") == MOST + 2
    assert said.endswith(
        "k999: served 200; 480 more: skipped; 499 more: ready, it was not their turn"
    )


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status("a", State.READY, "", 0, 0, 1, 1, 0, 200), "ready, picked 1, ok 1, failed 0"),
        (
            Status("a", State.COOLING, "429", 9.6, 2, 3, 1, 1, 429),
            "cooling 10 s (429), in flight 2, picked 3, ok 1, failed 1",
        ),
        (
            Status("a", State.DISABLED, BY_HAND, 0, 0, 0, 0, 0, None),
            "disabled (by hand), picked 0, ok 0, failed 0",
        ),
        (
            Status("a", State.READY, "rpm", 30, 0, 2, 2, 0, 200),
            "ready, at its rpm for 30 s, picked 2, ok 2, failed 0",
        ),
        (
            Status("a", State.READY, "max_in_flight", 0, 1, 2, 1, 0, 200, 1, (("large", 5.0),)),
            "ready, at its max_in_flight, cooling 5 s for large, in flight 1, "
            "picked 2, ok 1, failed 0",
        ),
    ],
)
def test_a_standing_on_one_line(status: Status, said: str) -> None:
    assert in_words(status) == said
