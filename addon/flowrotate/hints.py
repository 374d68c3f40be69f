"""Where an answer says how long to wait, or that its account is out of money. Pure.

Only what the table names is read: headers, and fields of a JSON body. Free text is not, for there
a user's words may be quoted. Nothing here raises, whatever an upstream sends.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

LONGEST_COOLDOWN = 24 * 3600.0
"""Seconds. An upstream that asks for more is asking for "not today"."""
LONGEST_FIELD = 1024
"""Characters; a longer header is not read."""

Form = Literal[
    "milliseconds",
    "seconds or date",
    "delay or time",
    "RateLimit",
    "is",
    "starts with",
    "contains",
]


@dataclass(frozen=True, slots=True)
class Hint:
    """One row of the table. `sources` are (who sends it, where that is written).

    `field` is a header, `status`, or a JSON pointer in which `*` stands for every item of a list.
    `remaining` says how much is left of the limit that `field` resets. `given` is a (field, text)
    without which the row does not count.
    """

    says: Literal["wait", "reset", "billing", "quota"]
    field: str
    form: Form
    sources: tuple[tuple[str, str], ...]
    remaining: str = ""
    values: tuple[str, ...] = ()
    given: tuple[str, str] | None = None


_ANTHROPIC_ERRORS = ("Anthropic", "https://platform.claude.com/docs/en/api/errors")
_ANTHROPIC_LIMITS = ("Anthropic", "https://platform.claude.com/docs/en/api/rate-limits")
_AZURE = ("Azure OpenAI", "https://learn.microsoft.com/en-us/azure/foundry/openai/how-to/quota")
_COSMOS = (
    "Azure Cosmos DB",
    "https://learn.microsoft.com/en-us/rest/api/cosmos-db/common-cosmosdb-rest-response-headers",
)
_GITHUB = (
    "GitHub",
    "https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api",
)
_GOOGLEAPIS = "https://github.com/googleapis/googleapis/blob/master/google/"
_GOOGLE_DETAILS = ("Google", _GOOGLEAPIS + "rpc/error_details.proto")
_GOOGLE_REASONS = ("Google", _GOOGLEAPIS + "api/error_reason.proto")
_GOOGLE_QUOTAS = (
    "Google's own client",
    "https://github.com/google-gemini/gemini-cli/blob/main/"
    "packages/core/src/utils/googleQuotaErrors.ts",
)
_GROQ_LIMITS = ("Groq", "https://console.groq.com/docs/rate-limits")
_GROQ_SPEND = ("Groq", "https://console.groq.com/docs/spend-limits")
_DRAFT = "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-"
_DRAFT_06 = ("IETF draft, up to 06", _DRAFT + "06")
_DRAFT_10 = ("IETF draft, from 07 on", _DRAFT + "10")
_MISTRAL = ("Mistral", "https://docs.mistral.ai/admin/user-management-finops/tier")
_OPENAI_ERRORS = ("OpenAI", "https://platform.openai.com/docs/guides/error-codes")
_OPENAI_LIMITS = ("OpenAI", "https://platform.openai.com/docs/guides/rate-limits")
_OPENROUTER = ("OpenRouter", "https://openrouter.ai/docs/api_reference/limits")
_RETRY_AFTER = ("HTTP", "https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3")
_PAYMENT_REQUIRED = ("HTTP", "https://www.rfc-editor.org/rfc/rfc9110#section-15.5.3")


def _reset(
    field: str, remaining: str, *sources: tuple[str, str], form: Form = "delay or time"
) -> Hint:
    return Hint("reset", field, form, sources, remaining=remaining)


def _anthropic(limit: str) -> Hint:
    name = f"anthropic-ratelimit-{limit}"
    return _reset(f"{name}-reset", f"{name}-remaining", _ANTHROPIC_LIMITS)


def _billing(field: str, values: tuple[str, ...], *sources: tuple[str, str]) -> Hint:
    return Hint("billing", field, "is", sources, values=values)


def _quota(
    field: str, values: tuple[str, ...], *sources: tuple[str, str], form: Form = "is"
) -> Hint:
    return Hint("quota", field, form, sources, values=values)


# The waits in the order in which they are asked; of the resets, the longest counts.
HINTS = (
    Hint("wait", "retry-after-ms", "milliseconds", (_AZURE, _OPENAI_LIMITS)),
    Hint("wait", "x-ms-retry-after-ms", "milliseconds", (_COSMOS,)),
    Hint("wait", "retry-after", "seconds or date", (_RETRY_AFTER,)),
    Hint("wait", "/error/details/*/retryDelay", "delay or time", (_GOOGLE_DETAILS,)),
    _reset(
        "/error/metadata/headers/X-RateLimit-Reset",
        "/error/metadata/headers/X-RateLimit-Remaining",
        _OPENROUTER,
    ),
    _reset(
        "x-ratelimit-reset-requests",
        "x-ratelimit-remaining-requests",
        *(_OPENAI_LIMITS, _AZURE, _GROQ_LIMITS),
    ),
    _reset(
        "x-ratelimit-reset-tokens",
        "x-ratelimit-remaining-tokens",
        *(_OPENAI_LIMITS, _AZURE, _GROQ_LIMITS),
    ),
    _anthropic("requests"),
    _anthropic("tokens"),
    _anthropic("input-tokens"),
    _anthropic("output-tokens"),
    _reset("ratelimitbysize-reset", "ratelimitbysize-remaining", _MISTRAL),
    _reset("ratelimit", "ratelimit", _DRAFT_10, form="RateLimit"),
    _reset("ratelimit-reset", "ratelimit-remaining", _DRAFT_06),
    _reset("x-ratelimit-reset", "x-ratelimit-remaining", _GITHUB, _OPENROUTER),
    _billing("status", ("402",), _PAYMENT_REQUIRED, _OPENROUTER),
    _billing(
        "/error/code",
        ("billing_hard_limit_reached", "billing_not_active", "credit_balance_exhausted"),
        _OPENAI_ERRORS,
    ),
    _billing("/error/code", ("blocked_api_access",), _GROQ_SPEND),
    _billing("/error/type", ("billing_error",), _ANTHROPIC_ERRORS),
    _billing("/error/details/*/reason", ("BILLING_DISABLED",), _GOOGLE_REASONS),
    # Some have nothing but a fixed beginning to be known by.
    Hint(
        "billing",
        "/error/message",
        "starts with",
        (_ANTHROPIC_ERRORS,),
        values=(
            "Your credit balance is too low to access the ",
            "You have reached your specified API usage limits",
            "You have reached your specified workspace API usage limits",
        ),
        given=("/error/type", "invalid_request_error"),
    ),
    _quota(
        "/error/code",
        (
            "insufficient_quota",
            "organization_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
            "project_spend_limit_exceeded",
        ),
        _OPENAI_ERRORS,
    ),
    _quota("/error/type", ("insufficient_quota",), _OPENAI_ERRORS),
    _quota("/error/details/error_code", ("enforced_spend_limit_reached",), _ANTHROPIC_LIMITS),
    # With these comes a retryDelay of some seconds, after which the day is not over.
    _quota("/error/details/*/violations/*/quotaId", ("PerDay",), _GOOGLE_QUOTAS, form="contains"),
    _quota("/error/details/*/metadata/quota_limit", ("PerDay",), _GOOGLE_QUOTAS, form="contains"),
)

BILLING_STATUSES = (400, 402, 403, 429)
QUOTA_STATUSES = (429,)

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
        named = [_bounded(_READERS[hint.form](text, seen.now)) for text in seen.texts(hint.field)]
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
        date = _date(self._answer.headers.get("date", ""))
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
            seconds, number = _bounded(_delay_or_time(reset, seen.now)), _number(left)
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


# Of bounded length, and ASCII digits only: float() and \d take more than any provider sends.
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_PART = re.compile(rf"({_NUMBER.pattern})(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH_SECONDS, _EPOCH_MILLISECONDS = 1e9, 1e11
"""From these on a number is a time and no delay: as delays, 30 years and more."""

_Now = Callable[[], float]


def _bounded(seconds: float | None) -> float | None:
    return min(seconds, LONGEST_COOLDOWN) if seconds is not None and seconds > 0 else None


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _milliseconds(text: str, _: _Now) -> float | None:
    number = _number(text)
    return None if number is None else number / 1000


def _seconds_or_date(text: str, now: _Now) -> float | None:
    number = _number(text)
    if number is not None:
        return number
    date = _date(text)
    return None if date is None else date - now()


def _delay_or_time(text: str, now: _Now) -> float | None:
    """`30`, `6m0s` (as Go writes durations), RFC 3339, or (milli)seconds since 1970."""
    number = _number(text)
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


def _date(text: str) -> float | None:
    """An HTTP date (RFC 9110, 5.6.7) in seconds since 1970."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # A date without a zone ("-0000" or none at all) is in UTC by RFC 5322, 3.3.
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp()


_READERS: Mapping[Form, Callable[[str, _Now], float | None]] = {
    "milliseconds": _milliseconds,
    "seconds or date": _seconds_or_date,
    "delay or time": _delay_or_time,
}
_FITS: Mapping[Form, Callable[[str, str], bool]] = {
    "is": str.__eq__,
    "starts with": str.startswith,
    "contains": str.__contains__,
}
