"""Bodies, packed or not, with aliases for secrets in them. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from flowrotate.unpack import Unpacker, UnreadableError

from .scrubber import Lookout, Scrubber
from .stream import Stream, Write, alone, fitted

LOOKED_THROUGH = 128 * 1024 * 1024
"""Bytes, unpacked: what comes behind them in a packed body is not looked at."""
AT_ONCE = 64 * 1024 * 1024
"""Bytes that one piece of a stream may unpack to."""

_FRAMED = ("application/grpc", "application/vnd.amazon.eventstream")
"""Types whose messages may end with any byte, and whose readers wait for it."""
FEW = 4
"""Bytes of such a message that may begin a secret and go on all the same."""


class TooLargeError(ValueError):
    """A packed body is made to blow up, or a large one is to be changed."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A body that was changed; `unpacked` tells whether its Content-Encoding is gone."""

    body: bytes
    unpacked: bool


def scrub_whole(
    body: bytes, encoding: str, scrubber: Scrubber, lookout: Lookout | None = None
) -> Whole | None:
    """None when nothing is to be changed. Raises TooLargeError."""
    raw = scrubber.body(body, lookout)
    packed = is_packed(encoding)
    if raw is body and not (packed and _shows(body, encoding, scrubber)):
        return None
    stream, out, size = scrubber.stream(), [], 0
    for piece in _pieces(body, encoding) if packed else ():
        out.append(stream.feed(piece))
        size += len(piece)
        if size > LOOKED_THROUGH:
            raise TooLargeError("is too large to be changed")
    if out:
        return Whole(b"".join((*out, stream.end())), unpacked=True)
    # Not packed, whatever it is said to be: it can be read as it is.
    return Whole(raw, unpacked=False)


def _shows(body: bytes, encoding: str, scrubber: Scrubber) -> bool:
    stream, size = scrubber.stream(), 0
    for piece in _pieces(body, encoding):
        stream.feed(piece)
        size += len(piece)
        if stream.changed or size > LOOKED_THROUGH:
            break
    stream.end()
    return stream.changed


def _pieces(body: bytes, encoding: str) -> Iterator[bytes]:
    """As far as it can be read."""
    try:
        yield from Unpacker(encoding).feed(body)
    except UnreadableError:
        return


def is_packed(encoding: str) -> bool:
    """Whether there is something to unpack, by encodings that are known here."""
    if not encoding or encoding.lower() == "identity":
        return False
    try:
        Unpacker(encoding)
    except LookupError:
        return False
    return True


class Streamed:
    """A body that goes on as it comes, unpacked if it is packed.

    What is not packed, though it is said to be, goes on as it is.
    """

    def __init__(self, encoding: str, stream: Stream) -> None:
        self._stream = stream
        self._unpacker = Unpacker(encoding) if is_packed(encoding) else None
        self._unread: list[bytes] | None = []
        """What came before the first piece could be unpacked; None from then on."""

    def feed(self, data: bytes) -> list[bytes]:
        """What goes on. Raises UnreadableError in the middle of a body, and TooLargeError."""
        if self._unpacker is None:
            return [self._stream.feed(data)]
        return self._unpacked(self._unpacker, data)

    def _unpacked(self, unpacker: Unpacker, data: bytes) -> list[bytes]:
        size, out = 0, []
        try:
            for piece in unpacker.feed(data):
                self._unread = None
                size += len(piece)
                if size > AT_ONCE:
                    raise TooLargeError("unpacks to too much at once")
                out.append(self._stream.feed(piece))
        except UnreadableError:
            if self._unread is None:
                raise
            self._unpacker = None
            return [self._stream.feed(b"".join((*self._unread, data)))]
        if self._unread is not None:
            self._unread.append(data)
        return out

    def end(self) -> bytes:
        return self._stream.end()


def streamed(encoding: str, kind: str, length: bool, scrubber: Scrubber) -> Streamed:
    """For a body of this encoding and content type; `length` tells whether it has one."""
    write: Write = fitted if length and not is_packed(encoding) else alone
    least = FEW if kind.startswith(_FRAMED) else 1
    return Streamed(encoding, scrubber.stream(write, least))
