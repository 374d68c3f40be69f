"""mitmproxy options -> frozen Settings, and where the secrets file is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from .config import parse_fail_option
from .guard import Network
from .secret import Secret
from .verdict import FailRules

DEFAULT_FAIL = "401=disable,429=cooldown"
LONGEST_COOLDOWN_OPTION = 86_400
TOKEN_ALIAS = "[rotate:client-token]"  # noqa: S105  # an alias is what is no secret


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options say. `cooldown` in seconds."""

    fail: FailRules = ((401, 401, "disable"), (429, 429, "cooldown"))
    cooldown: int = 60
    retries: int = 3
    client_token: Secret | None = None
    allow_clients: tuple[Network, ...] = ()
    expose: bool = False


class SettingsError(ValueError):
    """One bad option: the message names it, the value's place, and the mend."""


def parse_settings(
    *,
    fail: str,
    cooldown: int,
    retries: int,
    client_token: str,
    allow_clients: Sequence[str],
    expose: bool,
    env: Mapping[str, str],
    read: Callable[[Path], str] = Path.read_text,
) -> Settings:
    """Raises SettingsError."""
    try:
        rules = parse_fail_option(fail)
    except ValueError as e:
        raise SettingsError(f"rotate_fail: {e}") from e
    if not 1 <= cooldown <= LONGEST_COOLDOWN_OPTION:
        raise SettingsError(f"rotate_cooldown: write 1 to {LONGEST_COOLDOWN_OPTION} seconds")
    if not 0 <= retries <= 100:
        raise SettingsError("rotate_retries: write 0 to 100 further credentials")
    return Settings(
        fail=rules,
        cooldown=cooldown,
        retries=retries,
        client_token=_token(client_token, env, read) if client_token else None,
        allow_clients=tuple(_network(n, text) for n, text in enumerate(allow_clients, 1)),
        expose=expose,
    )


def _network(n: int, text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as e:
        raise SettingsError(
            f"rotate_allow_clients: entry {n} is no network: write it as 192.168.1.0/24"
        ) from e


def _token(spec: str, env: Mapping[str, str], read: Callable[[Path], str]) -> Secret:
    """The token that `env:NAME` or `@FILE` leads to; its text itself is never an option."""
    if spec.startswith("env:"):
        text = env.get(spec.removeprefix("env:"), "")
        missing = "the environment variable that it names is not set"
    elif spec.startswith("@"):
        try:
            text = read(Path(spec[1:]).expanduser()).strip()
        except (OSError, ValueError) as e:
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
        return Path(named).expanduser(), ()
    places = [home / ".config" / "flow-rotate" / "secrets.yaml"]
    # In site-packages the folder above is not the project's.
    if package.parent.name == "addon":
        places.insert(0, package.parent.parent / "secrets" / "secrets.yaml")
    return next((p for p in places if p.is_file()), None), tuple(places)
