"""A secrets file's text, parsed; with the check that nothing which is shown tells a secret."""

from flowrotate.config.pools import parse
from flowrotate.config.spec import Config, ConfigError, Source
from flowrotate.secret import Secret
from flowrotate.sources.resolve import ResolvedPool

C = "sk-canary-5f2a"
"""In every file below, wherever a value can sit: no message and no repr may show it."""


def read(text: str | bytes, name: str = "s.yaml") -> Config:
    """Parse, with the check that belongs to every file: nothing shows the canary."""
    config = parse(text if isinstance(text, bytes) else text.encode(), name)
    shown = f"{ConfigError(name, config.problems)} {config!r} {config.problems!r}"
    assert "canary" not in shown.lower()
    return config


def lines(text: str | bytes, name: str = "s.yaml") -> list[str]:
    config = read(text, name)
    said = str(ConfigError(name, config.problems)).splitlines()
    assert all(line.startswith(f"{name}: ") for line in said)
    return [line.removeprefix(f"{name}: ") for line in said]


def resolved(text: str) -> list[ResolvedPool]:
    """The pools of a file that has its secrets in it."""
    config = parse(text.encode(), "x.yaml")
    assert config.problems == ()
    return [
        ResolvedPool(
            pool,
            tuple(
                s
                for c in pool.credentials
                if isinstance(c.source, Source) and isinstance(s := c.source.value, Secret)
            ),
        )
        for pool in config.pools
    ]


def short(rest: str, credentials: str = f"[{C}]") -> str:
    """The short form, with one line of its own: `rest` is at line 3."""
    return f"hosts: [a.example]\ncredentials: {credentials}\n{rest}\n"


def unknown(number: int) -> str:
    return f"unknown key, number {number} here (not shown, it may be a secret); known keys: "


POOL_KEYS = (
    "name, hosts, paths, methods, inject, strip, fail, cooldown, retries, hold, browsers, "
    "strategy, sticky, cooldown_by, pin, username, credentials"
)
CREDENTIAL_KEYS = (
    "id, secret, env, file, command, keyring, jwt, oauth2, username, disabled, weight, priority, "
    "rpm, max_in_flight, headers"
)
AS_TEXT = "must be text: write it in quotes"
EMPTY_TEXT = "empty: write a text"
NAME = "write 1 to 64 letters, digits, dots, - and _ only"
HEADER = "not a header name: write letters, digits and - only"
RESERVED = "this header belongs to the connection: choose another"
CONTROL = "the secret has a control character (a line end or tab?): remove it"
VISIBLE = "a header takes a secret of visible ASCII only: other words belong in 'inject'"
READ_IN_NAME = "the secret can be read in its id or pool name, which are shown: rename them"
