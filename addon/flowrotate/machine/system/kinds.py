"""What every kind of change can do, and the computer that it is done to."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flowrotate.machine.commands import Run
from flowrotate.machine.places import Places

from .ledger import Book, Entry


class ChangeError(Exception):
    """Why a change cannot be made or undone, in words, with the mend."""


@dataclass(frozen=True, slots=True)
class Computer:
    """What is asked of it comes in from outside: programs, environment, where its files begin.

    `user` is who ran `sudo`, if somebody did: then only what belongs to the machine is changed.
    """

    places: Places
    env: Mapping[str, str]
    run: Run
    which: Callable[[str], str | None]
    book: Book
    root: Path = Path("/")
    is_root: bool = False
    user: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`status`: done, already, skipped, failed, left (as somebody else set it), or would (dry run).

    `steps` are the commands and edits of a dry run.
    """

    status: str
    what: str
    why: str = ""
    steps: tuple[str, ...] = ()


class Kind(Protocol):
    """All raise ChangeError or OSError. An entry's value is a text, or None: there is none."""

    def title(self, entry: Entry) -> str:
        """The place, for people."""

    def look(self, entry: Entry) -> str | None:
        """The value now, whoever set it."""

    def keep(self, entry: Entry) -> Mapping[str, Any]:
        """The notes that `put` and `tidy` will need; what it keeps, it keeps beside the ledger."""

    def words(self, entry: Entry, value: str | None) -> Sequence[str]:
        """What `put` does, for a dry run."""

    def put(self, entry: Entry, value: str | None) -> None:
        """Make it the value."""

    def settle(self, entry: Entry) -> None:
        """Do what follows from the value that is there, should a kill have come before it."""

    def tidy(self, entry: Entry) -> None:
        """Take away what was made around the value, when it is ours no more."""


Commands = Sequence[Sequence[str]]
# What no shell reads anything into between double quotes.
PLAIN_QUOTED = re.compile(r"""[^"$`\\!]*'[^"$`\\!]*""")


def run_all(run: Run, commands: Commands) -> None:
    """One after the other; what a program said at its end is the error."""
    for command in commands:
        said = run(command)
        if not said.ok:
            last = (said.text.strip().splitlines() or [f"exit status {said.status}"])[-1]
            raise ChangeError(f"{command[0]}: {last.removeprefix(f'{command[0]}: ')}")


def shown(commands: Commands) -> list[str]:
    """To be read, and to be pasted into a shell."""
    return [" ".join(map(_quoted, command)) for command in commands]


def _quoted(word: str) -> str:
    """GVariant texts have quotes of their own."""
    return f'"{word}"' if PLAIN_QUOTED.fullmatch(word) else shlex.quote(word)
