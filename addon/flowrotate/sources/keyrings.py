"""Entries of the system's keyring (extra `keyring`). IO."""

from collections.abc import Collection
from threading import Thread

from flowrotate.config.sourcespecs import split_entry

from .files import UnreadableError

LONGEST_READ = 10.0
"""Seconds, for all entries of a file: a locked keyring may ask its user."""


def read_entries(
    entries: Collection[str], seconds: float = LONGEST_READ
) -> dict[str, str | UnreadableError]:
    """The text of each entry, or why there is none. Entries are `service/username`."""
    if not entries:
        return {}
    found: dict[str, str | UnreadableError] = {}
    # One thread for all: a keyring that asks for its password should ask once.
    thread = Thread(target=_read, args=(tuple(entries), found), daemon=True)
    thread.start()
    thread.join(seconds)
    late = UnreadableError(
        f"the keyring did not answer within {seconds:g} seconds: unlock it, and try again"
    )
    return {entry: found.get(entry, late) for entry in entries}


def _read(entries: tuple[str, ...], found: dict[str, str | UnreadableError]) -> None:
    for entry in entries:
        try:
            found[entry] = _text_of(entry)
        except UnreadableError as e:
            found[entry] = e


def _text_of(entry: str) -> str:
    try:
        from keyring import get_password
        from keyring.errors import NoKeyringError
    except ImportError:
        message = "needs the extra 'keyring': install keyring beside mitmproxy"
        raise UnreadableError(message) from None
    try:
        text = get_password(*split_entry(entry))
    except NoKeyringError:
        message = "this machine has no keyring: install one, or write another kind of source"
        raise UnreadableError(message) from None
    except Exception:  # backends are plug-ins, and raise what they like
        message = "the keyring cannot be read: unlock it, or write another kind of source"
        raise UnreadableError(message) from None
    if not text:
        raise UnreadableError("the keyring has no such entry: add it with 'keyring set'")
    return text
