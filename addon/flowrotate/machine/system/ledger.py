"""What `system on` changed, written down before it is changed. IO.

A file in the user's own state folder; beside it, in a folder, what `off` puts back. Nothing in
either is secret, but for what the user's own certificate stores hold.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from flowrotate.machine.files import write_private

from .folders import missing, remove, remove_tree

VERSION = 1
KINDS = {"gnome", "kde", "macos", "keychain", "windows", "root-store", "nss", "anchors"}
BY_HAND = (
    "turn off the desktop's automatic proxy (a PAC's address), take the CA (Flow Rotate, "
    "mitmproxy) out of browsers and, after --system-trust, out of the machine's trust store; "
    "then delete it"
)


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

    def owns(self, value: str | None) -> bool:
        """A certificate under our name is ours, whatever its trust is now (`TRUST NAME`)."""
        if value in self.ours:
            return True
        name = (value or "").partition(" ")[2] if self.cert else ""
        return bool(name) and name in (one.partition(" ")[2] for one in self.ours)


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
            data = json.loads(self._read())
            if data.pop("version") != VERSION:
                raise LedgerError(f"{self.file} is of another version of Flow Rotate: use that one")
            return _ledger(**data)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise LedgerError(f"{self.file}: {e.strerror}") from e
        except LedgerError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise LedgerError(f"{self.file} is broken: {BY_HAND}") from e

    def _read(self) -> bytes:
        """Whoever else may write it would have `off` put what he likes where he may not."""
        self._own(self.state.stat())
        handle = os.open(self.file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as file:
            self._own(os.fstat(handle))
            return file.read()

    def _own(self, found: os.stat_result) -> None:
        """Root may read nobody's but his own, others also his."""
        if os.name == "posix" and found.st_uid not in (os.geteuid(), 0):
            raise LedgerError(f"{self.state} is another user's: do this as that user")

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


def _ledger(proxy: str, since: float, entries: list[dict[str, Any]], made: list[str]) -> Ledger:
    """Raises ValueError, TypeError, KeyError, AttributeError."""
    if not _texts([proxy, *made]) or not isinstance(since, int | float):
        raise ValueError
    return Ledger(proxy, since, tuple(_entry(**one) for one in entries), tuple(made))


def _entry(
    kind: str, place: str, ours: list[str], before: str | None, cert: str, notes: dict[str, Any]
) -> Entry:
    if kind not in KINDS or not ours or not _texts([place, before or "", *ours]):
        raise ValueError
    if not re.fullmatch("[0-9a-f]*", cert) or not isinstance(notes, dict):
        raise ValueError
    return Entry(kind, place, tuple(ours), before, cert, notes)


def _texts(values: list[str]) -> bool:
    return all(isinstance(one, str) for one in values)
