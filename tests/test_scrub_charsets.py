"""Bodies in charsets that have no ASCII in them, or write it in more than one way."""

import base64
import gzip
import sys
from collections.abc import Callable

import pytest

from flowrotate.scrub import body as bodies
from flowrotate.scrub.body import Streamed, TooLargeError, Whole, scrub_whole, streamed
from flowrotate.scrub.charsets import HELD_BACK, START, WRONG, Text, is_odd, marked
from flowrotate.scrub.forms import Forms, Lately
from flowrotate.scrub.scrubber import Scrubber
from flowrotate.secret import Secret
from flowrotate.unpack import UnreadableError

ORDER = "-le" if sys.byteorder == "little" else "-be"
"""What Python takes for it where no mark tells."""
A, ALIAS = "sk-canary-a-7f3a9c", "[rotate:pool/a]"
TEXT = f'{{"echo": "{A}", "ä": "{"x" * 50}"}}'
CLEAN = TEXT.replace(A, ALIAS).encode()


def utf_7(text: str) -> bytes:
    """Every letter in base64 (RFC 2152, 2, rule 2)."""
    return b"+" + base64.b64encode(text.encode("utf-16-be")).rstrip(b"=") + b"-"


def escaped(text: str) -> bytes:
    return "".join(f"\\u{ord(letter):04x}" for letter in text).encode()


def encoder(charset: str) -> Callable[[str], bytes]:
    return lambda text: text.encode(charset)


CHARSETS: list[tuple[str, Callable[[str], bytes]]] = [
    *((name, encoder(name)) for name in ("utf-16", "UTF-16LE", "utf_16_be", "utf-32", "utf-32-be")),
    *((name, encoder(name)) for name in ("cp037", "IBM500", "utf-7", "unicode_escape")),
    ('"utf-16"', encoder("utf-16")),
    ("utf-16", encoder("utf-16" + ORDER)),
    ("utf-32", encoder("utf-32" + ORDER)),
    ("utf-7", utf_7),
    ("unicode_escape", escaped),
    ("raw_unicode_escape", escaped),
    ("hz", lambda text: text.replace("ä", "").replace("a", "a~\n").encode()),
    ("iso-2022-jp", lambda text: text.replace("ä", "").replace("a", "a\x1b(B").encode()),
]
each = pytest.mark.parametrize(("charset", "write"), CHARSETS)


@pytest.fixture
def scrubber() -> Scrubber:
    return Scrubber([Forms.of(Secret(A, ALIAS))], Lately())


def clean(write: Callable[[str], bytes], charset: str) -> bytes:
    return write(TEXT).decode(charset.strip('"')).replace(A, ALIAS).encode()


def told(charset: str) -> Callable[[bytes], str]:
    return lambda _: charset


def through(streamed: Streamed, body: bytes, size: int) -> bytes:
    out = [p for at in range(0, len(body), size) for p in streamed.feed(body[at : at + size])]
    return b"".join((*out, streamed.end()))


@each
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_whole(
    scrubber: Scrubber, charset: str, write: Callable[[str], bytes], encoding: str
) -> None:
    pack = gzip.compress if encoding else bytes
    expected = Whole(clean(write, charset), unpacked=bool(encoding), in_utf8=True)
    assert scrub_whole(pack(write(TEXT)), encoding, scrubber, None, lambda _: charset) == expected
    nothing = pack(write("nothing, ä" * 99))
    assert scrub_whole(nothing, encoding, scrubber, None, lambda _: charset) is None


@each
@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_streamed(
    scrubber: Scrubber, charset: str, write: Callable[[str], bytes], size: int, encoding: str
) -> None:
    pack = gzip.compress if encoding else bytes
    for length in (False, True):
        stream = streamed(encoding, "text/plain", length, scrubber, charset)
        assert through(stream, pack(write(TEXT)), size) == clean(write, charset)


@pytest.mark.parametrize(
    "charset",
    [
        *("utf-8", "UTF8", "utf-8-sig", "us-ascii", "latin-1", "cp1252", "koi8-r", "gb18030"),
        *("shift_jis", "euc-kr", "big5"),
        *("", "none", "odd", "gzip", "hex", "rot13", "a\0b", "ä", "\udc80"),  # no charsets
        *("idna", "punycode", "undefined"),
    ],
)
def test_usual_ones_and_what_is_none(scrubber: Scrubber, charset: str) -> None:
    assert not is_odd(charset)
    piece = b"\xff\xfes\0k\0" * 20
    text = Text(lambda _: charset)
    assert text.feed(piece) is piece
    assert (text.end(), text.is_odd) == (b"", False)
    body = TEXT.encode()
    expected = Whole(CLEAN, unpacked=False)
    assert scrub_whole(body, "", scrubber, None, lambda _: charset) == expected


