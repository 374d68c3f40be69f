"""Browsers' certificate stores on Linux: NSS, by `certutil` (libnss3-tools). IO.

A change of one that nobody has open is made on a copy, and then put in place: so both sets of bytes
are known before anything changes, and `off` puts the former ones back. One that is open is changed
where it is, and only the certificate is taken out of it again.
"""

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from flowrotate.machine.commands import Said

from .certificate import Certificate, kept
from .folders import make, missing, read, remove, remove_tree, sweep, write
from .kinds import ChangeError, Commands, Computer, Outcome, run_all, shown
from .ledger import Entry

# In the order in which they are put in place, and the last goes first: it has the certificates,
# and while it has not ours, the store is as it was.
FILES = ("pkcs11.txt", "key4.db", "cert9.db")
BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    *("brave-browser", "microsoft-edge", "vivaldi"),
)
TRUSTED, HALF = "C,,", ",,"
NO_PROGRAM = 127
STORES = "browsers' certificate stores"
MISSING = "certutil is missing: install libnss3-tools (Fedora: nss-tools, Arch: nss)"
NO_STORE = "none is here yet: start the browser once, then do this again"
LINE = re.compile(r"^(.*\S) +([a-zA-Z]*,[a-zA-Z]*,[a-zA-Z]*) *$", re.MULTILINE)


class Nss:
    """A place is a store's folder; its value, the certificate's trust and nickname in it."""

    def __init__(self, computer: Computer) -> None:
        self._computer = computer
        self._book = computer.book

    def title(self, entry: Entry) -> str:
        return f"the CA in {entry.place}"

    def look(self, entry: Entry) -> str | None:
        store = Path(entry.place)
        if not (store / "cert9.db").exists():
            return None
        name = _nickname(store, entry.cert)
        if name is None:
            return None
        said = self._run(["certutil", "-L", "-d", f"sql:{store}"])
        if not said.ok:
            raise ChangeError(_last(said.text))
        trust = next((m[2] for m in LINE.finditer(said.text) if m[1] == name), HALF)
        return f"{trust} {name}"

    def keep(self, entry: Entry) -> Mapping[str, Any]:
        """The bytes now, and those after: in folders `before` and `after` beside the ledger."""
        store = Path(entry.place)
        before, after = self._folder(entry, "before"), self._folder(entry, "after")
        remove_tree(before)
        remove_tree(after)
        former = _contents(store)
        if is_open(store):
            return {}
        for folder in (before, after):
            folder.mkdir(parents=True, mode=0o700)
            for name, content in former.items():
                if content is not None:
                    write(folder / name, content)
        new = former["cert9.db"] is None
        self._certutil(self._commands(entry, after, new=new))
        if new:  # it says in itself where it is
            file = after / "pkcs11.txt"
            file.write_bytes(file.read_bytes().replace(bytes(after), bytes(store)))
        return {
            "before": {name: _hash(content) for name, content in former.items()},
            "after": {name: _hash(content) for name, content in _contents(after).items()},
            "made": missing(store),
        }

    def words(self, entry: Entry, value: str | None) -> list[str]:
        store = Path(entry.place)
        if value is None and self._known(entry):
            return [f"put back {', '.join(FILES)} in {store}"]
        if value is None:
            return shown([_delete(entry)])
        new = not (store / "cert9.db").exists()
        made = [f"mkdir {folder}" for folder in missing(store)]
        return made + shown(self._commands(entry, store, new=new))

    def put(self, entry: Entry, value: str | None) -> None:
        store = Path(entry.place)
        if value is None:
            if not self._restore(entry):
                self._certutil([_delete(entry)])
        elif self._known(entry):
            make(entry.notes["made"])
            self._place(entry, "after")
        else:
            self._add(entry, store)

    def settle(self, entry: Entry) -> None:
        pass

    def tidy(self, entry: Entry) -> None:
        """Also what a kill has left between two of the files."""
        for name in FILES:
            sweep(Path(entry.place) / name)
        self._restore(entry)
        remove_tree(self._folder(entry))
        remove(entry.notes.get("made", ()))

    def _run(self, command: Sequence[str]) -> Said:
        said = self._computer.run(command)
        if said.status == NO_PROGRAM:
            raise ChangeError(MISSING)
        return said

    def _add(self, entry: Entry, store: Path) -> None:
        try:
            self._certutil(self._commands(entry, store, new=False))
        except ChangeError:
            self._run(_delete(entry))  # certutil adds it before it finds that it may not trust it
            raise

    def _certutil(self, commands: Commands) -> None:
        try:
            run_all(self._run, commands)
        except ChangeError as e:
            if "SEC_ERROR_BAD_PASSWORD" not in str(e):
                raise
            raise ChangeError("it has a password: import the CA in the browser's settings") from e

    def _known(self, entry: Entry) -> bool:
        """Whether all that is there is as before or as after, also when a kill came between."""
        store, before, after = Path(entry.place), *map(entry.notes.get, ("before", "after"))
        if not before or not after or is_open(store):
            return False
        return all(found in (before[name], after[name]) for name, found in _hashes(store).items())

    def _restore(self, entry: Entry) -> bool:
        """Put the former bytes back, if that can be known."""
        known = self._known(entry)
        if known:
            self._place(entry, "before")
        return known

    def _place(self, entry: Entry, folder: str) -> None:
        store, source = Path(entry.place), self._folder(entry, folder)
        hashes = entry.notes[folder]
        for name in FILES if folder == "after" else reversed(FILES):
            if _hash(read(store / name)) == hashes[name]:
                continue
            content = read(source / name)
            if _hash(content) != hashes[name]:
                raise ChangeError(f"{source / name} is not what was kept there")
            write(store / name, content)

    def _commands(self, entry: Entry, store: Path, *, new: bool) -> Commands:
        where = ["-d", f"sql:{store}"]
        name = entry.goal.removeprefix(f"{TRUSTED} ")
        file = str(kept(self._book, entry.cert))
        # An empty password: a store that has another is an error, and no question.
        add = ["certutil", "-A", *where, "-t", TRUSTED, "-n", name, "-i", file, "-f", os.devnull]
        return [*([["certutil", "-N", *where, "--empty-password"]] if new else []), add]

    def _folder(self, entry: Entry, name: str = "") -> Path:
        key = hashlib.sha256(f"{entry.place}\n{entry.cert}".encode()).hexdigest()[:16]
        return self._book.folder / key / name


