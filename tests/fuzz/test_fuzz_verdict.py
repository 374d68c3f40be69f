"""Verdicts on whatever an upstream sends: headers, bodies and packings, right and wrong."""

import gzip
import json
import math
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import brotli  # type: ignore[import-untyped]  # it has no types
from hypothesis import event, given
from hypothesis import strategies as st
from mitmproxy.http import Headers
from mitmproxy.net import encoding as mitmproxy_encoding

from flowrotate.answers import Answer, out_of_money, seconds_named, seconds_parked
from flowrotate.config.failrules import parse_fail_rules
from flowrotate.hints import BILLING_STATUSES, HINTS, Hint
from flowrotate.outcome import plain_retry_after
from flowrotate.times import LONGEST_COOLDOWN, delay_or_time, milliseconds, seconds_or_date
from flowrotate.unpack import start_of
from flowrotate.verdict import Action, FailRules, judge, needs_body

from . import examples

WALL = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT

USUAL_STATUSES = st.sampled_from([200, 304, 400, 401, 401, 402, 403, 429, 429, 429, 500, 503])
STATUSES = USUAL_STATUSES | USUAL_STATUSES | st.integers(398, 431) | st.integers(0, 999)


def mutated(text: str, data: st.DataObject) -> str:
    """A text with a piece of it cut out, or something put in."""
    for _ in range(data.draw(st.integers(0, 2))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 4, len(text))))
        text = text[:start] + data.draw(st.text(max_size=3) | st.sampled_from(ODD)) + text[end:]
    return text


ODD = [
    "-", "+", "0", "9" * 19, ".", ",", ";", '"', "\\", "e9", "_", "٣", "ms", "T", "Z", "\0", "\r\n",
]  # fmt: skip
RIGHT = [
    "0", "1", "30", "86401", "1800000030", "1800000030000", "999999999999999999", "0.5", "6m0s",
    "1ms", "1d2h3m4s", "Fri, 15 Jan 2027 08:00:30 GMT", "Friday, 15-Jan-27 08:00:30 GMT",
    "Fri Jan 15 08:00:30 2027", "2027-01-15T08:00:30Z", "2027-01-15T08:00:30.123456+23:59",
    "20270115T080030Z", "2027-W02-5T08:00:30Z", "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59", '"default";r=0;t=30', '"a";r=0;t=30, "b";r=5;t=9',
    "limit=9, remaining=0, reset=30", "NaN", "inf",
]  # fmt: skip
VALUES = sorted({value for hint in HINTS for value in hint.values})
NAMES = sorted({name for hint in HINTS for name in (hint.field, hint.remaining) if name})
IN_BODIES = [hint for hint in HINTS if hint.field.startswith("/")]
FIELDS = [name for name in NAMES if not name.startswith("/")]
FIELDS += ["date", "Date", "Retry-After", "RATELIMIT", "content-type"]

LEAVES = st.sampled_from(RIGHT + VALUES) | st.none() | st.booleans() | st.integers() | st.floats()
LEAVES |= st.text(max_size=8)


@st.composite
def headers(draw: st.DrawFn) -> Mapping[str, str]:
    """As mitmproxy has them: any bytes, and a field more than once."""
    texts = st.builds(mutated, st.sampled_from(RIGHT), st.data()).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
    fields = st.tuples(
        st.sampled_from(FIELDS).map(str.encode) | st.binary(max_size=9),
        texts | texts | st.binary(max_size=30) | st.sampled_from([b"0", b"1" * 1025]),
    )
    return Headers(draw(st.lists(fields, max_size=6)))


RARELY = st.sampled_from([False, False, False, True])


def at(pointer: str, leaf: object) -> object:
    """A leaf where the table looks for it."""
    for step in reversed(pointer.split("/")[1:]):
        leaf = [leaf] if step == "*" else {step: leaf}
    return leaf


def joined(a: object, b: object) -> object:
    if isinstance(a, dict) and isinstance(b, dict):
        both = a.keys() & b.keys()
        return {**a, **b, **{key: joined(a[key], b[key]) for key in both}}
    return a + b if isinstance(a, list) and isinstance(b, list) else b


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    tree: object = {}
    for hint in draw(st.lists(st.sampled_from(IN_BODIES), max_size=3)):
        for pointer, text in (hint.given or (hint.field, ""), (hint.remaining, "0")):
            if pointer.startswith("/"):
                tree = joined(tree, at(pointer, draw(st.just(text) | LEAVES)))
        meant = st.sampled_from(hint.values) if hint.values else LEAVES
        tree = joined(tree, at(hint.field, draw(meant | meant | LEAVES)))
        if draw(RARELY):
            short = hint.field.rsplit("/", draw(st.integers(1, 3)))[0]
            tree = joined(tree, at(short, draw(st.integers() | LEAVES)))
    if draw(st.booleans()):
        tree = [tree]
    text = json.dumps(tree, ensure_ascii=draw(st.booleans()))
    if draw(RARELY):
        text = mutated(text, draw(st.data()))
    body = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-16", "utf-32-le"])), "replace")
    return body[: draw(st.integers(0, len(body)))] if draw(RARELY) else body


