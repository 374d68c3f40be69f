"""Aliases for secrets: in texts, in heads, in bodies, and piece by piece."""

import base64
import tracemalloc

import pytest

from flowrotate.scrub.forms import Forms, Lately
from flowrotate.scrub.scrubber import CODED_UNTIL, LATELY_UNTIL, Scrubber
from flowrotate.scrub.stream import Stream, fitted
from flowrotate.secret import Secret

A, B, LONGER = "sk-canary-a-7f3a9c", "sk-canary-b-7f3a9c", "sk-canary-a-7f3a9c-and-more"
ALIAS = "[rotate:pool/a]"


def forms(text: str, id: str) -> Forms:
    return Forms.of(Secret(text, f"[rotate:pool/{id}]"))


OWN, OTHER, EXTENDED = forms(A, "a"), forms(B, "b"), forms(LONGER, "longer")


@pytest.fixture
def scrubber() -> Scrubber:
    """Its own request carried A; B went out lately."""
    lately: Lately[Forms] = Lately()
    lately.note(OTHER)
    return Scrubber([OWN], lately)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("nothing", "nothing"),
        (A, ALIAS),
        (f"Bearer {A}.", f"Bearer {ALIAS}."),
        (f"{A}{A} {B}", f"{ALIAS}{ALIAS} [rotate:pool/b]"),
        (f"sk-{A}", f"sk-{ALIAS}"),
        (f"sk-canary-{A}", f"sk-canary-{ALIAS}"),
        (A.encode().hex(), ALIAS),
        (A[:-1], ALIAS),  # a form that breaks off at the end
        (A[:11], A[:11]),
        (A[:-1] + " ", A[:-1] + " "),
    ],
)
def test_a_text_whole_and_cut_anywhere(scrubber: Scrubber, text: str, expected: str) -> None:
    data = text.encode()
    assert scrubber.body(data).decode() == expected
    for size in range(1, len(data) + 1):
        stream = scrubber.stream()
        pieces = [stream.feed(data[at : at + size]) for at in range(0, len(data), size)]
        assert b"".join((*pieces, stream.end())).decode() == expected


def test_what_shows_none_is_the_very_same(scrubber: Scrubber) -> None:
    data = b'{"a": "sk-canary"}\n' * 100
    assert scrubber.body(data) is data
    assert scrubber.data(data) is data
    assert scrubber.stream().feed(data) is data
    fields = ((b"x-key", b"sk-canary-x-7f3a9c"),)
    assert scrubber.fields(fields) is fields
    message = "unexpected"
    assert scrubber.message(message) is message


def test_of_two_that_begin_alike_the_longer_one_counts() -> None:
    for text, expected in ((LONGER, "[rotate:pool/longer]"), (A + "-and", ALIAS + "-and")):
        for size in (1, 5, 100):
            stream = Stream((OWN, EXTENDED))
            data = text.encode()
            pieces = [stream.feed(data[at : at + size]) for at in range(0, len(data), size)]
            assert b"".join((*pieces, stream.end())).decode() == expected


def test_a_line_or_event_is_never_held_back(scrubber: Scrubber) -> None:
    stream = scrubber.stream()
    for event in (f"data: {A}\n\n", f"data: {A[:9]}\n\n", "data: s\n", f'{{"k": "{A}"}}\n', "\r\n"):
        assert stream.feed(event.encode()) == event.replace(A, ALIAS).encode()
    assert stream.end() == b""


def test_only_what_may_be_one_is_held_back(scrubber: Scrubber) -> None:
    stream = scrubber.stream()
    assert stream.feed(b"yes") == b"ye"
    assert stream.feed(b"") == b""
    assert stream.feed(b"k") == b""
    assert stream.feed(b"y sk") == b"sky "
    assert stream.end() == b"sk"


def test_with_a_least_few_bytes_go_on_and_are_remembered(scrubber: Scrubber) -> None:
    stream = scrubber.stream(least=4)
    assert stream.feed(b"sk-") == b"sk-"
    assert stream.feed(A[3:].encode()) == ALIAS.encode()
    assert stream.feed(b"sk-c") == b""
    assert stream.end() == b"sk-c"


