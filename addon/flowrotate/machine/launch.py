"""`flow-rotate run`: a program, with the proxy in its environment. IO.

The program takes the place of this process: its exit status, signals, terminal and job control are
its own. A private proxy is a child that ends when that process does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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


def start_private(options: Sequence[str], env: Mapping[str, str]) -> Private:
    """`flow-rotate serve` on a free port, for as long as this process lives. Raises LaunchError."""
    command = [
        *(sys.executable, "-m", "flowrotate", "serve", "--listen", "127.0.0.1:0", "--quiet"),
        *("--json", "--private-to", str(os.getpid()), *options),
    ]
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
        raise LaunchError("the private proxy does not start (see above)") from None
    file = said["secrets"]
    return Private(
        said["proxy"], Path(said["ca"]), Path(file) if file else None, said["client_token"]
    )


def next_proxy(env: Mapping[str, str | None]) -> list[str]:
    """The mode of a private proxy that has to go on through the company's. Raises LaunchError."""
    names = ("https_proxy", "HTTPS_PROXY")
    written = next((text for name in names if (text := env.get(name))), "")
    if not written:
        return []
    try:
        parts = urlsplit(written if "://" in written else f"http://{written}")
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.username
        address = f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        usable = None
    if not usable:
        raise LaunchError(
            "HTTPS_PROXY names a proxy that a private one cannot go through: start one yourself, "
            "flow-rotate serve --mode upstream:http://HOST:PORT, with upstream_auth in config.yaml"
        )
    return ["--mode", f"upstream:{address}"]


def become(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a program in the place of this process: on POSIX it does not return.

    Elsewhere, it returns the program's exit status. Raises LaunchError.
    """
    sys.stdout.flush()
    try:
        if os.name == "nt":
            return subprocess.run(command, env=dict(env), check=False).returncode
        os.execvpe(command[0], list(command), dict(env))
    except FileNotFoundError:
        raise LaunchError(f"no such program: {command[0]}", NOT_FOUND) from None
    except OSError as e:
        raise LaunchError(f"{command[0]}: {e.strerror}", NOT_RUN) from None
