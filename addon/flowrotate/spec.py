"""What a secrets file says, as frozen data, and the error that says what is wrong with it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from .hosts import HostRule
from .inject import Inject
from .paths import PathRule
from .secret import Secret
from .section import Problem
from .verdict import FailRules


class ConfigError(ValueError):
    """All that is wrong with one file; as text, one line for each problem."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(problems)
        lines = (": ".join(filter(None, (name, p.place, p.message))) for p in self.problems)
        super().__init__("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Source:
    """Where a secret comes from: the secret itself, a variable's name, or a file's path."""

    kind: Literal["secret", "env", "file"]
    # Not in the repr: a secret written in the wrong line looks like a name.
    value: str | Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class CredentialSpec:
    """One entry of `credentials`. `place` is where it stands in the file."""

    id: str
    pool: str
    source: Source
    username: str | None = field(repr=False)
    disabled: bool
    place: str

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
    paths: tuple[PathRule, ...]
    methods: tuple[str, ...]
    inject: Inject
    strip: tuple[str, ...]
    fail: FailRules | None
    cooldown: int | None
    retries: int | None
    hold: int | None
    browsers: bool
    credentials: tuple[CredentialSpec, ...]
    place: str


@dataclass(frozen=True, slots=True)
class Config:
    """What could be read of a file. Not to be used while there are problems."""

    pools: tuple[PoolSpec, ...]
    problems: tuple[Problem, ...]


def alias_of(pool: str, id: str) -> str:
    """What is shown wherever the secret would be."""
    return f"[rotate:{pool}/{id}]"
