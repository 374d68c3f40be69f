"""The log of a server: to stderr, or to a file, what is worth reading in a log of months."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mitmproxy import log

from .plan import Plan, ServeError

LOUD = ("tornado", "asyncio", "hpack", "quic")
"""Loggers that mitmproxy's own programs quiet, too."""


class FailuresFirst(logging.Filter):
    """Once there is an error, what is well is no news: who looks at the end sees the error."""

    failed = False

    def filter(self, record: logging.LogRecord) -> bool:
        self.failed |= record.levelno >= logging.ERROR
        return not self.failed or record.levelno > logging.INFO


@contextmanager
def logging_to(plan: Plan) -> Iterator[logging.Handler]:
    """As the plan says; a check shows its lines to whoever asked for it."""
    log_file = None if plan.check else plan.log
    stream = _open(log_file) if log_file else sys.stderr
    handler = logging.StreamHandler(stream)
    colours = stream.isatty() and "NO_COLOR" not in os.environ
    handler.setFormatter(None if plan.check else log.MitmFormatter(colorize=colours))
    root = logging.getLogger()
    root.addHandler(handler)
    # Below these levels mitmproxy does not even make a record of what it says.
    root.setLevel(logging.INFO if plan.verbose else logging.WARNING)
    calm = plan.quiet or plan.check
    logging.getLogger("flowrotate").setLevel(logging.WARNING if calm else logging.INFO)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        if log_file:
            stream.close()


def _open(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as e:
        raise ServeError(f"--log {path}: {e.strerror}: name a file that can be written") from e
