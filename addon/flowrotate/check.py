"""`flow-rotate check`: what the secrets file says, and all that is wrong with it. IO."""

import json
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

from .config.section import Problem
from .config.sourcespecs import split_command
from .config.spec import ConfigError, CredentialSpec, JwtSpec, OAuth2Spec, PoolSpec, Source
from .hosts import HostRule
from .inject import Inject
from .sources.resolve import load

DNS_SECONDS = 5.0
"""For all names together."""
DNS_THREADS = 32
COLUMNS = ("credential", "source", "weight", "priority", "limits", "state")


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. No pools when the file, or anything that it refers to, cannot be read."""

    file: str
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    pools: tuple[PoolSpec, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.file or None,
            "ok": not self.problems,
            "problems": [{"place": p.place, "message": p.message} for p in self.problems],
            "warnings": [{"place": p.place, "message": p.message} for p in self.warnings],
            "pools": [_pool_as_json(pool) for pool in self.pools],
        }


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
        host = _token_host(c.source) if isinstance(c.source, OAuth2Spec) else ""
        if host and not _is_address(host):
            yield f"{c.place}.oauth2.token_url", host


def _token_host(source: OAuth2Spec) -> str:
    return urlsplit(source.token_url).hostname or ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def show_host(rule: HostRule) -> str:
    """A host as the secrets file has it."""
    name = f"[{rule.name}]" if ":" in rule.name else rule.name
    port = "" if rule.port == (443 if rule.tls else 80) else f":{rule.port or '*'}"
    return f"{'' if rule.tls else 'http://'}{'*.' if rule.wildcard else ''}{name}{port}"


def show_inject(inject: Inject) -> str:
    """Where the secret is put, as the secrets file has it."""
    if inject.where == "query":
        return f"?{inject.name}={inject.template}"
    return f"{inject.name}: {inject.template}"


def show_source(source: Source | JwtSpec | OAuth2Spec) -> str:
    """Where a secret comes from, of a file that could be loaded: its names are names indeed."""
    match source:
        case JwtSpec():
            return f"jwt {source.algorithm}, key from {show_source(source.key)}"
        case OAuth2Spec():
            return f"oauth2 {source.grant} at {_token_host(source)}"
        case Source(kind="secret"):
            return "the secrets file"
        case Source():
            return f"{source.kind} {_name(source)}"


def _name(source: Source) -> str | None:
    """What a source is told by; None for the secret itself."""
    if not isinstance(source.value, str):
        return None
    if source.kind == "command":
        # The program alone: an argument may be a password.
        return PurePath(split_command(source.value)[0]).name
    return source.value


def _pool_as_json(pool: PoolSpec) -> dict[str, Any]:
    return {
        "name": pool.name,
        "hosts": [show_host(rule) for rule in pool.hosts],
        "paths": [rule.text for rule in pool.paths],
        "methods": list(pool.methods),
        "inject": show_inject(pool.inject),
        "strategy": pool.strategy,
        "credentials": [
            {
                "id": c.id,
                "source": _source_as_json(c.source),
                "disabled": c.disabled,
                "weight": c.weight,
                "priority": c.priority,
                "rpm": c.rpm,
                "max_in_flight": c.max_in_flight,
                "headers": [name for name, _ in c.headers],
            }
            for c in pool.credentials
        ],
    }


def _source_as_json(source: Source | JwtSpec | OAuth2Spec) -> dict[str, str | None]:
    match source:
        case JwtSpec():
            return {"kind": "jwt", "name": source.algorithm}
        case OAuth2Spec():
            return {"kind": "oauth2", "name": _token_host(source)}
        case Source():
            return {"kind": source.kind, "name": _name(source)}


def tell(report: Report, *, as_json: bool) -> int:
    """Print it. Exit status: 0 when the file can be used, 1 when it cannot."""
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        _show(report)
    return 1 if report.problems else 0


def _show(report: Report) -> None:
    """Pools on stdout, what is wrong on stderr, one line each."""
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ImportError:
        _show_plainly(report)
        return
    console = Console(highlight=False, emoji=False)
    errors = Console(stderr=True, highlight=False, emoji=False)
    for pool in report.pools:
        console.print(f"[bold]{pool.name}[/]: {escape(_title(pool))}", soft_wrap=True)
        table = Table()
        for column in COLUMNS:
            numeric = column in ("weight", "priority")
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for c in pool.credentials:
            *cells, state = map(escape, _cells(c))
            table.add_row(*cells, f"[{'yellow' if c.disabled else 'green'}]{state}[/]")
        console.print(table)
    for colour, lines in (("red", _problems(report)), ("yellow", _warnings(report))):
        for line in lines:
            errors.print(f"[{colour}]{escape(line)}[/]", soft_wrap=True)
    if not report.problems:
        console.print(f"[green]{escape(_good(report))}[/]", soft_wrap=True)


def _show_plainly(report: Report) -> None:
    """The same for an environment that has mitmproxy alone."""
    for pool in report.pools:
        print(f"{pool.name}: {_title(pool)}")
        rows = [COLUMNS, *map(_cells, pool.credentials)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(map(str.ljust, row, widths)).rstrip())
    for line in (*_problems(report), *_warnings(report)):
        print(line, file=sys.stderr)
    if not report.problems:
        print(_good(report))


def _title(pool: PoolSpec) -> str:
    return f"{', '.join(map(show_host, pool.hosts))} ({pool.strategy})"


def _cells(c: CredentialSpec) -> tuple[str, ...]:
    """One for each of COLUMNS."""
    state = "disabled" if c.disabled else "ready"
    return c.id, show_source(c.source), str(c.weight), str(c.priority), _limits(c), state


def _problems(report: Report) -> list[str]:
    return [": ".join(filter(None, (report.file, p.place, p.message))) for p in report.problems]


def _warnings(report: Report) -> list[str]:
    return [f"{report.file}: {p.place}: warning: {p.message}" for p in report.warnings]


def _good(report: Report) -> str:
    count = sum(len(pool.credentials) for pool in report.pools)
    return f"{report.file} is good: pools {len(report.pools)}, credentials {count}"


def _limits(credential: CredentialSpec) -> str:
    rpm = f"{credential.rpm} a minute" if credential.rpm else ""
    at_once = f"{credential.max_in_flight} at once" if credential.max_in_flight else ""
    return ", ".join(filter(None, (rpm, at_once)))
