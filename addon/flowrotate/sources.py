"""The secrets file on disk, and the variables and files it refers to -> pools with secrets. IO."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .config import CredentialSpec, PoolSpec, Problem, check_secret, parse
from .document import LARGEST_FILE
from .secret import Secret
from .spec import ConfigError

LARGEST_SECRET_FILE = 64 * 1024
"""Bytes."""


@dataclass(frozen=True, slots=True)
class ResolvedPool:
    """A pool and its secrets, one for each of its credentials, in their order."""

    spec: PoolSpec
    secrets: tuple[Secret, ...]


class UnreadableError(ValueError):
    """Why a file or variable gives no text, and the mend, without its name or content."""


def load(path: Path, env: Mapping[str, str]) -> tuple[ResolvedPool, ...]:
    """Read the secrets file and all it refers to. Raises ConfigError with every problem."""
    name = str(path)
    try:
        text = _read(path, LARGEST_FILE)
    except UnreadableError as e:
        raise ConfigError(name, [Problem("", str(e))]) from None
    config = parse(text, name)
    problems = list(config.problems)
    pools = tuple(_resolve(pool, path.parent, env, problems) for pool in config.pools)
    if problems:
        raise ConfigError(name, problems)
    return pools


def _resolve(
    pool: PoolSpec, folder: Path, env: Mapping[str, str], problems: list[Problem]
) -> ResolvedPool:
    """The pool with its secrets; fewer of them, and problems, when some cannot be had."""
    places: dict[Secret, str] = {}
    for credential in pool.credentials:
        try:
            secret = _secret(credential, folder, env)
        except UnreadableError as e:
            problems.append(Problem(f"{credential.place}.{credential.source.kind}", str(e)))
            continue
        message = check_secret(secret.reveal(), pool.inject, credential.alias)
        if message:
            problems.append(Problem(f"{credential.place}.{credential.source.kind}", message))
            continue
        first = places.setdefault(secret, credential.place)
        if first != credential.place:
            same = f"same secret as {first.rpartition('.')[2]}: remove one"
            problems.append(Problem(credential.place, same))
    return ResolvedPool(pool, tuple(places))


def _secret(credential: CredentialSpec, folder: Path, env: Mapping[str, str]) -> Secret:
    value = credential.source.value
    if isinstance(value, Secret):
        return value
    if credential.source.kind == "env":
        text = env.get(value, "")
        if not text:
            raise UnreadableError("this environment variable is not set, or empty: set it")
    else:
        text = _text_of(folder, value)
    return Secret(text, credential.alias)


def _text_of(folder: Path, written: str) -> str:
    """A secret's file, without the line end that every editor puts there."""
    # Path.expanduser raises where there is no home folder; this one leaves the ~ in.
    path = folder / os.path.expanduser(written)  # noqa: PTH111
    data = _read(path, LARGEST_SECRET_FILE)
    try:
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UnreadableError("this file is binary: write the secret in it as UTF-8 text")
    if not text:
        raise UnreadableError("this file is empty: write the secret in it")
    return text


def _read(path: Path, largest: int) -> bytes:
    """A regular file's bytes. Raises UnreadableError; what the system says may quote the path."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableError("this is a folder: name a file")
        # A pipe would be waited on for ever, a device never ends.
        if not stat.S_ISREG(mode):
            raise UnreadableError("this is no regular file: name one")
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except FileNotFoundError:
        raise UnreadableError("there is no such file: create it, or mend its name") from None
    except PermissionError:
        raise UnreadableError("this file may not be read: change its owner or mode") from None
    except OSError:
        raise UnreadableError("this file cannot be read: check its path") from None
    if len(data) > largest:
        raise UnreadableError(f"larger than {largest // 1024} KiB: name the right file")
    return data
