"""Which hosts the secrets file has, read without any of its secrets. IO."""

from pathlib import Path

from flowrotate.config.document import LARGEST_FILE
from flowrotate.config.pools import parse
from flowrotate.config.section import Problem
from flowrotate.config.spec import ConfigError, PoolSpec
from flowrotate.hosts import HostRule
from flowrotate.sources.files import UnreadableError, read_file
from flowrotate.sources.gather import names, parts_of


def host_rules(file: Path) -> list[HostRule]:
    """Raises ConfigError, with every problem of the file."""
    return [rule for pool in _pools(file) for rule in pool.hosts]


def source_variables(file: Path) -> list[str]:
    """The environment's variables that its secrets are in. Raises ConfigError."""
    parts = [p for pool in _pools(file) for c in pool.credentials for p in parts_of(c, pool.inject)]
    return names(parts, "env")


def _pools(file: Path) -> tuple[PoolSpec, ...]:
    try:
        text, _ = read_file(file, LARGEST_FILE)
    except UnreadableError as e:
        raise ConfigError(str(file), [Problem("", str(e))]) from None
    config = parse(text, str(file))
    if config.problems:
        raise ConfigError(str(file), config.problems)
    return config.pools
