"""`flow-rotate system on|off|status`, for people and for programs."""

import ipaddress
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import click

from flowrotate.machine import proxies
from flowrotate.machine.commands import run
from flowrotate.machine.places import NAME, places
from flowrotate.machine.target import Target, TargetError, find_target

from .certificate import keep_certificate, read_certificate
from .kinds import ChangeError, Computer, Outcome
from .ledger import Book, Ledger, LedgerError
from .plan import foreign, kinds, wishes
from .switch import standing, switch_off, switch_on

COLOURS = dict.fromkeys(("done", "on", "already"), "green") | {
    **dict.fromkeys(("skipped", "left", "changed", "warning"), "yellow"),
    "would": "cyan",
    "failed": "red",
}
SUDO = 'sudo "$(command -v flow-rotate)" system on --system-trust'
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print it for a program.")
dry_option = click.option("--dry-run", "dry", is_flag=True, help="Print each step, do none.")


@click.group()
def system() -> None:
    """Point this desktop at the proxy, trust its CA; and put everything back."""


@system.command()
@click.option("--proxy", default="", help="http://HOST:PORT; else the one that runs.")
@click.option("--confdir", default="", help="The folder with the proxy's CA; else ~/.mitmproxy.")
@click.option("--system-trust", is_flag=True, help="The machine's trust store too; needs root.")
@click.option("--force", is_flag=True, help="Also in the place of a proxy that is set.")
@dry_option
@as_json_option
def on(proxy: str, confdir: str, system_trust: bool, force: bool, dry: bool, as_json: bool) -> None:
    """The proxy's PAC into the desktop's settings, its CA into the browsers' trust."""
    computer = this_computer()
    try:
        _may(computer, system_trust)
        target = find_target(computer.places, proxy=proxy, confdir=confdir)
        _on_this_machine(target)
        certificate = read_certificate(target.ca)
        ledger = computer.book.load() or computer.book.begin(target.url, _now())
        former = foreign(computer, _pacs(ledger) | {target.pac})
        if former and not force:
            raise ChangeError(f"{former[0]}: --force replaces it, and `off` puts it back")
        found = list(wishes(computer, target.pac, certificate, system_trust=system_trust))
        if not dry:
            ledger = replace(ledger, proxy=target.url)
            computer.book.save(ledger)
            keep_certificate(computer.book, certificate)
    except (ChangeError, LedgerError, TargetError, OSError) as e:
        _fail(e, as_json)
    warnings = [
        f"{one}; start the proxy with --mode upstream:http://… for what went through it"
        for one in former
    ]
    if not target.runs:
        warnings.append(f"no proxy answers at {target.url} now: start it: flow-rotate serve")
    done = switch_on(kinds(computer), computer.book, ledger, found, dry=dry)
    failed = _tell(done, warnings, as_json=as_json, proxy=target.url)
    if not dry and not _entries(computer.book):
        computer.book.close(ledger)
    sys.exit(failed)


@system.command()
@dry_option
@as_json_option
def off(dry: bool, as_json: bool) -> None:
    """Put back what `on` changed, also after a crash."""
    computer = this_computer()
    try:
        ledger = computer.book.load()
    except LedgerError as e:
        _fail(e, as_json)
    if ledger is None or not ledger.entries:
        if not dry:
            computer.book.close(ledger)
        sys.exit(_tell([], ["nothing is on"], as_json=as_json))
    sys.exit(_tell(switch_off(kinds(computer), computer.book, ledger, dry=dry), as_json=as_json))


