"""The secrets file, and all that it refers to."""

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from flowrotate.config.spec import ConfigError, PoolSpec
from flowrotate.sources.resolve import load

from .finding import Findings, failure, ok, warning


def secrets(file: Path | None, env: Mapping[str, str], found: list[PoolSpec]) -> Findings:
    """Each source is asked, as at the start of a proxy. `found` gets the pools."""
    if file is None:
        mend = "write one (README: the secrets file), or name it with --secrets"
        yield failure("secrets", "no secrets file: nothing is injected", mend)
        return
    try:
        pools = [resolved.spec for resolved in load(file, env).pools]
    except ConfigError as e:
        for problem in e.problems:
            place = f"{problem.place}: " if problem.place else ""
            yield failure("secrets", f"{file}: {place}{problem.message}", "mend it in the file")
        return
    found.extend(pools)
    sizes = ", ".join(f"{pool.name} ({len(pool.credentials)})" for pool in pools)
    yield ok("secrets", f"{file}: every source answers, pools {sizes or 'none'}")
    yield from _mode(file)


def _mode(file: Path) -> Findings:
    if os.name == "posix" and file.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        said = f"{file}: others may write it, and it can run programs as you"
        yield warning("secrets", said, f"chmod go-w {shlex.quote(str(file))}")
