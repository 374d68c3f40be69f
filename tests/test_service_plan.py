"""Installed and taken away in a folder; the platform's programs are fakes that write down."""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flowrotate.machine import proxies
from flowrotate.machine.commands import Said, run
from flowrotate.machine.places import Places, places
from flowrotate.machine.service import plan
from flowrotate.machine.service.keeper import INSTEAD, MARKER, Keeper, KeeperError
from flowrotate.machine.service.order import Order
from flowrotate.machine.service.plan import Done
from flowrotate.machine.service.platforms import find_keeper

PLATFORMS = ("linux", "darwin", "win32")
ENV = {"USERNAME": "me"}


@dataclass
class Platform:
    """A fake: it knows whether the service is there from what it was told, and does nothing."""

    keeper: Keeper
    loaded: bool = False
    active: bool = True
    foreign: str = ""
    pid: int = 0
    answers: list[tuple[bool, int]] = field(default_factory=list)
    """Whether it is active and its process, look by look; then as `active` and `pid` say."""
    refuses: str = ""
    """What the proxy says to a trial."""
    tried: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    """How often a command with this word in it fails from now on."""

    def __call__(self, command: Sequence[str]) -> Said:
        if tuple(command) in self.keeper.asks:
            return self.answer(command)
        if command[-1] == "--value":
            return Said(0, "252")
        if command[0] == "unshare":
            return Said(1, "")
        if command[-1] == "--check":
            self.tried.append(self.keeper.show(tuple(command)))
            return Said(int(bool(self.refuses)), self.refuses)
        self.told.append(self.keeper.show(tuple(command)))
        for word, left in self.fails.items():
            if word in command and left:
                self.fails[word] -= 1
                return Said(5, f"cannot {word}\n")
        if {"enable", "bootstrap", "/Create"} & set(command):
            self.loaded = True
        if {"disable", "bootout", "/Delete"} & set(command):
            self.loaded = False
        return Said(0, "")

    def answer(self, command: Sequence[str]) -> Said:
        match command[0]:
            case "systemctl":
                if self.loaded and self.answers:
                    self.active, self.pid = self.answers.pop(0)
                load = "loaded" if self.loaded else "not-found"
                active = "active" if self.loaded and self.active else "inactive"
                enabled = "enabled" if self.loaded else ""
                text = f"LoadState={load}\nActiveState={active}\nUnitFileState={enabled}\n"
                return Said(0, f"{text}FragmentPath={self.foreign}\nMainPID={self.pid}\n")
            case "launchctl":
                state = "running" if self.active else "not running"
                return Said(0 if self.loaded else 113, f"\tstate = {state}\n")
            case "schtasks":
                text = self.foreign or (MARKER if self.loaded else "")
                return Said(0 if self.loaded or self.foreign else 1, text)
            case "powershell" if self.loaded:
                return Said(0, "Running" if self.active else "Ready")
        return Said(1, "")


@dataclass
class Here:
    folder: Path
    places: Places
    keeper: Keeper
    platform: Platform
    order: Order
    slept: list[float] = field(default_factory=list)

    def install(self, *, dry: bool = False, order: Order | None = None) -> list[Done]:
        return list(self.steps(dry=dry, order=order))

    def steps(self, *, dry: bool = False, order: Order | None = None) -> Iterator[Done]:
        order, sleep = order or self.order, self.slept.append
        return plan.install(self.keeper, order, self.places, self.platform, dry=dry, sleep=sleep)

    def uninstall(self, *, dry: bool = False) -> list[Done]:
        return list(plan.uninstall(self.keeper, self.places, self.platform, dry=dry))

    def files(self) -> dict[str, bytes | None]:
        found = sorted(self.folder.rglob("*"))
        return {str(one): one.read_bytes() if one.is_file() else None for one in found}


def machine(folder: Path, name: str) -> Here:
    here = places({}, folder, name)
    keeper = find_keeper(here, ENV, 501)
    order = Order("/v/python", ("--set", "a=1"), (folder / ".mitmproxy", here.state))
    return Here(folder, here, keeper, Platform(keeper), order)


@pytest.fixture(params=PLATFORMS)
def here(tmp_path: Path, request: pytest.FixtureRequest) -> Here:
    return machine(tmp_path, request.param)


@pytest.fixture
def linux(tmp_path: Path) -> Here:
    return machine(tmp_path, "linux")