def wishes(computer: Computer, certificate: Certificate) -> Iterator[Entry | Outcome]:
    if not computer.which("certutil"):
        yield Outcome("skipped", STORES, MISSING)
        return
    found = list(stores(computer))
    if not found:
        yield Outcome("skipped", STORES, NO_STORE)
    name = f"Flow Rotate (mitmproxy) {certificate.sha256[:16]}"
    # Half done: certutil was killed, or refused, between the certificate and its trust.
    ours = (f"{HALF} {name}", f"{TRUSTED} {name}")
    for store in found:
        other = _other_name(store, certificate, name)
        if other:
            yield Outcome("already", f"the CA in {store}", f"it was there before: {other}")
        else:
            yield Entry("nss", str(store), ours, cert=certificate.sha256)


def stores(computer: Computer) -> Iterator[Path]:
    """Chromium's, which is made where a Chromium is, and that of every Firefox profile."""
    home = computer.places.home
    shared = home / ".pki" / "nssdb"
    if (shared / "cert9.db").exists() or any(map(computer.which, BROWSERS)):
        yield shared
    firefox = Path(".mozilla") / "firefox"
    patterns = [
        (home / "snap" / "chromium" / "current" / ".pki", "nssdb"),
        (home / firefox, "*"),
        (home / "snap" / "firefox" / "common" / firefox, "*"),
        (home / ".var" / "app" / "org.mozilla.firefox" / firefox, "*"),
    ]
    for folder, pattern in patterns:
        yield from (found.parent for found in sorted(folder.glob(f"{pattern}/cert9.db")))


def is_open(store: Path, proc: Path = Path("/proc")) -> bool:
    """Whether a process has the store's files open, or may have them: as far as we may see."""
    ours = [found for found in map(_stat, map(store.joinpath, FILES)) if found]
    if not ours:
        return False
    # Firefox's lock (it stays after a crash), SQLite's journals, and a system without /proc.
    if (store / "lock").is_symlink() or any(store.glob("*.db-*")) or not _listed(proc):
        return True
    return any(os.path.samestat(found, own) for found in _open_files(proc) for own in ours)


def _open_files(proc: Path) -> Iterator[os.stat_result]:
    """Of all processes that we may look at; they come and go meanwhile."""
    for process in _listed(proc):
        if process.name.isdigit():
            yield from filter(None, map(_stat, _listed(process / "fd")))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _other_name(store: Path, certificate: Certificate, ours: str) -> str | None:
    """The name under which somebody else has put it there."""
    with suppress(ChangeError):  # whoever looks next tells it
        if (store / "cert9.db").exists():
            found = _nickname(store, certificate.sha256)
            return None if found == ours else found
    return None


def _nickname(store: Path, sha256: str) -> str | None:
    """NSS has a certificate once, whatever it is called (softoken's columns: a3 label, a11 DER)."""
    try:
        with closing(sqlite3.connect(f"{(store / 'cert9.db').as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT a3, a11 FROM nssPublic WHERE a11 IS NOT NULL").fetchall()
    except sqlite3.Error as e:
        raise ChangeError(f"{store / 'cert9.db'}: {e}") from e
    found = (label for label, der in rows if _hash(bytes(der)) == sha256)
    return next((bytes(label).decode(errors="replace") for label in found), None)


def _delete(entry: Entry) -> list[str]:
    name = entry.goal.removeprefix(f"{TRUSTED} ")
    return ["certutil", "-D", "-d", f"sql:{entry.place}", "-n", name, "-f", os.devnull]


def _contents(store: Path) -> dict[str, bytes | None]:
    return {name: read(store / name) for name in FILES}


def _hashes(store: Path) -> dict[str, str | None]:
    return {name: _hash(content) for name, content in _contents(store).items()}


def _hash(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["certutil failed"])[-1]
