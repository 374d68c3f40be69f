"""KDE's settings in real files."""

from dataclasses import replace
from pathlib import Path

import pytest

from flowrotate.machine.commands import Said
from flowrotate.machine.system import plan
from flowrotate.machine.system.kde import SCRIPT, TELL, TYPE, Kde, foreign, wishes
from flowrotate.machine.system.kinds import Computer, Outcome
from flowrotate.machine.system.ledger import Entry
from flowrotate.machine.system.plan import kinds
from flowrotate.machine.system.switch import switch_off, switch_on

from .computers import PAC, Programs, certificate, computer, tree

FILES = {
    "none": None,
    "empty": b"",
    "other": b"# mine\r\n[Other]\r\na=b",
    "set": b"[Proxy Settings]\nProxyType=1\nhttpProxy=http://corp 3128\n\n[X]\n",
    "bytes": b"\xff\xfe[A]\nb=\x80\n",
    "group": b"[Proxy Settings]\n",
    "blank": b"\n\n[A]\n\n[B]\nc=d\n\n",
}


def at(folder: Path, content: bytes | None = None) -> Computer:
    there = computer(folder, env={"XDG_CURRENT_DESKTOP": "KDE"})
    if content is not None:
        there.places.config.mkdir()
        (there.places.config / "kioslaverc").write_bytes(content)
    return there


def turn_on(there: Computer, pac: str = PAC) -> list[str]:
    ledger = there.book.load() or there.book.begin("", 0.0)
    found = list(wishes(there, pac))
    done = switch_on(kinds(there), there.book, ledger, found, dry=False)
    return [one.status for one in done]


def turn_off(there: Computer) -> list[str]:
    ledger = there.book.load()
    assert ledger
    return [one.status for one in switch_off(kinds(there), there.book, ledger)]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("moved", [False, True])
def test_byte_for_byte(tmp_path: Path, name: str, moved: bool) -> None:
    there = at(tmp_path, FILES[name])
    before = tree(tmp_path)
    assert turn_on(there) == ["done", "done"]
    if moved:
        assert turn_on(there, "http://127.0.0.1:9/proxy.pac") == ["done", "already"]
    kde = Kde(there)
    pac = "http://127.0.0.1:9/proxy.pac" if moved else PAC
    assert kde.look(Entry("kde", SCRIPT, ())) == pac
    assert kde.look(Entry("kde", TYPE, ())) == "2"
    assert turn_off(there) == ["done", "done"]
    assert tree(tmp_path) == before


def test_what_the_user_changed_meanwhile_is_left(tmp_path: Path) -> None:
    there = at(tmp_path, FILES["set"])
    file = there.places.config / "kioslaverc"
    turn_on(there)
    text = file.read_text().replace("ProxyType=2", "ProxyType=0") + "[Mine]\nx=y\n"
    file.write_text(text)
    assert turn_off(there) == ["left", "done"]
    assert file.read_text() == text.replace(f"{SCRIPT}={PAC}\n", "")


def test_what_the_user_wrote_meanwhile_stays(tmp_path: Path) -> None:
    there = at(tmp_path, FILES["other"])
    file = there.places.config / "kioslaverc"
    turn_on(there)
    file.write_bytes(file.read_bytes() + b"[Mine]\r\nx=y\r\n")
    assert turn_off(there) == ["done", "done"]
    assert file.read_bytes() == (
        b"# mine\r\n[Other]\r\na=b\r\n[Proxy Settings]\r\n[Mine]\r\nx=y\r\n"
    )


def test_those_that_run_are_told(tmp_path: Path) -> None:
    programs = Programs({"dbus-send": lambda _: Said(1, "no session")})
    there = computer(tmp_path, programs, env={"XDG_CURRENT_DESKTOP": "plasma:KDE"})
    assert turn_on(there) == ["done", "done"]
    assert programs.told == [TELL, TELL]


@pytest.mark.parametrize(
    ("env", "program", "file", "platform", "there"),
    [
        ({}, "", False, "linux", False),
        ({"XDG_CURRENT_DESKTOP": "GNOME"}, "", False, "linux", False),
        ({"XDG_CURRENT_DESKTOP": "KDE"}, "", False, "linux", True),
        ({}, "kwriteconfig5", False, "linux", True),
        ({}, "kwriteconfig6", False, "freebsd14", True),
        ({}, "", True, "linux", True),
        ({}, "", True, "darwin", False),
    ],
)
def test_where_kde_is(
    tmp_path: Path, env: dict[str, str], program: str, file: bool, platform: str, there: bool
) -> None:
    programs = Programs({program: lambda _: Said(0, "")} if program else {})
    found = computer(tmp_path, programs, env=env, platform=platform)
    if file:
        found.places.config.mkdir(parents=True)
        (found.places.config / "kioslaverc").touch()
    assert bool(list(wishes(found, PAC))) is there


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", ""),
        (b"[Proxy Settings]\nProxyType=0\nProxy Config Script=http://corp\n", ""),
        (b"[Proxy Settings]\nProxyType=1\n", "name a proxy"),
        (b"[Proxy Settings]\nProxyType=3\n", "WPAD"),
        (b"[Proxy Settings]\nProxyType=4\n", "the environment's"),
        (b"[Proxy Settings]\nProxyType=2\nProxy Config Script=http://corp\n", "http://corp"),
        (f"[Proxy Settings]\nProxyType=2\nProxy Config Script={PAC}\n".encode(), ""),
    ],
)
def test_a_proxy_that_is_set_is_somebody_elses(tmp_path: Path, text: bytes, says: str) -> None:
    found = foreign(at(tmp_path, text), {PAC})
    assert bool(found) is bool(says)
    assert says in found
    assert foreign(computer(tmp_path / "home"), {PAC}) == ""


def test_under_sudo_the_users_desktop_is_left_alone(tmp_path: Path) -> None:
    there = replace(at(tmp_path, b"[Proxy Settings]\nProxyType=1\n"), user="somebody")
    assert plan.foreign(there, {PAC}) == []
    told = list(plan.wishes(there, PAC, certificate(tmp_path), system_trust=True))
    assert [one.status for one in told if isinstance(one, Outcome)] == ["skipped", "failed"]
    assert len(told) == 2
