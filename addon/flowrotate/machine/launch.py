"""`flow-rotate run`: a program, with the proxy in its environment. IO.

The program takes the place of this process: its exit status, signals, terminal and job control are
its own. A private proxy is a child that ends when that process does.
"""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import proxy_in

LARGEST_LOG = 1 << 20
NOT_FOUND, NOT_RUN = 127, 126
"""Exit statuses as shells have them (POSIX, 2.8.2)."""


class LaunchError(Exception):
    """Why the program does not run, and the mend."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Private:
    """A proxy of one program's own."""

    url: str
    ca: Path
    secrets: Path | None
    token: str
    """Where its client token is, as `rotate_client_token` says it."""


def start_private(options: Sequence[str], env: Mapping[str, str], log: Path) -> Private:
    """`flow-rotate serve` on a free port, for as long as this process lives. Raises LaunchError.

    Its log goes to a file: the terminal is the program's.
    """
    command = [
        # -P: no module is taken from the folder that one happens to be in.
        *(sys.executable, "-P", "-m", "flowrotate", "serve", "--listen", "127.0.0.1:0"),
        *("--json", "--private-to", str(os.getpid()), "--log", str(log), *options),
    ]
    begun = _size(log)
    # A session of its own: Ctrl-C in the terminal is meant for the program.
    process = subprocess.Popen(
        command,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    line = process.stdout.readline()
    process.stdout.close()
    try:
        said = json.loads(line)
    except ValueError:
        process.kill()
        process.wait()
        said_last = log.read_bytes()[begun:].decode(errors="replace") if _size(log) else ""
        raise LaunchError(f"{said_last}the private proxy does not start") from None
    file = said["secrets"]
    return Private(
        said["proxy"], Path(said["ca"]), Path(file) if file else None, said["client_token"]
    )


def _size(log: Path) -> int:
    """Its bytes so far. One that has grown large begins anew."""
    try:
        size = log.stat().st_size
        if size > LARGEST_LOG:
            os.truncate(log, 0)
            return 0
    except OSError:
        return 0
    return size


def next_proxy(env: Mapping[str, str | None]) -> list[str]:
    """The mode of a private proxy that has to go on through the company's. Raises LaunchError."""
    written = env.get("https_proxy") or env.get("HTTPS_PROXY")
    if not written:
        return []
    address = proxy_in(env)
    usable = address.startswith(("http://", "https://")) and "@" not in written
    if not usable:
        raise LaunchError(
            "HTTPS_PROXY names a proxy that a private one cannot go through: it takes http:// and "
            "https:// without a login. With one, start the proxy yourself, flow-rotate serve "
            "--mode upstream:http://HOST:PORT, and say upstream_auth in config.yaml"
        )
    return ["--mode", f"upstream:{address}"]


def become(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a program in the place of this process: on POSIX it does not return.

    Elsewhere, it returns the program's exit status. Raises LaunchError.
    """
    sys.stdout.flush()
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and the program would
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        if os.name == "nt":
            return subprocess.run(command, env=dict(env), check=False).returncode
        os.execvpe(command[0], list(command), dict(env))
    except FileNotFoundError:
        raise LaunchError(f"no such program: {command[0]}", NOT_FOUND) from None
    except OSError as e:
        script = ": a script's first line says who reads it, as #!/bin/sh"
        mend = script if e.errno == errno.ENOEXEC else ""
        raise LaunchError(f"{command[0]}: {e.strerror}{mend}", NOT_RUN) from None