def outcomes(steps: Sequence[Done]) -> list[str]:
    return [done.outcome for done in steps]


def test_installed_and_taken_away(here: Here) -> None:
    (here.folder / ".config").mkdir()
    before = here.files()
    done = here.install()
    assert set(outcomes(done)) == {"done"}
    assert here.keeper.file.is_file()
    assert here.keeper.file.stat().st_mode & 0o777 == 0o600
    assert all(folder.is_dir() for folder in (*here.order.folders, *here.keeper.folders))
    assert here.platform.told == [here.keeper.show(step.command) for step in here.keeper.start]
    here.platform.told.clear()
    assert set(outcomes(here.uninstall())) == {"done"}
    assert here.files() == before
    steps = (*here.keeper.stop, *here.keeper.forget)
    assert here.platform.told == [here.keeper.show(step.command) for step in steps]
    here.platform.told.clear()
    assert here.uninstall() == [Done("uninstall: it is not installed", "already")]
    assert here.platform.told == []


def test_a_dry_run_shows_all_and_changes_nothing(here: Here) -> None:
    done = here.install(dry=True)
    assert set(outcomes(done)) == {"would"}
    assert here.slept == []
    assert (here.files(), here.platform.told) == ({}, [])
    (written,) = [one for one in done if one.what.startswith("write ")]
    assert written.detail == here.keeper.text(here.order, here.platform)
    shown = [one.what for one in done if not one.what.startswith(("make ", "write "))]
    here.install()
    assert here.platform.told == shown
    before = here.files()
    here.platform.told.clear()
    gone = here.uninstall(dry=True)
    assert set(outcomes(gone)) == {"would"}
    assert (here.files(), here.platform.told) == (before, [])
    assert f"remove {here.keeper.file}" in [one.what for one in gone]


def test_the_same_again_changes_nothing(here: Here) -> None:
    here.install()
    before = here.files()
    here.platform.told.clear()
    assert here.install() == [Done(f"install {here.keeper.file}", "already")]
    assert (here.files(), here.platform.told) == (before, [])


def test_the_same_that_does_not_run_is_started_again(here: Here) -> None:
    here.install()
    here.platform.told.clear()
    here.platform.active = False
    assert outcomes(here.install())[:-1] == ["done"] * len(here.keeper.restart)
    assert here.platform.told == [here.keeper.show(step.command) for step in here.keeper.restart]


def test_other_options_replace_it_and_are_shown(here: Here) -> None:
    before = here.files()
    here.install()
    here.platform.told.clear()
    done = here.install(order=Order("/v/python", ("--set", "a=2"), here.order.folders))
    (written,) = [one for one in done if one.what.startswith("write ")]
    changed = [line for line in written.detail.splitlines() if line[0] in "+-"]
    assert len(changed) == 4
    assert "a=1" in changed[2]
    assert "a=2" in changed[3]
    assert here.platform.told == [here.keeper.show(step.command) for step in here.keeper.restart]
    here.uninstall()
    assert here.files() == before


@pytest.mark.parametrize("content", [b"[Unit]\n", b"", b"\xff\xfe\xff"])
def test_a_file_that_is_not_ours_stays(here: Here, content: bytes) -> None:
    here.keeper.file.parent.mkdir(parents=True)
    here.keeper.file.write_bytes(content)
    before = here.files()
    for change in (here.install, here.uninstall):
        with pytest.raises(KeeperError, match=r"is not ours: move it away"):
            change()
    assert (here.files(), here.platform.told) == (before, [])


@pytest.mark.parametrize(
    ("name", "foreign"),
    [("linux", "/etc/systemd/user/flow-rotate.service"), ("win32", "<Task/>")],
)
def test_a_service_of_that_name_that_is_not_ours_stays(
    tmp_path: Path, name: str, foreign: str
) -> None:
    here = machine(tmp_path, name)
    here.platform.foreign = foreign
    here.platform.loaded = True
    with pytest.raises(KeeperError, match="is not ours, and has the same name"):
        here.install()
    assert outcomes(here.uninstall()) == ["already"]
    assert (here.files(), here.platform.told) == ({}, [])


def test_the_users_own_stays_beside_it(here: Here) -> None:
    """Folders that we made and others use by now, and the proxy's CA."""
    here.install()
    (here.folder / ".mitmproxy" / "ca.pem").touch()
    (here.keeper.file.parent / "other").touch()
    here.uninstall()
    left = {Path(name).name for name, data in here.files().items() if data is not None}
    assert left == {"ca.pem", "other"}


