"""What providers say of waiting and of money, from the bytes that they send."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.http import Headers

from flowrotate.answers import Answer, out_of_money, seconds_named, seconds_parked
from flowrotate.hints import HINTS, Hint

WALL = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
PAGE = Path(__file__).resolve().parents[1] / "docs" / "hints.md"


def received(raw: str, wall: float = WALL) -> Answer:
    """An answer as it comes off the wire; its lines are written without the carriage returns."""
    head, _, body = raw.lstrip().encode().partition(b"\n\n")
    status, *lines = head.split(b"\n")
    pairs = (line.partition(b": ") for line in lines)
    headers = Headers([(name, value) for name, _, value in pairs])
    return Answer(int(status.split()[1]), headers, body.strip(), wall)


def limited(wall: float = WALL, body: str = "", /, **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(429, fields, body.encode(), wall)


def failed(status: int, **error: object) -> Answer:
    return Answer(status, {}, json.dumps({"error": error}).encode(), WALL)


ANTHROPIC = """
HTTP/1.1 429 Too Many Requests
Date: Fri, 15 Jan 2027 08:00:00 GMT
anthropic-ratelimit-{0}-limit: 50
anthropic-ratelimit-{0}-remaining: 0
anthropic-ratelimit-{0}-reset: 2027-01-15T08:00:41Z

{{"type":"error","error":{{"type":"rate_limit_error","message":"This request would exceed …"}}}}
"""

WAITS = {
    "retry-after-ms": (
        """
HTTP/1.1 429 Too Many Requests
retry-after: 28
retry-after-ms: 27500
x-ratelimit-reset-requests: 9
x-ratelimit-remaining-requests: 0

{"error":{"code":"429","message":"Rate limit is exceeded. Try again in 28 seconds."}}
""",
        27.5,
    ),
    "x-ms-retry-after-ms": (
        """
HTTP/1.1 429 Too Many Requests
x-ms-retry-after-ms: 1250

""",
        1.25,
    ),
    "retry-after": (
        """
HTTP/1.1 503 Service Unavailable
Retry-After: Fri, 15 Jan 2027 08:02:00 GMT

""",
        120.0,
    ),
    "/error/details/*/retryDelay": (
        """
HTTP/1.1 429 Too Many Requests
Content-Type: application/json; charset=UTF-8

