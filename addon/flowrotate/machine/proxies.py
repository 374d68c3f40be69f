"""The proxies with the addon that run on this machine: each writes itself down. IO.

A file for each process in the user's own state folder, so that `flow-rotate env` and the others
find it. Nothing in it is secret; but who is believed to be the proxy gets what tools send, so that
a file is believed only as long as its very process lives.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from flowrotate.sources.files import UnreadableError, read_file

from .files import write_private

ANSWER_SECONDS = 1.0
LARGEST = 16 * 1024


@dataclass(frozen=True, slots=True)
class Running:
    """`url` as tools of this machine reach it; `confdir` and `secrets` are paths, `since` is in
    seconds since 1970. A private one belongs to one `flow-rotate run`, and to nobody else."""

    pid: int
    url: str
    confdir: str
    secrets: str
    since: float
    private: bool = False
    born: str = ""
    """When its process began, as `born` says it: numbers of processes are used again."""
    token: str = ""
    """What `rotate_client_token` says: where the token is, never the token."""
    upstream_ca: str = ""
    """What `ssl_verify_upstream_trusted_ca` says."""
    next_proxy: str = ""
    """The proxy that it goes on through, without its login."""


class TargetError(ValueError):
    """What is wrong with a proxy's URL, and the mend."""


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
        if running and _lives(running) and answers(running.url):
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


def parse_proxy(text: str) -> str:
    """`HOST:PORT` or `http://HOST:PORT` as a URL. Raises TargetError."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    usable = parts.scheme == "http" and parts.hostname and port and text.isprintable()
    if not usable or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise TargetError("--proxy: write http://HOST:PORT, as http://127.0.0.1:8080")
    if "@" in parts.netloc:
        raise TargetError("--proxy: leave out user and password")
    host = parts.hostname or ""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def born(pid: int) -> str:
    """When a process of this user began, where the system tells; "" for another's."""
    try:
        stat = Path(f"/proc/{pid}").stat()
        if stat.st_uid != os.geteuid():
            return ""
        # proc_pid_stat(5): the name, in brackets, may have blanks; the start is field 22.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError, AttributeError):
        return ""


def _read(state: Path) -> Iterator[tuple[Path, Running | None]]:
    """The files of this user in this user's folder: others may have made a link of it."""
    if not _is_own(_folder(state)):
        return
    for file in sorted(_folder(state).glob("*.json")):
        if _is_own(file):
            yield file, _running(file)


def _running(file: Path) -> Running | None:
    try:
        text, _ = read_file(file, LARGEST)
        running = Running(**json.loads(text))
        good = all(
            isinstance(value := getattr(running, f.name), float if f.type is float else f.type)
            or (f.name == "since" and isinstance(value, int))
            for f in fields(Running)
            if isinstance(f.type, type)
        )
        sound = good and 0 < running.pid < 2**31 and parse_proxy(running.url) == running.url
    except (UnreadableError, ValueError, TypeError, RecursionError):
        return None
    return running if sound else None


def _lives(running: Running) -> bool:
    if running.born:
        return born(running.pid) == running.born
    if os.name == "nt":
        return True  # there `kill` would end it; that it answers has to do
    try:
        os.kill(running.pid, 0)
    except OSError:
        return False  # not this user's, if it is there at all
    return True


def _is_own(path: Path) -> bool:
    try:
        stat = path.lstat()
    except OSError:
        return False
    return not path.is_symlink() and (os.name != "posix" or stat.st_uid == os.geteuid())


def _folder(state: Path) -> Path:
    return state / "proxies"


def _file(state: Path, pid: int) -> Path:
    return _folder(state) / f"{pid}.json"