@pytest.mark.parametrize("charset", ["utf-16", "utf-32", "cp037"])
def test_what_is_not_in_it_though_it_says_so(scrubber: Scrubber, charset: str) -> None:
    whole = scrub_whole(TEXT.encode(), "", scrubber, None, lambda _: charset)
    assert whole == Whole(CLEAN, unpacked=False)


def test_what_ends_within_a_letter(scrubber: Scrubber) -> None:
    body = TEXT.encode("utf-16-le") + b"x"
    whole = scrub_whole(body, "", scrubber, None, lambda _: "utf-16-le")
    assert whole == Whole(CLEAN + "\ufffd".encode(), unpacked=False, in_utf8=True)
    stream = streamed("", "text/plain", False, scrubber, "utf-16-le")
    assert through(stream, body, 7) == CLEAN + "\ufffd".encode()


ENDLESS = [("utf-7", b"+", b"A"), ("unicode_escape", b"\\N{", b"A")]
endless = pytest.mark.parametrize(("charset", "start", "more"), ENDLESS)


@endless
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_what_its_charset_never_ends(
    scrubber: Scrubber, charset: str, start: bytes, more: bytes, encoding: str
) -> None:
    """To read it takes the longer the more is there, and nobody knows what is in it."""
    pack = gzip.compress if encoding else bytes
    body = start + more * 100_000
    for given in (body, body + b"}-" + A.encode(), A.encode() + body):
        with pytest.raises(UnreadableError):
            scrub_whole(pack(given), encoding, scrubber, None, lambda _: charset)
    body = start + more * (HELD_BACK + 1)
    for size in (1000, 100_000):
        with pytest.raises(UnreadableError):
            through(streamed(encoding, "", False, scrubber, charset), pack(body), size)


@endless
def test_what_its_charset_ends_late(
    scrubber: Scrubber, charset: str, start: bytes, more: bytes
) -> None:
    body = start + more * (HELD_BACK - 9) + b"}-" + A.encode()
    got = through(streamed("", "", False, scrubber, charset), body, 1000)
    assert got.endswith(ALIAS.encode())
    assert A.encode() not in got


