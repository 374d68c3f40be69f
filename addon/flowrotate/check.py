"""`flow-rotate check`: what the secrets file says, and all that is wrong with it. IO."""

import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from .config.section import Problem
from .config.spec import ConfigError, OAuth2Spec, PoolSpec
from .sources.resolve import load

DNS_SECONDS = 5.0
"""For all names together."""
DNS_THREADS = 32


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. No pools when the file, or anything that it refers to, cannot be read."""

    file: str
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    pools: tuple[PoolSpec, ...] = ()


def without_address(names: Collection[str], seconds: float = DNS_SECONDS) -> set[str]:
    """Those names that the system's resolver does not know, or not within so many seconds."""
    todo, asked, lost = list(names), set[str](), set(names)
    done, lock = threading.Event(), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not todo:
                    return
                name = todo.pop()
            known = _resolves(name)
            with lock:
                asked.add(name)
                if known:
                    lost.discard(name)
                if len(asked) == len(names):
                    done.set()

    # Not an executor's: at the interpreter's end it would wait for a resolver that hangs.
    for _ in range(min(len(names), DNS_THREADS)):
        threading.Thread(target=work, daemon=True).start()
    if names:
        done.wait(seconds)
    with lock:
        return set(lost)


def _resolves(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return False


def examine(
    path: Path,
    env: Mapping[str, str],
    *,
    offline: bool,
    lookup: Callable[[Collection[str]], Collection[str]] = without_address,
) -> Report:
    """Read the file and all that it refers to, and look its hosts up. No token is fetched.

    `lookup` returns the names that have no address; `offline` makes of them warnings.
    """
    try:
        pools = tuple(resolved.spec for resolved in load(path, env).pools)
    except ConfigError as e:
        return Report(str(path), e.problems)
    places = [(place, name) for pool in pools for place, name in _names(pool)]
    lost = lookup({name for _, name in places})
    unknown = tuple(
        Problem(place, f"{name} has no address: mend the name, or look at this machine's network")
        for place, name in places
        if name in lost
    )
    problems, warnings = ((), unknown) if offline else (unknown, ())
    return Report(str(path), problems, warnings, pools)


def _names(pool: PoolSpec) -> Iterator[tuple[str, str]]:
    """The place and name of each host that must have an address."""
    for n, rule in enumerate(pool.hosts):
        if not rule.wildcard and not _is_address(rule.name):
            yield f"{pool.place}.hosts[{n}]".removeprefix("."), rule.name
    for c in pool.credentials:
        host = token_host(c.source) if isinstance(c.source, OAuth2Spec) else ""
        if host and not _is_address(host):
            yield f"{c.place}.oauth2.token_url", host


def token_host(source: OAuth2Spec) -> str:
    return urlsplit(source.token_url).hostname or ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
