"""The secrets file on disk, and all that it refers to -> pools with secrets. IO."""

import os
import shlex
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowrotate.config.document import LARGEST_FILE
from flowrotate.config.pools import parse
from flowrotate.config.section import Problem
from flowrotate.config.spec import (
    ConfigError,
    CredentialSpec,
    JwtSpec,
    OAuth2Spec,
    PoolSpec,
    Source,
)
from flowrotate.mint.mints import JwtMint, Mint, OAuth2Mint
from flowrotate.secret import Secret

from .files import UnreadableError, path_in, read_file
from .gather import Commands, gather, names, parts_of


@dataclass(frozen=True, slots=True)
class ResolvedPool:
    """A pool and its secrets, or what mints them: one for each of its credentials, in order."""

    spec: PoolSpec
    secrets: tuple[Secret | Mint, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The pools, and the files that a change of theirs may come from, as they were named."""

    pools: tuple[ResolvedPool, ...]
    files: frozenset[Path]


class LoadError(ConfigError):
    """All that is wrong with a secrets file and what it refers to, and the files to watch."""

    def __init__(self, name: str, problems: Iterable[Problem], files: frozenset[Path]) -> None:
        super().__init__(name, problems)
        self.files = files


def load(path: Path, env: Mapping[str, str], commands: Commands | None = None) -> Loaded:
    """Read the secrets file and all it refers to. Raises LoadError with every problem.

    `commands` is read, and filled with what is run: None runs them all, and keeps nothing.
    """
    try:
        text, mode = read_file(path, LARGEST_FILE)
    except UnreadableError as e:
        raise LoadError(str(path), [Problem("", str(e))], frozenset({path})) from None
    config = parse(text, str(path))
    problems = list(config.problems)
    parts = [p for pool in config.pools for c in pool.credentials for p in parts_of(c, pool.inject)]
    inline = any(part.source.kind == "secret" for part in parts)
    if inline and os.name == "posix" and mode & stat.S_IROTH:
        mend = f"chmod 600 {shlex.quote(str(path))}"
        problems.append(Problem("", f"others may read this file, and it holds secrets: {mend}"))
    files = {path_in(path.parent, name) for name in names(parts, "file")}
    secrets = gather(parts, path.parent, env, {} if commands is None else commands, problems)
    pools = tuple(_resolve(pool, path.parent, secrets, problems) for pool in config.pools)
    if problems:
        raise LoadError(str(path), problems, frozenset({path, *files}))
    return Loaded(pools, frozenset({path, *files}))


def _resolve(
    pool: PoolSpec, folder: Path, secrets: Mapping[str, Secret], problems: list[Problem]
) -> ResolvedPool:
    """The pool with its secrets; fewer of them, and problems, when some cannot be had."""
    places: dict[Secret, str] = {}
    made: list[Secret | Mint] = []
    for credential in pool.credentials:
        if any(part.place not in secrets for part in parts_of(credential, pool.inject)):
            continue
        one = _made(credential, folder, secrets, problems)
        identity = one if isinstance(one, Secret) else one.identity
        first = places.setdefault(identity, credential.place)
        if first != credential.place:
            same = f"same secret as {first.rpartition('.')[2]}: remove one"
            problems.append(Problem(credential.place, same))
        made.append(one)
    return ResolvedPool(pool, tuple(made))


def _made(
    credential: CredentialSpec,
    folder: Path,
    secrets: Mapping[str, Secret],
    problems: list[Problem],
) -> Secret | Mint:
    """A credential's secret, or what mints it; a problem when that cannot work."""
    source, place = credential.source, credential.place
    mint: Mint
    match source:
        case Source():
            return secrets[place]
        case JwtSpec():
            place = f"{place}.jwt"
            mint = JwtMint(
                credential.alias,
                source.algorithm,
                secrets[f"{place}.key"],
                source.claims,
                source.ttl,
            )
        case OAuth2Spec():
            place = f"{place}.oauth2"
            mint = OAuth2Mint(
                credential.alias,
                source.token_url,
                source.client_id,
                secrets.get(f"{place}.client_secret"),
                source.scope,
                source.grant,
                secrets.get(f"{place}.refresh_token"),
                _write_back(source.refresh_token, folder),
            )
    try:
        mint.check()
    except ValueError as e:
        problems.append(Problem(place, str(e)))
    return mint


def _write_back(refresh_token: Source | None, folder: Path) -> Path | None:
    """Where a new refresh token goes: to the file that the old one is from."""
    if refresh_token and refresh_token.kind == "file":
        return path_in(folder, str(refresh_token.value))
    return None
