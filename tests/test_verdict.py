"""From answers and rules to verdicts."""

import pytest

from flowrotate.answers import Answer
from flowrotate.verdict import NOTHING, OK, Action, FailRules, Verdict, judge, needs_body

WALL = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
RULES: FailRules = ((401, 401, "disable"), (429, 429, "cooldown"))
STRICT: FailRules = ((400, 403, "disable"), (429, 429, "ignore"), (500, 599, "cooldown"))
BILLING = b'{"error": {"code": "billing_not_active"}}'
QUOTA = b'{"error": {"code": "insufficient_quota"}}'
DELAY = b'{"error": {"details": [{"retryDelay": "34s"}]}}'
NO_MONEY = Verdict(Action.COOLDOWN, 3600.0, "billing")
NO_QUOTA = Verdict(Action.COOLDOWN, 3600.0, "quota")


def seen(status: int, body: bytes = b"", rules: FailRules = RULES, **headers: str) -> Verdict:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge(Answer(status, fields, body, WALL), rules, 60.0)


@pytest.mark.parametrize("status", [101, 200, 204, 206, 301, 304])
def test_success(status: int) -> None:
    assert seen(status, BILLING, retry_after="30") == OK
    assert seen(status, x_ratelimit_remaining="4", x_ratelimit_reset="30") == OK
    used_up = Verdict(Action.OK, 30.0, "remaining")
    assert seen(status, x_ratelimit_remaining="0", x_ratelimit_reset="30") == used_up


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422, 500, 502, 503, 529])
def test_faults_of_others_cost_nothing(status: int) -> None:
    assert seen(status, DELAY, retry_after="30") == NOTHING
    assert seen(status, x_ratelimit_remaining="0", x_ratelimit_reset="30") == NOTHING


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (seen(401), Verdict(Action.DISABLE, 0.0, "401")),
        (seen(429), Verdict(Action.COOLDOWN, 60.0, "429", backoff=True)),
        (seen(429, retry_after="soon"), Verdict(Action.COOLDOWN, 60.0, "429", backoff=True)),
        (seen(429, retry_after="7"), Verdict(Action.COOLDOWN, 7.0, "429")),
        (seen(429, retry_after="60"), Verdict(Action.COOLDOWN, 60.0, "429")),
        (seen(429, DELAY), Verdict(Action.COOLDOWN, 34.0, "429")),
        (seen(503, rules=STRICT), Verdict(Action.COOLDOWN, 60.0, "503", backoff=True)),
        (seen(503, DELAY, STRICT), Verdict(Action.COOLDOWN, 34.0, "503")),
    ],
)
def test_limits(verdict: Verdict, expected: Verdict) -> None:
    assert verdict == expected


@pytest.mark.parametrize(
    ("status", "action"),
    [(500, "cooldown"), (599, "cooldown"), (499, "nothing"), (429, "nothing"), (403, "disable")],
)
def test_ranges_and_ignore(status: int, action: str) -> None:
    assert seen(status, rules=STRICT).action == action


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (402, b"", NO_MONEY),
        (402, QUOTA, NO_MONEY),
        (400, BILLING, NO_MONEY),
        (403, BILLING, NO_MONEY),
        (429, BILLING, NO_MONEY),
        (429, QUOTA, NO_QUOTA),
        (400, QUOTA, NOTHING),
        (403, QUOTA, NOTHING),
        (404, BILLING, NOTHING),
        (500, BILLING, NOTHING),
        (401, BILLING, Verdict(Action.DISABLE, reason="401")),
    ],
)
def test_no_money(status: int, body: bytes, expected: Verdict) -> None:
    assert seen(status, body) == expected
    # Money does not come back by itself: a time that is named as well is not believed.
    assert seen(status, body, retry_after="5") == expected


@pytest.mark.parametrize(
    ("status", "rules", "expected"),
    [
        (429, (), NO_MONEY),
        (402, ((402, 402, "cooldown"),), NO_MONEY),
        (403, ((403, 403, "cooldown"),), NO_MONEY),
        (500, ((500, 500, "cooldown"),), Verdict(Action.COOLDOWN, 60.0, "500", backoff=True)),
        (401, ((401, 401, "cooldown"),), Verdict(Action.COOLDOWN, 60.0, "401", backoff=True)),
        (400, STRICT, Verdict(Action.DISABLE, reason="400")),
        (402, STRICT, Verdict(Action.DISABLE, reason="402")),
        (403, STRICT, Verdict(Action.DISABLE, reason="403")),
        (429, STRICT, NOTHING),
        (402, ((400, 499, "ignore"),), NOTHING),
    ],
)
def test_no_money_under_other_rules(status: int, rules: FailRules, expected: Verdict) -> None:
    assert seen(status, BILLING, rules) == expected


def test_a_limit_that_nobody_listed_costs_nothing() -> None:
    assert seen(429, rules=(), retry_after="30") == NOTHING
    assert seen(429, QUOTA, rules=()) == NO_QUOTA


STATUSES = [101, 200, 304, *range(400, 404), 404, 422, 429, 500, 503]


@pytest.mark.parametrize(
    ("rules", "statuses"),
    [
        ((), {400, 403, 429}),
        (RULES, {400, 403, 429}),
        (STRICT, {500, 503}),
        (((400, 499, "cooldown"),), {400, 401, 403, 404, 422, 429}),
        (((400, 499, "ignore"),), set()),
        (((400, 599, "disable"),), set()),
    ],
)
def test_which_bodies_are_needed(rules: FailRules, statuses: set[int]) -> None:
    assert {status for status in STATUSES if needs_body(status, rules)} == statuses
    differ = {
        status
        for status in STATUSES
        if len({seen(status, body, rules) for body in (b"", BILLING, QUOTA, DELAY)}) > 1
    }
    assert differ == statuses