def test_what_each_install_made_goes(here: Here) -> None:
    before = here.files()
    here.install()
    for name in ("b", "c"):
        here.install(order=Order("/v/python", (name,), (here.folder / "a" / name,)))
    here.uninstall()
    assert here.files() == before


def test_an_empty_folder_that_was_there_before_stays(here: Here) -> None:
    here.keeper.file.parent.mkdir(parents=True)
    (here.folder / ".mitmproxy").mkdir()
    before = here.files()
    here.install()
    here.uninstall()
    assert here.files() == before


def test_a_step_that_fails_is_the_last(linux: Here) -> None:
    linux.platform.fails = {"daemon-reload": 9}
    done = linux.install()
    assert done[-1] == Done("systemctl --user daemon-reload", "failed", "cannot daemon-reload")
    assert outcomes(done) == ["done", "done", "failed"]


def test_what_cannot_be_stopped_is_taken_away_and_said(here: Here) -> None:
    here.install()
    here.platform.fails = {"disable": 9, "bootout": 9, "/Delete": 9}
    assert "failed" in outcomes(here.uninstall())
    assert here.files() == {}


def test_systemd_that_cannot_be_reached_leaves_no_link(linux: Here) -> None:
    linux.install()
    (link,) = linux.keeper.links
    link.parent.mkdir()
    link.symlink_to(linux.keeper.file)
    gone = Said(1, "Failed to connect to bus")
    done = list(plan.uninstall(linux.keeper, linux.places, lambda _: gone, dry=False))
    assert outcomes(done) == ["done", "done", "failed"]
    assert linux.files() == {}


@pytest.mark.parametrize(("fails", "expected"), [(3, "done"), (99, "failed")])
def test_launchd_is_waited_for_while_the_old_one_ends(
    tmp_path: Path, fails: int, expected: str
) -> None:
    mac = machine(tmp_path, "darwin")
    mac.install()
    mac.platform.active = False
    mac.platform.fails = {"bootstrap": fails}
    mac.slept.clear()
    done = next(one for one in mac.steps() if "bootstrap" in one.what)
    assert done.outcome == expected
    assert mac.slept == [1] * min(fails, plan.PATIENCE)


def test_what_may_fail_does_not_stop_it(tmp_path: Path) -> None:
    windows = machine(tmp_path, "win32")
    windows.install()
    windows.platform.active = False
    windows.platform.fails = {"/End": 1}
    assert outcomes(windows.install())[:-1] == ["skipped", "done", "done"]


def test_what_the_proxy_refuses_is_not_installed(here: Here) -> None:
    here.platform.refuses = "rotate_hold: write 0 to 86400 seconds\n"
    for dry in (True, False):
        with pytest.raises(KeeperError, match=r"^rotate_hold: write 0 to 86400 seconds\nnot inst"):
            here.install(dry=dry)
    assert (here.files(), here.platform.told) == ({}, [])


def test_what_is_tried_is_what_is_installed(here: Here) -> None:
    here.install()
    (tried,) = here.platform.tried
    assert tried.endswith(here.keeper.show((*here.order.command, "--check")))


def test_a_drop_in_may_mend_what_the_proxy_refuses(linux: Here) -> None:
    """Say, with an EnvironmentFile."""
    drop_in = linux.keeper.file.with_name("flow-rotate.service.d")
    drop_in.mkdir(parents=True)
    linux.platform.refuses = "OPENAI_API_KEY is not set\n"
    done = linux.install()
    assert (done[0].outcome, done[0].detail) == ("warning", "OPENAI_API_KEY is not set")
    assert outcomes(done[1:]) == ["done"] * len(done[1:])


def test_one_that_does_not_run_is_told_with_its_log(here: Here) -> None:
    here.platform.active = False
    done = here.install()[-1]
    assert (done.what, done.outcome) == ("see whether it runs", "failed")
    assert done.detail.endswith(f"; its log: {here.keeper.log}")
    assert here.slept == [1] * plan.LOOKS


