"""What a secrets file says, as frozen data, and the error that says what is wrong with it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from flowrotate.hosts import HostRule
from flowrotate.inject import DEFAULT_INJECT, Inject
from flowrotate.keys import RequestKey
from flowrotate.paths import PathRule
from flowrotate.secret import Secret
from flowrotate.verdict import FailRules

from .section import Problem


class ConfigError(ValueError):
    """All that is wrong with one file; as text, one line for each problem."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(problems)
        lines = (": ".join(filter(None, (name, p.place, p.message))) for p in self.problems)
        super().__init__("\n".join(lines))


DEFAULT_STRIP = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
"""What a client's own credential is sent in, and so removed: lower-case header names."""

SourceKind = Literal["secret", "env", "file", "command", "keyring"]

Strategy = Literal["round-robin", "fill-first", "least-busy", "random", "sticky"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a secret comes from: itself, or a variable's, file's, command's or keyring's name."""

    kind: SourceKind
    # Not in the repr: a secret written in the wrong line looks like a name.
    value: str | Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class JwtSpec:
    """A JSON Web Token (RFC 7519) that is signed here. `ttl` in seconds; None: it has no end."""

    algorithm: str
    key: Source
    claims: Mapping[str, object] = field(repr=False)
    ttl: int | None


@dataclass(frozen=True, slots=True)
class OAuth2Spec:
    """An access token that a token endpoint gives out (RFC 6749, 4.4 and 6)."""

    token_url: str = field(repr=False)
    client_id: str = field(repr=False)
    client_secret: Source | None
    scope: str | None = field(repr=False)
    grant: Literal["client_credentials", "refresh_token"]
    refresh_token: Source | None


@dataclass(frozen=True, slots=True)
class CredentialSpec:
    """One entry of `credentials`. `place` is where it stands in the file.

    `rpm` in requests per minute, `headers` are (name, value) pairs.
    """

    id: str
    pool: str
    source: Source | JwtSpec | OAuth2Spec
    username: str | None = field(repr=False)
    disabled: bool
    place: str
    weight: int = 1
    priority: int = 0
    rpm: int | None = None
    max_in_flight: int | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def alias(self) -> str:
        return alias_of(self.pool, self.id)


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pool as written. No paths or methods means all; None, what the option says.

    `methods` are upper case, `strip` lower-case header names and `?name` for query parameters,
    `cooldown` and `hold` are in seconds.
    """

    name: str
    hosts: tuple[HostRule, ...]
    paths: tuple[PathRule, ...] = ()
    methods: tuple[str, ...] = ()
    inject: Inject = DEFAULT_INJECT
    strip: tuple[str, ...] = DEFAULT_STRIP
    fail: FailRules | None = None
    cooldown: int | None = None
    retries: int | None = None
    hold: int | None = None
    browsers: bool = False
    strategy: Strategy = "round-robin"
    sticky: RequestKey | None = None
    cooldown_by: RequestKey | None = None
    pin: tuple[PathRule, ...] = ()
    credentials: tuple[CredentialSpec, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """What could be read of a file. Not to be used while there are problems."""

    pools: tuple[PoolSpec, ...]
    problems: tuple[Problem, ...]


def alias_of(pool: str, id: str) -> str:
    """What is shown wherever the secret would be."""
    return f"[rotate:{pool}/{id}]"