ACTIONS = st.sampled_from(["disable", "cooldown", "ignore"])
USUAL: FailRules = ((401, 401, "disable"), (429, 429, "cooldown"))
RULES: st.SearchStrategy[FailRules] = st.just(USUAL) | st.dictionaries(
    st.sampled_from([401, 401, 402, 403, 429, 429, "400-403", "404-499", "500-599", 400]),
    ACTIONS,
    max_size=6,
).map(lambda rules: parse_fail_rules(rules.items())[0])


@examples(400)
@given(
    status=STATUSES,
    headers=headers(),
    body=bodies() | bodies() | st.binary(max_size=60),
    rules=RULES,
    cooldown=st.integers(1, 86400),
    wall=st.just(WALL) | st.floats(0, 1e11),
)
def test_every_answer_has_a_verdict(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    rules: FailRules,
    cooldown: int,
    wall: float,
) -> None:
    answer = Answer(status, headers, body, wall)
    verdict = judge(answer, rules, cooldown)
    event(f"{verdict.action} {verdict.reason if verdict.reason.isalpha() else ''}")
    assert 0 <= verdict.seconds <= LONGEST_COOLDOWN
    assert not verdict.backoff or verdict.seconds == cooldown
    listed = [action for low, high, action in rules if status in range(low, high + 1)]
    money = status in BILLING_STATUSES and out_of_money(answer)
    if status < 400:
        assert verdict.action is Action.OK
    elif "disable" in listed:
        assert verdict.action is Action.DISABLE
    elif "cooldown" in listed or (money and "ignore" not in listed):
        assert verdict.action is Action.COOLDOWN
        assert verdict.seconds > 0
    else:
        assert verdict.action is Action.NOTHING
    if not needs_body(status, rules):
        assert verdict == judge(Answer(status, headers, b"", wall), rules, cooldown)


@examples(300)
@given(bodies(), st.sampled_from([400, 402, 403, 429]))
def test_any_body_says_what_there_is(body: bytes, status: int) -> None:
    answer = Answer(status, {}, body, WALL)
    event(f"{out_of_money(answer)}")
    named = seconds_named(answer)
    assert named is None or 0 < named <= LONGEST_COOLDOWN


@examples(150)
@given(headers(), bodies(), st.sampled_from(["", "content-type", "x-request-id", "Server"]))
def test_what_is_not_in_the_table_says_nothing(
    fields: Mapping[str, str], body: bytes, name: str
) -> None:
    known = {name.lower() for name in FIELDS}
    others = {key: value for key, value in fields.items() if key.lower() not in known}
    if name:
        others[name] = "retry-after: 30"
    assert seconds_named(Answer(429, others, b"{}", WALL)) is None
    assert seconds_parked(Answer(200, others, body, WALL)) is None


