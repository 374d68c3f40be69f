"""mitmproxy options -> frozen Settings, and where the secrets file is."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar

from .config.failrules import parse_fail_option
from .guard import Network
from .secret import Secret
from .verdict import FailRules

DEFAULT_FAIL = "401=disable,429=cooldown"
TOKEN_ALIAS = "[rotate:client-token]"  # noqa: S105  # an alias is what is no secret


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options say. `cooldown` and `hold` in seconds."""

    fail: FailRules = ((401, 401, "disable"), (429, 429, "cooldown"))
    cooldown: int = 60
    retries: int = 3
    hold: int = 0
    stream: bool = True
    scrub: bool = True
    passthrough: bool = False
    client_token: Secret | None = None
    allow_clients: tuple[Network, ...] = ()
    expose: bool = False


class SettingsError(ValueError):
    """Bad options: a line for each, which names it, the value's place, and the mend."""


def parse_settings(
    *,
    fail: str,
    cooldown: int,
    retries: int,
    hold: int,
    stream: bool,
    scrub: bool,
    passthrough: bool,
    client_token: str,
    allow_clients: Sequence[str],
    expose: bool,
    env: Mapping[str, str],
    read: Callable[[Path], str] = Path.read_text,
) -> Settings:
    """Raises SettingsError with everything that is wrong."""
    problems: list[str] = []

    def take(make: Callable[[], T], otherwise: T) -> T:
        try:
            return make()
        except ValueError as e:
            problems.append(str(e))
            return otherwise

    settings = Settings(
        fail=take(lambda: _fail(fail), ()),
        cooldown=take(lambda: _between("rotate_cooldown", cooldown, 1, 86_400, "seconds"), 1),
        retries=take(lambda: _between("rotate_retries", retries, 0, 100, "further credentials"), 0),
        hold=take(lambda: _between("rotate_hold", hold, 0, 86_400, "seconds"), 0),
        stream=stream,
        scrub=scrub,
        passthrough=passthrough,
        client_token=take(lambda: read_token(client_token, env, read), None),
        allow_clients=tuple(
            network
            for n, text in enumerate(allow_clients, 1)
            if (network := take(partial(_network, n, text), None))
        ),
        expose=expose,
    )
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _fail(text: str) -> FailRules:
    try:
        return parse_fail_option(text)
    except ValueError as e:
        raise SettingsError(f"rotate_fail: {e}") from e


def _between(name: str, value: int, least: int, most: int, unit: str) -> int:
    if not least <= value <= most:
        raise SettingsError(f"{name}: write {least} to {most} {unit}")
    return value


def _network(n: int, text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as e:
        raise SettingsError(
            f"rotate_allow_clients: entry {n} is no network: write the network's first address "
            "and its length, as 192.168.1.0/24, and one --set for each"
        ) from e


def read_token(
    spec: str, env: Mapping[str, str], read: Callable[[Path], str] = Path.read_text
) -> Secret | None:
    """The token that `env:NAME` or `@FILE` leads to; its text itself is never an option.

    Raises SettingsError.
    """
    if not spec:
        return None
    if spec.startswith("env:"):
        text = env.get(spec.removeprefix("env:"), "")
        missing = "the environment variable that it names is not set"
    elif spec.startswith("@"):
        try:
            text = read(Path(spec[1:]).expanduser()).strip()
        except (OSError, ValueError, RuntimeError) as e:
            raise SettingsError("rotate_client_token: the file that it names can't be read") from e
        missing = "the file that it names is empty"
    else:
        raise SettingsError(
            "rotate_client_token: write env:NAME or @FILE, never the token itself "
            "(options are shown and saved)"
        )
    if not text:
        raise SettingsError(f"rotate_client_token: {missing}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise SettingsError("rotate_client_token: a token is visible ASCII without spaces")
    return Secret(text, TOKEN_ALIAS)


def find_secrets(
    option: str, env: Mapping[str, str], home: Path, package: Path
) -> tuple[Path | None, tuple[Path, ...]]:
    """The secrets file, and the places looked at when none was named and none is there."""
    named = option or env.get("FLOW_ROTATE_SECRETS", "")
    if named:
        # Path.expanduser raises where there is no home folder; this one leaves the ~ in.
        return Path(os.path.expanduser(named)), ()  # noqa: PTH111
    places = [home / ".config" / "flow-rotate" / "secrets.yaml"]
    # In site-packages the folder above is not the project's.
    if package.parent.name == "addon":
        places.insert(0, package.parent.parent / "secrets" / "secrets.yaml")
    return next((p for p in places if p.is_file()), None), tuple(places)