@pytest.mark.parametrize("size", [7, 1000, 100_000])
def test_a_secret_far_down_in_base64(scrubber: Scrubber, size: int) -> None:
    """All of it is held back, and nothing of it is lost."""
    text = "\u4e2d" * (HELD_BACK // 3) + A
    got = through(streamed("", "", False, scrubber, "utf-7"), utf_7(text), size)
    assert got == text.replace(A, ALIAS).encode()
    whole = scrub_whole(utf_7(text), "", scrubber, None, lambda _: "utf-7")
    assert whole == Whole(got, unpacked=False, in_utf8=True)


@pytest.mark.parametrize("charset", ["utf-7", "cp864"])
def test_what_is_hardly_in_its_charset_at_all(scrubber: Scrubber, charset: str) -> None:
    """Each letter that is none in it takes long."""
    body = b"\xff" * WRONG
    assert scrub_whole(body, "", scrubber, None, lambda _: charset) is None
    got = through(streamed("", "", False, scrubber, charset), body, 100_000)
    assert got == "\ufffd".encode() * WRONG
    body += b"\xff"
    with pytest.raises(UnreadableError):
        scrub_whole(body, "", scrubber, None, lambda _: charset)
    with pytest.raises(UnreadableError):
        through(streamed("", "", False, scrubber, charset), body, 100_000)


ESCAPES = b"\x1b(B"
"""Nothing comes out of it in ISO-2022-JP."""


def test_bytes_count_that_nothing_comes_of(
    scrubber: Scrubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "LOOKED_THROUGH", 1 << 20)
    monkeypatch.setattr(bodies, "AT_ONCE", 1 << 20)
    charset, many = "iso-2022-jp", ESCAPES * (1 << 19)
    assert (
        scrub_whole(gzip.compress(many + A.encode()), "gzip", scrubber, None, told(charset)) is None
    )
    with pytest.raises(TooLargeError):
        scrub_whole(gzip.compress(A.encode() + many), "gzip", scrubber, None, told(charset))
    with pytest.raises(TooLargeError):
        streamed("gzip", "", False, scrubber, charset).feed(gzip.compress(many))


def test_bytes_count_that_more_comes_of(
    scrubber: Scrubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "LOOKED_THROUGH", 1 << 20)
    monkeypatch.setattr(bodies, "AT_ONCE", 1 << 20)
    charset, many, a = "cp037", b"\xff" * 600_000, A.encode("cp037")
    assert scrub_whole(gzip.compress(many + a), "gzip", scrubber, None, told(charset)) is None
    with pytest.raises(TooLargeError):
        scrub_whole(gzip.compress(a + many), "gzip", scrubber, None, told(charset))
    with pytest.raises(TooLargeError):
        streamed("gzip", "", False, scrubber, charset).feed(gzip.compress(many))


def test_it_is_asked_once_by_its_start() -> None:
    asked: list[bytes] = []

    def tell(start: bytes) -> str:
        asked.append(start)
        return "utf-16-le"

    body = ("x" * 1000 + A).encode("utf-16-le")
    text = Text(tell)
    assert text.feed(body[:1500]) + text.feed(body[1500:]) + text.end() == b"x" * 1000 + A.encode()
    assert asked == [body[:START]]


@pytest.mark.parametrize(
    ("kind", "start", "expected"),
    [
        ("text/plain", b"\xff\xfes\0", "utf-16-le"),
        ("text/csv; a=b", b"\xfe\xff\0s", "utf-16-be"),
        ("application/xml", b"\xff\xfe\0\0s\0\0\0", "utf-32-le"),
        ("application/json", b"\0\0\xfe\xff", "utf-32-be"),
        ("application/json", b'{\0"\0', "utf-16-le"),
        ("application/problem+json", b'\0{\0"', "utf-16-be"),
        ("application/json", b"{\0\0\0", "utf-32-le"),
        ("application/json", b'{"a"\0', ""),
        ("application/json", b"", ""),
        ("text/plain", b"s\0k\0", ""),
        ("text/plain", b"\xef\xbb\xbf", ""),
        ("application/json", '"\ud800'.encode("utf-16-le", "surrogatepass"), "utf-16-le"),
        ("application/json", '{"\u4e2d"'.encode("utf-16-be"), "utf-16-be"),
        ("application/json", '["\U0001f600"]'.encode("utf-32-be"), "utf-32-be"),
        # Of several bytes that a letter has, some are there.
        ("application/json", b"{\0\0\0\x22", "utf-32-le"),
        ("application/json", b"\0{\0", ""),
        # No JSON, or with a length before it.
        ("application/json", b"a\0b\0", ""),
        ("application/json", b"{\0\0\0{}{}", ""),
        ("application/json", b"\0\0\0\0\x10{", ""),
        ("application/json", b"\2\0\0\0\2{}", ""),
        ("application/json", b"\0\0\0{\x10", ""),
        ("application/json", b'\0\0\0{\x10{"a":', ""),
        ("application/connect+json", b"\0\0\0{", ""),
        ("application/connect+json; charset=utf-8", b"\0{\0\0", ""),
        ("application/grpc+json", b"\0\0\0{", ""),
        ("application/grpc-web+json", b"\0\0\0{", ""),
        ("application/grpc-web-text+json", b"\xff\xfe{\0", ""),
        # As samples of sound begin.
        ("audio/pcm", b"\xfe\xff\0\0", ""),
        ("application/octet-stream", b"\xff\xfe\xff\xfe", ""),
        ("", b"\xff\xfes\0", ""),
    ],
)
def test_what_says_it_by_itself(kind: str, start: bytes, expected: str) -> None:
    assert marked(kind, start) == expected


JSONS = [
    "{}",
    "[]",
    '"a"',
    "-1",
    "0",
    "99",
    "true",
    "false",
    "null",
    " {}",
    "\t[]",
    "\r\n1",
    "\n[]",
]


@pytest.mark.parametrize("text", JSONS)
@pytest.mark.parametrize("charset", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_however_json_begins(text: str, charset: str) -> None:
    assert marked("application/json", text.encode(charset)) == charset


FRAMES = [
    b"\0" + len(message).to_bytes(4, "big") + message
    for message in (b'{"delta": "%s"}' % (b"x" * size) for size in (1, 108, 2560, 31_500))
]


@pytest.mark.parametrize("size", [1, 5, 7, 100_000])
@pytest.mark.parametrize("kind", ["connect+json", "grpc+json", "grpc-web+json", "json"])
def test_messages_with_their_length_before_them(scrubber: Scrubber, kind: str, size: int) -> None:
    for n in range(len(FRAMES)):
        body = b"".join((*FRAMES[n:], b"\2\0\0\0\2{}"))
        assert through(streamed("", f"application/{kind}", False, scrubber), body, size) == body


def test_whole_it_needs_no_mark(scrubber: Scrubber) -> None:
    body = ("\ufeff" + TEXT).encode("utf-16-be")
    whole = scrub_whole(body, "", scrubber, None, lambda _: "utf-16-be")
    assert whole == Whole(CLEAN, unpacked=False, in_utf8=True)


@pytest.mark.parametrize("size", [4, 10_000])
@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_a_stream_that_says_it_by_itself(scrubber: Scrubber, mark: str, size: int) -> None:
    body = (mark + TEXT).encode("utf-16-be")
    kind = "application/json"
    stream = streamed("", kind, False, scrubber)
    assert through(stream, body, size) == mark.encode() + CLEAN
    # With a length that has been told it stays as long as it is.
    assert through(streamed("", kind, True, scrubber), body, size) == body
