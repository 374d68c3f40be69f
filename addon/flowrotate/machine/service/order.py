"""What the service is to run: `flow-rotate serve` with this interpreter, and its options. IO."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flowrotate.machine.places import Places

CARRIED = ("PATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
"""What the service's commands and folders need, and a service manager does not have from a shell's
profile. Nothing that may be secret: the file it goes to is read by others."""

PASSWORDS = ("upstream_auth", "proxyauth")
FLAGS = {"confdir": "--confdir", "rotate_secrets": "--secrets"}
PATHS = re.compile(
    r"(?P<before>(?:ssl_verify_upstream_trusted_(?:ca|confdir)|client_certs)="
    r"|certs=(?:[^=]*=)?|rotate_client_token=@)(?P<path>.+)"
)
"""Options that name a file."""


@dataclass(frozen=True, slots=True)
class Options:
    """As they were written; empty is not given."""

    listen: str = ""
    modes: tuple[str, ...] = ()
    secrets: str = ""
    confdir: str = ""
    sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """`folders` are what the proxy writes to. Paths are absolute: a service starts elsewhere."""

    python: str
    arguments: tuple[str, ...]
    folders: tuple[Path, ...]
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """-P: no module is taken from the folder that it is started in."""
        return (self.python, "-P", "-m", "flowrotate", "serve", *self.arguments)

    @property
    def trial(self) -> tuple[str, ...]:
        """The command, to ask whether it would start."""
        return (*self.command, "--check")


class OrderError(ValueError):
    """What is wrong with the options: a line for each, with the mend."""


def make_order(
    options: Options, python: str, places: Places, env: Mapping[str, str], secrets: Path | None
) -> Order:
    """`secrets` is the file that was found for what the options say. What `serve` checks by itself
    is not checked here. Raises OrderError."""
    problems: list[str] = []

    def check(test: Callable[[], None]) -> None:
        try:
            test()
        except OrderError as e:
            problems.append(str(e))

    confdir = _whole(options.confdir) if options.confdir else places.home / ".mitmproxy"
    for text in options.sets:
        check(partial(_set, text, confdir))
    check(partial(_secrets, options.secrets, secrets, places))
    folders = (confdir, places.state)
    given = (options.listen, *options.modes, *options.sets, str(secrets), python)
    if not all(text.isprintable() for text in (*given, *map(str, folders))):
        problems.append("an option, or a path, has a line end or another control character in it")
    environment = tuple((name, env[name]) for name in CARRIED if env.get(name))
    if bad := [name for name, value in environment if not value.isprintable()]:
        problems.append(f"{', '.join(bad)}: take out the line end or other control character")
    if problems:
        raise OrderError("\n".join(problems))
    assert secrets
    arguments = _arguments(options, secrets.absolute(), confdir if options.confdir else None)
    return Order(python, tuple(arguments), folders, environment)


def _whole(path: str) -> Path:
    # Path.expanduser raises where there is no home folder; this one leaves the ~ in.
    return Path(os.path.expanduser(path)).absolute()  # noqa: PTH111


def _arguments(options: Options, secrets: Path, confdir: Path | None) -> Sequence[str]:
    named = {
        "--listen": options.listen,
        "--secrets": str(secrets),
        "--confdir": str(confdir or ""),
    }
    arguments = [word for name, value in named.items() if value for word in (name, value)]
    sets = [PATHS.sub(lambda m: m["before"] + str(_whole(m["path"])), s) for s in options.sets]
    for name, texts in (("--mode", options.modes), ("--set", sets)):
        arguments += [word for text in texts for word in (name, text)]
    return arguments


def _set(text: str, confdir: Path) -> None:
    name = text.partition("=")[0]
    if name in PASSWORDS:
        raise OrderError(
            f"--set {name}: a service's command is shown to others: write {name} in "
            f"{confdir / 'config.yaml'} instead"
        )
    if name in FLAGS:
        raise OrderError(f"--set {name}: write {FLAGS[name]} instead")


def _secrets(named: str, found: Path | None, places: Places) -> None:
    if found is None:
        usual = places.home / ".config" / "flow-rotate" / "secrets.yaml"
        raise OrderError(f"no secrets file: put one at {usual}, or name it: --secrets FILE")
    if not found.is_file():
        by = "--secrets" if named else "FLOW_ROTATE_SECRETS"
        raise OrderError(f"{by}: no such file: {found}")
