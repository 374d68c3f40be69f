"""One mapping of the secrets file, read key by key: what is wrong is noted, not raised. Pure.

Every message is a fixed sentence with the mend. No value of the file is in one, and a key only
when it is so close to a known one that it can be nothing but a typing error.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")

_HARMLESS_KEY = re.compile(r"[a-z_]{1,24}")
_CLOSE = 0.75
_SHORT = 6  # characters; too few for a secret, and one typing error is a large part of them
_CLOSE_WHEN_SHORT = 0.65


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend: `pools[0].hosts[1]`, or `line 3, column 5`, and how."""

    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping at a place. All sections of one file share the list of problems."""

    data: Mapping[object, object]
    place: str
    problems: list[Problem]

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def fault(self, key: str, message: str) -> None:
        """Note a problem with one key's value, or with the whole mapping when `key` is empty."""
        self.problems.append(Problem(self.at(key) if key else self.place, message))

    def one(self, key: str, parse: Callable[[object], T], default: T) -> T:
        """The value of a key as `parse` makes it; the default when it is absent or wrong."""
        if key not in self.data:
            return default
        try:
            return parse(self.data[key])
        except ValueError as e:
            self.fault(key, str(e))
            return default

    def items(self, key: str, when_empty: str = "") -> list[object]:
        """The list at a key. With `when_empty`, a list without items is wrong."""
        value = self.data.get(key)
        if not isinstance(value, list):
            self.fault(key, "write a list, in [ ]")
            return []
        if when_empty and not value:
            self.fault(key, when_empty)
        return value

    def each(
        self, key: str, parse: Callable[[str], T], default: tuple[T, ...], when_empty: str = ""
    ) -> tuple[T, ...]:
        """The texts of a list as `parse` makes them, without those that are wrong."""
        if key not in self.data:
            return default
        read = []
        for n, item in enumerate(self.items(key, when_empty)):
            try:
                read.append(parse(as_text(item)))
            except ValueError as e:
                self.fault(f"{key}[{n}]", str(e))
        return tuple(read)

    def mapping(self, key: str, mend: str) -> "Section | None":
        """The mapping at a key, with entries in it. None, and noted, when it is no such thing."""
        value = self.data.get(key)
        if not isinstance(value, dict) or not value:
            self.fault(key, mend)
            return None
        return Section(value, self.at(key), self.problems)

    def check_keys(self, known: tuple[str, ...]) -> bool:
        """Note every key that is unknown; True if none is."""
        before = len(self.problems)
        for number, key in enumerate(self.data, 1):
            if key not in known:
                self.fault("", _unknown(number, key, known))
        return len(self.problems) == before


def _unknown(number: int, key: object, known: tuple[str, ...]) -> str:
    if isinstance(key, str) and _HARMLESS_KEY.fullmatch(key):
        cutoff = _CLOSE if len(key) > _SHORT else _CLOSE_WHEN_SHORT
        close = get_close_matches(key, known, n=1, cutoff=cutoff)
        if close:
            return f"unknown key '{key}': did you mean '{close[0]}'?"
    shown = ", ".join(known)
    return f"unknown key, number {number} here (not shown, it may be a secret); known keys: {shown}"


def as_text(value: object) -> str:
    """Raises ValueError for what is not text, or empty."""
    if isinstance(value, str):
        if not value:
            raise ValueError("empty: write a text")
        return value
    if value is None:
        raise ValueError("empty: write a text, in quotes if it is ~ or null")
    if isinstance(value, list | dict):
        raise ValueError("must be one text: a value with [ or { in it needs quotes")
    raise ValueError("must be text: write it in quotes")


def as_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("write true or false, without quotes")
    return value


def as_whole(what: str, least: int, most: int) -> Callable[[object], int]:
    """A parser of whole numbers. `what` they count, in words: "whole seconds"."""

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"write {what} from {least} to {most}, without quotes")
        return value

    return parse


def text_as(parse: Callable[[str], T]) -> Callable[[object], T]:
    """A parser of text as a parser of anything, for `Section.one`."""
    return lambda value: parse(as_text(value))
