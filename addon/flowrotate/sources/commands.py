"""Programs that print a secret: run all at once, for a limited time, and ended whole. IO."""

import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

Command = tuple[str, ...]
"""A program and its arguments. There is no shell."""

LONGEST_RUN = 10.0
"""Seconds."""
LARGEST_OUTPUT = 64 * 1024
"""Bytes; of the errors, the last so many."""
MOST_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended. With a `fault`, a fixed sentence, it gave nothing."""

    fault: str = ""
    status: int = 0
    out: bytes = field(default=b"", repr=False)
    err: bytes = field(default=b"", repr=False)


def run_all(
    commands: Collection[Command],
    folder: Path,
    env: Mapping[str, str],
    seconds: float = LONGEST_RUN,
) -> dict[Command, Ran]:
    """Run each in a folder. `seconds` is what each may take."""
    if not commands:
        return {}
    with ThreadPoolExecutor(min(len(commands), MOST_AT_ONCE)) as threads:
        ran = threads.map(lambda command: _run(command, folder, env, seconds), commands)
        return dict(zip(commands, ran, strict=True))


def _run(command: Command, folder: Path, env: Mapping[str, str], seconds: float) -> Ran:
    try:
        # A session of its own: its group is ended whole, and no terminal can be asked on.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        return Ran("no such program: install it or mend its name")
    except PermissionError:
        return Ran("this program may not be run: change its mode, or mend its name")
    except OSError:
        return Ran("this program cannot be run: mend its name, or write its interpreter before it")
    ended: list[Ran] = []
    # In a thread, for what left the group may keep the pipes open for ever.
    thread = Thread(target=lambda: ended.append(_collect(process)), daemon=True)
    thread.start()
    thread.join(seconds)
    if ended:
        return ended[0]
    _kill(process)
    thread.join(1)
    return Ran(
        f"it did not end within {seconds:g} seconds: it asks something, or waits for the network: "
        "run it by hand"
    )


def _collect(process: subprocess.Popen[bytes]) -> Ran:
    errors = bytearray()
    with process:
        assert process.stdout
        reader = Thread(target=_read_end, args=(process, errors), daemon=True)
        reader.start()
        out = process.stdout.read(LARGEST_OUTPUT + 1)
        if len(out) > LARGEST_OUTPUT:
            _kill(process)
        reader.join()
    if len(out) > LARGEST_OUTPUT:
        return Ran(f"it printed more than {LARGEST_OUTPUT // 1024} KiB: print the secret alone")
    return Ran("", process.returncode, out, bytes(errors))


def _read_end(process: subprocess.Popen[bytes], errors: bytearray) -> None:
    """The errors up to their end, of which the last are kept."""
    assert process.stderr
    while chunk := os.read(process.stderr.fileno(), 4096):
        errors += chunk
        del errors[:-LARGEST_OUTPUT]


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and all that it started."""
    if sys.platform == "win32":
        tree = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(tree, capture_output=True, check=False)
    else:
        # It may have ended by itself; PermissionError is macOS's word for that.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
