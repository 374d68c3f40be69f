"""Files that a user named: read in bounds, and what keeps one from being read in words. IO."""

import os
import stat
from pathlib import Path

LARGEST_SECRET_FILE = 64 * 1024
"""Bytes."""


class UnreadableError(ValueError):
    """Why a source gives no text, and the mend, without its name or content."""


def read_file(path: Path, largest: int) -> tuple[bytes, int]:
    """A regular file's bytes and mode. Raises UnreadableError; the system's words quote the path.

    `largest` in bytes.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableError("this is a folder: name a file")
        # A pipe would be waited on for ever, a device never ends.
        if not stat.S_ISREG(mode):
            raise UnreadableError("this is no regular file: name one")
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(largest + 1)
    except FileNotFoundError:
        raise UnreadableError("there is no such file: create it, or mend its name") from None
    except PermissionError:
        raise UnreadableError("this file may not be read: change its owner or mode") from None
    except OSError:
        raise UnreadableError("this file cannot be read: check its path") from None
    if len(data) > largest:
        raise UnreadableError(f"larger than {largest // 1024} KiB: name the right file")
    return data, mode


def path_in(folder: Path, written: str) -> Path:
    """The path that a secrets file in `folder` means."""
    # Path.expanduser raises where there is no home folder; this one leaves the ~ in.
    return folder / os.path.expanduser(written)  # noqa: PTH111


def text_in(path: Path) -> str:
    """A secret's file, without the line end that every editor puts there."""
    data, _ = read_file(path, LARGEST_SECRET_FILE)
    text = one_text(data)
    if text is None:
        raise UnreadableError("this file is binary: write the secret in it as UTF-8 text")
    if not text:
        raise UnreadableError("this file is empty: write the secret in it")
    return text


def one_text(data: bytes) -> str | None:
    """UTF-8 without the line ends after it, or None for what is no text."""
    try:
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