NUMBER_OR_DATE = re.compile(
    r"[0-9.]{1,37}|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)


@examples(500)
@given(
    st.builds(mutated, st.sampled_from(RIGHT), st.data()) | st.text(max_size=30),
    st.just(WALL) | st.floats(0, 1e11),
)
def test_any_text_is_a_time_or_none(text: str, wall: float) -> None:
    for reader in (milliseconds, seconds_or_date, delay_or_time):
        found = reader(text, lambda: wall)
        assert found is None or math.isfinite(found)
    shown = plain_retry_after(text)
    event("a time" if shown else "none")
    assert shown is None or NUMBER_OR_DATE.fullmatch(shown)


def in_seconds(seconds: int, _: float) -> str:
    return str(seconds)


def in_milliseconds(seconds: int, _: float) -> str:
    return f"{seconds}000"


def in_units(seconds: int, _: float) -> str:
    return f"{seconds // 3600}h{seconds // 60 % 60}m{seconds % 60}.0s"


def as_policies(seconds: int, _: float) -> str:
    return f'"a, r=0;t=86400, b";w=9;r=0;t={seconds}, "c";r=3;t=86400'


def as_limit(seconds: int, _: float) -> str:
    return f"limit=9, remaining=0, reset={seconds}"


def at_date(seconds: int, now: float) -> str:
    return format_datetime(datetime.fromtimestamp(now + seconds, UTC), usegmt=True)


def at_time(seconds: int, now: float) -> str:
    zone = timezone(timedelta(minutes=seconds % 1000 - 500))
    return datetime.fromtimestamp(now + seconds, zone).isoformat()


def at_epoch(seconds: int, now: float) -> str:
    return f"{now + seconds:.0f}"


def at_epoch_milliseconds(seconds: int, now: float) -> str:
    return f"{(now + seconds) * 1000:.0f}"


Write = Callable[[int, float], str]
WRITERS: dict[str, list[Write]] = {
    "milliseconds": [in_milliseconds],
    "seconds or date": [in_seconds, at_date],
    "delay or time": [in_seconds, in_units, at_time, at_epoch, at_epoch_milliseconds],
    "RateLimit": [as_policies, as_limit],
}
TIMES = [(h, write) for h in HINTS if h.says in ("wait", "reset") for write in WRITERS[h.form]]


@examples(300)
@given(st.sampled_from(TIMES), st.integers(-100, 200_000), st.integers(-(10**6), 10**6))
def test_a_time_that_is_written_is_read(row: tuple[Hint, Write], seconds: int, drift: int) -> None:
    hint, write = row
    if not write.__name__.startswith("at_"):
        seconds = max(seconds, 0)  # a delay has no sign
    expected = min(float(seconds), LONGEST_COOLDOWN) if seconds > 0 else None
    # The upstream's own clock counts.
    now = WALL + drift
    text, fields, body = write(seconds, now), {"date": at_date(0, now)}, b""
    if hint.field.startswith("/"):
        body = json.dumps(at(hint.field, text)).encode()
    else:
        fields[hint.field] = f" {text} "
    assert seconds_named(Answer(429, fields, body, WALL)) == expected
    if hint.says == "wait" or body:
        assert seconds_parked(Answer(200, fields, body, WALL)) is None
    else:
        fields.setdefault(hint.remaining, "0")
        assert seconds_parked(Answer(200, fields, body, WALL)) == expected


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd(data: bytes) -> bytes:
    packed = mitmproxy_encoding.encode(data, "zstd")
    assert isinstance(packed, bytes)
    return packed


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("identity", bytes),
    ("gzip", gzip.compress),
    ("X-GZIP", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("zstd", zstd),
]
TEXTS = st.binary(max_size=200) | st.builds(
    lambda part, times: part * times, st.binary(min_size=1, max_size=20), st.integers(1, 300)
)


@st.composite
def packed(draw: st.DrawFn) -> tuple[bytes, bytes, str]:
    """A text, and its packed form with its Content-Encoding."""
    text = draw(TEXTS)
    chosen = draw(st.lists(st.sampled_from(PACKERS), min_size=1, max_size=3))
    body = text
    for _, pack in chosen:
        body = pack(body)
    return text, body, draw(st.sampled_from([",", ", "])).join(name for name, _ in chosen)


@examples(300)
@given(packed(), st.data())
def test_a_part_of_a_body_unpacks_to_a_part_of_the_text(
    case: tuple[bytes, bytes, str], data: st.DataObject
) -> None:
    text, body, encoding = case
    assert start_of(body, encoding) == text
    most = data.draw(st.integers(-1, len(text) + 1))
    cut = body[: data.draw(st.integers(0, len(body)))]
    for start in (start_of(body, encoding, most), start_of(cut, encoding, most)):
        assert len(start) <= max(most, 0)
        assert text.startswith(start)
    if "," not in encoding:
        assert start_of(body, encoding, most) == text[: max(most, 0)]


@examples(500)
@given(packed(), st.lists(st.tuples(st.integers(0), st.binary(max_size=3)), max_size=4), st.data())
def test_a_damaged_body_unpacks_to_no_more_than_is_asked_for(
    case: tuple[bytes, bytes, str], damages: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    _, body, encoding = case
    for place, put in damages:
        place %= len(body) + 1
        body = body[:place] + put + body[place + 1 :]
    if data.draw(st.booleans()):
        encoding = data.draw(st.sampled_from([name for name, _ in PACKERS]) | st.text(max_size=9))
    most = data.draw(st.integers(-1, 300))
    start = start_of(body, encoding, most)
    event("some" if start else "none")
    assert isinstance(start, bytes)
    assert len(start) <= max(most, 0)


@examples(150)
@given(ACTIONS, st.integers(100, 399), headers(), bodies())
def test_no_rule_takes_a_credential_out_for_a_success(
    action: str, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    verdict = judge(Answer(status, headers, body, WALL), ((0, 999, action),), 60)
    assert verdict.action is Action.OK
