"""Bodies without their Content-Encoding (RFC 9110, 8.4), whole or their start. Pure.

What comes off the wire may break off anywhere, and may be made to blow up: it is unpacked piece by
piece, and nothing beyond what is asked for.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

import brotli  # type: ignore[import-untyped]  # it has no types

MOST_ENCODINGS = 3
LARGEST_WINDOW = 8 * 1024 * 1024
"""Bytes: what a zstd frame on the web may ask for at most (RFC 9659)."""
PIECE = 64 * 1024
"""Bytes of what comes out at a time."""


class UnreadableError(ValueError):
    """A body is not in the encoding that it is said to have."""


class Decoder(Protocol):
    def feed(self, data: bytes, piece: int) -> Iterator[bytes]:
        """What these bytes unpack to, `piece` bytes at a time (brotli and zstd: some more)."""


class Unpacker:
    """A packed body, as it comes. Raises LookupError for an encoding that nobody here knows."""

    def __init__(self, encoding: str, piece: int = PIECE) -> None:
        names = [name.strip().lower() for name in encoding.split(",", MOST_ENCODINGS)]
        if len(names) > MOST_ENCODINGS:
            raise LookupError(encoding)
        self._decoders = [_DECODERS[name]() for name in reversed(names)]
        self._piece = piece

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out of these bytes, piece by piece. Raises UnreadableError."""
        pieces: Iterable[bytes] = (data,)
        for decoder in self._decoders:
            pieces = self._through(decoder, pieces)
        try:
            yield from pieces
        except (zlib.error, brotli.error, _zstd.ZstdError) as e:
            raise UnreadableError("is not in the encoding that it is said to have") from e

    def _through(self, decoder: Decoder, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield from decoder.feed(piece, self._piece)


def start_of(body: bytes, encoding: str, most: int = PIECE) -> bytes:
    """At most so many bytes; none when they cannot be read, or the encoding is unknown."""
    start = bytearray()
    if most < 1:  # for zlib, 0 is no limit
        return b""
    try:
        for piece in Unpacker(encoding, most).feed(body):
            start += piece
            if len(start) >= most:
                break
    except (LookupError, UnreadableError):
        return b""
    return bytes(start[:most])


class _Identity:
    def feed(self, data: bytes, piece: int) -> Iterator[bytes]:
        yield from (data[at : at + piece] for at in range(0, len(data), piece))


class _Gzip:
    """One member after the other (RFC 1952, 2.2), zeros between them or not; no more than that.

    The first one may be in zlib's format: mitmproxy 12 reads that, too.
    """

    wbits = 32 + zlib.MAX_WBITS
    more = b"\x1f"

    def __init__(self) -> None:
        self._member: Any = zlib.decompressobj(self.wbits)
        self._over = False

    def feed(self, data: bytes, piece: int) -> Iterator[bytes]:
        while data and not self._over:
            if self._member.eof:
                data = data.lstrip(b"\0")
                if data:
                    self._over = not data.startswith(self.more)
                    self._member = zlib.decompressobj(self.wbits)
            else:
                yield from self._member_of(data, piece)
                data = self._member.unused_data

    def _member_of(self, data: bytes, piece: int) -> Iterator[bytes]:
        while True:
            out = self._member.decompress(data, piece)
            data = self._member.unconsumed_tail
            if out:
                yield out
            if self._member.eof or not (data or len(out) == piece):
                return


class _Deflate(_Gzip):
    """In zlib's format, as it should be, or raw, as some servers send it.

    A raw one may begin as zlib's does: it is taken for raw when zlib fails before anything came
    out.
    """

    wbits = zlib.MAX_WBITS
    more = b"\0"  # none: zeros are skipped

    def __init__(self) -> None:
        super().__init__()
        self._ahead: bytes | None = b""
        """All that came, as long as nothing came out."""

    def feed(self, data: bytes, piece: int) -> Iterator[bytes]:
        if self._ahead is not None:
            self._ahead += data
        try:
            yield from self._out_of(data, piece)
        except zlib.error:
            if self._ahead is None:
                raise
            data, self._ahead = self._ahead, None
            self._member = zlib.decompressobj(-zlib.MAX_WBITS)
            yield from super().feed(data, piece)
        if self._ahead and len(self._ahead) > PIECE:
            self._ahead = None

    def _out_of(self, data: bytes, piece: int) -> Iterator[bytes]:
        for out in super().feed(data, piece):
            self._ahead = None
            yield out


class _Brotli:
    """Before 1.2 it has no limit. So few bytes hold the head of one or two meta-blocks at most, and
    one makes 16 MiB at most (RFC 7932, 9.2)."""

    step = 8

    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()
        self._has_limit = hasattr(self._decoder, "can_accept_more_data")

    def feed(self, data: bytes, piece: int) -> Iterator[bytes]:
        limit = {"output_buffer_limit": piece} if self._has_limit else {}
        step = len(data) if self._has_limit else self.step
        for at in range(0, len(data), step or 1):
            yield from self._out_of(data[at : at + step], limit)

    def _out_of(self, data: bytes, limit: Mapping[str, int]) -> Iterator[bytes]:
        # It keeps some back until it is asked again, with or without a limit.
        while not self._decoder.is_finished() and (out := self._decoder.process(data, **limit)):
            yield out
            data = b""


def _zstd_of_mitmproxy() -> ModuleType:
    """From 3.14 on Python has it; mitmproxy 12 brings it to older ones, and 11 another one."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return import_module("zstandard")


class _Zstd:
    """One frame after the other (RFC 8878, 3.1)."""

    def __init__(self) -> None:
        self._frame = _zstd_frame()

    def feed(self, data: bytes, piece: int) -> Iterator[bytes]:
        while data:
            if self._frame.eof:
                self._frame = _zstd_frame()
            out = self._frame.decompress(data, max_length=piece)
            while out:
                yield out
                out = b"" if self._frame.eof else self._frame.decompress(b"", max_length=piece)
            data = self._frame.unused_data if self._frame.eof else b""


class _OldZstd:
    """The same by the library that mitmproxy 11 brings, which has no limit: so few bytes hold some
    blocks at most, and one makes 128 KiB at most (RFC 8878, 3.1.1.2.4)."""

    step = 32

    def __init__(self) -> None:
        self._frame = self._new()

    def feed(self, data: bytes, piece: int) -> Iterator[bytes]:  # noqa: ARG002  # no limit
        while data:
            if self._frame.eof:
                self._frame = self._new()
            now, data = data[: self.step], data[self.step :]
            if out := self._frame.decompress(now):
                yield out
            if self._frame.eof:
                data = self._frame.unused_data + data

    def _new(self) -> Any:
        return _zstd.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()


def _zstd_frame() -> Any:
    options = {_zstd.DecompressionParameter.window_log_max: LARGEST_WINDOW.bit_length() - 1}
    return _zstd.ZstdDecompressor(options=options)


_zstd = _zstd_of_mitmproxy()
_DECODERS: Mapping[str, Callable[[], Decoder]] = {
    "": _Identity,
    "identity": _Identity,
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _OldZstd if _zstd.__name__ == "zstandard" else _Zstd,
}
