"""What a response says of the credential that it answers: from status and headers to a verdict."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum

LONGEST_COOLDOWN = 24 * 3600.0
"""Seconds. An upstream that asks for more is asking for "not today"."""

FailRules = tuple[tuple[int, int, str], ...]
"""(first status, last status, action) each; actions are `disable`, `cooldown`, `ignore`."""


class Action(StrEnum):
    OK = "ok"
    NOTHING = "nothing"
    COOLDOWN = "cooldown"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`seconds` is the length of a cooldown, 0 for every other action."""

    action: Action
    seconds: float = 0.0
    reason: str = ""


OK = Verdict(Action.OK)
NOTHING = Verdict(Action.NOTHING)


def judge(
    status: int, headers: Mapping[str, str], rules: FailRules, cooldown: float, wall: float
) -> Verdict:
    """`cooldown` in seconds, for an answer that names no time; `wall` in seconds since the epoch.

    4xx and 5xx that no rule lists are the request's or the upstream's fault: they cost nothing.
    """
    match _action(status, rules):
        case "disable":
            return Verdict(Action.DISABLE, reason=str(status))
        case "cooldown":
            named = retry_after(headers.get("retry-after", ""), wall)
            return Verdict(Action.COOLDOWN, named or cooldown, str(status))
        case "ignore":
            return NOTHING
    return OK if status < 400 else NOTHING


def _action(status: int, rules: FailRules) -> str | None:
    return next((action for first, last, action in rules if first <= status <= last), None)


def retry_after(value: str, wall: float) -> float | None:
    """Seconds to wait by a Retry-After field (RFC 9110, 10.2.3: delay or date), or None.

    Decimal fractions are read too: providers send them. None for what is unreadable or past.
    """
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,9})?", value):
        seconds = float(value)
    else:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        # A date without a zone ("-0000" or none at all) is in UTC by RFC 5322, 3.3.
        seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - wall
    return min(seconds, LONGEST_COOLDOWN) if seconds > 0 else None