@system.command()
@as_json_option
def status(as_json: bool) -> None:
    """What is on, since when, and whether it is still as it was set."""
    computer = this_computer()
    try:
        ledger = computer.book.load()
    except LedgerError as e:
        _fail(e, as_json)
    found = list(standing(kinds(computer), ledger)) if ledger else []
    answers = bool(found) and ledger is not None and proxies.answers(ledger.proxy)
    if as_json:
        since = ledger.since if ledger and found else None
        changes = [
            {"kind": entry.kind, "place": entry.place} | _as_json(outcome)
            for entry, outcome in found
        ]
        proxy = ledger.proxy if ledger and found else None
        told = {"on": bool(found), "proxy": proxy, "since": since}
        click.echo(json.dumps(told | {"answers": answers, "changes": changes}, indent=2))
        return
    if not ledger or not found:
        click.echo("nothing is on")
        return
    since_text = datetime.fromtimestamp(ledger.since).astimezone().isoformat(" ", "seconds")
    state = "it answers" if answers else "it does not answer: start it: flow-rotate serve"
    click.echo(f"on since {since_text}, for the proxy {ledger.proxy}; {state}")
    for _, outcome in found:
        _line(outcome)


def _tell(
    outcomes: Iterable[Outcome],
    warnings: Iterable[str] = (),
    *,
    as_json: bool,
    proxy: str | None = None,
) -> int:
    """Each as it comes. Exit status: 1 when any has failed."""
    failed, told = 0, []
    if not as_json:
        for warning in warnings:
            _line(Outcome("warning", warning))
    for outcome in outcomes:
        failed |= outcome.status == "failed"
        told.append(_as_json(outcome))
        if not as_json:
            _line(outcome)
    if as_json:
        whose = {"proxy": proxy} if proxy else {}
        click.echo(json.dumps(whose | {"steps": told, "warnings": list(warnings)}, indent=2))
    return int(failed)


def _line(outcome: Outcome) -> None:
    status = click.style(f"{outcome.status:8}", fg=COLOURS[outcome.status])
    why = f" ({outcome.why})" if outcome.why else ""
    click.echo(f"{status} {outcome.what}{why}", err=outcome.status in ("failed", "warning"))
    for step in outcome.steps:
        click.echo(f"           {step}")


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {k: v for k, v in asdict(outcome).items() if v}


def _fail(error: Exception, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"error": str(error)}, indent=2))
    else:
        click.secho(str(error), fg="red", err=True)
    sys.exit(1)


def this_computer() -> Computer:
    """Under `sudo` the user's proxy is meant, and the machine's own ledger."""
    is_root = _is_root()
    user = os.environ.get("SUDO_USER", "") if is_root else ""
    env, home = dict(os.environ), Path.home()
    if user in ("", "root"):
        found = places(env, home)
        return Computer(found, env, run, shutil.which, Book(found.state), is_root=is_root)
    try:
        found = places({}, Path(f"~{user}").expanduser())
    except RuntimeError as e:
        raise click.ClickException(f"SUDO_USER names nobody of this machine: {user}") from e
    state = Path("/var/lib", NAME)
    if sys.platform == "darwin":
        state = Path("/Library/Application Support", NAME)
    return Computer(found, env, run, shutil.which, Book(state), is_root=True, user=user)


def _is_root() -> bool:
    if sys.platform == "win32":
        import ctypes

        return bool(ctypes.windll.shell32.IsUserAnAdmin())
    return os.geteuid() == 0


def _may(computer: Computer, system_trust: bool) -> None:
    if system_trust and not computer.is_root:
        raise ChangeError(f"--system-trust needs root: {SUDO}")
    if computer.user and not system_trust:
        raise ChangeError(
            f"this is {computer.user}'s: run it without sudo (with it, --system-trust alone)"
        )


def _on_this_machine(target: Target) -> None:
    """A PAC comes over plain http, and whoever changes it on its way has the browser."""
    host = urlsplit(target.url).hostname or ""
    try:
        near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = host == "localhost"
    if not near:
        raise ChangeError("--proxy must be on this machine (127.0.0.1): a PAC comes unprotected")


def _pacs(ledger: Ledger) -> set[str]:
    """Those that are ours, however their kinds write them."""
    values = (value for entry in ledger.entries for value in entry.ours if not entry.cert)
    return {value.split(" ")[-1].strip("'") for value in values}


def _entries(book: Book) -> bool:
    ledger = book.load()
    return bool(ledger and ledger.entries)


def _now() -> float:
    return datetime.now(UTC).timestamp()
