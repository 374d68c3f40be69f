"""`flow-rotate env`, `run` and `pac`: this machine's tools and the proxy."""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import click

from flowrotate.config.spec import ConfigError
from flowrotate.hosts import HostRule
from flowrotate.mint.egress import Egress
from flowrotate.settings import SettingsError, find_secrets, read_token

from . import environment, launch, pac, shells
from .bundle import BundleError, Bundles
from .places import Places, places
from .pools import host_rules, source_variables
from .target import Target, TargetError, find_target

PACKAGE = Path(__file__).resolve().parents[1]
PLACEHOLDER = "placeholder"

F = TypeVar("F", bound=Callable[..., Any])


def target_options(command: F) -> F:
    """`--proxy`, `--confdir`, `--secrets`: what is not given, the running proxy says."""
    for option in (
        click.option("--secrets", default="", metavar="FILE", help="The secrets file."),
        click.option("--confdir", default="", metavar="DIR", help="Where the proxy's CA is."),
        click.option("--proxy", default="", metavar="URL", help="The proxy: http://HOST:PORT."),
    ):
        command = option(command)
    return command


@click.command()
@target_options
@click.option("--shell", type=click.Choice(list(shells.SHELLS)), help="Default: yours ($SHELL).")
@click.option("--unset", is_flag=True, help="Print what takes it all back.")
@click.option("--json", "as_json", is_flag=True, help="Print the variables for a program.")
def env(shell: str | None, unset: bool, as_json: bool, **given: str) -> None:
    """Print the variables that send this shell's tools to the proxy, and let them trust its CA.

    Use it as: eval "$(flow-rotate env)"
    """
    values: Mapping[str, str | None]
    if unset:
        values = environment.undone(os.environ)
    else:
        target = _target("env", given)
        if not target.runs:
            which = " with these secrets" if given["secrets"] else f" at {target.url}"
            _fail(
                "env",
                f"no proxy answers{which}: start one (flow-rotate serve), or name it with --proxy",
            )
        values = _variables("env", target)
        _warn_of_next_proxy("env", target)
    shell = shell or shells.shell_of(os.environ, sys.platform, _asking())
    if shell == "dotenv":
        values = {name: text for name, text in values.items() if name != environment.BEFORE}
    click.echo(json.dumps(values, indent=2) if as_json else shells.written(shell, values).rstrip())


@click.command(context_settings={"allow_interspersed_args": False})
@target_options
@click.option(
    "--placeholder", "names", multiple=True, metavar="NAME", help="Give it a placeholder there."
)
@click.option("--private", is_flag=True, help="A proxy of its own, though one may run.")
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help="For a private proxy.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    names: tuple[str, ...],
    private: bool,
    options: tuple[str, ...],
    command: tuple[str, ...],
    **given: str,
) -> None:
    """Run a program whose requests go through the proxy: flow-rotate run -- CMD ARGS…

    It takes the place of this process. When no proxy runs, it gets one of its own, which ends with
    it. --placeholder OPENAI_API_KEY gives it a key that is none.
    """
    if wrong := [name for name in names if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)]:
        raise click.BadParameter(
            f"{wrong[0]} is no variable's name: write one, as OPENAI_API_KEY",
            param_hint="placeholder",
        )
    target = _target("run", given)
    if private or options or not target.runs:
        if given["proxy"]:
            _fail("run", f"no proxy answers at {target.url}: start it, or leave out --proxy")
        target = _private(given, options)
    try:
        secret = read_token(target.token, os.environ)
    except SettingsError as e:
        _fail("run", str(e))
    key = secret.reveal() if secret else PLACEHOLDER
    # The pools' own keys are none of the program's business.
    spare = [name for name in _source_variables(target) if name in os.environ]
    values = _variables("run", target) | dict.fromkeys((*spare, *names), key)
    _warn_of_next_proxy("run", target)
    try:
        sys.exit(launch.become(command, {**os.environ, **values}))
    except launch.LaunchError as e:
        _fail("run", str(e), e.status)


