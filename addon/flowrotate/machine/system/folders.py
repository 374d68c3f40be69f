"""Folders and files of others that a change goes through, and that it must not leave behind. IO."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def missing(folder: Path) -> tuple[str, ...]:
    """The folder and those above it that are not there, the outermost first."""
    found: list[str] = []
    while not folder.exists() and folder != folder.parent:
        found.insert(0, str(folder))
        folder = folder.parent
    return tuple(found)


def make(folders: Iterable[str]) -> None:
    for folder in folders:
        Path(folder).mkdir(mode=0o700, exist_ok=True)


def remove(folders: Iterable[str]) -> None:
    """Those that we made, if nobody has put anything in."""
    for folder in reversed(list(folders)):
        with suppress(OSError):
            Path(folder).rmdir()


def remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def read(path: Path) -> bytes | None:
    """None when there is no such file. Raises OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write(path: Path, content: bytes | None, mode: int = 0o600) -> None:
    """Write a user's file whole, or remove it; a link stays one, and its mode stays.

    What is written first has a name of our own, so that `sweep` finds it after a crash; whatever
    has that name, a link too, is not written to. Raises OSError.
    """
    path = path.resolve()
    if content is None:
        path.unlink(missing_ok=True)
        return
    beside = _beside(path)
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode & 0o7777
    sweep(path)
    # It may hold keys: nobody else may read it at any moment.
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        if os.name == "posix":
            os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def sweep(path: Path) -> None:
    with suppress(OSError):
        _beside(path.resolve()).unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.flow-rotate")
