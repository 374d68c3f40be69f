"""Which changes this computer gets. IO, but only to look."""

import re
from collections.abc import Iterator

from . import anchors, gnome, kde, macos, nss, windows
from .certificate import Certificate
from .kinds import ChangeError, Computer, Kind, Outcome
from .ledger import Entry

# It goes into files and commands whose quotes and line ends it must not end.
ADDRESS = re.compile(r"https?://[\w.:%/\[\]-]+", re.ASCII)

ELSEWHERE = (
    "neither GNOME nor KDE is here: flow-rotate env for a shell; for a browser, the PAC's "
    "address in its own settings: {}"
)


def kinds(computer: Computer) -> dict[str, Kind]:
    return {
        "gnome": gnome.Gnome(computer),
        "kde": kde.Kde(computer),
        "macos": macos.AutoProxy(computer),
        "keychain": macos.Keychain(computer),
        "windows": windows.Registry(computer),
        "root-store": windows.RootStore(computer),
        "nss": nss.Nss(computer),
        "anchors": anchors.Anchors(computer),
    }


def wishes(
    computer: Computer, pac: str, certificate: Certificate, *, system_trust: bool
) -> Iterator[Entry | Outcome]:
    """Trust first: a proxy that is used and not trusted breaks every page. Raises ChangeError."""
    if not ADDRESS.fullmatch(pac):
        raise ChangeError(f"no address for settings: {pac!r}: name the proxy with --proxy")
    if computer.user:
        yield Outcome("skipped", f"desktop and browsers of {computer.user}", "run it without sudo")
    else:
        yield from _trust(computer, certificate)
    if system_trust:
        yield from _system_trust(computer, certificate)
    if not computer.user:
        yield from _settings(computer, pac)


def foreign(computer: Computer, pacs: set[str]) -> list[str]:
    """The proxies that somebody else has set, in words. Raises ChangeError."""
    if computer.user:
        return []
    if computer.places.platform == "darwin":
        found = [macos.foreign(computer, pacs)]
    elif computer.places.platform == "win32":
        found = [windows.foreign(computer, pacs)]
    else:
        found = [gnome.foreign(computer, pacs), kde.foreign(computer, pacs)]
    return [one for one in found if one]


def _trust(computer: Computer, certificate: Certificate) -> Iterator[Entry | Outcome]:
    if computer.places.platform == "darwin":
        yield from macos.trust(computer, certificate, system=False)
    elif computer.places.platform == "win32":
        yield from windows.trust(certificate, system=False)
    else:
        yield from nss.wishes(computer, certificate)


def _system_trust(computer: Computer, certificate: Certificate) -> Iterator[Entry | Outcome]:
    if computer.places.platform == "darwin":
        yield from macos.trust(computer, certificate, system=True)
    elif computer.places.platform == "win32":
        yield from windows.trust(certificate, system=True)
    else:
        yield from anchors.wishes(computer, certificate)


def _settings(computer: Computer, pac: str) -> Iterator[Entry | Outcome]:
    if computer.places.platform == "darwin":
        yield from macos.wishes(computer, pac)
    elif computer.places.platform == "win32":
        yield from windows.wishes(computer, pac)
    else:
        found = [*gnome.wishes(computer, pac), *kde.wishes(computer, pac)]
        yield from found or [Outcome("skipped", "the desktop", ELSEWHERE.format(pac))]
