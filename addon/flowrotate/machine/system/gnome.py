"""GNOME's proxy settings; other desktops, and Chromium, read them too. IO.

GSettings schema org.gnome.system.proxy: `mode` none, manual or auto; `autoconfig-url`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .folders import missing, read, remove
from .kinds import ChangeError, Commands, Computer, Outcome, run_all, shown
from .ledger import Entry

SCHEMA = "org.gnome.system.proxy"
PATH = "/system/proxy"
# dconf's database without a key, as its service writes it (GVDB: an empty table).
EMPTY = b"GVariant" + bytes(8) + b"\x18\0\0\0\x20\0\0\0" + b"\0\0\0\x28" + bytes(4)
VALUE = re.compile(r"""^(?:'.*'|".*")$""", re.MULTILINE)


class Gnome:
    """Values are GVariant texts; None is a key that the user has not set."""

    def __init__(self, computer: Computer) -> None:
        self._run = computer.run
        plain = computer.env.get("GSETTINGS_BACKEND", "dconf") == "dconf"
        self._dconf = bool(plain and computer.which("dconf"))
        self._database = computer.places.config / "dconf" / "user"

    def title(self, entry: Entry) -> str:
        return f"GNOME: {entry.place}"

    def look(self, entry: Entry) -> str | None:
        """gsettings alone cannot tell a default from the same value, set."""
        if self._dconf:
            command = ["dconf", "read", f"{PATH}/{entry.place}"]
        else:
            command = ["gsettings", "get", SCHEMA, entry.place]
        said = self._run(command)
        # Warnings of GLib's come on the same channel.
        found = VALUE.findall(said.text)
        if not said.ok or (not found and not self._dconf):
            raise ChangeError(f"{command[0]}: {said.text.strip() or 'it said nothing'}")
        return found[-1] if found else None

    def keep(self, entry: Entry) -> Mapping[str, Any]:  # noqa: ARG002
        if self._dconf and not self._database.exists():
            return {"database": str(self._database), "made": missing(self._database.parent)}
        return {}

    def words(self, entry: Entry, value: str | None) -> list[str]:
        return shown(_commands(entry, value))

    def put(self, entry: Entry, value: str | None) -> None:
        run_all(self._run, _commands(entry, value))
        if self.look(entry) != value:
            # Without a session gsettings warns, and exits with 0.
            raise ChangeError("gsettings had no effect: run it in a terminal of your desktop")

    def settle(self, entry: Entry) -> None:
        pass

    def tidy(self, entry: Entry) -> None:
        """A database that was not there, and is empty again, goes."""
        if "database" in entry.notes:
            database = Path(entry.notes["database"])
            if read(database) == EMPTY:
                take_away(database)
            remove(entry.notes["made"])


def wishes(computer: Computer, pac: str) -> Iterator[Entry | Outcome]:
    """The URL first: between the two, nobody looks for a proxy by himself."""
    if not computer.which("gsettings"):
        return
    said = computer.run(["gsettings", "writable", SCHEMA, "mode"])
    if not said.ok:
        return  # no such schema: no GNOME
    if "true" not in said.text.split():
        yield Outcome("skipped", "GNOME", "an administrator has locked its proxy settings")
    elif not _session(computer):
        yield Outcome("skipped", "GNOME", "no session here: run it in a terminal of your desktop")
    else:
        yield Entry("gnome", "autoconfig-url", (f"'{pac}'",))
        yield Entry("gnome", "mode", ("'auto'",))


def foreign(computer: Computer, pacs: set[str]) -> str:
    """The proxy that somebody else has set."""
    if not any(isinstance(one, Entry) for one in wishes(computer, "")):
        return ""
    values = {}
    for key in ("mode", "autoconfig-url"):
        found = VALUE.findall(computer.run(["gsettings", "get", SCHEMA, key]).text)
        values[key] = found[-1][1:-1] if found else ""
    if values["mode"] == "manual":
        return "GNOME's settings name a proxy (mode manual)"
    if values["mode"] == "auto" and values["autoconfig-url"] not in pacs:
        return f"GNOME's settings name another PAC: {values['autoconfig-url'] or 'found by WPAD'}"
    return ""


def _commands(entry: Entry, value: str | None) -> Commands:
    if value is None:
        return [["gsettings", "reset", SCHEMA, entry.place]]
    return [["gsettings", "set", SCHEMA, entry.place, value]]


def _session(computer: Computer) -> bool:
    if computer.env.get("DBUS_SESSION_BUS_ADDRESS"):
        return True
    folder = computer.env.get("XDG_RUNTIME_DIR")
    return bool(folder) and (Path(folder or "") / "bus").exists()


def take_away(database: Path) -> None:
    """dconf's service may write at any time: look again at what nobody writes to any more."""
    aside = database.with_name(".user.flow-rotate")
    database.replace(aside)
    if aside.read_bytes() != EMPTY:
        with suppress(FileExistsError):
            os.link(aside, database)
    aside.unlink()
