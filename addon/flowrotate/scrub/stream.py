"""A text that comes piece by piece, with aliases for secrets. Pure.

Of forms that begin at the same place the longest counts, and of those that overlap the first:
however a text is cut into pieces, it comes out the same. The end of a piece is held back only where
it begins a form. A line end begins none, so that a whole event or line is never held back.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from .forms import Forms
from .texts import Texts, broken_off, every_of

Write = Callable[[bytes, int], bytes]
"""What stands for a form of so many bytes, given its alias."""
Look = tuple[int, Texts]
"""What is looked for up to a position in bytes."""
ALL = sys.maxsize


def alone(alias: bytes, _: int) -> bytes:
    return alias


def fitted(alias: bytes, size: int) -> bytes:
    """Of the form's own size, where a length has been told already."""
    return alias[:size].ljust(size, b"*")


class Stream:
    """One text. An end that begins a form is held back, if it has at least so many bytes.

    `look` is what is looked for, each up to a position in bytes, where that is not all of it.
    """

    __slots__ = ("_forms", "_gone", "_held", "_least", "_look", "_seen", "_write", "changed")

    def __init__(
        self,
        forms: tuple[Forms, ...],
        write: Write = alone,
        least: int = 1,
        look: Sequence[Look] = (),
    ) -> None:
        self._forms, self._write, self._least = forms, write, least
        self._look = look or ((ALL, every_of(forms)),)
        self._held = b""
        self._gone = 0
        """How many bytes of what is held went on all the same."""
        self._seen = 0
        self.changed = False
        """Whether an alias was written."""

    def feed(self, piece: bytes) -> bytes:
        """What can go on."""
        data = self._held + piece if self._held else piece
        while self._seen >= self._look[0][0]:
            self._look = self._look[1:]
        texts = self._look[0][1]
        self._seen += len(piece)
        hold = texts.begin(data, 0)
        for text in texts.every:
            if text in data:
                return self._keep(data, *self._replaced(data, hold, texts))
        if hold == len(data) and not self._gone:
            self._held = b""
            return data
        return self._keep(data, [], 0, hold)

    def end(self) -> bytes:
        """The rest. A form that breaks off at the end counts, too, if half of it is there."""
        data, gone = self._held, self._gone
        out, done, stop = self._replaced(data, len(data), every_of(self._forms))
        begun = broken_off(data, done, self._forms)
        if begun:
            stop, alias = begun
            out += data[max(done, gone) : stop], self._alias(alias, stop, len(data))
        else:
            out.append(data[max(done, gone) :])
        self._held, self._gone = b"", 0
        return b"".join(out)

    def _replaced(self, data: bytes, hold: int, texts: Texts) -> tuple[list[bytes], int, int]:
        """What goes on, up to where, and from where on the end is to be held back."""
        pattern, aliases = _pattern(self._forms)
        out: list[bytes] = []
        done = 0
        for found in pattern.finditer(data):
            start, end = found.span()
            if start < hold < end:
                # What seemed to begin a form is in the middle of one.
                hold = texts.begin(data, end)
            if hold <= start:
                break
            out += data[max(done, self._gone) : start], self._alias(aliases[found[0]], start, end)
            done = end
        return out, done, hold

    def _alias(self, alias: bytes, start: int, end: int) -> bytes:
        self.changed = True
        return self._write(alias, end - max(start, self._gone))

    def _keep(self, data: bytes, out: list[bytes], done: int, hold: int) -> bytes:
        out.append(data[max(done, self._gone) : hold])
        self._held, self._gone = data[hold:], max(0, self._gone - hold)
        if len(self._held) < self._least:
            out.append(self._held[self._gone :])
            self._gone = len(self._held)
        return b"".join(out)


@lru_cache(64)
def _pattern(forms: tuple[Forms, ...]) -> tuple[re.Pattern[bytes], Mapping[bytes, bytes]]:
    aliases = {text: f.alias for f in forms for text in f.every}
    longest_first = sorted(aliases, key=len, reverse=True)
    return re.compile(b"|".join(map(re.escape, longest_first)) or b"(?!)"), aliases
