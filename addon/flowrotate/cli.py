"""`flow-rotate …`: exit status 0 done, 1 failed, 2 misuse."""

import os
import sys
from pathlib import Path

import click

from . import __version__
from .mint.egress import Egress
from .settings import find_secrets

PACKAGE = Path(__file__).resolve().parent
SCRIPT = PACKAGE.parent / "flow_rotate.py"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Flow Rotate: a pool of credentials, rotated onto the requests that mitmproxy forwards."""


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
        report = examine(found, _environment(), offline=offline)
    else:
        report = Report("", (Problem("", _missing(places)),))
    sys.exit(tell(report, as_json=as_json))


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


def _environment() -> dict[str, str]:
    """For the file's commands: a proxy with the addon, at mitmproxy's own address, is not asked."""
    own_ca = Path.home() / ".mitmproxy" / "mitmproxy-ca-cert.pem"
    egress = Egress(lambda: [("127.0.0.1", 8080)], lambda: None, os.environ, lambda: own_ca)
    return egress.environment()


def _missing(places: tuple[Path, ...]) -> str:
    example = PACKAGE.parent.parent / "secrets" / "example.yaml"
    if example.is_file():
        return f"no secrets file: cp {_short(example)} {_short(places[0])}, and put your keys in"
    return f"no secrets file: put one at {_short(places[0])} (README: the secrets file)"


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
