"""Bodies whose charset is no superset of ASCII (UTF-16, EBCDIC, UTF-7), read as UTF-8. Pure.

No secret is in them as it is, and whoever reads them by their charset sees one all the same.
"""

import codecs
import sys
from collections.abc import Callable
from functools import lru_cache
from json import detect_encoding

from flowrotate.unpack import UnreadableError

Told = Callable[[bytes], str]
"""The charset of a body, given its start: it may tell by itself."""
START = 1024
"""Bytes of a body in which its charset is told, if it is (WHATWG HTML, 13.2.3.2)."""
HELD_BACK = 8 * 1024
"""Bytes that a decoder may hold back: with each piece it reads all of them anew. In UTF-7 and
unicode_escape nothing but the body itself ends them."""
WRONG = 512 * 1024
"""Letters that are none in the charset: to put U+FFFD for one takes as long as to read fifty."""
FRAMED = ("application/grpc", "application/connect+", "application/vnd.amazon.eventstream")
"""Types of messages that have their length before them, whatever they are in."""

# A backslash, a plus sign, a tilde and an escape mean something else in some of them.
_SAMPLE = bytes(c for c in range(0x20, 0x7F) if c != 0x5C) + b"\\u0041\x1b(B\x0f"
_UNREAD = frozenset(("idna", "punycode", "undefined"))
"""Slow, or never to be read; no letter of ASCII is written otherwise in them."""

_TEXTUAL = ("text/", "json", "xml", "javascript")
_JSON = tuple('{["-0123456789tfn \t\r\n')
"""What it begins with (RFC 8259, 2)."""
# The longer ones first. Their names keep the mark, which tells of UTF-8 as well.
_MARKS = {
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
_ORDER = f"-{sys.byteorder[0]}e"
"""Of the bytes, where it is not told: Python, and with it mitmproxy, takes the machine's own."""


@lru_cache(256)
def _decoder(charset: str) -> Callable[[str], codecs.IncrementalDecoder] | None:
    """None for an unknown one, and where ASCII is what it is."""
    try:
        if codecs.lookup(charset).name in _UNREAD or _SAMPLE.decode(charset) == _SAMPLE.decode():
            return None
    except UnicodeDecodeError:
        pass  # the sample is nothing in it
    except (LookupError, ValueError):
        return None
    return codecs.getincrementaldecoder(charset)


def is_odd(charset: str) -> bool:
    return _decoder(charset) is not None


def marked(kind: str, start: bytes) -> str:
    """What a text says by its byte order mark, or as JSON (RFC 4627, 3); "" where nothing is odd.

    What is no text may begin like that by chance.
    """
    if kind.startswith(FRAMED) or not any(word in kind for word in _TEXTUAL):
        return ""
    for mark, charset in _MARKS.items():
        if start.startswith(mark):
            return charset
    return _zeros(start) if "json" in kind and b"\0" in start[:4] else ""


def _zeros(start: bytes) -> str:
    """What they say, unless it is no JSON by that: a length before it has zeros, too."""
    charset = detect_encoding(start)
    try:
        # Two letters of UTF-32, as lenient as Python reads JSON.
        text = start[:8].ljust(8, b"\0").decode(charset, "surrogatepass")
    except UnicodeError:
        return ""
    return charset if text.startswith(_JSON) else ""


class Text:
    """A body, piece by piece: the very same pieces, or what they are in UTF-8."""

    __slots__ = ("_begun", "_charset", "_decoder", "_told", "_wrong")

    def __init__(self, told: Told) -> None:
        self._told = told
        self._begun = False
        self._charset = ""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._wrong = 0

    @property
    def is_odd(self) -> bool:
        """Whether it has become UTF-8."""
        return self._decoder is not None

    def feed(self, piece: bytes) -> bytes:
        """Raises UnreadableError for what is made to take long."""
        if not self._begun:
            self._begun = True
            self._charset = self._told(piece[:START])
            make = _decoder(self._charset)
            self._decoder = make and make("replace")
        return self._read(piece) if self._decoder else piece

    def end(self) -> bytes:
        return self._read(b"", last=True)

    def _read(self, piece: bytes, *, last: bool = False) -> bytes:
        if self._decoder is None:
            return piece
        try:
            text = self._decoder.decode(piece, last)
        except UnicodeError:
            # UTF-16 or UTF-32 without a mark, which a text is read without if it is there at once.
            ahead, wide = self._decoder.getstate()[0], codecs.lookup(self._charset).name
            self._decoder = codecs.getincrementaldecoder(wide + _ORDER)("replace")
            text = self._decoder.decode(ahead + piece, last)
        if len(self._decoder.getstate()[0]) > HELD_BACK:
            # To end it here would lose what the rest means, and a secret in it.
            raise UnreadableError("does not let its charset read it piece by piece")
        self._wrong += text.count("\ufffd")
        if self._wrong > WRONG:
            raise UnreadableError("is not in the charset that it is said to have")
        return text.encode("utf-8", "surrogatepass")