[{
  "error": {
    "code": 429,
    "message": "You exceeded your current quota.\\nPlease retry in 34.074824224s.",
    "status": "RESOURCE_EXHAUSTED",
    "details": [
      {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [
        {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]},
      {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
      {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.074824224s"}
    ]
  }
}
]
""",
        34.074824224,
    ),
    "/error/metadata/headers/X-RateLimit-Reset": (
        """
HTTP/1.1 429 Too Many Requests
Content-Type: application/json

{"error":{"message":"Rate limit exceeded: free-models-per-day","code":429,"metadata":{"headers":
{"X-RateLimit-Limit":"50","X-RateLimit-Remaining":"0","X-RateLimit-Reset":"1800003600000"}}}}
""",
        3600.0,
    ),
    "x-ratelimit-reset-requests": (
        """
HTTP/1.1 429 Too Many Requests
x-ratelimit-limit-requests: 60
x-ratelimit-limit-tokens: 150000
x-ratelimit-remaining-requests: 0
x-ratelimit-remaining-tokens: 149984
x-ratelimit-reset-requests: 2m59.56s
x-ratelimit-reset-tokens: 6m0s

""",
        179.56,
    ),
    "x-ratelimit-reset-tokens": (
        """
HTTP/1.1 429 Too Many Requests
x-ratelimit-remaining-requests: 59
x-ratelimit-remaining-tokens: 0
x-ratelimit-reset-requests: 1s
x-ratelimit-reset-tokens: 37

""",
        37.0,
    ),
    **{
        f"anthropic-ratelimit-{limit}-reset": (ANTHROPIC.format(limit), 41.0)
        for limit in ("requests", "tokens", "input-tokens", "output-tokens")
    },
    "ratelimitbysize-reset": (
        """
HTTP/1.1 429 Too Many Requests
ratelimitbysize-limit: 500000
ratelimitbysize-remaining: 0
ratelimitbysize-reset: 28

{"object":"error","message":"Rate limit exceeded","type":"rate_limited","code":"1300"}
""",
        28.0,
    ),
    "ratelimit": (
        """
HTTP/1.1 429 Too Many Requests
RateLimit-Policy: "burst";q=100;w=60,"daily";q=1000;w=86400
RateLimit: "burst";r=0;t=30, "daily";r=7;t=7000

""",
        30.0,
    ),
    "ratelimit-reset": (
        """
HTTP/1.1 429 Too Many Requests
RateLimit-Limit: 100
RateLimit-Remaining: 0
RateLimit-Reset: 50

""",
        50.0,
    ),
    "x-ratelimit-reset": (
        """
HTTP/1.1 403 Forbidden
x-ratelimit-limit: 60
x-ratelimit-remaining: 0
x-ratelimit-reset: 1800000600

{"message":"API rate limit exceeded for 203.0.113.7."}
""",
        600.0,
    ),
}


@pytest.mark.parametrize(("raw", "seconds"), WAITS.values(), ids=WAITS)
def test_each_wait_and_reset(raw: str, seconds: float) -> None:
    answer = received(raw)
    assert seconds_named(answer) == pytest.approx(seconds)
    assert out_of_money(answer) is None


RESETS = [hint.field for hint in HINTS if hint.says == "reset" and not hint.field.startswith("/")]


@pytest.mark.parametrize("field", RESETS)
def test_each_reset_after_a_success(field: str) -> None:
    raw, seconds = WAITS[field]
    answer = received(re.sub(r"HTTP/1.1 \d+ [\w ]+", "HTTP/1.1 200 OK", raw))
    assert seconds_parked(answer) == seconds
    lower = {name.lower(): value for name, value in answer.headers.items()}
    assert seconds_parked(Answer(200, lower, b"", WALL)) == seconds


MONEY = {
    ("status", "402"): (
        """
HTTP/1.1 402 Payment Required

<h1>Insufficient Balance</h1>
""",
        "billing",
    ),
    ("/error/code", "billing_hard_limit_reached"): (
        """
HTTP/1.1 400 Bad Request

{"error":{"code":"billing_hard_limit_reached","message":"Billing hard limit has been reached",
"param":null,"type":"invalid_request_error"}}
""",
        "billing",
    ),
    ("/error/code", "blocked_api_access"): (
        """
HTTP/1.1 400 Bad Request

{"error":{"message":"API access is blocked …","type":"invalid_request_error",
"code":"blocked_api_access"}}
""",
        "billing",
    ),
    ("/error/type", "billing_error"): (
        """
HTTP/1.1 403 Forbidden

{"type":"error","error":{"type":"billing_error","message":"…"},"request_id":"req_1"}
""",
        "billing",
    ),
    ("/error/details/*/reason", "BILLING_DISABLED"): (
        """
HTTP/1.1 403 Forbidden

{"error":{"code":403,"message":"This API method requires billing to be enabled.",
"status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo",
"reason":"BILLING_DISABLED","domain":"googleapis.com","metadata":{"consumer":"projects/1"}}]}}
""",
        "billing",
    ),
    ("/error/message", "Your credit balance is too low to access the "): (
        """
HTTP/1.1 400 Bad Request

{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low
to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}
""".replace("low\nto", "low to"),
        "billing",
    ),
    ("/error/code", "insufficient_quota"): (
        """
HTTP/1.1 429 Too Many Requests

{"error":{"message":"You exceeded your current quota, please check your plan and billing details.",
"type":"requests","param":null,"code":"insufficient_quota"}}
""",
        "quota",
    ),
    ("/error/type", "insufficient_quota"): (
        """
HTTP/1.1 429 Too Many Requests
retry-after: 2

{"error":{"message":"You exceeded your current quota, please check your plan and billing details.",
"type":"insufficient_quota","param":null,"code":null}}
""",
        "quota",
    ),
    ("/error/details/error_code", "enforced_spend_limit_reached"): (
        """
HTTP/1.1 429 Too Many Requests

{"type":"error","error":{"type":"rate_limit_error","message":"…",
"details":{"error_code":"enforced_spend_limit_reached"}}}
""",
        "quota",
    ),
    ("/error/details/*/violations/*/quotaId", "PerDay"): (
        """
HTTP/1.1 429 Too Many Requests

{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[
{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[
{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier"},
{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaValue":"20"}]},
{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"36s"}]}}
""",
        "quota",
    ),
    ("/error/details/*/metadata/quota_limit", "PerDay"): (
        """
HTTP/1.1 429 Too Many Requests

[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[
{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMIT_EXCEEDED",
"metadata":{"quota_limit":"Gemini25ProRequestsPerDay"}}]}}]
""",
        "quota",
    ),
}


@pytest.mark.parametrize(("raw", "what"), MONEY.values(), ids=[" ".join(key) for key in MONEY])
def test_each_word_for_money(raw: str, what: str) -> None:
    assert out_of_money(received(raw)) == what


def test_no_row_is_untested() -> None:
    waits = [hint.field for hint in HINTS if not hint.values]
    money = [(hint.field, hint.values[0]) for hint in HINTS if hint.values]
    assert waits == list(WAITS)
    assert money == list(MONEY)


@pytest.mark.parametrize("hint", [h for h in HINTS if h.values], ids=lambda h: h.field)
def test_every_value_of_a_row(hint: Hint) -> None:
    for value in hint.values:
        error: object = f"{value} and more" if hint.form == "starts with" else value
        for step in reversed(hint.field.split("/")[2:]):
            error = [error] if step == "*" else {step: error}
        if hint.given:
            assert isinstance(error, dict)
            error[hint.given[0].removeprefix("/error/")] = hint.given[1]
        status = 402 if hint.field == "status" else 429
        answer = Answer(status, {}, json.dumps({"error": error}).encode())
        assert out_of_money(answer) == hint.says


@pytest.mark.parametrize(
    "answer",
    [
        # A user's words, quoted by the upstream.
        failed(400, message="billing_hard_limit_reached", type="invalid_request_error"),
        failed(
            400,
            message="Invalid text: 'Your credit balance is too low to access the API.'",
            type="invalid_request_error",
        ),
        failed(400, message="Your credit balance is too low to access the API.", type="other"),
        failed(400, message="Your credit balance is too low to access the API."),
        failed(400, code="context_length_exceeded", type="invalid_request_error"),
        failed(400, code="my insufficient_quota"),
        failed(403, code="Billing_Not_Active"),
        failed(400, param={"code": "billing_not_active"}),
        failed(429, code="rate_limit_exceeded", type="requests"),
        failed(429, details=[{"violations": [{"quotaId": "RequestsPerMinute"}]}]),
        failed(429, details=[{"violations": "PerDay"}, "PerDay", ["PerDay"]]),
        # Statuses that tell of something else.
        failed(400, code="insufficient_quota"),
        failed(403, code="insufficient_quota"),
        failed(401, code="billing_not_active"),
        failed(404, code="billing_not_active"),
        failed(500, type="billing_error"),
        failed(200, type="billing_error"),
        # No JSON, not the one that is known, or only its beginning.
        Answer(429, {}, b"insufficient_quota"),
        Answer(429, {}, b'"insufficient_quota"'),
        Answer(429, {}, b'{"code": "insufficient_quota"}'),
        Answer(429, {}, b'{"error": "insufficient_quota"}'),
        Answer(429, {}, b'{"error": {"code": "insufficient_quota"'),
        Answer(429, {}, b'[[{"error": {"code": "insufficient_quota"}}]]'),
        Answer(429, {}, b"[]"),
        Answer(429, {}, b""),
    ],
)
def test_not_about_money(answer: Answer) -> None:
    assert out_of_money(answer) is None


SKEWED = "Fri, 15 Jan 2027 10:00:00 GMT"
GOOGLE_DELAY = '{{"error": {{"details": [{{"retryDelay": {0}}}]}}}}'


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "Fri, 15 Jan 2027 10:00:30 GMT"},
        {"anthropic-ratelimit-tokens-reset": "2027-01-15T10:00:30Z"},
        {"anthropic-ratelimit-tokens-reset": "2027-01-15T12:30:30.000+02:30"},
        {"x-ratelimit-reset": "1800007230"},
        {"x-ratelimit-reset": "1800007230000"},
        {"retry-after": "30"},
        {"x-ratelimit-reset": "30"},
    ],
    ids=str,
)
@pytest.mark.parametrize("wall", [WALL, WALL - 86400, WALL + 86400])
def test_times_are_by_the_upstreams_clock(headers: Mapping[str, str], wall: float) -> None:
    assert seconds_named(Answer(429, {**headers, "date": SKEWED}, b"", wall)) == 30.0


@pytest.mark.parametrize("date", ["", "soon", "Fri, 99 Jan 2027 08:00:00 GMT", "Fri" * 1000])
def test_without_a_readable_date_they_are_by_ours(date: str) -> None:
    assert seconds_named(limited(retry_after="Fri, 15 Jan 2027 08:00:30 GMT", date=date)) == 30.0
    assert seconds_named(limited(x_ratelimit_reset="1800000030", date=date)) == 30.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1", 1.0),
        (" 120 ", 120.0),
        ("0.5", 0.5),
        ("0.8470000000000001", 0.8470000000000001),
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
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("0", None),
        ("-1", None),
        ("+5", None),
        ("1e3", None),
        ("1s", None),
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
    assert seconds_named(limited(retry_after=value)) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1500", 1.5),
        ("0.5", 0.0005),
        ("99999999999", 86400.0),
        ("0", None),
        ("-5", None),
        ("5s", None),
        ("Fri, 15 Jan 2027 08:00:30 GMT", None),
    ],
)
def test_milliseconds(value: str, seconds: float | None) -> None:
    assert seconds_named(limited(retry_after_ms=value)) == seconds
    assert seconds_named(limited(x_ms_retry_after_ms=value)) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120ms", 0.12),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("2d3h", 86400.0),
        ("37", 37.0),
        ("999999999", 86400.0),
        ("1800000030", 30.0),
        ("1800000030.25", 30.25),
        ("1800000030500", 30.5),
        ("1900000000", 86400.0),
        ("2027-01-15T08:00:30Z", 30.0),
        ("2027-01-15T08:00:30.250000Z", 30.25),
        ("2027-01-16T09:00:00Z", 86400.0),
        ("0", None),
        ("0s", None),
        ("-1", None),
        ("-5s", None),
        ("1799999999", None),
        ("1799999999000", None),
        ("2027-01-15T07:59:59Z", None),
        ("2027-01-15T08:00:30", None),
        ("2027-13-15T08:00:30Z", None),
        ("2027-01-15T08:00:60Z", None),
        ("6m 0s", None),
        ("5 s", None),
        ("s", None),
        ("1x", None),
        ("1e3", None),
        ("٣s", None),
        ("1s" * 600, None),
        ("", None),
    ],
)
def test_resets(value: str, seconds: float | None) -> None:
    expected = None if seconds is None else pytest.approx(seconds)
    limit = {"x_ratelimit_reset_tokens": value, "x_ratelimit_remaining_tokens": "0"}
    assert seconds_named(limited(**limit)) == expected
    assert seconds_parked(limited(**limit)) == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ('"default";r=0;t=30', 30.0),
        ('"default"; r=0; t=30', 30.0),
        ("default;t=30;r=0", 30.0),
        ('"a";r=0;t=30,"b";r=0;t=60,"c";r=1;t=90', 60.0),
        ('"a;r=0;t=90, \\"b;r=0;t=90,";r=0;t=30;pk=:cHsdsRa894==:', 30.0),
        ("limit=100, remaining=0, reset=30", 30.0),
        ("limit=100;w=60, reset=30, remaining=0", 30.0),
        ('"default";r=0', None),
        ('"default";r=1;t=30', None),
        ("limit=100, remaining=5, reset=30", None),
        ('"default";r=0;t=-30', None),
        ('"default";r=0;t=x', None),
        ('"r=0;t=30', None),
        (";;;,,,===", None),
    ],
)
def test_the_ratelimit_field(value: str, seconds: float | None) -> None:
    assert seconds_parked(Answer(200, {"ratelimit": value})) == seconds


def test_a_field_that_is_sent_twice_is_one_list() -> None:
    fields = [(b"RateLimit", b'"a";r=0;t=30'), (b"ratelimit", b'"b";r=0;t=60')]
    assert seconds_parked(Answer(200, Headers(fields))) == 60.0


@pytest.mark.parametrize(
    ("headers", "named", "parked"),
    [
        ({"reset-requests": "5s"}, 5.0, None),
        ({"reset-requests": "5s", "reset-tokens": "9s"}, 9.0, None),
        ({"reset-requests": "5s", "remaining-requests": "-1"}, 5.0, None),
        ({"reset-requests": "5s", "remaining-requests": "?"}, 5.0, None),
        ({"reset-requests": "5s", "remaining-requests": "3"}, None, None),
        ({"reset-requests": "5s", "remaining-requests": "3", "reset-tokens": "2s"}, 2.0, None),
        ({"reset-requests": "5s", "remaining-requests": "0", "reset-tokens": "9s"}, 5.0, 5.0),
        (
            {
                "reset-requests": "5s",
                "remaining-requests": "0",
                "reset-tokens": "9s",
                "remaining-tokens": "0",
            },
            9.0,
            9.0,
        ),
        ({"remaining-requests": "0"}, None, None),
        # What Azure sends where nothing is counted.
        ({"reset-tokens": "0", "remaining-tokens": "-1"}, None, None),
    ],
    ids=str,
)
def test_which_reset_counts(
    headers: Mapping[str, str], named: float | None, parked: float | None
) -> None:
    fields = {f"x-ratelimit-{name}": value for name, value in headers.items()}
    assert seconds_named(Answer(429, fields, b"", WALL)) == named
    assert seconds_parked(Answer(200, fields, b"", WALL)) == parked


def test_the_order() -> None:
    body = json.dumps(
        {
            "error": {
                "details": [{"retryDelay": "4s"}],
                "metadata": {"headers": {"X-RateLimit-Reset": 5, "X-RateLimit-Remaining": 0}},
            }
        }
    )
    headers = {
        "retry_after_ms": "1000",
        "x_ms_retry_after_ms": "2000",
        "retry_after": "3",
        "x_ratelimit_reset": "6",
    }
    for seconds in (1.0, 2.0, 3.0):
        assert seconds_named(limited(WALL, body, **headers)) == seconds
        headers[next(iter(headers))] = "unreadable"
        headers.pop(next(iter(headers)))
    assert seconds_named(limited(WALL, body, **headers)) == 4.0
    assert seconds_named(limited(WALL, body.replace("4s", ""), **headers)) == 5.0
    assert seconds_named(limited(WALL, "", **headers)) == 6.0


def test_an_unreadable_wait_leaves_the_word_to_the_next() -> None:
    assert seconds_named(limited(retry_after_ms="soon", retry_after="3")) == 3.0
    assert seconds_named(limited(WALL, GOOGLE_DELAY.format('"4s"'), retry_after="0")) == 4.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ('"34s"', 34.0),
        ("34", 34.0),
        ("34.5", 34.5),
        ('"34s"}, {"retryDelay": "50s"', 50.0),
        ('"90000s"', 86400.0),
        ('"-34s"', None),
        ("-34", None),
        ("true", None),
        ("NaN", None),
        ("1e400", None),
        ("9" * 5000, None),
        ('["34s"]', None),
        ('{"seconds": 34}', None),
        ("null", None),
        ('"34s', None),
    ],
)
def test_a_delay_in_the_body(value: str, seconds: float | None) -> None:
    body = GOOGLE_DELAY.format(value)
    assert seconds_named(limited(WALL, body)) == seconds
    assert seconds_named(limited(WALL, f" [{body}]")) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "1s" * 500_000,
        "1" * 1_000_000,
        '"' * 1_000_000,
        '"\\' * 500_000,
        "1.1m" * 250_000 + "x",
        "a=b;" * 250_000,
        " " * 1_000_000,
    ],
    ids=lambda text: text[:4],
)
def test_long_texts_are_over_soon(text: str) -> None:
    started = perf_counter()
    headers = {name: text for hint in HINTS for name in (hint.field, "date") if name}
    answer = Answer(429, headers, GOOGLE_DELAY.format(json.dumps(text)).encode())
    assert seconds_named(answer) in (None, 86400.0)
    seconds_parked(answer)
    out_of_money(answer)
    assert perf_counter() - started < 5


@pytest.mark.parametrize("body", [b"[" * 65536, b'{"error":' * 8000, b"[{" * 30000, b'[{"a":' * 9])
def test_nested_bodies_say_nothing(body: bytes) -> None:
    answer = Answer(429, {}, body)
    assert (seconds_named(answer), out_of_money(answer)) == (None, None)


STEPS = sorted({step for hint in HINTS for step in hint.field.split("/")[1:] if step != "*"})
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(sorted({v for hint in HINTS for v in hint.values} | {"34s", "1800000030"}))
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda tree: (
        st.lists(tree, max_size=3) | st.dictionaries(st.sampled_from(STEPS), tree, max_size=3)
    ),
    max_leaves=8,
)
NAMES = sorted({name for h in HINTS for name in (h.field, h.remaining) if name} | {"date"})


@given(
    status=st.sampled_from([200, 400, 402, 403, 429, 503]),
    headers=st.dictionaries(
        st.sampled_from(NAMES),
        st.binary(max_size=30) | st.sampled_from([b"0", b"30", b"6m0s", b"2027-01-15T08:00:30Z"]),
    ),
    body=st.binary(max_size=80) | TREES.map(lambda tree: json.dumps({"error": tree}).encode()),
    wall=st.floats(0, 1e11),
)
def test_nothing_is_raised(
    status: int, headers: Mapping[str, bytes], body: bytes, wall: float
) -> None:
    fields = [(name.encode(), value) for name, value in headers.items()]
    answer = Answer(status, Headers(fields), body, wall)
    for seconds in (seconds_named(answer), seconds_parked(answer)):
        assert seconds is None or 0 < seconds <= 86400
    assert out_of_money(answer) in (None, "billing", "quota")


def written(hint: Hint) -> str:
    """A row as the page has it."""
    how: str = hint.form
    if hint.values:
        how += " " + " or ".join(f"`{value}`" for value in hint.values)
    if hint.given:
        how += f", where `{hint.given[0]}` is `{hint.given[1]}`"
    left = f"`{hint.remaining}`" if hint.remaining else ""
    sources = ", ".join(f"[{name}]({url})" for name, url in hint.sources)
    return " | ".join([f"| {hint.says}", f"`{hint.field}`", left, how, f"{sources} |"])


def test_the_page_has_this_table() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (?!what\b)\w", line)]
    assert rows == [written(hint) for hint in HINTS]
