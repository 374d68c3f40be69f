"""`flow-rotate system`, as it is typed: what is refused, and what a program reads.

The settings of real sessions are in tests/e2e/test_system.py.
"""

import json
import os
import pwd
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flowrotate.demo.certs import make_authority
from flowrotate.machine.commands import Said
from flowrotate.machine.system import cli
from flowrotate.machine.system.kinds import Outcome
from flowrotate.machine.target import Target

from .computers import Programs, computer, tree

NO_CERTUTIL = (
    "skipped  browsers' certificate stores "
    "(certutil is missing: install libnss3-tools (Fedora: nss-tools, Arch: nss))"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of somebody with KDE, and without any program."""
    for name in list(os.environ):
        if name.startswith(("XDG_", "DBUS_", "SUDO_")):
            monkeypatch.delenv(name)
    made = tmp_path / "home"
    (tmp_path / "bin").mkdir()
    (made / ".mitmproxy").mkdir(parents=True)
    authority = make_authority(tmp_path / "ca", ["localhost"])
    shutil.copy(authority.ca, made / ".mitmproxy" / "mitmproxy-ca-cert.pem")
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CURRENT_DESKTOP", "KDE")
    return made


def told(*arguments: str) -> Result:
    return CliRunner().invoke(cli.system, arguments)


def test_on_status_off(home: Path) -> None:
    before = tree(home)
    on = told("on", "--proxy", "127.0.0.1:9")
    assert on.exit_code == 0
    assert on.stderr == (
        "warning  no proxy answers at http://127.0.0.1:9 now: start it: flow-rotate serve\n"
    )
    file = home / ".config" / "kioslaverc"
    assert on.stdout == (
        f"{NO_CERTUTIL}\n"
        f"done     KDE: Proxy Config Script in {file}: http://127.0.0.1:9/proxy.pac\n"
        f"done     KDE: ProxyType in {file}: 2\n"
    )
    status = told("status")
    assert status.exit_code == 0
    assert status.stdout.startswith("on since 20")
    assert "for the proxy http://127.0.0.1:9; it does not answer" in status.stdout
    assert told("off").exit_code == 0
    assert tree(home) == before
    off = told("off")
    assert (off.exit_code, off.stderr) == (0, "warning  nothing is on\n")
    assert told("status").stdout == "nothing is on\n"


def test_for_a_program(home: Path) -> None:
    on = json.loads(told("on", "--json").stdout)
    assert on["proxy"] == "http://127.0.0.1:8080"
    assert [one["status"] for one in on["steps"]] == ["skipped", "done", "done"]
    status = json.loads(told("status", "--json").stdout)
    assert status["on"]
    assert status["changes"][1] == {
        "kind": "kde",
        "place": "ProxyType",
        "status": "on",
        "what": f"KDE: ProxyType in {home}/.config/kioslaverc: 2",
    }
    off = json.loads(told("off", "--json").stdout)
    assert [one["status"] for one in off["steps"]] == ["done", "done"]
    assert json.loads(told("off", "--json").stdout) == {
        "steps": [],
        "warnings": ["nothing is on"],
    }
    nothing: dict[str, object] = {
        "on": False,
        "proxy": None,
        "since": None,
        "answers": False,
        "changes": [],
    }
    assert json.loads(told("status", "--json").stdout) == nothing


REFUSED = {
    "no-ca": (["--confdir", "nowhere"], "start it once: flow-rotate serve"),
    "no-certificate": (["--confdir", "bad"], "is no certificate"),
    "far": (["--proxy", "http://proxy.example:8080"], "must be on this machine"),
    "address": (["--proxy", "192.168.1.2:8080"], "must be on this machine"),
    "https": (["--proxy", "https://127.0.0.1:8080"], "--proxy: write http://HOST:PORT"),
    "password": (["--proxy", "http://a:b@127.0.0.1:8080"], "leave out user and password"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_refused_changes_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, as_json: bool
) -> None:
    arguments, says = REFUSED[name]
    monkeypatch.chdir(home)
    (home / "bad").mkdir()
    (home / "bad" / "mitmproxy-ca-cert.pem").write_text("no certificate")
    before = tree(home)
    result = told("on", *arguments, *["--json"] * as_json)
    assert result.exit_code == 1
    text = json.loads(result.stdout)["error"] if as_json else result.stderr
    assert says in text
    assert len(text.splitlines()) == 1
    assert tree(home) == before


@pytest.mark.parametrize("proxy", ["localhost:9", "127.8.8.8:9", "[::1]:9"])
def test_where_this_machine_is(home: Path, proxy: str) -> None:
    result = told("on", "--proxy", proxy)
    assert result.exit_code == 0
    assert f"http://{proxy}/proxy.pac" in (home / ".config" / "kioslaverc").read_text()


def test_somebody_elses_proxy_needs_force(home: Path) -> None:
    (home / ".config").mkdir()
    (home / ".config" / "kioslaverc").write_text("[Proxy Settings]\nProxyType=1\n")
    before = tree(home)
    refused = told("on")
    assert refused.exit_code == 1
    assert refused.stderr == (
        "KDE's settings name a proxy: --force replaces it, and `off` puts it back\n"
    )
    assert tree(home) == before
    assert "--mode upstream:http://" in told("on", "--force").stderr
    told("off")
    assert tree(home) == before


def test_our_former_pac_is_not_somebody_elses(home: Path) -> None:
    told("on")
    assert (home / ".config" / "kioslaverc").exists()
    assert told("on", "--proxy", "127.0.0.1:9").exit_code == 0


def test_a_step_that_fails_is_exit_status_1(home: Path) -> None:
    (home / ".config").mkdir()
    (home / ".config" / ".kioslaverc.flow-rotate").mkdir()  # in the way of what is written first
    before = tree(home)
    result = told("on")
    assert result.exit_code == 1
    assert "failed   KDE: ProxyType" in result.stderr
    assert told("off").exit_code == 0
    assert tree(home) == before


def test_a_broken_ledger_stops_everything(home: Path) -> None:
    state = home / ".local" / "state" / "flow-rotate"
    state.mkdir(parents=True)
    (state / "system.json").write_text("{")
    before = tree(home)
    for command in ("on", "off", "status"):
        result = told(command)
        assert (result.exit_code, "is broken" in result.stderr) == (1, True)
        for place in ("the desktop's automatic proxy", "the CA", "--system-trust", "delete it"):
            assert place in result.stderr
    assert tree(home) == before


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/\nProxyType[$e]=$(touch x)\n[Other]\nx=",
        "http://127.0.0.1:9/'",
        "http://127.0.0.1:9/é",
        "http://127.0.0.1:9/\x7f",
        "http://127.0.0.1:9/\u2028",
        "http://127.0.0.1:9/ /d",
    ],
)
def test_an_address_that_would_end_a_line_or_a_quote_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """As a registry that somebody else wrote to might have it."""
    monkeypatch.setattr(
        cli, "find_target", lambda *_, **__: Target(url, home / ".mitmproxy", None, True)
    )
    before = tree(home)
    for more in ([], ["--dry-run"]):
        result = told("on", *more)
        assert result.exit_code == 1
        assert result.stderr.startswith("no address for settings: ")
        assert len(result.stderr.splitlines()) == 1
        assert tree(home) == before


def test_where_nothing_can_be_changed_no_trace_is_left(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CURRENT_DESKTOP")
    before = tree(home)
    result = told("on")
    assert result.exit_code == 0
    assert result.stdout == (
        f"{NO_CERTUTIL}\n"
        "skipped  the desktop (neither GNOME nor KDE is here: flow-rotate env for a shell; for a "
        "browser, the PAC's address in its own settings: http://127.0.0.1:8080/proxy.pac)\n"
    )
    assert tree(home) == before


@pytest.mark.parametrize("arguments", [["up"], ["on", "--what"], ["off", "--proxy", "x"]])
def test_misuse(arguments: list[str]) -> None:
    assert told(*arguments).exit_code == 2


def test_system_trust_needs_root(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    before = tree(home)
    result = told("on", "--system-trust")
    assert result.exit_code == 1
    assert result.stderr == f"--system-trust needs root: {cli.SUDO}\n"
    assert tree(home) == before


@pytest.fixture
def sudo(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Root, whom somebody of this machine called."""
    user = next(one for one in pwd.getpwall() if one.pw_uid and one.pw_dir != str(home))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", user.pw_name)
    return user.pw_name


@pytest.mark.parametrize("command", ["on", "off", "status"])
def test_a_sudo_user_who_is_nobody_is_an_error(
    sudo: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SUDO_USER", f"no-{sudo}")
    result = told(command)
    assert result.exit_code == 1
    assert f"SUDO_USER names nobody of this machine: no-{sudo}" in result.stderr


def test_under_sudo_alone_nothing_is_changed(sudo: str) -> None:
    result = told("on")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"this is {sudo}'s: run it without sudo")


def test_under_sudo_the_users_proxy_is_meant_and_the_machines_ledger(sudo: str) -> None:
    if sys.platform != "linux":
        pytest.skip("elsewhere the ledger has another place")
    found = cli.this_computer()
    assert found.user == sudo
    assert str(found.places.home) == pwd.getpwnam(sudo).pw_dir
    assert found.book.file == Path("/var/lib/flow-rotate/system.json")


def test_system_trust_under_sudo(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder in place of `/`, with an update-ca-certificates that is a fake."""
    anchors = tmp_path / "usr" / "local" / "share" / "ca-certificates"
    anchors.mkdir(parents=True)
    programs = Programs({"update-ca-certificates": lambda _: Said(0, "")})
    there = replace(computer(tmp_path, programs), user="somebody", is_root=True)
    monkeypatch.setattr(cli, "this_computer", lambda: there)
    before = tree(tmp_path)
    on = told("on", "--system-trust")
    assert on.exit_code == 0
    assert on.stdout == (
        "skipped  desktop and browsers of somebody (run it without sudo)\n"
        f"done     the CA in the machine's trust store: {anchors}/flow-rotate.crt\n"
    )
    assert told("off").exit_code == 0
    assert tree(tmp_path) == before
    assert programs.told == [["update-ca-certificates"], ["update-ca-certificates", "--fresh"]]
    assert (home / ".mitmproxy").is_dir()


def test_a_dry_run_in_lines(home: Path) -> None:
    before = tree(home)
    lines = told("on", "--dry-run").stdout.splitlines()
    file = home / ".config" / "kioslaverc"
    assert lines[3:] == [
        f"would    KDE: ProxyType in {file}: 2",
        f"           edit {file}: [Proxy Settings] ProxyType=2",
    ]
    assert tree(home) == before


@pytest.mark.parametrize("status", ["done", "on", "skipped", "failed", "left", "would", "changed"])
def test_every_outcome_has_a_colour(status: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli._line(Outcome(status, "x", "y", ("z",)))
    out, err = capsys.readouterr()
    assert f"{status:8} x (y)" in out + err
