"""The unit's text, and what systemd itself says of it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from flowrotate.machine.commands import Said
from flowrotate.machine.places import places
from flowrotate.machine.service.keeper import KeeperError
from flowrotate.machine.service.order import Order
from flowrotate.machine.service.systemd import (
    NAMESPACES,
    UNIT,
    VERSION,
    ask_version,
    command_in,
    command_line,
    keeper,
    quote,
    read,
    unit,
)

RUNTIME = Path("/run/user/1000")
FILE = Path("/h/.config/systemd/user") / UNIT
ORDER = Order("/v/bin/python", ("--set", "a=b"), (Path("/h/.mitmproxy"),), (("PATH", "/a:/b"),))
ODD = ("a b", "50%", "%h", "$HOME", "${X}", 'q"', "o'b", "\\n", "\\", ";", "", "é", "#", "a=b")

analyze = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(not analyze, reason="no systemd-analyze here (Debian: systemd)")


def test_a_trial_is_run_by_the_manager() -> None:
    """In its environment, with $ for a $."""
    keeps = keeper(places({}, Path("/h"), "linux"), RUNTIME, 7)
    made = keeps.trial(Order("/v/python", ("--set", "a=$b"), (), (("PATH", "/a b"),)))
    serve = ("/v/python", "-P", "-m", "flowrotate", "serve", "--set", "a=$$b", "--check")
    assert made[:3] == ("systemd-run", "--user", "--quiet")
    assert made[-len(serve) - 2 :] == ("--setenv=PATH=/a b", "--", *serve)


@pytest.mark.parametrize("runtime", ["/r\nExecStartPre=/evil", "/r\x1b"])
def test_a_runtime_folder_that_would_add_lines(runtime: str) -> None:
    with pytest.raises(KeeperError, match=r"^XDG_RUNTIME_DIR: take out"):
        unit(ORDER, 252, Path(runtime), users=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--listen", "--listen"),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("a b", '"a b"'),
        ("50%", "50%%"),
        ("%h/x y", '"%%h/x y"'),
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        ("it's", '"it\'s"'),
        ("", '""'),
        (";", '";"'),
        ("#", '"#"'),
        ("$X", '"$X"'),
        ("é", "é"),
    ],
)
def test_quote(text: str, expected: str) -> None:
    assert quote(text) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/v/python", "-m", "x y"], ':/v/python -m "x y"'),
        (["/v w/py%", "x"], '":/v w/py%%" x'),
        (["/$v/python"], '":/$v/python"'),
        (["/o'b/python", "x"], ':/usr/bin/env "/o\'b/python" x'),
        (["/o\\b/python"], ':/usr/bin/env "/o\\\\b/python"'),
    ],
)
def test_command_line(command: list[str], expected: str) -> None:
    assert command_line(command) == expected


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (252, {"RestartSec": ["5s"]}),
        (253, {"RestartSec": ["5s"]}),
        (254, {"RestartSec": ["1s"], "RestartSteps": ["6"], "RestartMaxDelaySec": ["60s"]}),
    ],
)
def test_backoff(version: int, expected: dict[str, list[str]]) -> None:
    found = settings(unit(ORDER, version, RUNTIME, users=False))
    names = ("RestartSec", "RestartSteps", "RestartMaxDelaySec")
    assert {name: found[name] for name in names if name in found} == expected
    assert (found["StartLimitIntervalSec"], found["StartLimitBurst"]) == (["10min"], ["10"])


def test_unit() -> None:
    text = unit(ORDER, 252, RUNTIME, users=False)
    found = settings(text)
    assert found["ExecStart"] == [":/v/bin/python -P -m flowrotate serve --set a=b"]
    assert found["ExecReload"] == ["kill -HUP $MAINPID"]
    assert found["Environment"] == ["PATH=/a:/b"]
    assert found["ReadWritePaths"] == ["-/h/.mitmproxy -/run/user/1000"]
    assert "file: /run/user/1000/credentials/flow-rotate.service/openai" in text
    assert command_in(text) == found["ExecStart"][0]


@pytest.mark.parametrize(
    "setting",
    [
        "PrivateDevices",
        "ProtectClock",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "CapabilityBoundingSet",
        "AmbientCapabilities",
    ],
)
def test_nothing_that_keeps_a_users_unit_from_starting(setting: str) -> None:
    """Seen with a user's manager of systemd 252: 218/CAPABILITIES."""
    assert setting not in settings(unit(ORDER, 252, RUNTIME, users=True))


def fake(version: Said, namespaces: bool) -> Callable[[Sequence[str]], Said]:
    answers: dict[Sequence[str], Said] = {VERSION: version, NAMESPACES: Said(not namespaces, "")}
    return lambda command: answers[tuple(command)]