def test_fitted_keeps_the_length(scrubber: Scrubber) -> None:
    coded = base64.b64encode(A.encode()).decode()
    for text in (A, f"x{coded}y", A.encode().hex()):
        stream = scrubber.stream(fitted)
        out = stream.feed(text.encode()) + stream.end()
        assert len(out) == len(text)
        assert b"[rotate:pool/a]*" in out
        assert stream.changed
    tiny = Forms.of(Secret("12345678", ALIAS))
    assert Stream((tiny,), fitted).feed(b"12345678.") == b"[rotate:."


def test_a_head(scrubber: Scrubber) -> None:
    given = (
        (b"Location", f"https://a.test/?key={A}".encode()),
        (b"Set-Cookie", f"k={base64.b64encode(B.encode()).decode()}".encode()),
        (f"X-{A}".encode(), b"1"),
        (f"x-{A.upper()}".encode(), b"2"),
        (b"Content-Type", b"text/plain"),
    )
    assert scrubber.fields(given) == (
        (b"Location", f"https://a.test/?key={ALIAS}".encode()),
        (b"Set-Cookie", b"k=[rotate:pool/b]"),
        (b"Content-Type", b"text/plain"),
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            f"unexpected server response: b'X {A}\\r'",
            f"unexpected server response: b'X {ALIAS}\\r'",
        ),
        (f"half a head: b'X: {A[:13]}'", f"half a head: b'X: {ALIAS}'"),
        (f"b'X: {A[:10]}'", f"b'X: {A[:10]}'"),
        (f"{A[:14]}… and {B[:15]}…", f"{ALIAS}… and [rotate:pool/b]…"),
    ],
)
def test_a_message_that_quotes_a_part(scrubber: Scrubber, message: str, expected: str) -> None:
    assert scrubber.message(message) == expected


CODED = A.encode().hex()


@pytest.mark.parametrize(
    ("ahead", "text", "found"),
    [
        (0, B, True),
        (LATELY_UNTIL - 1, B, True),
        (LATELY_UNTIL + 1, B, False),
        (LATELY_UNTIL + 1, CODED, True),
        (CODED_UNTIL + 1, CODED, False),
        (CODED_UNTIL + 1, A, True),
        (5_000_000, A, True),
    ],
)
def test_how_far_a_body_is_looked_through(
    scrubber: Scrubber, ahead: int, text: str, found: bool
) -> None:
    body = b"." * ahead + text.encode() + b"."
    assert (scrubber.body(body) is not body) is found
    assert (text.encode() not in scrubber.body(body)) is found


@pytest.mark.parametrize("size", [1, 5, 17, 18, 1000, 10_000])
@pytest.mark.parametrize("ahead", [0, 1, 999, 9_990, 300_000])
def test_a_lookout_sees_it_wherever_the_pieces_end(
    scrubber: Scrubber, ahead: int, size: int
) -> None:
    body = b"s" * ahead + A.encode() + b"s" * 20_000
    lookout, other = scrubber.lookout(), scrubber.lookout()
    for at in range(0, len(body), size):
        lookout.add(body[at : at + size])
        other.add(body[at : at + size].replace(b"-", b"+"))
    assert lookout.sees()
    assert not other.sees()


def test_a_large_body_is_seen_by_its_lookout(scrubber: Scrubber) -> None:
    body = b"." * (CODED_UNTIL + 1) + A.encode() + b"."
    seen, unseen = scrubber.lookout(), scrubber.lookout()
    seen.add(body)
    assert scrubber.body(body, seen).endswith(ALIAS.encode() + b".")
    assert scrubber.body(body, unseen) is body
    # A small one does not need it.
    assert scrubber.body(A.encode() + b".", unseen) == ALIAS.encode() + b"."


def test_what_is_found_anywhere_is_replaced_everywhere(scrubber: Scrubber) -> None:
    body = A.encode() + b"." * (CODED_UNTIL + 1) + CODED.encode() + B.encode()
    out = scrubber.body(body)
    assert (out.count(b"[rotate:pool/a]"), out.count(b"[rotate:pool/b]")) == (2, 1)


def test_what_is_carried_later_is_found() -> None:
    own = [OWN]
    later = Scrubber(own, Lately())
    assert later.data(B.encode()) == B.encode()
    own.append(OTHER)
    assert later.data(B.encode()) == b"[rotate:pool/b]"


def test_a_stream_keeps_no_more_than_the_longest_form(scrubber: Scrubber) -> None:
    stream = scrubber.stream()
    tracemalloc.start()
    for _ in range(2000):
        stream.feed(b"s" * 65536)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
