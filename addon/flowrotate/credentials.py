"""A pool's `credentials` -> frozen specs. Pure."""

import re

from .inject import check_secret, has_control
from .secret import Secret
from .section import Section, as_flag, as_text, text_as
from .spec import CredentialSpec, PoolSpec, Source, alias_of

SOURCE_KEYS = ("secret", "env", "file")
LATER_SOURCE_KEYS = ("command", "keyring", "jwt", "oauth2")
CREDENTIAL_KEYS = ("id", *SOURCE_KEYS, "username", "disabled")
LATER_CREDENTIAL_KEYS = (
    *LATER_SOURCE_KEYS,
    "weight",
    "priority",
    "rpm",
    "max_in_flight",
    "headers",
)

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse_name(text: str) -> str:
    """A pool's name or a credential's id. Raises ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError("write 1 to 64 letters, digits, dots, - and _ only")
    return text


def read_username(section: Section, inherited: str | None) -> str | None:
    """The user name of a pool or credential: empty when it is wrong, None when there is none."""
    if "username" not in section.data:
        return inherited
    return section.one("username", text_as(_parse_username), "")


def read_credentials(
    section: Section, pool: PoolSpec, username: str | None
) -> tuple[CredentialSpec, ...]:
    """The credentials of a pool. `pool` has all but them, `username` is what they inherit."""
    if "credentials" not in section.data:
        section.fault("credentials", "missing: write a list with at least one credential")
        return ()
    found: list[CredentialSpec] = []
    ids: dict[str, str] = {}
    secrets: dict[Secret, str] = {}
    for n, item in enumerate(section.items("credentials", "empty: write at least one credential")):
        here = f"credentials[{n}]"
        entry = {"secret": item} if isinstance(item, str) else item
        if not isinstance(entry, dict):
            section.fault(here, "write the secret in quotes, or a mapping such as {env: NAME}")
            continue
        part = Section(entry, section.at(here), section.problems)
        spec = _credential(part, pool, n + 1, username)
        if not spec:
            continue
        if ids.setdefault(spec.id, here) != here:
            section.fault(here, f"same id as {ids[spec.id]}: give it another")
        value = spec.source.value
        if isinstance(value, Secret) and secrets.setdefault(value, here) != here:
            section.fault(here, f"same secret as {secrets[value]}: remove one")
            continue
        found.append(spec)
    return tuple(found)


def _credential(
    section: Section, pool: PoolSpec, number: int, username: str | None
) -> CredentialSpec | None:
    understood = section.check_keys(CREDENTIAL_KEYS, LATER_CREDENTIAL_KEYS)
    id = section.one("id", text_as(parse_name), f"{pool.name}-{number}")
    username = read_username(section, username)
    if pool.inject.needs_username and username is None:
        section.fault("username", "missing: {basic} needs one here or on the pool")
    disabled = section.one("disabled", as_flag, False)
    source = _source(section, alias_of(pool.name, id), understood)
    if not source:
        return None
    spec = CredentialSpec(id, pool.name, source, username, disabled, section.place)
    wrong = isinstance(source.value, Secret) and check_secret(
        source.value.reveal(), pool.inject, spec.alias
    )
    if wrong:
        section.fault("", wrong)
        return None
    return spec


def _source(section: Section, alias: str, understood: bool) -> Source | None:
    """Noted when missing, unless a key that was not `understood` may be meant for it."""
    kinds = [key for key in SOURCE_KEYS if key in section.data]
    if len(kinds) > 1:
        section.fault("", "write only one of secret, env and file")
        return None
    if "secret" in kinds:
        text = section.one("secret", _as_secret, None)
        return Source("secret", Secret(text, alias)) if text is not None else None
    if "env" in kinds:
        name = section.one("env", text_as(_parse_variable), "")
        return Source("env", name) if name else None
    if "file" in kinds:
        path = section.one("file", text_as(_parse_path), "")
        return Source("file", path) if path else None
    if understood:
        section.fault("", "no secret: write one of secret, env and file")
    return None


def _as_secret(value: object) -> str | None:
    # An empty text is `check_secret`'s to report, as for every other source.
    return value if isinstance(value, str) else as_text(value)


def _parse_username(text: str) -> str:
    if ":" in text or has_control(text):
        raise ValueError("a user name has no colon and no control characters")
    return text


def _parse_variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise ValueError("write the variable's name alone: letters, digits and _, without $")
    return text


def _parse_path(text: str) -> str:
    if has_control(text):
        raise ValueError("a path has no control characters")
    return text
