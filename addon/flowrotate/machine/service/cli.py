"""`flow-rotate service …`: exit status 0 done, 1 failed, 2 misuse."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from flowrotate.machine import commands
from flowrotate.machine.places import Places, places
from flowrotate.settings import find_secrets

from . import plan
from .keeper import Keeper, KeeperError
from .order import Options, Order, OrderError, make_order
from .platforms import find_keeper

PACKAGE = Path(__file__).resolve().parents[2]
COLOURS = {
    "done": "green",
    "would": "cyan",
    "already": "green",
    "skipped": "yellow",
    "warning": "yellow",
}

as_json = click.option("--json", "as_json", is_flag=True, help="Print the outcome for a program.")
dry_run = click.option("--dry-run", is_flag=True, help="Print each file and command, do nothing.")


@click.group()
def service() -> None:
    """Keep the proxy running: by systemd, launchd, or Windows' Task Scheduler."""


@service.command()
@click.option("--listen", default="", metavar="HOST:PORT", help="Where it listens.")
@click.option("--mode", "modes", multiple=True, metavar="SPEC", help="mitmproxy's mode.")
@click.option("--secrets", default="", metavar="FILE", help="The secrets file.")
@click.option("--confdir", default="", metavar="DIR", help="Where mitmproxy keeps its CA.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="An option of its own.")
@dry_run
@as_json
def install(
    listen: str,
    modes: tuple[str, ...],
    secrets: str,
    confdir: str,
    sets: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Start `flow-rotate serve` with these options, now and at each login."""
    with _failures(as_json):
        keeper, here = _machine()
        order = _order(Options(listen, modes, secrets, confdir, sets), here)
        steps = plan.install(keeper, order, here, commands.run, dry=dry_run)
        ok = _tell(steps, as_json)
        if ok and not dry_run and not as_json:
            click.echo(f"\nIts log: {keeper.log}\nWhether it runs: flow-rotate service status")
    sys.exit(not ok)


@service.command()
@dry_run
@as_json
def uninstall(dry_run: bool, as_json: bool) -> None:
    """End the service, and take away what `install` made."""
    with _failures(as_json):
        keeper, here = _machine()
        ok = _tell(plan.uninstall(keeper, here, commands.run, dry=dry_run), as_json)
    sys.exit(not ok)


@service.command()
@as_json
def status(as_json: bool) -> None:
    """Whether it is installed and runs (exit status 0), and where its log is."""
    with _failures(as_json):
        keeper, here = _machine()
        found = plan.status(keeper, here, commands.run)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n".join(_lines(found)))
    sys.exit(not (found["installed"] and found["active"]))


def _machine() -> tuple[Keeper, Places]:
    here = places(os.environ, Path.home())
    uid = 0 if sys.platform == "win32" else os.getuid()
    return find_keeper(here, os.environ, uid), here


def _order(options: Options, here: Places) -> Order:
    # The proxy's own checks, which need mitmproxy.
    from flowrotate.serve.plan import DEFAULT_LISTEN, ServeError, make_plan

    try:
        make_plan(
            listen=options.listen or DEFAULT_LISTEN, modes=options.modes, options=options.sets
        )
    except ServeError as e:
        raise click.UsageError(str(e)) from e
    found, _ = find_secrets(options.secrets, os.environ, here.home, PACKAGE)
    order = make_order(options, sys.executable, here, os.environ, found)
    plan.check_installed(order.python, PACKAGE.parent.parent, commands.run)
    return order


@contextmanager
def _failures(as_json: bool) -> Iterator[None]:
    """What was found wrong before anything was changed: a line each."""
    try:
        yield
    except (KeeperError, OrderError, OSError) as e:
        problems = str(e).splitlines()
        if as_json:
            click.echo(json.dumps({"ok": False, "problems": problems, "steps": []}, indent=2))
        else:
            for line in problems:
                click.secho(line, fg="red", err=True)
        sys.exit(1)


def _tell(steps: Iterable[plan.Done], as_json: bool) -> bool:
    """Each as it is done. Whether all went well."""
    told = []
    for done in steps:
        told.append(done)
        if not as_json:
            _tell_one(done)
    ok = all(done.outcome != "failed" for done in told)
    if as_json:
        problems = [f"{d.what}: {d.detail}" for d in told if d.outcome == "failed"]
        said = {"ok": ok, "problems": problems, "steps": [asdict(done) for done in told]}
        click.echo(json.dumps(said, indent=2))
    return ok


def _tell_one(done: plan.Done) -> None:
    failed = done.outcome == "failed"
    outcome = click.style(done.outcome, fg=COLOURS.get(done.outcome, "red"))
    click.echo(f"{outcome}: {done.what}", err=failed)
    if done.detail and done.outcome != "skipped":
        lines = (f"    {line}".rstrip() for line in done.detail.splitlines())
        click.echo("\n".join(lines), err=failed)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    if found["foreign"]:
        yield f"another service of this name, not ours: {found['foreign']}"
    if not found["installed"]:
        yield f"not installed ({found['keeper']}): flow-rotate service install"
        return
    yield f"installed: {found['file']} ({found['keeper']})"
    yield f"starts at login: {_word(found['enabled'])}"
    yield f"runs: {_word(found['active'])}{_details(found)}"
    yield f"command: {found['command']}"
    yield f"log: {found['log']}"
    if found["lingers"] is False:
        yield "it ends when you log out, unless: loginctl enable-linger"


def _word(known: bool | None) -> str:
    return {True: "yes", False: "no", None: "not known"}[known]


def _details(found: dict[str, Any]) -> str:
    parts = {
        "since": found["since"] if found["active"] else "",
        "process": found["pid"] or "",
        "at": found["url"] or "",
    }
    said = [found["result"], *(f"{name} {value}" for name, value in parts.items() if value)]
    return "".join(f", {text}" for text in said if text)
