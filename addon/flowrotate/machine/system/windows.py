"""Windows: the user's Internet settings in the registry, and the certificate stores. IO.

Composed from Microsoft's references and checked by tests that fake the programs: not run on
Windows. "reg query <keyname> [/v <Valuename>]", "reg add <keyname> [/v valuename] [/t datatype]
[/d data] [/f]", "reg delete <keyname> [/v valuename] [/f]"; exit status 0 or 1.
"CertUtil [Options] -addstore CertificateStoreName InFile", "-delstore CertificateStoreName
CertId", "-store [CertificateStoreName [CertId]]", with "-user to access a user store instead of
a machine store"; a CertId may be a SHA-1.
(learn.microsoft.com, windows-server/administration/windows-commands: reg-query, reg-add,
reg-delete, certutil.)
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PureWindowsPath
from subprocess import list2cmdline
from typing import Any

from .certificate import Certificate, kept
from .kinds import Commands, Computer, Outcome, run_all
from .ledger import Entry

KEY = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Internet Settings"
PAC = "AutoConfigURL"
USER, MACHINE = "the user's Root store", "the machine's Root store"


class Registry:
    """A place is a value's name, its value `TYPE DATA`. Programs that run may see it late."""

    def __init__(self, computer: Computer) -> None:
        self._run = computer.run

    def title(self, entry: Entry) -> str:
        return f"Windows: {entry.place} in Internet Settings"

    def look(self, entry: Entry) -> str | None:
        said = self._run(["reg", "query", KEY, "/v", entry.place])
        pattern = rf"^ *{re.escape(entry.place)} +(REG_\w+) *(.*?)\s*$"
        found = re.search(pattern, said.text, re.MULTILINE | re.IGNORECASE)
        return f"{found[1]} {found[2]}" if said.ok and found else None

    def keep(self, entry: Entry) -> Mapping[str, Any]:  # noqa: ARG002
        return {}

    def words(self, entry: Entry, value: str | None) -> list[str]:
        return _shown(_commands(entry, value))

    def put(self, entry: Entry, value: str | None) -> None:
        run_all(self._run, _commands(entry, value))

    def settle(self, entry: Entry) -> None:
        pass

    def tidy(self, entry: Entry) -> None:
        pass


class RootStore:
    """A place is one of USER and MACHINE. The user is asked whether he wants to trust it."""

    def __init__(self, computer: Computer) -> None:
        self._run = computer.run
        self._book = computer.book
        # By its path: NSS has a program of the same name.
        windows = PureWindowsPath(computer.env.get("SystemRoot", r"C:\Windows"))
        self._certutil = str(windows / "System32" / "certutil.exe")

    def title(self, entry: Entry) -> str:
        return f"the CA in {entry.place}"

    def look(self, entry: Entry) -> str | None:
        return entry.goal if self._run(self._command(entry, "-store", entry.goal)).ok else None

    def keep(self, entry: Entry) -> Mapping[str, Any]:  # noqa: ARG002
        return {}

    def words(self, entry: Entry, value: str | None) -> list[str]:
        return _shown(self._commands(entry, value))

    def put(self, entry: Entry, value: str | None) -> None:
        run_all(self._run, self._commands(entry, value))

    def settle(self, entry: Entry) -> None:
        pass

    def tidy(self, entry: Entry) -> None:
        pass

    def _commands(self, entry: Entry, value: str | None) -> Commands:
        if value is None:
            return [self._command(entry, "-delstore", entry.goal)]
        return [self._command(entry, "-addstore", str(kept(self._book, entry.cert)))]

    def _command(self, entry: Entry, verb: str, what: str) -> list[str]:
        whose = ["-user"] if entry.place == USER else []
        return [self._certutil, *whose, verb, "Root", what]


def wishes(computer: Computer, pac: str) -> Iterator[Entry | Outcome]:  # noqa: ARG001
    yield Entry("windows", PAC, (f"REG_SZ {pac}",))


def trust(certificate: Certificate, *, system: bool) -> Iterator[Entry]:
    place = MACHINE if system else USER
    yield Entry("root-store", place, (certificate.sha1,), cert=certificate.sha256)


def foreign(computer: Computer, pacs: set[str]) -> str:
    """The proxy that somebody else has set."""
    registry = Registry(computer)
    pac = (registry.look(Entry("windows", PAC, ())) or "").partition(" ")[2]
    if pac and pac not in pacs:
        return f"Windows' settings name another PAC: {pac}"
    enabled = registry.look(Entry("windows", "ProxyEnable", ())) or ""
    return "Windows' settings name a proxy (ProxyEnable)" if enabled.endswith("0x1") else ""


def _shown(commands: Commands) -> list[str]:
    """As one types them there."""
    return [list2cmdline(command) for command in commands]


def _commands(entry: Entry, value: str | None) -> Commands:
    if value is None:
        return [["reg", "delete", KEY, "/v", entry.place, "/f"]]
    kind, _, data = value.partition(" ")
    return [["reg", "add", KEY, "/v", entry.place, "/t", kind, "/d", data, "/f"]]