@pytest.mark.parametrize(
    ("looks", "expected", "slept"),
    [
        ([(True, 7)], "done", plan.STEADY - 1),
        ([(False, 0)] * 4 + [(True, 7)], "done", plan.STEADY + 3),
        # It ends, and is started again, and again.
        ([(True, 1), (False, 0), (True, 2), (False, 0)] * 3, "failed", plan.LOOKS),
        ([(True, n) for n in range(1, 12)], "failed", plan.LOOKS),
        ([(True, 7)] * 4 + [(False, 0)] * 7, "failed", plan.LOOKS),
    ],
)
def test_it_runs_when_one_process_stays(
    linux: Here, looks: list[tuple[bool, int]], expected: str, slept: int
) -> None:
    linux.platform.answers = looks
    done = linux.install()
    assert done[-1].outcome == expected
    assert len(linux.slept) == slept


def test_it_runs_when_its_process_answers(linux: Here) -> None:
    linux.platform.pid = os.getpid()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        proxies.enter(linux.places.state, proxies.Running(os.getpid(), url, "", "", 0.0))
        assert linux.install()[-1] == Done("see whether it runs", "done")
    assert linux.slept == []


def test_where_nobody_says_whether_it_runs(tmp_path: Path) -> None:
    """PowerShell may be forbidden."""
    windows = machine(tmp_path, "win32")

    def silent(command: Sequence[str]) -> Said:
        return Said(1, "") if command[0] == "powershell" else windows.platform(command)

    args = (windows.keeper, windows.order, windows.places, silent)
    done = list(plan.install(*args, dry=False, sleep=windows.slept.append))[-1]
    assert (done.what, done.outcome) == ("see whether it runs", "warning")


def test_a_folder_that_cannot_be_made(linux: Here) -> None:
    (linux.folder / ".config").touch()
    done = linux.install()
    assert outcomes(done) == ["failed"]
    assert linux.platform.told == []


def test_a_file_that_cannot_be_written(linux: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plan, "_write", full)
    assert linux.install()[-1].detail == "No space left on device"
    assert linux.platform.told == []


@pytest.fixture
def status(here: Here) -> Callable[[], dict[str, object]]:
    return lambda: plan.status(here.keeper, here.places, here.platform)


def test_status(here: Here, status: Callable[[], dict[str, object]]) -> None:
    assert (status()["installed"], status()["active"]) == (False, False)
    here.install()
    found = status()
    assert (found["installed"], found["active"], found["enabled"]) == (True, True, True)
    assert "flowrotate serve --set a=1" in str(found["command"])
    assert "flow-rotate" in str(found["log"])
    here.keeper.file.write_text("[Unit]")
    found = status()
    assert (found["installed"], found["foreign"]) == (False, str(here.keeper.file))


@pytest.mark.parametrize(("process", "expected"), [("own", True), ("other", False), ("", False)])
def test_status_tells_the_address_of_its_own_process(
    linux: Here, process: str, expected: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        proxies.enter(linux.places.state, proxies.Running(os.getpid(), url, "", "", 0.0))
        linux.platform.pid = {"own": os.getpid(), "other": os.getppid()}.get(process, 0)
        assert plan.status(linux.keeper, linux.places, linux.platform)["url"] == (
            url if expected else None
        )


def test_no_keeper() -> None:
    with pytest.raises(KeeperError, match=rf"^no service on freebsd14: {INSTEAD}$"):
        find_keeper(places({}, Path("/h"), "freebsd14"), {}, 0)


@pytest.mark.parametrize(
    ("env", "expected"), [({}, "/run/user/7"), ({"XDG_RUNTIME_DIR": "/r"}, "/r")]
)
def test_the_runtime_folder(env: dict[str, str], expected: str, tmp_path: Path) -> None:
    made = find_keeper(places({}, tmp_path, "linux"), env, 7)
    text = made.text(Order("/v/python", (), ()), Platform(made))
    assert f"\nReadWritePaths=-{expected}\n" in text


def test_python_that_finds_the_package_by_itself() -> None:
    plan.check_installed(sys.executable, Path("/clone"), run)


@pytest.mark.parametrize("way", ["PYTHONPATH", "folder"])
def test_python_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A service has neither: the stubs here would be found by either."""
    (tmp_path / "flowrotate").mkdir()
    for name in ("flowrotate/__init__.py", "flowrotate/cli.py", "mitmproxy.py"):
        (tmp_path / name).touch()
    if way == "PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    else:
        monkeypatch.chdir(tmp_path)

    def bare(command: Sequence[str]) -> Said:
        return run((command[0], "-S", *command[1:]))

    with pytest.raises(KeeperError, match=r"pip install '/clone\[cli\]'"):
        plan.check_installed(sys.executable, Path("/clone"), bare)
