"""Files that are ours: written whole, or not at all. IO."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file whole, in a folder of the user's own. Raises OSError.

    When it returns, the content is on the disk: what is written down before a change must
    be there after a crash.
    """
    handle, name = _new_beside(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
        _sync(path.parent)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def make_folder(path: Path, mode: int = 0o700) -> None:
    """With those above it, which are the user's alone; whatever the umask is. Raises OSError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    path.chmod(mode)


def _new_beside(path: Path) -> tuple[int, str]:
    """Twice: who leaves a folder empty takes it away, and may do so in between."""
    for last in (False, True):
        make_folder(path.parent)
        try:
            return tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        except FileNotFoundError:
            if last:
                raise
    raise AssertionError


def _sync(folder: Path) -> None:
    """A new name of a file is on the disk when its folder is; Windows has no such thing."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
