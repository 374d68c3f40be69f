"""Secrets in texts that are made of parts of them, cut anywhere: aliases come out, nothing else."""

from ast import literal_eval
from collections.abc import Callable, Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from flowrotate.scrub.body import Streamed, scrub_whole, streamed
from flowrotate.scrub.forms import SHORTEST, Forms, Lately, half_of
from flowrotate.scrub.scrubber import Scrubber
from flowrotate.scrub.stream import Stream, fitted
from flowrotate.secret import Secret
from tests.test_unpack import PACKERS

from . import examples

# Few letters, so that secrets begin, end and repeat like each other; some that are escaped, and
# two that share the first of their bytes.
LETTERS = "ab1-/+%&'\"\\éè"
SECRETS = st.text("ab", min_size=SHORTEST, max_size=14) | st.text(
    LETTERS, min_size=SHORTEST, max_size=20
)


@st.composite
def known(draw: st.DrawFn) -> tuple[Forms, ...]:
    """What went out: secrets, some of which begin or end others."""
    texts = draw(st.lists(SECRETS, min_size=1, max_size=2))
    for more in draw(st.lists(st.text(LETTERS, max_size=9), max_size=2)):
        texts += [draw(st.sampled_from([texts[0] + more, more + texts[-1], texts[0][2:] + more]))]
    longer = dict.fromkeys(text for text in texts if len(text) >= SHORTEST)
    return tuple(
        Forms.of(Secret(text, f"[rotate:pool/{n}]"), "dXNlcjo" + "YQ" * n if n == 1 else None)
        for n, text in enumerate(longer)
    )


def every(forms: Sequence[Forms]) -> list[tuple[bytes, bytes]]:
    """All that is looked for, and its alias; the longest first.

    The base64 of two secrets may be the same but for what is not told apart: the last one counts.
    """
    found = {text: f.alias for f in forms for text in f.every}
    return sorted(found.items(), key=lambda pair: -len(pair[0]))


@st.composite
def texts(draw: st.DrawFn, forms: Sequence[Forms]) -> bytes:
    """Whole forms, their beginnings, middles and ends, and what may be between them."""
    form = st.sampled_from([text for text, _ in every(forms)])
    size = st.integers(0, 24)
    part = (
        form
        | st.builds(lambda text, n: text[:n], form, size)
        | st.builds(lambda text, n: text[-n:], form, size)
        | st.builds(lambda text, n: text[:-n], form, st.integers(1, 3))
        | st.sampled_from([b"\n", b" ", b"=", b"a", b"x", b"data: ", b"\xc3", b"\xa8", b"\xa9"])
    )
    return b"".join(draw(st.lists(part, max_size=7)))


@st.composite
def cut(draw: st.DrawFn, text: bytes) -> list[bytes]:
    """A text in pieces, byte by byte now and then; some may be empty."""
    if draw(st.booleans()):
        return [text[at : at + 1] for at in range(len(text))]
    at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[a:b] for a, b in pairwise([0, *at, len(text)])]


@st.composite
def scrubbed(draw: st.DrawFn) -> tuple[tuple[Forms, ...], bytes, list[bytes]]:
    forms = draw(known())
    text = draw(texts(forms))
    return forms, text, draw(cut(text))


def through(stream: Stream, pieces: Sequence[bytes]) -> bytes:
    return b"".join([*map(stream.feed, pieces), stream.end()])


def replaced(text: bytes, forms: Sequence[Forms]) -> bytes:
    """What is to come out, found letter by letter."""
    out, at, done = b"", 0, 0
    while at < len(text):
        for form, alias in every(forms):
            if text.startswith(form, at):
                out += text[done:at] + alias
                at = done = at + len(form)
                break
        else:
            at += 1
    for at in range(done, len(text)):
        rest = text[at:]
        begun = [a for form, a in every(forms) if form.startswith(rest) and tells(rest, form)]
        if begun:
            return out + text[done:at] + min(begun)
    return out + text[done:]


def tells(rest: bytes, form: bytes) -> bool:
    return len(rest) >= max(12, len(form) / 2)


@given(scrubbed())
@examples(100)
def test_however_it_is_cut_it_comes_out_the_same(
    given: tuple[tuple[Forms, ...], bytes, list[bytes]],
) -> None:
    forms, text, pieces = given
    assert through(Stream(forms), pieces) == replaced(text, forms)


@given(scrubbed(), st.sampled_from([1, 4]), st.booleans())
@examples(100)
def test_no_form_of_a_secret_comes_out(
    given: tuple[tuple[Forms, ...], bytes, list[bytes]], least: int, fit: bool
) -> None:
    forms, _, pieces = given
    stream = Stream(forms, fitted, least) if fit else Stream(forms, least=least)
    out = through(stream, pieces)
    assert [form for form, _ in every(forms) if form in out] == []


@given(scrubbed(), st.sampled_from([1, 4]))
@examples(100)
def test_with_a_length_that_has_been_told_it_keeps_its_size(
    given: tuple[tuple[Forms, ...], bytes, list[bytes]], least: int
) -> None:
    forms, text, pieces = given
    assert len(through(Stream(forms, fitted, least), pieces)) == len(text)


