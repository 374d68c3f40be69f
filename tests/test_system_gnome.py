"""GNOME's settings with programs that are fakes; tests/e2e/test_system.py runs the real ones."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flowrotate.machine.commands import Said
from flowrotate.machine.system.gnome import EMPTY, SCHEMA, Gnome, foreign, take_away, wishes
from flowrotate.machine.system.kinds import ChangeError, Computer, Outcome, shown
from flowrotate.machine.system.ledger import Entry

from .computers import PAC, Programs, computer

MODE, URL = Entry("gnome", "mode", ("'auto'",)), Entry("gnome", "autoconfig-url", (f"'{PAC}'",))
SESSION = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x"}
NOISE = "(process:7): GLib-GIO-WARNING **: 'none' is deprecated\n"
DEFAULTS = {"mode": "'none'", "autoconfig-url": "''"}


@dataclass
class Desktop:
    """A fake of gsettings and dconf. `deaf`: no session, as gsettings then behaves."""

    values: dict[str, str] = field(default_factory=dict)
    writable: str = "true"
    deaf: bool = False

    def gsettings(self, command: Sequence[str]) -> Said:
        match list(command[1:]):
            case ["writable", _, _]:
                found = self.writable
                return Said(0, f"{NOISE}{found}\n") if found else Said(1, "No such schema\n")
            case ["get", _, key]:
                return Said(0, f"{NOISE}{self.values.get(key, DEFAULTS[key])}\n")
            case ["set", _, key, value] if not self.deaf:
                self.values[key] = value
            case ["reset", _, key] if not self.deaf:
                self.values.pop(key, None)
        return Said(0, "(process:7): dconf-WARNING **: failed to commit\n" if self.deaf else "")

    def dconf(self, command: Sequence[str]) -> Said:
        value = self.values.get(command[2].rpartition("/")[2])
        return Said(0, NOISE + (f"{value}\n" if value else ""))


def at(folder: Path, desktop: Desktop, *, dconf: bool = True, **env: str) -> Computer:
    programs = Programs({"gsettings": desktop.gsettings})
    if dconf:
        programs.fakes["dconf"] = desktop.dconf
    return computer(folder, programs, env=SESSION | env)


@pytest.mark.parametrize(
    ("dconf", "env", "value"),
    [(True, "", None), (True, "dconf", None), (False, "", "'none'"), (True, "keyfile", "'none'")],
)
def test_a_key_that_is_not_set(tmp_path: Path, dconf: bool, env: str, value: str | None) -> None:
    """Only dconf knows it; and only where it is what gsettings writes to."""
    named = {"GSETTINGS_BACKEND": env} if env else {}
    assert Gnome(at(tmp_path, Desktop(), dconf=dconf, **named)).look(MODE) == value


def test_put_and_put_back(tmp_path: Path) -> None:
    desktop = Desktop()
    gnome = Gnome(at(tmp_path, desktop))
    gnome.put(URL, URL.goal)
    gnome.put(MODE, MODE.goal)
    assert desktop.values == {"mode": "'auto'", "autoconfig-url": f"'{PAC}'"}
    assert gnome.words(MODE, None) == [f"gsettings reset {SCHEMA} mode"]
    assert gnome.words(MODE, "'none'") == [f"""gsettings set {SCHEMA} mode "'none'\""""]
    gnome.put(MODE, None)
    assert gnome.look(MODE) is None


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("'auto'", "\"'auto'\""),
        ("'http://a b'", "\"'http://a b'\""),
        ("plain", "plain"),
        ("", "''"),
        ("a b", "'a b'"),
        ("'$HOME'", None),
        ("'`id`'", None),
        ("'a\"b'", None),
        ("'\\'", None),
        ("'!x'", None),
    ],
)
def test_words_can_be_read_and_pasted(value: str, word: str | None) -> None:
    (line,) = shown([["printf", "%s", value]])
    if word is not None:
        assert line == f"printf %s {word}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == value


