"""What was found out about one thing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "failure"]

EVAL = 'eval "$(flow-rotate env)"'


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` says what to do, and is empty where there is nothing to do."""

    check: str
    level: Level
    said: str
    mend: str = ""


Findings = Iterator[Finding]


def ok(check: str, said: str) -> Finding:
    return Finding(check, "ok", said)


def note(check: str, said: str, mend: str = "") -> Finding:
    return Finding(check, "note", said, mend)


def warning(check: str, said: str, mend: str) -> Finding:
    return Finding(check, "warning", said, mend)


def failure(check: str, said: str, mend: str) -> Finding:
    return Finding(check, "failure", said, mend)
