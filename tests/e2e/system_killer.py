"""Runs `flow-rotate system` in a home again and again, and kills it at every step, each time later.

python system_killer.py TEMPLATE HOME on|off: from TEMPLATE, a home is made; the command is killed;
what `off` leaves must be as TEMPLATE is. A step is whatever puts a file or folder in its place, or
starts a program that may (Python's audit events). Prints a line for each step that went wrong, and
at last the number of steps.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flowrotate.machine.system.cli import system

STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "subprocess.Popen"}
LOOKS = {"read", "get", "writable", "-L"}
KILLED = 9


def run(arguments: Sequence[str], kill_at: int = 0) -> int:
    """In a process of its own; 0 for kill_at: not killed."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    left = kill_at

    def count(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        looks = event == "subprocess.Popen" and LOOKS & set(args[1])
        if event in STEPS and not looks:
            left -= 1
            if left == 0:
                os._exit(KILLED)

    if kill_at:
        sys.addaudithook(count)
    try:
        system.main(list(arguments), standalone_mode=False)
    except SystemExit as e:
        os._exit(int(e.code or 0))
    except click.ClickException:
        os._exit(2)
    finally:
        os._exit(3)


def state(home: Path) -> dict[str, bytes]:
    settings = subprocess.run(["dconf", "dump", "/"], capture_output=True, check=True).stdout
    files = {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if p.is_file()}
    return files | {"settings": settings}


def main(template: Path, home: Path, killed: str) -> None:
    shutil.copytree(template, home, symlinks=True)
    before = state(home)
    step, status = 0, KILLED
    while status == KILLED:
        step += 1
        shutil.rmtree(home, ignore_errors=True)
        # dconf's service knows what it wrote last: only what it left may be put in its place.
        shutil.copytree(template, home, symlinks=True)
        if killed == "off" and run(["on"]):
            sys.exit("it does not go on")
        status = run([killed], step)
        if status == KILLED and step % 3 == 0 and run(["on"]):
            print(f"step {step}: it does not go on any more")
        if status not in (0, KILLED) or run(["off"]):
            print(f"step {step}: exit status {status}, and not off")
        after = state(home)
        if after != before:
            names = sorted(k for k in after | before if after.get(k) != before.get(k))
            print(f"step {step}: {names}")
    print(step)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
