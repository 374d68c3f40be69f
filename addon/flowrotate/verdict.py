"""What an answer says of the credential that it answers: a verdict. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from .answers import Answer, out_of_money, seconds_named, seconds_parked
from .hints import BILLING_STATUSES

WITHOUT_MONEY = 3600.0
"""Seconds of a cooldown that somebody's payment ends, or a new day."""

FailRules = tuple[tuple[int, int, str], ...]
"""(first status, last status, action) each; actions are `disable`, `cooldown`, `ignore`."""


class Action(StrEnum):
    OK = "ok"
    NOTHING = "nothing"
    COOLDOWN = "cooldown"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`seconds` is the length of a cooldown, also after a success that used up a limit.

    With `backoff` the answer named no time: the next in a row is to be longer.
    """

    action: Action
    seconds: float = 0.0
    reason: str = ""
    backoff: bool = False


OK = Verdict(Action.OK)
NOTHING = Verdict(Action.NOTHING)


def judge(answer: Answer, rules: FailRules, cooldown: float) -> Verdict:
    """`cooldown` in seconds, for an answer that names no time.

    4xx and 5xx that no rule lists are the request's or the upstream's fault: they cost nothing,
    unless they say that the account is out of money.
    """
    if answer.status < 400:
        parked = seconds_parked(answer)
        return Verdict(Action.OK, parked, "remaining") if parked else OK
    action = _action(answer.status, rules)
    if action == "ignore":
        return NOTHING
    if action == "disable":
        return Verdict(Action.DISABLE, reason=str(answer.status))
    money = out_of_money(answer)
    if money:
        return Verdict(Action.COOLDOWN, WITHOUT_MONEY, money)
    if action is None:
        return NOTHING
    named = seconds_named(answer)
    return Verdict(Action.COOLDOWN, named or cooldown, str(answer.status), backoff=named is None)


def needs_body(status: int, rules: FailRules) -> bool:
    """Whether the start of the body could change the verdict on an answer of this status."""
    if status < 400 or status == 402:
        return False
    action = _action(status, rules)
    return action == "cooldown" or (action is None and status in BILLING_STATUSES)


def _action(status: int, rules: FailRules) -> str | None:
    return next((action for first, last, action in rules if first <= status <= last), None)
