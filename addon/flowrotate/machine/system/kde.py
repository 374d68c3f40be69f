"""KDE's proxy settings: `kioslaverc`, group `Proxy Settings`. IO.

`ProxyType` 0 none, 1 manual, 2 PAC, 3 WPAD, 4 the environment's; `Proxy Config Script` is the
PAC's URL (KIO, kprotocolmanager). Chromium reads the same file on KDE.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .folders import make, missing, read, remove, sweep, write
from .groups import GROUP, get_key, same_settings, set_key
from .kinds import Computer, Outcome
from .ledger import Entry

TYPE, SCRIPT = "ProxyType", "Proxy Config Script"
# To those that run: read it again (KIO's scheduler). Best effort.
TELL = [
    *("dbus-send", "--type=signal", "/KIO/Scheduler"),
    *("org.kde.KIO.Scheduler.reparseSlaveConfiguration", "string:"),
]
FORMER = {"1": "a proxy", "3": "a proxy found by WPAD", "4": "the environment's proxy"}


class Kde:
    """A place is a key; None is one that is not in the file."""

    def __init__(self, computer: Computer) -> None:
        self._file = _file(computer)
        self._run = computer.run
        self._tells = bool(computer.which("dbus-send"))

    def title(self, entry: Entry) -> str:
        return f"KDE: {entry.place} in {self._file}"

    def look(self, entry: Entry) -> str | None:
        return get_key(self._text() or "", entry.place)

    def keep(self, entry: Entry) -> Mapping[str, Any]:  # noqa: ARG002
        return {"text": self._text(), "made": missing(self._file.parent)}

    def words(self, entry: Entry, value: str | None) -> list[str]:
        line = f"delete {entry.place}" if value is None else f"{entry.place}={value}"
        return [f"edit {self._file}: [{GROUP}] {line}"]

    def put(self, entry: Entry, value: str | None) -> None:
        text: str | None = set_key(self._text() or "", entry.place, value)
        former = entry.notes.get("text")
        # What was added around the key goes too, when all else is as it was.
        if value == entry.before and same_settings(text or "", former or ""):
            text = former
        make(entry.notes.get("made", ()))
        content = None if text is None else text.encode("utf-8", "surrogateescape")
        write(self._file, content, 0o600)
        if self._tells:
            self._run(TELL)

    def settle(self, entry: Entry) -> None:
        pass

    def tidy(self, entry: Entry) -> None:
        sweep(self._file)
        remove(entry.notes.get("made", ()))

    def _text(self) -> str | None:
        content = read(self._file)
        return None if content is None else content.decode("utf-8", "surrogateescape")


def wishes(computer: Computer, pac: str) -> Iterator[Entry | Outcome]:
    if _there(computer):
        yield Entry("kde", SCRIPT, (pac,))
        yield Entry("kde", TYPE, ("2",))


def foreign(computer: Computer, pacs: set[str]) -> str:
    """The proxy that somebody else has set."""
    if not _there(computer):
        return ""
    kde = Kde(computer)
    kind = kde.look(Entry("kde", TYPE, ()))
    script = kde.look(Entry("kde", SCRIPT, ()))
    if kind == "2" and script not in pacs:
        return f"KDE's settings name another PAC: {script or 'none'}"
    return f"KDE's settings name {FORMER[kind]}" if kind in FORMER else ""


def _there(computer: Computer) -> bool:
    if computer.places.platform in ("darwin", "win32"):
        return False
    desktops = computer.env.get("XDG_CURRENT_DESKTOP", "").split(":")
    programs = ("kwriteconfig5", "kwriteconfig6")
    return "KDE" in desktops or _file(computer).exists() or any(map(computer.which, programs))


def _file(computer: Computer) -> Path:
    return computer.places.config / "kioslaverc"
