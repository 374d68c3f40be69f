"""The table: where answers say how long to wait, or that their account is out of money. Pure.

Only what it names is read: headers, and fields of a JSON body. Free text is not, for there a
user's words may be quoted. How it is read is in answers.py.
"""

from dataclasses import dataclass
from typing import Literal

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
