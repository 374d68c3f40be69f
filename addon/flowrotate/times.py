"""How upstreams write times to wait: numbers, durations, dates. Pure; None for what is none.

Nothing here raises, whatever an upstream sends.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_COOLDOWN = 24 * 3600.0
"""Seconds. An upstream that asks for more is asking for "not today"."""

# Of bounded length, and ASCII digits only: float() and \d take more than any provider sends.
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_PART = re.compile(rf"({_NUMBER.pattern})(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH_SECONDS, _EPOCH_MILLISECONDS = 1e9, 1e11
"""From these on a number is a time and no delay: as delays, 30 years and more."""

Now = Callable[[], float]


def bounded(seconds: float | None) -> float | None:
    return min(seconds, LONGEST_COOLDOWN) if seconds is not None and seconds > 0 else None


def number_of(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def milliseconds(text: str, _: Now) -> float | None:
    number = number_of(text)
    return None if number is None else number / 1000


def seconds_or_date(text: str, now: Now) -> float | None:
    number = number_of(text)
    if number is not None:
        return number
    date = http_date(text)
    return None if date is None else date - now()


def delay_or_time(text: str, now: Now) -> float | None:
    """`30`, `6m0s` (as Go writes durations), RFC 3339, or (milli)seconds since 1970."""
    number = number_of(text)
    if number is not None:
        if number < _EPOCH_SECONDS:
            return number
        return (number / 1000 if number >= _EPOCH_MILLISECONDS else number) - now()
    if _DURATION.fullmatch(text):
        return sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(text))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.timestamp() - now() if time.tzinfo else None


def http_date(text: str) -> float | None:
    """An HTTP date (RFC 9110, 5.6.7) in seconds since 1970."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # A date without a zone ("-0000" or none at all) is in UTC by RFC 5322, 3.3.
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
