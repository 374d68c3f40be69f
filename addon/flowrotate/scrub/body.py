"""Bodies, packed or not, in whatever charset, with aliases for secrets in them. Pure."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from flowrotate.unpack import Unpacker, UnreadableError

from .charsets import FRAMED, START, Text, Told, is_odd, marked
from .scrubber import Lookout, Scrubber
from .stream import Stream, Write, alone, fitted

LOOKED_THROUGH = 128 * 1024 * 1024
"""Bytes, unpacked, before or after they are read by their charset, whichever are more: what comes
behind them in a packed body is not looked at."""
AT_ONCE = 64 * 1024 * 1024
"""Such bytes that one piece of a stream may unpack to."""

FEW = 4
"""Bytes of a framed message that may begin a secret and go on all the same: it may end with any
byte, and its reader waits for it."""


class TooLargeError(ValueError):
    """A packed body is made to blow up, or a large one is to be changed."""


def _usual(_: bytes) -> str:
    return "utf-8"


@dataclass(frozen=True, slots=True)
class Whole:
    """A body that was changed; `unpacked` tells whether its Content-Encoding is gone.

    `in_utf8` tells whether it was in another charset before.
    """

    body: bytes
    unpacked: bool
    in_utf8: bool = False


def scrub_whole(
    body: bytes,
    encoding: str,
    scrubber: Scrubber,
    lookout: Lookout | None = None,
    charset: Told = _usual,
) -> Whole | None:
    """None when nothing is to be changed. Raises TooLargeError and UnreadableError."""
    raw = scrubber.body(body, lookout)
    packed = is_packed(encoding)
    encoding = encoding if packed else ""
    read = packed or is_odd(charset(body[:START]))
    shows = read and (raw is body or not packed) and _shows(body, encoding, scrubber, charset)
    if raw is body and not shows:
        return None
    stream, text, out = scrubber.stream(), Text(charset), []
    for size, piece in _texts(body, encoding, text) if packed or shows else ():
        out.append(stream.feed(piece))
        if size > LOOKED_THROUGH:
            raise TooLargeError("is too large to be changed")
    if out:
        clean = b"".join((*out, stream.end()))
        if text.is_odd:
            clean = clean.removeprefix(BOM_UTF8)  # its head tells
        return Whole(clean, unpacked=packed, in_utf8=text.is_odd)
    # Not packed, whatever it is said to be: it can be read as it is.
    return Whole(raw, unpacked=False)


def _shows(body: bytes, encoding: str, scrubber: Scrubber, charset: Told) -> bool:
    stream = scrubber.stream()
    for size, piece in _texts(body, encoding, Text(charset)):
        stream.feed(piece)
        if stream.changed or size > LOOKED_THROUGH:
            break
    stream.end()
    return stream.changed


def _texts(body: bytes, encoding: str, text: Text) -> Iterator[tuple[int, bytes]]:
    """Each piece, and how many bytes there are with it. Raises UnreadableError by the charset."""
    size = 0
    for piece in _unpacked(body, encoding):
        read = text.feed(piece)
        size += max(len(piece), len(read))
        yield size, read
    if rest := text.end():
        yield size + len(rest), rest


def _unpacked(body: bytes, encoding: str) -> Iterator[bytes]:
    """As far as it can be."""
    with suppress(UnreadableError):
        yield from Unpacker(encoding).feed(body)


def is_packed(encoding: str) -> bool:
    """Whether there is something to unpack, by encodings that are known here."""
    if not encoding or encoding.lower() == "identity":
        return False
    try:
        Unpacker(encoding)
    except LookupError:
        return False
    return True


def is_rewritten(encoding: str, charset: str) -> bool:
    """Whether a stream goes on unpacked, or in UTF-8 where it is in another charset."""
    return is_packed(encoding) or is_odd(charset)


class Streamed:
    """A body that goes on as it comes, unpacked if it is packed, in UTF-8 if its charset is odd.

    What is not packed, though it is said to be, goes on as it is.
    """

    def __init__(self, encoding: str, stream: Stream, charset: Told = _usual) -> None:
        self._stream = stream
        self._text = Text(charset)
        self._unpacker = Unpacker(encoding) if is_packed(encoding) else None
        self._unread: list[bytes] | None = []
        """What came before the first piece could be unpacked; None from then on."""

    def feed(self, data: bytes) -> list[bytes]:
        """What goes on. Raises TooLargeError, UnreadableError (unpacking: in the middle)."""
        if self._unpacker is None:
            return [self._scrubbed(data)]
        return self._unpacked(self._unpacker, data)

    def _unpacked(self, unpacker: Unpacker, data: bytes) -> list[bytes]:
        size, out = 0, []
        try:
            for piece in unpacker.feed(data):
                self._unread = None
                out.append(self._scrubbed(piece))
                size += max(len(piece), len(out[-1]))
                if size > AT_ONCE:
                    raise TooLargeError("unpacks to too much at once")
        except UnreadableError:
            if self._unread is None:
                raise
            self._unpacker = None
            return [self._scrubbed(b"".join((*self._unread, data)))]
        if self._unread is not None:
            self._unread.append(data)
        return out

    def _scrubbed(self, piece: bytes) -> bytes:
        return self._stream.feed(self._text.feed(piece))

    def end(self) -> bytes:
        return self._stream.feed(self._text.end()) + self._stream.end()


def streamed(
    encoding: str, kind: str, length: bool, scrubber: Scrubber, charset: str = "utf-8"
) -> Streamed:
    """For a body of this encoding, content type and charset; `length` tells whether it has one."""
    fixed = length and not is_rewritten(encoding, charset)
    write: Write = fitted if fixed else alone
    least = FEW if kind.startswith(FRAMED) else 1
    # A length that has been told would be wrong.
    told = partial(marked, kind) if not fixed and not is_odd(charset) else lambda _: charset
    return Streamed(encoding, scrubber.stream(write, least), told)
