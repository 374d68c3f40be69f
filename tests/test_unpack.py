"""The start of a packed body: cut off, wrongly named, nested, or made to blow up."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.net import encoding as mitmproxy_encoding

from flowrotate.unpack import Unpacker, UnreadableError, start_of

TEXT = b'{"error": {"code": "insufficient_quota"}}'
MOST = 65536


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def like_zlib(data: bytes) -> bytes:
    """Raw, and its first two bytes are a head of zlib's: a stored block (RFC 1951, 3.2.4)."""
    size = 0x1D
    if len(data) < size:
        return raw_deflate(data)
    lengths = size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little")
    return b"\x08" + lengths + data[:size] + raw_deflate(data[size:])


def zstd(data: bytes) -> bytes:
    packed = mitmproxy_encoding.encode(data, "zstd")
    assert isinstance(packed, bytes)
    return packed


def plain(data: bytes) -> bytes:
    return data


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", plain),
    ("identity", plain),
    ("gzip", zlib.compress),
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", like_zlib),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("zstd", zstd),
]
each = pytest.mark.parametrize(("encoding", "pack"), PACKERS)
each_packed = pytest.mark.parametrize(("encoding", "pack"), PACKERS[2:])


@each
def test_whole(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    assert start_of(pack(TEXT), encoding) == TEXT
    assert start_of(pack(b""), encoding) == b""
    assert start_of(pack(TEXT), encoding, 7) == TEXT[:7]
    assert start_of(pack(TEXT), encoding, -1) == b""


@each
def test_cut_off(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(TEXT)
    for length in range(len(packed)):
        assert TEXT.startswith(start_of(packed[:length], encoding))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_what_is_there_of_a_body_that_is_cut_off_is_given(encoding: str) -> None:
    pack = dict(PACKERS)[encoding]
    text = b"".join(b"%d, " % (n * n) for n in range(20000))
    start = start_of(pack(text)[:20000], encoding)
    assert len(start) > 20000
    assert text.startswith(start)


@each_packed
def test_nothing_that_blows_up(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(bytes(64_000_000))
    tracemalloc.start()
    assert start_of(bomb, encoding) == bytes(MOST)
    assert start_of(bomb, encoding, 0) == b""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One meta-block of brotli is 16 MiB, and is joined with what came before.
    assert peak < (40_000_000 if encoding == "br" else 2_000_000)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip, br", brotli.compress(gzip.compress(TEXT, mtime=0))),
        (" GZIP ,Identity, deflate", zlib.compress(gzip.compress(TEXT, mtime=0))),
        ("zstd, gzip, br", brotli.compress(gzip.compress(zstd(TEXT), mtime=0))),
    ],
)
def test_one_in_the_other(encoding: str, body: bytes) -> None:
    assert start_of(body, encoding) == TEXT


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", TEXT),
        ("deflate", TEXT),
        ("br", TEXT),
        ("zstd", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)[:10] + b"\xff" * 40),
        ("compress", TEXT),
        ("utf-8", TEXT),
        ("gzip;q=1", gzip.compress(TEXT, mtime=0)),
        ("br, gzip", brotli.compress(gzip.compress(TEXT, mtime=0))),
        ("gzip, gzip, gzip, gzip", gzip.compress(TEXT, mtime=0)),
        ("identity, identity, identity, identity", TEXT),
        # A frame that asks for a window of 128 MiB (RFC 8878, 3.1.1.1.2), with one raw block.
        ("zstd", b"\x28\xb5\x2f\xfd\x00\x88" + b"\x09\x00\x00a"),
    ],
)
def test_unreadable(encoding: str, body: bytes) -> None:
    assert start_of(body, encoding) == b""


def test_the_same_frame_with_a_window_of_8_mib_is_read() -> None:
    assert start_of(b"\x28\xb5\x2f\xfd\x00\x68" + b"\x09\x00\x00a", "zstd") == b"a"


def test_what_is_taken_for_raw() -> None:
    packed = like_zlib(TEXT)
    assert int.from_bytes(packed[:2]) % 31 == 0
    unpacker = Unpacker("deflate")
    assert b"".join(out for at in packed for out in unpacker.feed(bytes([at]))) == TEXT


def test_what_means_two_things_is_what_came_out_first() -> None:
    """A stored block of zeros, when it is raw; three letters with a wrong checksum, when not."""
    block = (0x0B1D).to_bytes(2, "little") + (0xF4E2).to_bytes(2, "little") + bytes(0x0B1D)
    packed = b"\x08" + block + raw_deflate(TEXT)
    assert zlib.decompress(packed, -15) == bytes(0x0B1D) + TEXT
    unpacker = Unpacker("deflate")
    assert list(unpacker.feed(packed[:9])) == [b"R\tH"]
    with pytest.raises(UnreadableError):
        list(unpacker.feed(packed[9:]))


@pytest.mark.parametrize("spoiled", [-1, 600])
def test_what_comes_out_first_is_not_taken_for_raw(spoiled: int) -> None:
    """What it is was seen by then, and may have gone on."""
    text = b"".join(b"%d, " % (n * n) for n in range(20000))
    packed = bytearray(zlib.compress(text))
    packed[spoiled] ^= 0xFF
    unpacker = Unpacker("deflate")
    assert list(unpacker.feed(bytes(packed[:500])))
    with pytest.raises(UnreadableError):
        list(unpacker.feed(bytes(packed[500:])))


def test_what_never_comes_to_anything_is_not_kept() -> None:
    """Empty blocks, one after the other (RFC 1951, 3.2.4)."""
    unpacker, block = Unpacker("deflate"), b"\0\0\0\xff\xff" * 1000
    assert list(unpacker.feed(zlib.compress(b"")[:2])) == []
    tracemalloc.start()
    for _ in range(1000):
        assert list(unpacker.feed(block)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


@given(
    body=st.binary(max_size=300),
    encoding=st.sampled_from([name for name, _ in PACKERS]) | st.text(max_size=20),
    most=st.integers(-1, 100),
)
def test_nothing_is_raised(body: bytes, encoding: str, most: int) -> None:
    assert len(start_of(body, encoding, most)) <= max(most, 0)
