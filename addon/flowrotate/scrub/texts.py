"""Texts that are looked for together: where one is, and where the end of what is there begins one.

Both are asked for every piece of every body; most have none.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from .forms import Forms, half_of

FIRST = 4
"""Bytes by which the beginning of a text is found; shorter ones are told apart one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """`starts` are the first bytes of all, up to three, and `firsts` the first four."""

    every: tuple[bytes, ...] = field(repr=False)
    starts: tuple[bytes, ...] = field(repr=False)
    firsts: tuple[bytes, ...] = field(repr=False)
    longest: int

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> "Texts":
        every = tuple(dict.fromkeys(texts))
        return cls(
            every,
            tuple({text[:n] for text in every for n in range(1, FIRST)}),
            tuple({text[:FIRST] for text in every}),
            max(map(len, every), default=0),
        )

    def begin(self, data: bytes, start: int) -> int:
        """Where the end of the data begins one, from `start` on; its length, where it does not."""
        if not data.endswith(self.starts):
            tail = data[-self.longest :] if self.longest else b""
            for first in self.firsts:
                if first in tail:
                    break
            else:
                return len(data)
        return min(begins(data, start, text) for text in self.every)


def begins(data: bytes, start: int, text: bytes) -> int:
    """Where the end of the data begins this text, without all of it being there."""
    at = start = max(start, len(data) - len(text) + 1)
    while (at := data.find(text[:FIRST], at)) >= 0:
        if text.startswith(data[at:]):
            return at
        at += 1
    sizes = range(min(FIRST - 1, len(data) - start), 0, -1)
    size = next((size for size in sizes if data.endswith(text[:size])), 0)
    return len(data) - size


def broken_off(data: bytes, start: int, forms: tuple[Forms, ...]) -> tuple[int, bytes] | None:
    """Where a form begins of which the end of the data has enough, and its alias."""
    if every_of(forms).begin(data, start) == len(data):
        return None
    found = [
        (at, f.alias)
        for f in forms
        for text in f.every
        if len(data) - (at := begins(data, start, text)) >= half_of(text)
    ]
    return min(found, default=None)


@lru_cache(64)
def every_of(forms: tuple[Forms, ...]) -> Texts:
    return Texts.of(text for f in forms for text in f.every)


@lru_cache(64)
def plain_of(forms: tuple[Forms, ...]) -> Texts:
    return Texts.of(text for f in forms for text in f.plain)
