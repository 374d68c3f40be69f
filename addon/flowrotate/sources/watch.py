"""Tells when the secrets file, or a file that it refers to, has changed. IO.

What counts is the content: a `touch`, or the same text written again, is no change. A change is
told when it has settled, that is when two looks in a row saw the same, so that a file is not read
while somebody writes it. Nothing here raises, whatever stands at a path.
"""

import hashlib
import stat
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from flowrotate.config.document import LARGEST_FILE

YOUNG = 2.0
"""Seconds. The coarsest tick of a file system's clock (FAT's): within one, a file can change and
look the same."""
TICK = 0.1
"""Seconds. The same for a clock that tells parts of a second."""

MISSING, UNREADABLE, ODD = "missing", "unreadable", "no regular file"
UNKNOWN = "unknown"
"""It changed while a load read it: nobody knows which content that was."""

Signature = tuple[int, int, int, int, int]
Content = bytes | str
"""A digest, or in a word why there is none."""


@dataclass(frozen=True, slots=True)
class Glance:
    """A file as it was seen. No signature: there was nothing to see."""

    signature: Signature | None
    content: Content


@dataclass(frozen=True, slots=True)
class Moment:
    """Right before a load: seconds since the epoch, and the files as they were."""

    at: float
    files: dict[Path, Glance]


class Watch:
    """Of a load's files. Around every load: `begin`, load, and `accept` however the load ended;
    but of a load that is not used, nothing.

    `wall` gives seconds since the epoch. May be called from several threads.
    """

    def __init__(self, files: Collection[Path], wall: Callable[[], float]) -> None:
        self._wall = wall
        self._lock = threading.Lock()
        """Guards all below."""
        self._known: dict[Path, Content] = {}
        self._seen: dict[Path, Glance] = {}
        self._set_out(files)

    def look(self) -> bool:
        """Whether something changed since the last True or load, and has settled.

        To be called every half second or so: it reads what changed, which takes time.
        """
        with self._lock:
            before, self._seen = self._seen, {}
            for path in self._known:
                self._seen[path] = self._glance(path, before.get(path))
            changed = {p: g for p, g in self._seen.items() if g.content != self._known[p]}
            if not changed or any(before.get(p) != g for p, g in changed.items()):
                return False
            self._known |= {p: g.content for p, g in changed.items()}
            return True

    def begin(self) -> Moment:
        """Right before a load: a change from here on is not of what the load reads."""
        with self._lock:
            at = self._wall()
            self._set_out(self._known)
            return Moment(at, self._seen)

    def accept(self, files: Collection[Path], begun: Moment) -> None:
        """After a load: `files` are those that it read, or tried to."""
        with self._lock:
            self._known = {path: self._read_by_load(path, begun) for path in files}

    def _set_out(self, files: Collection[Path]) -> None:
        self._seen = {path: self._glance(path, None) for path in files}
        self._known = {path: glance.content for path, glance in self._seen.items()}

    def _read_by_load(self, path: Path, begun: Moment) -> Content:
        """What the load that ends now found in a file; UNKNOWN when that is not sure."""
        before, now = begun.files.get(path), self._glance(path, None)
        if before:
            return before.content if before.signature == now.signature else UNKNOWN
        # The load was the first to name it.
        return UNKNOWN if _changed_since(now.signature, begun.at) else now.content

    def _glance(self, path: Path, before: Glance | None) -> Glance:
        """`before` again when the file is as it was then; what it holds is not read anew."""
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return Glance(None, MISSING)
        except (OSError, ValueError):
            return Glance(None, UNREADABLE)
        signature = (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
        aged = not _changed_since(signature, self._wall() - YOUNG)
        if before and before.signature == signature and aged and before.content != UNREADABLE:
            return before
        # A pipe would be waited on for ever, a device never ends.
        content = _digest(path) if stat.S_ISREG(status.st_mode) else ODD
        return Glance(signature, content)


def _changed_since(signature: Signature | None, moment: float) -> bool:
    """Whether it may have changed after `moment`, as far as a file's times can tell."""
    if signature is None:
        return False
    latest = max(signature[3:])
    coarse = all(ns % 1_000_000_000 == 0 for ns in signature[3:])
    return latest / 1e9 >= moment - (YOUNG if coarse else TICK)


def _digest(path: Path) -> Content:
    try:
        with path.open("rb") as file:
            # A load refuses what is larger, however it goes on.
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return MISSING
    except OSError:
        return UNREADABLE
    return hashlib.sha256(data).digest()
