"""Bodies that are packed, said to be packed, or made to blow up."""

import gzip
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]  # it has no types
import pytest

from flowrotate.scrub import body as bodies
from flowrotate.scrub.body import Streamed, TooLargeError, Whole, scrub_whole, streamed
from flowrotate.scrub.forms import Forms, Lately
from flowrotate.scrub.scrubber import Scrubber
from flowrotate.secret import Secret
from flowrotate.unpack import UnreadableError

from .test_unpack import PACKERS, zstd

A, ALIAS = "sk-canary-a-7f3a9c", "[rotate:pool/a]"
TEXT = b'{"echo": "%s", "more": "%s"}' % (A.encode(), b"x" * 50)
CLEAN = TEXT.replace(A.encode(), ALIAS.encode())
ONE = gzip.compress(b"1", mtime=0)
NAMED = b"\x1f\x8b\x08\x08aaaa\x00\x03"
"""A head that goes on with a file's name (RFC 1952, 2.3)."""
packed = pytest.mark.parametrize(("encoding", "pack"), PACKERS[2:])


@pytest.fixture
def scrubber() -> Scrubber:
    return Scrubber([Forms.of(Secret(A, ALIAS))], Lately())


def through(streamed: Streamed, body: bytes, size: int) -> bytes:
    out = [p for at in range(0, len(body), size) for p in streamed.feed(body[at : at + size])]
    return b"".join((*out, streamed.end()))


@packed
def test_whole(scrubber: Scrubber, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    assert scrub_whole(pack(TEXT), encoding, scrubber) == Whole(CLEAN, unpacked=True)
    assert scrub_whole(pack(b"nothing" * 99), encoding, scrubber) is None


@packed
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_streamed(
    scrubber: Scrubber, encoding: str, pack: Callable[[bytes], bytes], size: int
) -> None:
    assert through(streamed(encoding, "", False, scrubber), pack(TEXT), size) == CLEAN
    nothing = b"nothing" * 9999
    assert through(streamed(encoding, "", False, scrubber), pack(nothing), size) == nothing


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("", TEXT, Whole(CLEAN, unpacked=False)),
        ("identity", TEXT, Whole(CLEAN, unpacked=False)),
        ("compress", TEXT, Whole(CLEAN, unpacked=False)),
        ("gzip", TEXT, Whole(CLEAN, unpacked=False)),
        ("gzip, br", brotli.compress(gzip.compress(TEXT, mtime=0)), Whole(CLEAN, unpacked=True)),
        ("gzip", ONE + gzip.compress(TEXT, mtime=0), Whole(b"1" + CLEAN, unpacked=True)),
        ("zstd", zstd(b"1") + zstd(TEXT), Whole(b"1" + CLEAN, unpacked=True)),
        # Behind its end, or in its head: it is not in what it unpacks to.
        ("gzip", ONE + TEXT, Whole(b"1", unpacked=True)),
        ("gzip", NAMED + A.encode() + b"\0" + ONE[10:], Whole(b"1", unpacked=True)),
    ],
)
def test_odd_ones(scrubber: Scrubber, encoding: str, body: bytes, expected: Whole) -> None:
    assert scrub_whole(body, encoding, scrubber) == expected


@pytest.mark.parametrize("size", [1, 20, 10_000])
def test_a_stream_that_is_not_packed_though_it_says_so(scrubber: Scrubber, size: int) -> None:
    assert through(streamed("gzip", "", False, scrubber), TEXT, size) == CLEAN


def test_a_stream_that_breaks_in_the_middle(scrubber: Scrubber) -> None:
    body = bytearray(gzip.compress(b"".join(b"%d, " % (n * n) for n in range(50_000))))
    body[-8:-4] = b"\0\0\0\0"  # its checksum
    stream = streamed("gzip", "", False, scrubber)
    assert stream.feed(bytes(body[:-8]))
    with pytest.raises(UnreadableError):
        stream.feed(bytes(body[-8:]))


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size)) + packer.flush()


def test_what_unpacks_to_too_much_at_once(
    scrubber: Scrubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "AT_ONCE", 1 << 21)
    with pytest.raises(TooLargeError):
        streamed("gzip", "", False, scrubber).feed(bomb(3))
    # But not over its whole length.
    through(streamed("gzip", "", False, scrubber), bomb(9), 1000)


def test_what_is_too_large_to_be_changed(
    scrubber: Scrubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "LOOKED_THROUGH", 1 << 21)
    assert scrub_whole(bomb(3) + gzip.compress(TEXT), "gzip", scrubber) is None
    with pytest.raises(TooLargeError):
        scrub_whole(gzip.compress(TEXT) + bomb(3), "gzip", scrubber)


@pytest.mark.parametrize(
    ("kind", "length", "given", "expected"),
    [
        ("text/event-stream", False, A, ALIAS),
        ("text/event-stream", True, A, ALIAS + "***"),
        ("application/grpc+proto", False, "sk-", "sk-"),
        ("application/connect+proto", False, "sk-", "sk-"),
        ("application/json", False, "sk-", ""),
    ],
)
def test_how_a_stream_is_written(
    scrubber: Scrubber, kind: str, length: bool, given: str, expected: str
) -> None:
    stream = streamed("", kind, length, scrubber)
    assert b"".join(stream.feed(given.encode())).decode() == expected
