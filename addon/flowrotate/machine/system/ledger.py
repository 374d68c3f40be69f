"""What `system on` changed, written down before it is changed. IO.

A file in the user's own state folder; beside it, in a folder, what `off` puts back. Nothing in
either is secret, but for what the user's own certificate stores hold.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from flowrotate.machine.files import write_private

from .folders import missing, remove, remove_tree

VERSION = 1


class Key(NamedTuple):
    kind: str
    place: str
    cert: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One place and its value: `before` (None: none), and those that are ours, the last one now.

    `cert` is the SHA-256 of the certificate that it is about; `notes` are the kind's own.
    """

    kind: str
    place: str
    ours: tuple[str, ...]
    before: str | None = None
    cert: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return Key(self.kind, self.place, self.cert)

    @property
    def goal(self) -> str:
        return self.ours[-1]


@dataclass(frozen=True, slots=True)
class Ledger:
    """`since` is in seconds since 1970; `made` are the folders that were made for it."""

    proxy: str
    since: float
    entries: tuple[Entry, ...] = ()
    made: tuple[str, ...] = ()

    def find(self, entry: Entry) -> Entry | None:
        return next((one for one in self.entries if one.key == entry.key), None)

    def put(self, entry: Entry) -> "Ledger":
        """With the entry in the place of the one about the same, or at the end."""
        if self.find(entry):
            kept = tuple(entry if one.key == entry.key else one for one in self.entries)
        else:
            kept = (*self.entries, entry)
        return replace(self, entries=kept)

    def drop(self, entry: Entry) -> "Ledger":
        return replace(self, entries=tuple(one for one in self.entries if one.key != entry.key))


class LedgerError(ValueError):
    """The file is there, and cannot be used."""


class Book:
    """The ledger's file `system.json`, and the folder beside it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.file = state / "system.json"
        self.folder = state / "system"

    def load(self) -> Ledger | None:
        """None when nothing is on. Raises LedgerError."""
        try:
            data = json.loads(self.file.read_bytes())
            if data.pop("version") != VERSION:
                raise LedgerError(f"{self.file} is of another version of Flow Rotate: use that one")
            entries = tuple(_entry(one) for one in data.pop("entries"))
            return Ledger(**data | {"entries": entries, "made": tuple(data["made"])})
        except FileNotFoundError:
            return None
        except OSError as e:
            raise LedgerError(f"{self.file}: {e.strerror}") from e
        except LedgerError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise LedgerError(
                f"{self.file} is broken: put the settings back by hand, then delete it"
            ) from e

    def begin(self, proxy: str, now: float) -> Ledger:
        return Ledger(proxy, now, made=missing(self.state))

    def save(self, ledger: Ledger) -> None:
        """When it returns, it is on the disk. Raises OSError."""
        text = json.dumps({"version": VERSION, **asdict(ledger)}, indent=1)
        write_private(self.file, text.encode())

    def close(self, ledger: Ledger | None) -> None:
        """Nothing is on any more: leave no trace, also of what was killed while it wrote."""
        remove_tree(self.folder)
        with suppress(OSError):
            self.file.unlink()
        for left in self.state.glob(f".{self.file.name}.*"):
            with suppress(OSError):
                left.unlink()
        remove(ledger.made if ledger else [str(self.state)])


def _entry(data: dict[str, Any]) -> Entry:
    return Entry(**data | {"ours": tuple(data["ours"])})