@given(scrubbed(), st.sampled_from([1, 4]))
@examples(100)
def test_only_the_beginning_of_a_form_is_held_back(
    given: tuple[tuple[Forms, ...], bytes, list[bytes]], least: int
) -> None:
    """And no line end, so that whoever waits for a line gets it."""
    forms, _, pieces = given
    stream, fed, out = Stream(forms, fitted, least), b"", b""
    for piece in pieces:
        fed += piece
        out += stream.feed(piece)
        held = len(fed) - len(out)
        # Of what is shorter than `least`, some may have gone on.
        begun = [fed[-held - gone :] for gone in range(least) if held + gone >= least]
        assert not held or any(form.startswith(tail) for form, _ in every(forms) for tail in begun)
        assert not held or not fed.endswith(b"\n")


@given(st.data(), known())
@examples(100)
def test_what_shows_none_stays_as_it_is(data: st.DataObject, forms: tuple[Forms, ...]) -> None:
    text = data.draw(texts(forms))
    for form, _ in every(forms):
        text = text.replace(form[:8], b".")
    for pieces in ([text], data.draw(cut(text))):
        assert through(Stream(forms), pieces) == text
    scrubber = Scrubber(forms, Lately())
    assert scrubber.body(text) is text
    assert scrubber.data(text) is text


@given(scrubbed(), st.integers(0, 2))
@examples(100)
def test_a_whole_body_comes_out_as_a_streamed_one(
    given: tuple[tuple[Forms, ...], bytes, list[bytes]], own: int
) -> None:
    forms, text, pieces = given
    lately: Lately[Forms] = Lately()
    for form in forms[own:]:
        lately.note(form)
    scrubber = Scrubber(forms[:own], lately)
    expected = replaced(text, lately.beside(forms[:own]))
    assert scrubber.body(text) == through(scrubber.stream(), pieces) == expected


@given(scrubbed())
@examples(100)
def test_a_lookout_sees_what_is_in_a_whole_body(
    given: tuple[tuple[Forms, ...], bytes, list[bytes]],
) -> None:
    forms, text, pieces = given
    lookout = Scrubber(forms, Lately()).lookout()
    for piece in pieces:
        lookout.add(piece)
    assert lookout.sees() == any(form in text for f in forms for form in f.plain)


PACK = dict(PACKERS)
PACKED: list[tuple[str, Callable[[bytes], bytes]]] = [
    *PACKERS,
    ("gzip, br", lambda text: PACK["br"](PACK["gzip"](text))),
    ("zstd, deflate", lambda text: PACK["deflate"](PACK["zstd"](text))),
]


@given(scrubbed(), st.sampled_from(PACKED), st.data())
@examples(100)
def test_a_packed_body_comes_out_as_a_plain_one(
    given: tuple[tuple[Forms, ...], bytes, list[bytes]],
    packing: tuple[str, Callable[[bytes], bytes]],
    data: st.DataObject,
) -> None:
    forms, text, _ = given
    encoding, pack = packing
    scrubber, packed = Scrubber(forms, Lately()), pack(text)
    body = Streamed(encoding, scrubber.stream())
    pieces = [piece for part in data.draw(cut(packed)) for piece in body.feed(part)]
    assert b"".join((*pieces, body.end())) == replaced(text, forms)
    whole = scrub_whole(packed, encoding, scrubber)
    if whole is None:
        assert replaced(text, forms) == text
    else:
        assert whole.body == replaced(text, forms)


@given(scrubbed(), st.sampled_from(["utf-16", "utf-32-be", "cp037", "utf-7"]), st.data())
@examples(100)
def test_a_body_in_another_charset_comes_out_in_utf_8(
    given: tuple[tuple[Forms, ...], bytes, list[bytes]], charset: str, data: st.DataObject
) -> None:
    forms, text, _ = given
    text = text.decode("utf-8", "ignore").encode()
    scrubber, written = Scrubber(forms, Lately()), text.decode().encode(charset)
    body = streamed("", "text/plain", True, scrubber, charset)
    pieces = [piece for part in data.draw(cut(written)) for piece in body.feed(part)]
    assert b"".join((*pieces, body.end())) == replaced(text, forms)
    whole = scrub_whole(written, "", scrubber, None, lambda _: charset)
    assert whole is None or not whole.in_utf8 or whole.body == replaced(text, forms)
    assert (whole is not None and whole.in_utf8) == (replaced(text, forms) != text)


@given(st.data(), known())
@examples(100)
def test_no_half_of_a_secret_stays_in_a_message(
    data: st.DataObject, forms: tuple[Forms, ...]
) -> None:
    text = data.draw(texts(forms)).decode("utf-8", "replace")
    said = Scrubber(forms, Lately()).message(f"unexpected server response: {text}")
    shown = said.encode()
    assert [form for form, _ in every(forms) if form[: half_of(form)] in shown] == []


@given(st.data(), known(), st.booleans())
@examples(100)
def test_as_mitmproxy_quotes_bytes_and_texts(
    data: st.DataObject, forms: tuple[Forms, ...], as_bytes: bool
) -> None:
    """Which marks are escaped depends on all that is quoted."""
    quoted = data.draw(st.sampled_from(forms))
    before, behind = (data.draw(st.sampled_from(["x", "'x", 'x"x', "x'x\"x"])) for _ in range(2))
    text = before + quoted.plain[0].decode() + "x" + behind
    said = Scrubber(forms, Lately()).message(repr(text.encode() if as_bytes else text))
    shown = literal_eval(said)
    expected = before + quoted.alias.decode() + "x" + behind
    assert (shown.decode() if as_bytes else shown) == expected
