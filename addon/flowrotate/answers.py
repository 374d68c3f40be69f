"""What an answer says of limits and money, by the table of hints.py. Pure.

Nothing here raises, whatever an upstream sends.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from .hints import BILLING_STATUSES, HINTS, QUOTA_STATUSES, Form, Hint
from .times import Now, bounded, delay_or_time, http_date, milliseconds, number_of, seconds_or_date

LONGEST_FIELD = 1024
"""Characters; a longer header is not read."""

_READERS: Mapping[Form, Callable[[str, Now], float | None]] = {
    "milliseconds": milliseconds,
    "seconds or date": seconds_or_date,
    "delay or time": delay_or_time,
}
_FITS: Mapping[Form, Callable[[str, str], bool]] = {
    "is": str.__eq__,
    "starts with": str.startswith,
    "contains": str.__contains__,
}

_WAITS = tuple(hint for hint in HINTS if hint.says == "wait")
_RESETS = tuple(hint for hint in HINTS if hint.says == "reset")
_BODY_RESETS = tuple(hint for hint in _RESETS if hint.field.startswith("/"))
_HEADER_RESETS = tuple(hint for hint in _RESETS if not hint.field.startswith("/"))
_MONEY = tuple(hint for hint in HINTS if hint.says in ("billing", "quota"))
_HEADERS = frozenset(name for hint in _WAITS + _RESETS for name in (hint.field, hint.remaining))


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to go by: `body` is its unpacked start, `wall` in seconds since 1970."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    wall: float = 0.0


def seconds_named(answer: Answer) -> float | None:
    """How long a failing answer asks to wait, up to 24 hours; None when it names no time."""
    seen = _Seen(answer, _json(answer.body))
    for hint in _WAITS:
        named = [bounded(_READERS[hint.form](text, seen.now)) for text in seen.texts(hint.field)]
        if longest := max(filter(None, named), default=None):
            return longest
    return _last_reset(seen, _BODY_RESETS) or _last_reset(seen, _HEADER_RESETS)


def seconds_parked(answer: Answer) -> float | None:
    """How long a success leaves a limit used up; None when none of its limits is."""
    seen = _Seen(answer, None)
    # Most answers have no such header, and every success comes by here.
    return _last_reset(seen, _HEADER_RESETS, spent_only=True) if seen.headers else None


def out_of_money(answer: Answer) -> Literal["billing", "quota"] | None:
    """Whether the status, or a code in the body, says that no short wait helps."""
    if answer.status not in BILLING_STATUSES:
        return None
    seen = _Seen(answer, _json(answer.body))
    if _says(seen, "billing"):
        return "billing"
    return "quota" if answer.status in QUOTA_STATUSES and _says(seen, "quota") else None


class _Seen:
    """An answer's fields by the names that the table has for them."""

    __slots__ = ("_answer", "_body", "headers")

    def __init__(self, answer: Answer, body: object) -> None:
        self._answer, self._body = answer, body
        names = ((name, name.lower()) for name in answer.headers)
        self.headers = {lower: answer.headers[name] for name, lower in names if lower in _HEADERS}

    def texts(self, field: str) -> list[str]:
        if field.startswith("/"):
            return list(_at_pointer(field, self._body))
        if field == "status":
            return [str(self._answer.status)]
        value = self.headers.get(field, "")
        return [value.strip()] if value and len(value) <= LONGEST_FIELD else []

    def now(self) -> float:
        """By the upstream's own clock, if it says: its times are meant by that one."""
        date = http_date(self._answer.headers.get("date", ""))
        return self._answer.wall if date is None else date


def _says(seen: _Seen, what: str) -> bool:
    return any(_holds(seen, hint) for hint in _MONEY if hint.says == what)


def _holds(seen: _Seen, hint: Hint) -> bool:
    if hint.given and hint.given[1] not in seen.texts(hint.given[0]):
        return False
    fits = _FITS[hint.form]
    return any(fits(text, value) for text in seen.texts(hint.field) for value in hint.values)


def _last_reset(seen: _Seen, hints: Iterable[Hint], *, spent_only: bool = False) -> float | None:
    """Seconds until the last of the limits that are used up is not any more.

    Where none says that it is, any that does not say what is left may be the one. One that has
    something left is not.
    """
    spent, unsaid = [], []
    for hint in hints:
        for left, reset in _limits(seen, hint):
            seconds, number = bounded(delay_or_time(reset, seen.now)), number_of(left)
            if seconds and number == 0:
                spent.append(seconds)
            elif seconds and number is None:
                unsaid.append(seconds)
    return max(spent if spent or spent_only else unsaid, default=None)


def _limits(seen: _Seen, hint: Hint) -> Iterator[tuple[str, str]]:
    """(what is left, when it resets) of each limit that a row tells of."""
    for reset in seen.texts(hint.field):
        if hint.form == "RateLimit":
            yield from _policies(reset)
        else:
            yield next(iter(seen.texts(hint.remaining)), ""), reset


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def _policies(text: str) -> list[tuple[str, str]]:
    """`"name";r=0;t=30, …` from draft 08 on; `limit=9, remaining=0, reset=30` in draft 07."""
    members = [dict(_parameters(member)) for member in _QUOTED.sub("", text).split(",")]
    whole = {name: value for member in members for name, value in member.items()}
    if "reset" in whole:
        return [(whole.get("remaining", ""), whole["reset"])]
    return [(member.get("r", ""), member["t"]) for member in members if "t" in member]


def _parameters(member: str) -> Iterator[tuple[str, str]]:
    for parameter in member.split(";"):
        name, _, value = parameter.partition("=")
        yield name.strip(), value.strip()


def _json(body: bytes) -> object:
    """A JSON body, without the list that Google wraps its errors in."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return data[0] if isinstance(data, list) and data else data


def _at_pointer(pointer: str, data: object) -> Iterator[str]:
    nodes = [data]
    for step in pointer.split("/")[1:]:
        nodes = [child for node in nodes for child in _children(node, step)]
    for node in nodes:
        if isinstance(node, str):
            yield node.strip()
        elif isinstance(node, int | float):
            yield str(node)


def _children(node: object, step: str) -> list[object]:
    if step == "*":
        return node if isinstance(node, list) else []
    return [node[step]] if isinstance(node, dict) and step in node else []
