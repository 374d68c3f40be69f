"""macOS's commands, by Apple's manuals. The programs here are fakes; nothing was run on a Mac."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flowrotate.machine.commands import Said
from flowrotate.machine.system import macos
from flowrotate.machine.system.certificate import keep_certificate, kept
from flowrotate.machine.system.kinds import ChangeError, Computer
from flowrotate.machine.system.ledger import Entry
from flowrotate.machine.system.plan import foreign, kinds, wishes
from flowrotate.machine.system.switch import switch_off, switch_on

from .computers import PAC, Programs, certificate, computer

SYSTEM = macos.SYSTEM_KEYCHAIN
SERVICES = """An asterisk (*) denotes that a network service is disabled.
Wi-Fi
USB 10/100/1000 LAN
*Thunderbolt Bridge
"""


@dataclass
class Mac:
    """A fake of networksetup and security, as their manuals describe them."""

    auto: dict[str, tuple[str, bool]] = field(
        default_factory=lambda: {"Wi-Fi": ("(null)", False), "USB 10/100/1000 LAN": ("", False)}
    )
    web: str = "Enabled: No\nServer: \nPort: 0\nAuthenticated Proxy Enabled: 0\n"
    trusted: set[tuple[bool, str]] = field(default_factory=set)
    found: dict[str, set[str]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def networksetup(self, command: Sequence[str]) -> Said:
        match list(command[1:]):
            case ["-listallnetworkservices"]:
                return Said(0, SERVICES)
            case ["-getautoproxyurl", service] if service in self.auto:
                url, on = self.auto[service]
                return Said(0, f"URL: {url}\nEnabled: {'Yes' if on else 'No'}\n")
            case ["-setautoproxyurl", service, url]:
                self.auto[service] = (url, True)
            case ["-setautoproxystate", service, "on" | "off" as state]:
                self.auto[service] = (self.auto[service][0], state == "on")
            case ["-getwebproxy" | "-getsecurewebproxy", _]:
                return Said(0, self.web)
            case _:
                return Said(4, "** Error: The parameters were not valid.\n")
        return Said(0, "")

    def security(self, command: Sequence[str]) -> Said:
        machine = "-d" in command
        match [one for one in command[1:] if one != "-d"]:
            case ["find-certificate", "-a", "-Z", keychain]:
                lines = sorted(self.found.get(keychain, ()))
                return Said(0, "".join(f"SHA-1 hash: {one}\nkeychain: x\n" for one in lines))
            case ["add-trusted-cert", "-r", "trustRoot", "-k", keychain, file]:
                self.trusted.add((machine, file))
                self.found.setdefault(keychain, set()).add(self.hashes[file])
            case ["remove-trusted-cert", file] if (machine, file) in self.trusted:
                self.trusted.remove((machine, file))
            case ["remove-trusted-cert", _]:
                return Said(
                    1,
                    "SecTrustSettingsRemoveTrustSettings: The specified item "
                    "could not be found in the keychain.\n",
                )
            case ["delete-certificate", "-Z", sha1, keychain] if sha1 in self.found[keychain]:
                self.found[keychain].remove(sha1)
            case _:
                return Said(2, "security: SecKeychainSearch: not found\n")
        return Said(0, "")


@dataclass
class World:
    mac: Mac
    programs: Programs
    computer: Computer


@pytest.fixture
def world(tmp_path: Path) -> World:
    mac = Mac()
    programs = Programs({"networksetup": mac.networksetup, "security": mac.security})
    return World(mac, programs, computer(tmp_path, programs, platform="darwin"))


def turn_on(world: World, folder: Path, *, system_trust: bool = False) -> list[str]:
    made = certificate(folder)
    book = world.computer.book
    world.mac.hashes[str(kept(book, made.sha256))] = made.sha1
    keep_certificate(book, made)
    ledger = book.load() or book.begin("http://127.0.0.1:8080", 0.0)
    found = list(wishes(world.computer, PAC, made, system_trust=system_trust))
    done = switch_on(kinds(world.computer), book, ledger, found, dry=False)
    return [outcome.status for outcome in done]


def turn_off(world: World) -> list[str]:
    ledger = world.computer.book.load()
    assert ledger
    return [one.status for one in switch_off(kinds(world.computer), world.computer.book, ledger)]


def test_on_and_off(world: World, tmp_path: Path) -> None:
    keychain = f"{world.computer.places.home}/Library/Keychains/login.keychain-db"
    assert turn_on(world, tmp_path) == ["done"] * 3
    made = next(iter(world.mac.found[keychain]))
    _, copy = next(iter(world.mac.trusted))
    reads = ("-listallnetworkservices", "-getautoproxyurl", "find-certificate")
    assert world.programs.changes(*reads) == [
        ["security", "add-trusted-cert", "-r", "trustRoot", "-k", keychain, copy],
        ["networksetup", "-setautoproxyurl", "Wi-Fi", PAC],
        ["networksetup", "-setautoproxystate", "Wi-Fi", "on"],
        ["networksetup", "-setautoproxyurl", "USB 10/100/1000 LAN", PAC],
        ["networksetup", "-setautoproxystate", "USB 10/100/1000 LAN", "on"],
    ]
    assert world.mac.auto["Wi-Fi"] == (PAC, True)
    world.programs.told.clear()
    assert turn_off(world) == ["done"] * 3
    assert world.programs.changes(*reads) == [
        ["networksetup", "-setautoproxystate", "USB 10/100/1000 LAN", "off"],
        ["networksetup", "-setautoproxystate", "Wi-Fi", "off"],
        ["security", "remove-trusted-cert", copy],
        ["security", "delete-certificate", "-Z", made, keychain],
    ]
    assert not world.mac.auto["Wi-Fi"][1]
    assert world.mac.trusted == set()
    assert world.computer.book.load() is None


def test_a_url_that_was_there_comes_back(world: World, tmp_path: Path) -> None:
    world.mac.auto["Wi-Fi"] = ("http://old/x.pac", False)
    world.mac.auto["USB 10/100/1000 LAN"] = ("http://corp/x.pac", True)
    assert "has another PAC: http://corp/x.pac" in foreign(world.computer, {PAC})[0]
    turn_on(world, tmp_path)
    turn_off(world)
    assert world.mac.auto == {
        "Wi-Fi": ("http://old/x.pac", False),
        "USB 10/100/1000 LAN": ("http://corp/x.pac", True),
    }


def test_what_the_user_changed_meanwhile_is_left(world: World, tmp_path: Path) -> None:
    turn_on(world, tmp_path)
    world.mac.auto["Wi-Fi"] = ("http://corp/x.pac", True)
    world.mac.found.clear()
    assert turn_off(world) == ["done", "left", "already"]
    assert world.mac.auto["Wi-Fi"] == ("http://corp/x.pac", True)


def test_system_trust_is_the_machines_domain(world: World, tmp_path: Path) -> None:
    turn_on(world, tmp_path, system_trust=True)
    added = [c for c in world.programs.told if "add-trusted-cert" in c]
    assert added[1][:7] == ["security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", SYSTEM]
    turn_off(world)
    removed = [c for c in world.programs.told if "remove-trusted-cert" in c]
    assert removed[0][:3] == ["security", "remove-trusted-cert", "-d"]
    assert world.mac.found[SYSTEM] == set()


def test_a_certificate_whose_trust_is_gone_goes_too(world: World, tmp_path: Path) -> None:
    turn_on(world, tmp_path)
    world.mac.trusted.clear()
    assert turn_off(world) == ["done"] * 3
    assert set().union(*world.mac.found.values()) == set()


def test_a_trust_that_cannot_be_taken_back_is_told(world: World, tmp_path: Path) -> None:
    turn_on(world, tmp_path)
    denied = Said(1, "SecTrustSettingsRemoveTrustSettings: The authorization was denied.\n")
    security = world.programs.fakes["security"]
    world.programs.fakes = world.programs.fakes | {
        "security": lambda c: denied if "remove-trusted-cert" in c else security(c)
    }
    assert turn_off(world) == ["done", "done", "failed"]
    ledger = world.computer.book.load()
    assert ledger
    assert [one.kind for one in ledger.entries] == ["keychain"]
    world.programs.fakes = world.programs.fakes | {"security": security}
    assert turn_off(world) == ["done"]


def test_a_proxy_that_is_set_is_somebody_elses(world: World) -> None:
    assert foreign(world.computer, {PAC}) == []
    world.mac.auto["Wi-Fi"] = (PAC, True)
    assert foreign(world.computer, {PAC}) == []
    world.mac.web = "Enabled: Yes\nServer: proxy.corp\nPort: 3128\n"
    assert "Wi-Fi has a proxy" in foreign(world.computer, {PAC})[0]


@pytest.mark.parametrize("text", ["", "URL: x\n", "Wi-Fi is not a recognized network service."])
def test_what_is_not_understood_is_an_error(tmp_path: Path, text: str) -> None:
    programs = Programs({"networksetup": lambda _: Said(0, text)})
    there = macos.AutoProxy(computer(tmp_path, programs, platform="darwin"))
    with pytest.raises(ChangeError, match="networksetup"):
        there.look(Entry("macos", "Wi-Fi", ()))


def test_the_services_of_a_mac_without_networksetup(tmp_path: Path) -> None:
    with pytest.raises(ChangeError, match="no such program"):
        macos.services(computer(tmp_path, platform="darwin"))
