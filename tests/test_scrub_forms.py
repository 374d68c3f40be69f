"""How a secret may be written: found with the encoders that people use, not with our own."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from flowrotate.scrub.forms import LATELY, SHORTEST, Forms, Lately
from flowrotate.secret import Secret

ORDINARY = "sk-canary-a-7f3a9c"
AWKWARD = "p/w+d=\"é\\<&'`~ 7f3a9c"


def forms(text: str, blob: str | None = None) -> Forms:
    return Forms.of(Secret(text, "[rotate:pool/a]"), blob)


@pytest.mark.parametrize("text", [ORDINARY, AWKWARD])
@pytest.mark.parametrize(
    "write",
    [
        str,
        json.dumps,
        lambda text: json.dumps(text, ensure_ascii=False),
        lambda text: json.dumps(text).replace("/", "\\/"),
        html.escape,
        lambda text: html.escape(text, quote=False),
        quote,
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: repr(text.encode()),
    ],
)
def test_as_texts_hold_it(text: str, write: object) -> None:
    assert callable(write)
    written = f"before {write(text)} behind".encode()
    assert any(form in written for form in forms(text).plain)


@pytest.mark.parametrize(
    "write",
    [
        json.dumps,
        lambda text: json.dumps(text).replace("/", "\\/"),
        lambda text: json.dumps(text).replace("+", "\\u002B").replace('\\"', "\\u0022"),
    ],
)
def test_as_json_in_json(write: object) -> None:
    assert callable(write)
    text = 'p/w+d"\\7f3a9c'
    again = write(write(text)[1:-1]).encode()
    assert any(form in again for form in forms(text).coded)
    assert not any(form in again for form in forms(text).plain)


def test_where_no_charset_is_told() -> None:
    assert AWKWARD.encode("latin-1") in forms(AWKWARD).plain
    assert "pa€sword-7f3a9c".encode() in forms("pa€sword-7f3a9c").plain


@pytest.mark.parametrize(
    "escaped",
    [
        "pa%2fss%2bword-7f3a",  # Java, .NET
        "pa\\/ss\\u002Bword-7f3a",  # .NET
        "pa\\/ss\\u002bword-7f3a",
    ],
)
def test_as_other_languages_escape_it(escaped: str) -> None:
    assert escaped.replace("\\/", "/").encode() in forms("pa/ss+word-7f3a").plain or (
        escaped.encode() in forms("pa/ss+word-7f3a").plain
    )


@pytest.mark.parametrize("text", [ORDINARY, AWKWARD, "x" * SHORTEST])
@pytest.mark.parametrize("before", ["", "Bearer ", "user:", "ab", "a" * 100])
@pytest.mark.parametrize("behind", ["", "\n", "==", " and more"])
def test_in_base64_whatever_is_around_it(text: str, before: str, behind: str) -> None:
    data = (before + text + behind).encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        (form,) = {form for form in forms(text).coded if form in encode(data)}
        # But for some bits at its ends, all of it is found.
        assert len(form) >= len(text.encode()) * 4 // 3 - 2


@pytest.mark.parametrize("text", [ORDINARY, AWKWARD])
def test_in_hex(text: str) -> None:
    assert text.encode().hex().encode() in forms(text).coded
    assert text.encode().hex().upper().encode() in forms(text).coded


def test_in_what_it_is_sent_in() -> None:
    blob = base64.b64encode(f"user:{ORDINARY}".encode()).decode()
    assert blob.encode() in forms(ORDINARY, blob).coded


def test_an_ordinary_one_is_looked_for_six_times() -> None:
    """What it costs grows with that."""
    assert len(forms(ORDINARY).every) == 6


def test_a_short_one_is_not_looked_for() -> None:
    assert forms("x" * (SHORTEST - 1)).every == ()


def test_they_do_not_show_it() -> None:
    shown = repr(forms(ORDINARY)) + str(forms(AWKWARD))
    assert "7f3a9c" not in shown
    assert "[rotate:pool/a]" in shown


def test_the_same_text_in_two_pools_has_two_aliases() -> None:
    other = Forms.of(Secret(ORDINARY, "[rotate:other/b]"))
    assert (forms(ORDINARY).alias, other.alias) == (b"[rotate:pool/a]", b"[rotate:other/b]")


def test_the_latest_are_known() -> None:
    lately: Lately[int] = Lately()
    for n in range(LATELY + 2):
        lately.note(n)
        lately.note(n)
    assert lately.items == tuple(range(2, LATELY + 2))
    assert lately.beside([5]) is lately.items
    assert lately.beside([5, 0]) == (*lately.items, 0)