@pytest.mark.parametrize(
    ("version", "namespaces", "expected"),
    [
        ("252.38-1", True, True),
        ("252", False, False),
        ("254.1", True, False),
        ("v257", True, False),
    ],
)
def test_a_user_namespace_is_asked_for_where_it_has_to_be_and_can_be(
    version: str, namespaces: bool, expected: bool
) -> None:
    """Asked for where there is none, the unit would not start: 217/USER."""
    made = keeper(places({}, Path("/h"), "linux"), RUNTIME, 1000)
    text = made.text(ORDER, fake(Said(0, f"{version}\n"), namespaces))
    assert ("PrivateUsers" in settings(text)) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("/h/x.yaml", ("-/run/user/1000", True)),
        ("/tmp/x.yaml", ("-/run/user/1000 -/tmp/ -/var/tmp/", False)),
        ("/var/tmp/x.yaml", ("-/run/user/1000 -/tmp/ -/var/tmp/", False)),
    ],
)
def test_a_tmp_of_its_own_unless_it_needs_what_is_in_the_other(
    word: str, expected: tuple[str, bool]
) -> None:
    order = Order("/v/python", ("--secrets", word), ())
    found = settings(unit(order, 252, RUNTIME, users=False))
    assert (found["ReadWritePaths"][0], "PrivateTmp" in found) == expected


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (Said(127, "systemctl: no such program"), "no systemd.*`flow-rotate serve`"),
        (Said(1, "Failed to connect to bus: No medium found"), "log in.*`flow-rotate serve`"),
        (Said(1, "252"), "log in"),
        (Said(0, ""), "log in"),
    ],
)
def test_no_systemd(said: Said, message: str) -> None:
    with pytest.raises(KeeperError, match=message):
        ask_version(lambda _: said)


def test_places_and_commands() -> None:
    made = keeper(places({}, Path("/h"), "linux"), RUNTIME, 1000)
    shown = {
        name: [made.show(step.command).removeprefix("systemctl --user ") for step in steps]
        for name, steps in (
            ("start", made.start),
            ("restart", made.restart),
            ("stop", made.stop),
            ("forget", made.forget),
        )
    }
    assert made.file == FILE
    assert shown == {
        "start": ["daemon-reload", f"enable --now {UNIT}"],
        "restart": [
            "daemon-reload",
            f"reset-failed {UNIT}",
            f"enable {UNIT}",
            f"restart {UNIT}",
        ],
        "stop": [f"disable --now {UNIT}", f"reset-failed {UNIT}"],
        "forget": ["daemon-reload"],
    }


SHOWN = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "MainPID": "41",
    "ActiveEnterTimestamp": "Sat 2026-11-28 14:41:28 UTC",
    "FragmentPath": str(FILE),
}


def shown(**values: str) -> Said:
    return Said(0, "".join(f"{k}={v}\n" for k, v in {**SHOWN, **values}.items()))


@pytest.mark.parametrize(
    ("show", "linger", "expected"),
    [
        (shown(), Said(0, "no\n"), (True, True, True, 41, "active (running)", "", False)),
        (shown(), Said(0, "yes\n"), (True, True, True, 41, "active (running)", "", True)),
        (shown(), Said(1, "no"), (True, True, True, 41, "active (running)", "", None)),
        (
            shown(ActiveState="failed", SubState="failed", Result="exit-code", MainPID="0"),
            Said(127, ""),
            (True, False, True, 0, "failed (exit-code)", "", None),
        ),
        (
            shown(
                LoadState="not-found",
                UnitFileState="",
                ActiveState="inactive",
                SubState="dead",
                MainPID="0",
                FragmentPath="",
            ),
            Said(127, ""),
            (False, False, False, 0, "inactive (dead)", "", None),
        ),
        (
            shown(FragmentPath=f"/etc/systemd/user/{UNIT}"),
            Said(127, ""),
            (True, True, True, 41, "active (running)", f"/etc/systemd/user/{UNIT}", None),
        ),
        (Said(1, "Failed to connect"), Said(127, ""), (False, None, None, 0, "", "", None)),
    ],
)
def test_read(show: Said, linger: Said, expected: tuple[object, ...]) -> None:
    s = read([show, linger], FILE)
    got = (s.loaded, s.active, s.enabled, s.pid, s.result, s.foreign, s.lingers)
    assert got == expected


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """systemd-analyze on a unit. It wants a runtime folder, as `systemctl --user` does."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)

    def run(text: str, *verb: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path / UNIT
        file.write_text(text)
        assert analyze
        env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "SYSTEMD_COLORS": "0"}
        return subprocess.run(
            [analyze, "--user", *verb, str(file)],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    return run


PROGRAMS = ("python", "py th%h", "o'b", '"q"', "b\\s", "$HOME", "a;b")


def odd(program: Path, *, users: bool = True) -> str:
    """A unit with every odd argument and folder."""
    folders = tuple(Path("/h") / name for name in ODD)
    order = Order(str(program), ODD, folders, (("PATH", "/a b:%h:$x"),))
    return unit(order, 252, RUNTIME, users=users)


def make_program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@needs_systemd
@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("program", PROGRAMS)
def test_verify(
    verify: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    program: str,
    users: bool,
) -> None:
    done = verify(odd(make_program(tmp_path / program), users=users), "verify")
    assert (done.returncode, done.stdout) == (0, "")


@needs_systemd
def test_verify_looks(
    verify: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """It says so when the program is not where the unit has it, and when a line is wrong."""
    text = odd(tmp_path / "py th%h")
    assert "py th%h is not executable" in verify(text, "verify").stdout
    assert "bogus" in verify(text.replace("KillMode=mixed", "KillMode=bogus"), "verify").stdout


@needs_systemd
@pytest.mark.parametrize("users", [False, True])
def test_security(verify: Callable[..., subprocess.CompletedProcess[str]], users: bool) -> None:
    """ "OK" is below 5.0. The threshold is in tenths."""
    text = odd(Path("/bin/sh"), users=users)
    done = verify(text, "security", "--offline=true", "--threshold=49", "--no-pager")
    overall = done.stdout.splitlines()[-1] if done.stdout else ""
    assert done.returncode == 0, overall
    assert " OK " in done.stdout.rpartition("Overall exposure level")[2], overall
