"""Where the secrets file says that a secret comes from -> frozen sources. Pure."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from flowrotate.inject import Inject, check_secret, has_control
from flowrotate.secret import Secret

from .section import Section, as_text, text_as
from .spec import Source, SourceKind

K = TypeVar("K", bound=str)

PLAIN_KEYS: tuple[SourceKind, ...] = ("secret", "env", "file", "command", "keyring")

TEXT_OR_MAPPING = "write the secret in quotes, or a mapping such as {env: NAME}"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What goes into a token or a form may hold any character: more than a header's value may.
_ANYWHERE = Inject("query", "", "{secret}")


def read_plain(section: Section, kind: SourceKind, alias: str) -> Source | None:
    """The source at a key that is there. None, and noted, when it is wrong."""
    if kind == "secret":
        text = section.one("secret", _as_secret, None)
        return Source("secret", Secret(text, alias)) if text is not None else None
    name = section.one(kind, text_as(_PARSERS[kind]), "")
    return Source(kind, name) if name else None


def read_nested(
    section: Section, key: str, alias: str, check: Callable[[str, str], str | None]
) -> Source | None:
    """A secret that a token is minted from: a text, or a mapping with one of PLAIN_KEYS."""
    value = section.data[key]
    data = {"secret": value} if isinstance(value, str) else value
    if not isinstance(data, dict):
        section.fault(key, TEXT_OR_MAPPING)
        return None
    part = Section(data, section.at(key), section.problems)
    understood = part.check_keys(PLAIN_KEYS)
    kind = one_of(part, PLAIN_KEYS, understood=understood)
    source = read_plain(part, kind, alias) if kind else None
    if source and isinstance(source.value, Secret):
        wrong = check(source.value.reveal(), alias)
        if wrong:
            part.fault("", wrong)
            return None
    return source


def one_of(section: Section, kinds: Sequence[K], *, understood: bool) -> K | None:
    """The one kind of source that a mapping has. None, and noted, when there is not just one.

    That none is there is not noted when a key was not `understood`: it may be meant for one.
    """
    found = [kind for kind in kinds if kind in section.data]
    if len(found) == 1:
        return found[0]
    listed = f"{', '.join(kinds[:-1])} and {kinds[-1]}"
    if found:
        section.fault("", f"write only one of {listed}")
    elif understood:
        section.fault("", f"no secret: write one of {listed}")
    return None


def check_part(text: str, alias: str) -> str | None:
    """What is wrong with a secret that a token request is made with, or None."""
    return check_secret(text, _ANYWHERE, alias)


def check_key(text: str, alias: str) -> str | None:
    """What is wrong with a key that tokens are signed with, or None. It may have several lines."""
    return check_part("".join(text.split()), alias)


def split_command(text: str) -> tuple[str, ...]:
    """A command's program and arguments, as a shell splits them. Raises ValueError."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        message = "unbalanced quotes: close each ' and \", and write \\\\ for a \\ that is meant"
        raise ValueError(message) from None


def split_entry(text: str) -> tuple[str, str]:
    """A keyring's entry as (service, username): a service may hold a slash, a user name may not."""
    service, _, username = text.rpartition("/")
    return service, username


def _as_secret(value: object) -> str | None:
    # An empty text is `check_secret`'s to report, as for every other source.
    return value if isinstance(value, str) else as_text(value)


def _parse_variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise ValueError("write the variable's name alone: letters, digits and _, without $")
    return text


def _parse_path(text: str) -> str:
    if has_control(text):
        raise ValueError("a path has no control characters")
    return text


def _parse_command(text: str) -> str:
    if has_control(text):
        raise ValueError("a command has no control characters: write it on one line")
    if not any(split_command(text)[:1]):
        raise ValueError("empty: write a program and its arguments")
    return text


def _parse_entry(text: str) -> str:
    if has_control(text) or not all(split_entry(text)):
        raise ValueError("write service/username, as the keyring has them")
    return text


_PARSERS: Mapping[SourceKind, Callable[[str], str]] = {
    "env": _parse_variable,
    "file": _parse_path,
    "command": _parse_command,
    "keyring": _parse_entry,
}
