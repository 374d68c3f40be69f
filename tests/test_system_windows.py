"""Windows' commands, by Microsoft's references. The programs are fakes; nothing ran on Windows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flowrotate.machine.commands import Said
from flowrotate.machine.system import windows
from flowrotate.machine.system.certificate import keep_certificate, kept
from flowrotate.machine.system.ledger import Entry
from flowrotate.machine.system.plan import foreign, kinds, wishes
from flowrotate.machine.system.switch import switch_off, switch_on

from .computers import PAC, Programs, certificate, computer

CERTUTIL = r"D:\Win\System32\certutil.exe"
ADD = ["reg", "add", windows.KEY, "/v", "AutoConfigURL", "/t", "REG_SZ", "/d", PAC, "/f"]


@dataclass
class Pc:
    """A fake of reg and certutil, as their references describe them."""

    values: dict[str, tuple[str, str]] = field(default_factory=dict)
    stores: dict[str, set[str]] = field(default_factory=lambda: {"user": set(), "machine": set()})
    hashes: dict[str, str] = field(default_factory=dict)

    def reg(self, command: Sequence[str]) -> Said:
        match list(command[1:]):
            case ["query", windows.KEY, "/v", name] if name in self.values:
                kind, data = self.values[name]
                return Said(0, f"\r\n{windows.KEY}\r\n    {name}    {kind}    {data}\r\n\r\n")
            case ["add", windows.KEY, "/v", name, "/t", kind, "/d", data, "/f"]:
                self.values[name] = (kind, data)
            case ["delete", windows.KEY, "/v", name, "/f"] if name in self.values:
                del self.values[name]
            case _:
                return Said(1, "ERROR: The system was unable to find the specified key.\r\n")
        return Said(0, "The operation completed successfully.\r\n")

    def certutil(self, command: Sequence[str]) -> Said:
        rest = list(command[1:])
        store = self.stores["user" if rest[0] == "-user" else "machine"]
        match [one for one in rest if one != "-user"]:
            case ["-store", "Root", sha1] if sha1 in store:
                pass
            case ["-addstore", "Root", file]:
                store.add(self.hashes[file])
            case ["-delstore", "Root", sha1] if sha1 in store:
                store.remove(sha1)
            case _:
                return Said(-2146885628, "CertUtil: Object was not found.\r\n")
        return Said(0, "CertUtil: command completed successfully.\r\n")


@pytest.mark.parametrize(
    ("values", "system_trust"),
    [
        ({}, False),
        ({}, True),
        ({"AutoConfigURL": ("REG_SZ", "http://corp/x y.pac")}, False),
        ({"AutoConfigURL": ("REG_EXPAND_SZ", "%X%")}, False),
        ({"AutoConfigURL": ("REG_SZ", "")}, False),
    ],
)
def test_on_and_off(tmp_path: Path, values: dict[str, tuple[str, str]], system_trust: bool) -> None:
    pc = Pc(dict(values))
    programs = Programs({"reg": pc.reg, CERTUTIL: pc.certutil})
    there = computer(tmp_path, programs, platform="win32", env={"SystemRoot": r"D:\Win"})
    made = certificate(tmp_path)
    file = str(kept(there.book, made.sha256))
    pc.hashes[file] = made.sha1
    keep_certificate(there.book, made)
    ledger = there.book.begin("http://127.0.0.1:8080", 0.0)
    found = list(wishes(there, PAC, made, system_trust=system_trust))
    told = switch_on(kinds(there), there.book, ledger, found, dry=False)
    assert {one.status for one in told} == {"done"}
    machine = [[CERTUTIL, "-addstore", "Root", file]] * system_trust
    assert programs.changes("query", "-store") == [
        [CERTUTIL, "-user", "-addstore", "Root", file],
        *machine,
        ADD,
    ]
    assert pc.stores == {"user": {made.sha1}, "machine": {made.sha1} if system_trust else set()}
    programs.told.clear()
    saved = there.book.load()
    assert saved
    told = switch_off(kinds(there), there.book, saved)
    assert {one.status for one in told} == {"done"}
    assert pc.values == values
    assert pc.stores == {"user": set(), "machine": set()}
    assert [CERTUTIL, "-user", "-delstore", "Root", made.sha1] in programs.told
    delete = ["reg", "delete", windows.KEY, "/v", "AutoConfigURL", "/f"]
    assert (delete in programs.told) is (not values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, ""),
        ({"AutoConfigURL": ("REG_SZ", PAC)}, ""),
        ({"AutoConfigURL": ("REG_SZ", "http://corp/x.pac")}, "another PAC: http://corp/x.pac"),
        ({"ProxyEnable": ("REG_DWORD", "0x0")}, ""),
        ({"ProxyEnable": ("REG_DWORD", "0x1")}, "ProxyEnable"),
    ],
)
def test_a_proxy_that_is_set_is_somebody_elses(
    tmp_path: Path, values: dict[str, tuple[str, str]], says: str
) -> None:
    there = computer(tmp_path, Programs({"reg": Pc(values).reg}), platform="win32")
    found = foreign(there, {PAC})
    assert bool(found) is bool(says)
    assert says in "".join(found)


def test_a_value_is_found_whatever_the_reg_programs_language(tmp_path: Path) -> None:
    text = "\r\nHKEY_CURRENT_USER\\…\r\n    autoconfigurl    REG_SZ    http://a b\r\n"
    there = computer(tmp_path, Programs({"reg": lambda _: Said(0, text)}), platform="win32")
    assert windows.Registry(there).look(Entry("windows", windows.PAC, ())) == "REG_SZ http://a b"


def test_the_words_are_the_commands(tmp_path: Path) -> None:
    there = computer(tmp_path, platform="win32", env={"SystemRoot": r"D:\Win"})
    key = r'"HKCU\Software\Microsoft\Windows\CurrentVersion\Internet Settings"'
    entry = Entry("windows", windows.PAC, (f"REG_SZ {PAC}",))
    kind = kinds(there)["windows"]
    assert kind.words(entry, entry.goal) == [
        f"reg add {key} /v AutoConfigURL /t REG_SZ /d {PAC} /f"
    ]
    assert kind.words(entry, None) == [f"reg delete {key} /v AutoConfigURL /f"]
    trust = Entry("root-store", windows.MACHINE, ("AB",), cert="ab")
    words = kinds(there)["root-store"].words(trust, None)
    assert words == [rf"{CERTUTIL} -delstore Root AB"]
