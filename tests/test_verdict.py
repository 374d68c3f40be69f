"""From status and Retry-After to a verdict."""

import pytest

from flowrotate.verdict import Action, FailRules, Verdict, judge, retry_after

WALL = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
RULES: FailRules = ((401, 401, "disable"), (429, 429, "cooldown"))


def seen(status: int, rules: FailRules = RULES, **headers: str) -> Verdict:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge(status, fields, rules, 60.0, WALL)


@pytest.mark.parametrize("status", [101, 200, 204, 206, 301, 304])
def test_success(status: int) -> None:
    assert seen(status) == Verdict(Action.OK)


@pytest.mark.parametrize("status", [400, 402, 403, 404, 413, 422, 500, 502, 503, 529])
def test_faults_of_others_cost_nothing(status: int) -> None:
    assert seen(status, retry_after="30") == Verdict(Action.NOTHING)


def test_the_default_rules() -> None:
    assert seen(401) == Verdict(Action.DISABLE, 0.0, "401")
    assert seen(429) == Verdict(Action.COOLDOWN, 60.0, "429")
    assert seen(429, retry_after="7") == Verdict(Action.COOLDOWN, 7.0, "429")


@pytest.mark.parametrize(
    ("status", "action"),
    [(500, "cooldown"), (599, "cooldown"), (499, "nothing"), (429, "nothing"), (403, "disable")],
)
def test_ranges_and_ignore(status: int, action: str) -> None:
    rules = ((500, 599, "cooldown"), (429, 429, "ignore"), (403, 403, "disable"))
    assert seen(status, rules).action == action


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1", 1.0),
        (" 120 ", 120.0),
        ("0.5", 0.5),
        ("86400", 86400.0),
        ("86401", 86400.0),
        ("999999999999999999", 86400.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Friday, 15-Jan-27 08:00:30 GMT", 30.0),
        ("Fri Jan 15 08:00:30 2027", 30.0),
        ("Fri, 15 Jan 2027 10:00:30 +0200", 30.0),
        ("Fri, 15 Jan 2027 08:00:30 -0000", 30.0),
        ("Sun, 17 Jan 2027 08:00:00 GMT", 86400.0),
        ("Fri, 15 Jan 2027 07:59:59 GMT", None),
        ("0", None),
        ("-1", None),
        ("+5", None),
        ("1e3", None),
        ("٣", None),
        ("9" * 5000, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Fri, 99 Jan 2027 08:00:30 GMT", None),
        ("Fri, 15 Jan 99999 08:00:30 GMT", None),
        ("5, 10", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value, WALL) == seconds
