"""`flow-rotate …`: exit status 0 done, 1 failed, 2 misuse."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from . import __version__
from .machine import cli as machine
from .machine.service.cli import service
from .machine.system.cli import system
from .machine.target import find_target
from .settings import find_secrets

PACKAGE = Path(__file__).resolve().parent
SCRIPT = PACKAGE.parent / "flow_rotate.py"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Flow Rotate: a pool of credentials, rotated onto the requests that mitmproxy forwards."""


cli.add_command(system)
cli.add_command(service)
cli.add_command(machine.env)
cli.add_command(machine.doctor)
cli.add_command(machine.run)
cli.add_command(machine.print_pac)


@cli.command()
@click.option("--keep", is_flag=True, help="Leave proxy and upstream running, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome for a program.")
def demo(keep: bool, as_json: bool) -> None:
    """Run the main job against an embedded upstream, and prove that it worked."""
    # The demo alone needs rich and the upstream.
    from .demo.run import run

    sys.exit(run(keep=keep, as_json=as_json))


@cli.command()
@click.argument("file", default="", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print what was found for a program.")
@click.option("--offline", is_flag=True, help="A host that does not resolve is a warning.")
def check(file: str, as_json: bool, offline: bool) -> None:
    """Check FILE, or the secrets file that a proxy would find, and all that it refers to."""
    from .check import Report, examine
    from .config.section import Problem
    from .report import tell

    found, places = find_secrets(file, os.environ, Path.home(), PACKAGE)
    if found:
        report = examine(
            found, machine.sources_environment(find_target(machine.here())), offline=offline
        )
    else:
        report = Report("", (Problem("", _missing(places)),))
    sys.exit(tell(report, as_json=as_json))


@cli.command()
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT")
@click.option(
    "--mode", "modes", multiple=True, metavar="SPEC", help="As mitmproxy has it: regular."
)
@click.option("--secrets", default="", metavar="FILE", help="The secrets file.")
@click.option("--confdir", default="", metavar="DIR", help="Where mitmproxy's CA is: ~/.mitmproxy.")
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help="An option (README).")
@click.option("--log", type=click.Path(path_type=Path), help="Append the log there, not to stderr.")
@click.option("--verbose", "-v", is_flag=True, help="Log every connection, too.")
@click.option("--quiet", "-q", is_flag=True, help="Log warnings and errors alone.")
@click.option("--json", "as_json", is_flag=True, help="Say in JSON when it is ready.")
@click.option("--private-to", type=int, hidden=True, help="End with this process.")
@click.option("--check", is_flag=True, hidden=True, help="Say whether it could start, and end.")
def serve(
    listen: str,
    modes: tuple[str, ...],
    secrets: str,
    confdir: str,
    options: tuple[str, ...],
    **more: Any,
) -> None:
    """Run the proxy for daily use: headless, on loopback.

    What is in no pool passes undecrypted. SIGHUP reads the secrets file again, SIGTERM and Ctrl-C
    let what is under way finish, for up to 10 s.
    """
    from .serve.plan import ServeError, make_plan
    from .serve.run import serve as run_server

    try:
        plan = make_plan(
            listen=listen, modes=modes, secrets=secrets, confdir=confdir, options=options
        )
    except ServeError as e:
        raise click.UsageError(str(e)) from e
    try:
        sys.exit(run_server(replace(plan, **more)))
    except ServeError as e:
        sys.exit(f"flow-rotate serve: {e}")


@cli.command()
@click.option("--secrets", is_flag=True, help="Print the secrets file's path instead.")
def path(secrets: bool) -> None:
    """Print the path of the script, for `mitmdump -s "$(flow-rotate path)"`."""
    if not secrets:
        click.echo(SCRIPT)
        return
    found, places = find_secrets("", os.environ, Path.home(), PACKAGE)
    if found is None:
        sys.exit(_missing(places))
    if not found.is_file():
        sys.exit(f"no such secrets file: {found} (FLOW_ROTATE_SECRETS names it)")
    click.echo(found)


def _missing(places: tuple[Path, ...]) -> str:
    example = PACKAGE.parent.parent / "secrets" / "example.yaml"
    if example.is_file():
        return f"no secrets file: cp {_short(example)} {_short(places[0])}, and put your keys in"
    return f"no secrets file: put one at {_short(places[0])} (README: the secrets file)"


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
