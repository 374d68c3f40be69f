"""Commands as real processes: their output, their end, and what they leave behind."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flowrotate.sources.commands import Command, Ran, run_all

PYTHON = sys.executable
ENV = {"PATH": os.environ["PATH"]}


def python(program: str, *arguments: str) -> Command:
    return (PYTHON, "-I", "-c", program, *arguments)


def run(command: Command, folder: Path, seconds: float = 10) -> Ran:
    (ran,) = run_all([command], folder, ENV, seconds).values()
    return ran


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (python("print('a b')"), Ran("", 0, b"a b\n", b"")),
        (python("import sys; print(sys.argv[1:])", "~", "$HOME", "a|b", "*"), None),
        (python("import sys; sys.exit('no')"), Ran("", 1, b"", b"no\n")),
        (python("import os; os.write(1, b'\\xff'); os._exit(7)"), Ran("", 7, b"\xff", b"")),
        (python("import os; os.kill(os.getpid(), 9)"), Ran("", -9, b"", b"")),
        (python("print('x' * 65535)"), Ran("", 0, b"x" * 65535 + b"\n", b"")),
        (
            python("import sys; sys.stderr.write('y' * 99999 + 'z'); print('x')"),
            Ran("", 0, b"x\n", b"y" * 65535 + b"z"),
        ),
        (("no-such-program-here",), Ran("no such program: install it or mend its name")),
        (("./none",), Ran("no such program: install it or mend its name")),
        (("./data",), Ran("this program may not be run: change its mode, or mend its name")),
        (
            ("./noise",),
            Ran("this program cannot be run: mend its name, or write its interpreter before it"),
        ),
    ],
)
def test_how_commands_end(tmp_path: Path, command: Command, expected: Ran | None) -> None:
    (tmp_path / "data").touch()
    (tmp_path / "noise").write_bytes(b"\x01\x02")
    (tmp_path / "noise").chmod(0o755)
    expected = expected or Ran("", 0, b"['~', '$HOME', 'a|b', '*']\n", b"")
    assert run(command, tmp_path) == expected


def test_it_runs_in_the_folder_and_with_the_environment_that_it_is_given(tmp_path: Path) -> None:
    program = "import os; print(os.path.realpath('.'), 'A' in os.environ, len(os.environ) < 5)"
    (ran,) = run_all([python(program)], tmp_path, {**ENV, "A": "1"}).values()
    assert ran.out.decode().split() == [str(tmp_path.resolve()), "True", "True"]


def test_it_has_no_input(tmp_path: Path) -> None:
    """Not the proxy's own either."""
    read, write = os.pipe()
    before = os.dup(0)
    os.dup2(read, 0)
    try:
        ran = run(python("import sys; print(sys.stdin.read() == '')"), tmp_path, 3)
    finally:
        os.dup2(before, 0)
        for fd in (read, write, before):
            os.close(fd)
    assert ran == Ran("", 0, b"True\n", b"")


def test_what_it_printed_is_in_no_repr() -> None:
    assert "canary" not in repr(Ran("", 1, b"sk-canary", b"sk-canary"))


def test_they_run_at_the_same_time(tmp_path: Path) -> None:
    """Each waits for the other's file."""
    program = (
        "import pathlib, sys, time\n"
        "mine, other = map(pathlib.Path, sys.argv[1:])\n"
        "mine.touch()\n"
        "while not other.exists(): time.sleep(0.01)\n"
        "print('met')"
    )
    ran = run_all([python(program, "a", "b"), python(program, "b", "a")], tmp_path, ENV)
    assert [r.out for r in ran.values()] == [b"met\n", b"met\n"]


def test_a_command_that_prints_without_end(tmp_path: Path) -> None:
    ran = run(python("while True: print('x' * 1000)"), tmp_path)
    assert ran == Ran("it printed more than 64 KiB: print the secret alone")


LATE = Ran(
    "it did not end within 1.5 seconds: it asks something, or waits for the network: run it by hand"
)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc here")
def test_a_late_one_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    program = (
        "import pathlib, subprocess, sys, time\n"
        f"child = subprocess.Popen([{PYTHON!r}, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('pids').write_text(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(60)"
    )
    assert run(python("import os\n" + program), tmp_path, 1.5) == LATE
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    wait_until(lambda: not any(lives(pid) for pid in pids))


def lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("not within five seconds")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
def test_what_left_the_group_and_keeps_the_pipe_is_not_waited_for(tmp_path: Path) -> None:
    program = (
        "import pathlib, subprocess\n"
        f"child = subprocess.Popen([{PYTHON!r}, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True)\n"
        "pathlib.Path('pid').write_text(str(child.pid))"
    )
    try:
        assert run(python(program), tmp_path, 1.5) == LATE
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_nothing_to_run(tmp_path: Path) -> None:
    assert run_all([], tmp_path, ENV) == {}
