"""The proxies with the addon that run on this machine: each writes itself down. IO.

A file for each process in the user's own state folder, so that `flow-rotate env` and the others
find it. Nothing in it is secret.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .files import write_private

ANSWER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Running:
    """`url` as tools of this machine reach it; `confdir` and `secrets` are paths, `since` is in
    seconds since 1970. A private one belongs to one `flow-rotate run`, and to nobody else. `token`
    is what `rotate_client_token` says: where the token is, never the token; `upstream_ca` what
    `ssl_verify_upstream_trusted_ca` does."""

    pid: int
    url: str
    confdir: str
    secrets: str
    since: float
    private: bool = False
    token: str = ""
    upstream_ca: str = ""


def enter(state: Path, running: Running) -> None:
    """Write it down, in place of what the process wrote before."""
    write_private(_file(state, running.pid), json.dumps(asdict(running)).encode())


def leave(state: Path, pid: int) -> None:
    with suppress(OSError):
        _file(state, pid).unlink()
        _folder(state).rmdir()  # for the last one


def find(state: Path) -> list[Running]:
    """Those that still answer, the oldest first. The files of those that ended are taken away."""
    found = []
    for file, running in _read(state):
        if running and answers(running.url) and _lives(running.pid):
            found.append(running)
        else:
            with suppress(OSError):
                file.unlink()
    return sorted(found, key=lambda running: running.since)


def answers(url: str) -> bool:
    """Whether somebody listens at a proxy's address."""
    with suppress(OSError, ValueError):
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port or 80), ANSWER_SECONDS):
            return True
    return False


def _read(state: Path) -> Iterator[tuple[Path, Running | None]]:
    for file in sorted(_folder(state).glob("*.json")):
        try:
            yield file, Running(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            yield file, None


def _lives(pid: int) -> bool:
    if os.name == "nt":
        return True  # there `kill` would end it; that it answers has to do
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _folder(state: Path) -> Path:
    return state / "proxies"


def _file(state: Path, pid: int) -> Path:
    return _folder(state) / f"{pid}.json"
