"""Linux: the machine's own trust store, as its distribution has it. Root only. IO.

update-ca-certificates(8) (Debian; SUSE): `*.crt` in /usr/local/share/ca-certificates, and
`--fresh` takes away what is there no more. update-ca-trust(8) (Fedora; Arch).
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .certificate import Certificate, kept
from .folders import read, sweep, write
from .kinds import ChangeError, Commands, Computer, Outcome, run_all, shown
from .ledger import Entry

FILE = "flow-rotate.crt"


@dataclass(frozen=True, slots=True)
class Store:
    folder: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


STORES = (
    Store(
        "usr/local/share/ca-certificates",
        ("update-ca-certificates",),
        ("update-ca-certificates", "--fresh"),
    ),
    Store("etc/pki/ca-trust/source/anchors", ("update-ca-trust",), ("update-ca-trust",)),
    Store("etc/ca-certificates/trust-source/anchors", ("update-ca-trust",), ("update-ca-trust",)),
    Store("etc/pki/trust/anchors", ("update-ca-certificates",), ("update-ca-certificates",)),
)


class Anchors:
    """A place is our file in a store's folder, its value the SHA-256 of what is in it."""

    def __init__(self, computer: Computer) -> None:
        self._computer = computer

    def title(self, entry: Entry) -> str:
        return f"the CA in the machine's trust store: {entry.place}"

    def look(self, entry: Entry) -> str | None:
        """The file; whether the store has been made anew since is for `settle`."""
        self._store(entry)
        if Path(entry.place).is_symlink():
            raise ChangeError(f"{entry.place} is a link, and none of ours: take it away")
        content = read(Path(entry.place))
        return None if content is None else hashlib.sha256(content).hexdigest()

    def keep(self, entry: Entry) -> Mapping[str, Any]:
        content = read(Path(entry.place))
        return {"text": None if content is None else content.decode("latin-1")}

    def words(self, entry: Entry, value: str | None) -> list[str]:
        verb = "remove" if value is None else "write"
        return [f"{verb} {entry.place}", *shown(self._commands(entry, value))]

    def put(self, entry: Entry, value: str | None) -> None:
        if value in entry.ours:
            content: bytes | None = kept(self._computer.book, entry.cert).read_bytes()
        else:
            former = entry.notes.get("text")
            content = None if former is None else former.encode("latin-1")
        write(Path(entry.place), content, 0o644)
        run_all(self._computer.run, self._commands(entry, value))

    def settle(self, entry: Entry) -> None:
        """The store is what programs believe: a file that came or went must have got there."""
        store = self._store(entry)
        if Path(entry.place).parent.is_dir() or self._computer.which(store.added[0]):
            run_all(self._computer.run, self._commands(entry, self.look(entry)))

    def tidy(self, entry: Entry) -> None:
        sweep(Path(entry.place))

    def _commands(self, entry: Entry, value: str | None) -> Commands:
        store = self._store(entry)
        return [store.removed if value is None else store.added]

    def _store(self, entry: Entry) -> Store:
        for store in STORES:
            if Path(entry.place) == self._computer.root / store.folder / FILE:
                return store
        raise ChangeError(f"{entry.place} is no place of ours in a trust store that is known")


def wishes(computer: Computer, certificate: Certificate) -> Iterator[Entry | Outcome]:
    for store in STORES:
        folder = computer.root / store.folder
        if folder.is_dir() and computer.which(store.added[0]):
            ours = (hashlib.sha256(certificate.pem).hexdigest(),)
            yield Entry("anchors", str(folder / FILE), ours, cert=certificate.sha256)
            return
    yield Outcome(
        "failed", "the machine's trust store", "none that is known is here: install ca-certificates"
    )