@click.command("pac")
@target_options
def print_pac(**given: str) -> None:
    """Print the proxy auto-configuration script: pooled hosts to the proxy, all else DIRECT.

    A running proxy answers it at /proxy.pac, always as its pools are.
    """
    target = _target("pac", given)
    if not target.secrets:
        _fail("pac", "no secrets file: name one with --secrets")
    try:
        click.echo(pac.pac(host_rules(target.secrets), target.url), nl=False)
    except ConfigError as e:
        _fail("pac", str(e))


@click.command()
@target_options
@click.option("--trust", type=click.Path(path_type=Path), help="A CA file for the upstreams.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings for a program.")
def doctor(trust: Path | None, as_json: bool, **given: str) -> None:
    """Look at what may be wrong on this machine, and say what to do: status 1 on any failure."""
    from .doctor.examine import Asked, examine
    from .doctor.tell import tell
    from .system.cli import this_computer

    target = _target("doctor", given)
    asked = Asked(target, os.environ, sources_environment(target), this_computer(), trust)
    sys.exit(tell(examine(asked), as_json=as_json))


def here() -> Places:
    return places(os.environ, Path.home())


def sources_environment(target: Target) -> dict[str, str]:
    """For the secrets file's commands: what they ask must not be seen in a flow."""
    parts = urlsplit(target.url)
    listening = [(parts.hostname or "", parts.port or 0)]
    return Egress(lambda: listening, lambda: None, os.environ, lambda: target.ca).environment()


def _target(command: str, given: Mapping[str, str]) -> Target:
    try:
        target = find_target(here(), current=os.environ.get("https_proxy", ""), **given)
    except TargetError as e:
        raise click.UsageError(str(e)) from e
    if target.secrets is None:
        return target.with_secrets(find_secrets("", os.environ, Path.home(), PACKAGE)[0])
    if given["secrets"] and not target.secrets.is_file():
        _fail(command, f"--secrets {target.secrets}: no such file")
    return target


def _variables(command: str, target: Target) -> dict[str, str]:
    bundles = Bundles(here(), target.ca)
    try:
        return environment.variables(
            target.url,
            os.environ,
            _rules(target),
            lambda written: str(bundles.of(written)),
            str(target.ca),
        )
    except BundleError as e:
        _fail(command, str(e))


def _rules(target: Target) -> list[HostRule]:
    """The pools' hosts, as far as they can be read: it is the proxy that says what is wrong."""
    try:
        return host_rules(target.secrets) if target.secrets else []
    except ConfigError:
        return []


def _source_variables(target: Target) -> list[str]:
    try:
        return source_variables(target.secrets) if target.secrets else []
    except ConfigError:
        return []


def _warn_of_next_proxy(command: str, target: Target) -> None:
    """The company's, which may be the only way out."""
    former = environment.proxy_in(environment.what_was(os.environ))
    if former and former != target.url and not target.next_proxy:
        click.echo(
            f"flow-rotate {command}: HTTPS_PROXY was {former}, and this proxy does not go on "
            f"through it: flow-rotate serve --mode upstream:{former} does",
            err=True,
        )


def _asking() -> str:
    """The program that asks, where the system tells: a shell may be another than $SHELL."""
    try:
        return Path(f"/proc/{os.getppid()}/comm").read_text().strip()
    except OSError:
        return ""


def _private(given: Mapping[str, str], options: tuple[str, ...]) -> Target:
    arguments = [part for option in options for part in ("--set", option)]
    for name in ("secrets", "confdir"):
        arguments += [f"--{name}", given[name]] if given[name] else []
    before = environment.what_was(os.environ)
    try:
        arguments += launch.next_proxy(before)
        own = launch.start_private(arguments, _without(before), here().state / "run.log")
    except launch.LaunchError as e:
        _fail("run", str(e), e.status)
    return Target(
        own.url,
        own.ca.parent,
        own.secrets,
        runs=True,
        token=own.token,
        next_proxy=environment.proxy_in(before),
    )


def _without(before: Mapping[str, str | None]) -> dict[str, str]:
    """This environment as it was before `flow-rotate env`."""
    rest = {name: text for name, text in os.environ.items() if name not in before}
    return rest | {name: text for name, text in before.items() if text is not None}


def _fail(command: str, message: str, status: int = 1) -> NoReturn:
    for line in message.splitlines():
        click.echo(f"flow-rotate {command}: {line}", err=True)
    sys.exit(status)
