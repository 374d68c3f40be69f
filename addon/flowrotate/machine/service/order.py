"""What the service is to run: `flow-rotate serve` with this interpreter, and its options. IO."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flowrotate.machine.places import Places

CARRIED = ("PATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
"""What the service's commands and folders need, and a service manager does not have from a shell's
profile. Nothing that may be secret: the file it goes to is read by others."""


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

    for text in options.sets:
        check(partial(_set, text))
    check(partial(_secrets, options.secrets, secrets, places))
    given = (options.listen, options.confdir, *options.modes, *options.sets, str(secrets), python)
    if not all(text.isprintable() for text in given):
        problems.append("an option, or a path, has a line end or another control character in it")
    if problems:
        raise OrderError("\n".join(problems))
    assert secrets
    confdir = Path(options.confdir).expanduser().absolute() if options.confdir else None
    return Order(
        python,
        tuple(_arguments(options, secrets.absolute(), confdir)),
        (confdir or places.home / ".mitmproxy", places.state),
        tuple((name, env[name]) for name in CARRIED if env.get(name) and env[name].isprintable()),
    )


def _arguments(options: Options, secrets: Path, confdir: Path | None) -> Sequence[str]:
    named = {
        "--listen": options.listen,
        "--secrets": str(secrets),
        "--confdir": str(confdir or ""),
    }
    arguments = [word for name, value in named.items() if value for word in (name, value)]
    for name, texts in (("--mode", options.modes), ("--set", options.sets)):
        arguments += [word for text in texts for word in (name, text)]
    return arguments


def _set(text: str) -> None:
    name, equals, _ = text.partition("=")
    if not name or not equals:
        raise OrderError("--set: write NAME=VALUE, as --set rotate_retries=1")


def _secrets(named: str, found: Path | None, places: Places) -> None:
    if found is None:
        usual = places.home / ".config" / "flow-rotate" / "secrets.yaml"
        raise OrderError(f"no secrets file: put one at {usual}, or name it: --secrets FILE")
    if not found.is_file():
        by = "--secrets" if named else "FLOW_ROTATE_SECRETS"
        raise OrderError(f"{by}: no such file: {found}")
