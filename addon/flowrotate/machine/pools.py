"""Which hosts the secrets file has, read without any of its secrets. IO."""

from pathlib import Path

from flowrotate.config.document import LARGEST_FILE
from flowrotate.config.pools import parse
from flowrotate.config.section import Problem
from flowrotate.config.spec import ConfigError
from flowrotate.hosts import HostRule
from flowrotate.sources.files import UnreadableError, read_file


def host_rules(file: Path) -> list[HostRule]:
    """Raises ConfigError, with every problem of the file."""
    try:
        text, _ = read_file(file, LARGEST_FILE)
    except UnreadableError as e:
        raise ConfigError(str(file), [Problem("", str(e))]) from None
    config = parse(text, str(file))
    if config.problems:
        raise ConfigError(str(file), config.problems)
    return [rule for pool in config.pools for rule in pool.hosts]
