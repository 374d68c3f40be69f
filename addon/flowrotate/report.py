"""What `flow-rotate check` found, for people and for programs. IO."""

import json
import sys
from pathlib import PurePath
from typing import Any

from .check import Report, token_host
from .config.sourcespecs import split_command
from .config.spec import CredentialSpec, JwtSpec, OAuth2Spec, PoolSpec, Source
from .hosts import HostRule
from .inject import Inject

COLUMNS = ("credential", "source", "weight", "priority", "limits", "state")


def tell(report: Report, *, as_json: bool) -> int:
    """Print it. Exit status: 0 when the file can be used, 1 when it cannot."""
    if as_json:
        print(json.dumps(_as_json(report), indent=2))
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


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "file": report.file or None,
        "ok": not report.problems,
        "problems": [{"place": p.place, "message": p.message} for p in report.problems],
        "warnings": [{"place": p.place, "message": p.message} for p in report.warnings],
        "pools": [_pool_as_json(pool) for pool in report.pools],
    }


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
            return f"oauth2 {source.grant} at {token_host(source)}"
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
            return {"kind": "oauth2", "name": token_host(source)}
        case Source():
            return {"kind": source.kind, "name": _name(source)}
