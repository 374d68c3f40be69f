"""The start of a body, without its Content-Encoding (RFC 9110, 8.4). Pure.

What comes off the wire may break off anywhere, and may be made to blow up: nothing is unpacked
beyond what is asked for.
"""

import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType

import brotli  # type: ignore[import-untyped]  # it has no types

MOST_ENCODINGS = 3
LARGEST_WINDOW = 8 * 1024 * 1024
"""Bytes: what a zstd frame on the web may ask for at most (RFC 9659)."""


def start_of(body: bytes, encoding: str, most: int = 65536) -> bytes:
    """At most so many bytes; none when they cannot be read, or the encoding is unknown."""
    names = [name.strip().lower() for name in encoding.split(",", MOST_ENCODINGS)]
    if len(names) > MOST_ENCODINGS or most < 1:  # for zlib, 0 is no limit
        return b""
    for name in reversed(names):
        decode = _DECODERS.get(name)
        try:
            body = decode(body, most) if decode else b""
        except (zlib.error, brotli.error, _zstd.ZstdError):
            return b""
    return body[:most]


def _identity(body: bytes, most: int) -> bytes:
    return body[:most]


def _gzip(body: bytes, most: int) -> bytes:
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(body, most)


def _deflate(body: bytes, most: int) -> bytes:
    """In zlib's format, as it should be, or raw, as some servers send it."""
    try:
        return zlib.decompressobj().decompress(body, most)
    except zlib.error:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, most)


def _brotli(body: bytes, most: int) -> bytes:
    decoder = brotli.Decompressor()
    if hasattr(decoder, "can_accept_more_data"):
        return bytes(decoder.process(body, output_buffer_limit=most))
    # Before 1.2 there is no limit. So few bytes hold the head of one meta-block at most, and one
    # makes 16 MiB at most (RFC 7932, 9.2).
    unpacked, step = bytearray(), 8
    for start in range(0, len(body), step):
        unpacked += decoder.process(body[start : start + step])
        if len(unpacked) >= most:
            break
    return bytes(unpacked)


def _zstd_of_mitmproxy() -> ModuleType:
    """From 3.14 on Python has it; mitmproxy 12 brings it to older ones, and 11 another one."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return import_module("zstandard")


def _zstandard(body: bytes, most: int) -> bytes:
    if _zstd.__name__ == "zstandard":
        decoder = _zstd.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        return bytes(decoder.stream_reader(body).read(most))
    options = {_zstd.DecompressionParameter.window_log_max: LARGEST_WINDOW.bit_length() - 1}
    return bytes(_zstd.ZstdDecompressor(options=options).decompress(body, max_length=most))


_zstd = _zstd_of_mitmproxy()
_DECODERS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "": _identity,
    "identity": _identity,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstandard,
}