def test_without_a_session_nothing_happens_and_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(ChangeError, match="terminal of your desktop"):
        Gnome(at(tmp_path, Desktop(deaf=True))).put(MODE, MODE.goal)


@pytest.mark.parametrize(
    ("programs", "dconf"),
    [
        ({"gsettings": lambda _: Said(1, "No such key\n")}, False),
        ({"gsettings": lambda _: Said(0, "")}, False),
        ({"gsettings": lambda _: Said(0, ""), "dconf": lambda _: Said(1, "error")}, True),
    ],
)
def test_what_is_not_understood_is_an_error(
    tmp_path: Path, programs: dict[str, object], dconf: bool
) -> None:
    there = computer(tmp_path, Programs(programs))  # type: ignore[arg-type] # fakes by shape
    with pytest.raises(ChangeError, match="dconf" if dconf else "gsettings"):
        Gnome(there).look(MODE)


@pytest.mark.parametrize(
    ("writable", "env", "found"),
    [
        ("true", SESSION, [URL, MODE]),
        ("", SESSION, []),
        ("false", SESSION, ["an administrator has locked its proxy settings"]),
        ("true", {}, ["no session here: run it in a terminal of your desktop"]),
        ("true", {"XDG_RUNTIME_DIR": "/nowhere"}, ["no session here"]),
    ],
)
def test_wishes(
    tmp_path: Path, writable: str, env: dict[str, str], found: list[Entry | str]
) -> None:
    programs = Programs({"gsettings": Desktop(writable=writable).gsettings})
    told = list(wishes(computer(tmp_path, programs, env=env), PAC))
    assert len(told) == len(found)
    for one, expected in zip(told, found, strict=True):
        assert one == expected or (isinstance(one, Outcome) and str(expected) in one.why)


def test_a_session_is_also_a_socket(tmp_path: Path) -> None:
    (tmp_path / "bus").touch()
    programs = Programs({"gsettings": Desktop().gsettings})
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert list(wishes(computer(tmp_path, programs, env=env), PAC)) == [URL, MODE]


def test_where_there_is_no_gsettings(tmp_path: Path) -> None:
    assert list(wishes(computer(tmp_path), PAC)) == []
    assert foreign(computer(tmp_path), {PAC}) == ""


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, ""),
        ({"mode": "'none'", "autoconfig-url": "'http://corp/x.pac'"}, ""),
        ({"mode": "'auto'", "autoconfig-url": f"'{PAC}'"}, ""),
        ({"mode": "'manual'"}, "mode manual"),
        ({"mode": "'auto'", "autoconfig-url": "'http://corp/x.pac'"}, "http://corp/x.pac"),
        ({"mode": "'auto'"}, "WPAD"),
    ],
)
def test_a_proxy_that_is_set_is_somebody_elses(
    tmp_path: Path, values: dict[str, str], says: str
) -> None:
    found = foreign(at(tmp_path, Desktop(values)), {PAC})
    assert bool(found) is bool(says)
    assert says in found


@pytest.mark.parametrize(
    ("content", "there"), [(EMPTY, False), (EMPTY + b"x", True), (b"GVariant", True)]
)
def test_only_an_empty_database_that_was_not_there_goes(
    tmp_path: Path, content: bytes, there: bool
) -> None:
    place = at(tmp_path, Desktop())
    gnome, database = Gnome(place), place.places.config / "dconf" / "user"
    notes = gnome.keep(MODE)
    database.parent.mkdir(parents=True)
    database.write_bytes(content)
    assert gnome.keep(MODE) == {}
    gnome.tidy(MODE)
    assert database.exists()
    gnome.tidy(Entry("gnome", "mode", ("'auto'",), notes=notes))
    assert database.exists() is there
    assert place.places.config.exists() is there


def test_a_database_that_is_written_to_meanwhile_stays(tmp_path: Path) -> None:
    database = tmp_path / "user"
    database.write_bytes(b"GVariant, and a key")
    take_away(database)
    assert database.read_bytes() == b"GVariant, and a key"
    assert list(tmp_path.iterdir()) == [database]
