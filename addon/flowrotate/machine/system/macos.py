"""macOS: the network services' proxy settings, and the keychains. IO.

Composed from Apple's manuals and checked by tests that fake the programs: not run on a Mac.
networksetup(8): "-setautoproxyurl networkservice url: Set proxy auto-config to url for
<networkservice> and enable it"; "-getautoproxyurl networkservice"; "-setautoproxystate
networkservice on | off"; "-listallnetworkservices", where an asterisk marks a disabled one.
security(1): "add-trusted-cert [-d] [-r resultType] [-k keychain] certFile", -d for the machine's
domain instead of the user's; "remove-trusted-cert [-d] certFile"; "delete-certificate [-Z hash]
[keychain]"; "find-certificate [-a] [-Z] [keychain]".
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from .certificate import Certificate, kept
from .kinds import ChangeError, Commands, Computer, Outcome, run_all, shown
from .ledger import Entry

OFF = "off"
SYSTEM_KEYCHAIN = "/Library/Keychains/System.keychain"


class AutoProxy:
    """A place is a network service; its value is `on URL` or `off`.

    There is no command that clears a URL: where none was set before, ours stays in the field,
    switched off.
    """

    def __init__(self, computer: Computer) -> None:
        self._run = computer.run

    def title(self, entry: Entry) -> str:
        return f"macOS: automatic proxy configuration of {entry.place}"

    def look(self, entry: Entry) -> str | None:
        url, on = self._read(entry.place)
        return f"on {url}" if on else OFF

    def keep(self, entry: Entry) -> Mapping[str, Any]:
        return {"url": self._read(entry.place)[0]}

    def words(self, entry: Entry, value: str | None) -> list[str]:
        return shown(_commands(entry, value))

    def put(self, entry: Entry, value: str | None) -> None:
        run_all(self._run, _commands(entry, value))

    def settle(self, entry: Entry) -> None:
        pass

    def tidy(self, entry: Entry) -> None:
        pass

    def _read(self, service: str) -> tuple[str, bool]:
        said = self._run(["networksetup", "-getautoproxyurl", service])
        url = re.search(r"^URL: *(.*?) *$", said.text, re.MULTILINE)
        on = re.search(r"^Enabled: *(Yes|No)", said.text, re.MULTILINE)
        if not said.ok or not url or not on:
            raise ChangeError(f"networksetup: {said.text.strip()}")
        return url[1].replace("(null)", ""), on[1] == "Yes"


class Keychain:
    """A place is a keychain."""

    def __init__(self, computer: Computer) -> None:
        self._run = computer.run
        self._book = computer.book

    def title(self, entry: Entry) -> str:
        return f"the CA in {entry.place}"

    def look(self, entry: Entry) -> str | None:
        said = self._run(["security", "find-certificate", "-a", "-Z", entry.place])
        if not said.ok:
            raise ChangeError(f"security: {said.text.strip()}")
        return entry.goal if f"SHA-1 hash: {entry.goal}" in said.text else None

    def keep(self, entry: Entry) -> Mapping[str, Any]:  # noqa: ARG002
        return {}

    def words(self, entry: Entry, value: str | None) -> list[str]:
        return shown(self._commands(entry, value))

    def put(self, entry: Entry, value: str | None) -> None:
        commands = self._commands(entry, value)
        if value is None:
            first, *commands = commands
            said = self._run(first)
            # So a kill between the two has left it; any other failure leaves it trusted.
            if not said.ok and "could not be found" not in said.text:
                raise ChangeError(f"security: {said.text.strip()}")
        run_all(self._run, commands)

    def settle(self, entry: Entry) -> None:
        pass

    def tidy(self, entry: Entry) -> None:
        pass

    def _commands(self, entry: Entry, value: str | None) -> Commands:
        domain = ["-d"] if entry.place == SYSTEM_KEYCHAIN else []
        file = str(kept(self._book, entry.cert))
        if value is None:
            return [
                ["security", "remove-trusted-cert", *domain, file],
                ["security", "delete-certificate", "-Z", entry.goal, entry.place],
            ]
        keychain = ["-k", entry.place]
        return [["security", "add-trusted-cert", *domain, "-r", "trustRoot", *keychain, file]]


def wishes(computer: Computer, pac: str) -> Iterator[Entry | Outcome]:
    for service in services(computer):
        yield Entry("macos", service, (f"on {pac}",))


def trust(computer: Computer, certificate: Certificate, *, system: bool) -> Iterator[Entry]:
    login = PurePosixPath(computer.places.home, "Library", "Keychains", "login.keychain-db")
    for keychain in [SYSTEM_KEYCHAIN] if system else [str(login)]:
        yield Entry("keychain", keychain, (certificate.sha1,), cert=certificate.sha256)


def foreign(computer: Computer, pacs: set[str]) -> str:
    """The proxy that somebody else has set."""
    for service in services(computer):
        value = AutoProxy(computer).look(Entry("macos", service, ()))
        if value != OFF and (value or "").removeprefix("on ") not in pacs:
            return f"{service} has another PAC: {(value or '').removeprefix('on ')}"
        for option in ("-getwebproxy", "-getsecurewebproxy"):
            if re.search(r"^Enabled: *Yes", computer.run(["networksetup", option, service]).text):
                return f"{service} has a proxy (networksetup {option})"
    return ""


def services(computer: Computer) -> list[str]:
    """Those that are not disabled. The first line explains the asterisk."""
    said = computer.run(["networksetup", "-listallnetworkservices"])
    if not said.ok:
        raise ChangeError(f"networksetup: {said.text.strip()}")
    return [line for line in said.text.splitlines()[1:] if line and not line.startswith("*")]


def _commands(entry: Entry, value: str | None) -> Commands:
    networksetup = ["networksetup", "-setautoproxyurl", entry.place]
    state = ["networksetup", "-setautoproxystate", entry.place]
    if value and value != OFF:
        return [[*networksetup, value.removeprefix("on ")], [*state, "on"]]
    former = entry.notes.get("url", "")
    return [*([[*networksetup, former]] if former else []), [*state, "off"]]
