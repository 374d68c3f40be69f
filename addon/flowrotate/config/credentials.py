"""A pool's `credentials` -> frozen specs. Pure."""

import re
from collections.abc import Collection
from typing import Literal

from flowrotate.inject import check_header, check_secret, has_control
from flowrotate.secret import Secret

from .mintspecs import read_jwt, read_oauth2
from .section import Section, as_flag, as_text, as_whole, text_as
from .sourcespecs import PLAIN_KEYS, TEXT_OR_MAPPING, one_of, read_plain
from .spec import CredentialSpec, JwtSpec, OAuth2Spec, PoolSpec, Source, SourceKind, alias_of

SOURCE_KEYS: tuple[SourceKind | Literal["jwt", "oauth2"], ...] = (*PLAIN_KEYS, "jwt", "oauth2")
CREDENTIAL_KEYS = (
    "id",
    *SOURCE_KEYS,
    "username",
    "disabled",
    "weight",
    "priority",
    "rpm",
    "max_in_flight",
    "headers",
)
HEAVIEST = 100
"""The largest weight."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


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
            section.fault(here, TEXT_OR_MAPPING)
            continue
        part = Section(entry, section.at(here), section.problems)
        spec = _credential(part, pool, n + 1, username)
        if not spec:
            continue
        if ids.setdefault(spec.id, here) != here:
            section.fault(here, f"same id as {ids[spec.id]}: give it another")
        value = spec.source.value if isinstance(spec.source, Source) else None
        if isinstance(value, Secret) and secrets.setdefault(value, here) != here:
            section.fault(here, f"same secret as {secrets[value]}: remove one")
            continue
        found.append(spec)
    return tuple(found)


def _credential(
    section: Section, pool: PoolSpec, number: int, username: str | None
) -> CredentialSpec | None:
    understood = section.check_keys(CREDENTIAL_KEYS)
    id = section.one("id", text_as(parse_name), f"{pool.name}-{number}")
    username = read_username(section, username)
    if pool.inject.needs_username and username is None:
        section.fault("username", "missing: {basic} needs one here or on the pool")
    disabled = section.one("disabled", as_flag, False)
    source = _source(section, alias_of(pool.name, id), understood=understood)
    weight = section.one("weight", as_whole("a whole number", 1, HEAVIEST), 1)
    priority = section.one("priority", as_whole("a whole number", 0, 100), 0)
    rpm = section.one("rpm", as_whole("requests per minute", 1, 100_000), None)
    most = section.one("max_in_flight", as_whole("a whole number", 1, 100_000), None)
    headers = _headers(section, pool)
    if not source:
        return None
    spec = CredentialSpec(
        id,
        pool.name,
        source,
        username,
        disabled,
        section.place,
        weight=weight,
        priority=priority,
        rpm=rpm,
        max_in_flight=most,
        headers=headers,
    )
    wrong = _wrong_text(spec, pool)
    if wrong:
        section.fault("", wrong)
        return None
    return spec


def _wrong_text(spec: CredentialSpec, pool: PoolSpec) -> str | None:
    if not isinstance(spec.source, Source) or not isinstance(spec.source.value, Secret):
        return None
    return check_secret(spec.source.value.reveal(), pool.inject, spec.alias)


def _source(
    section: Section, alias: str, *, understood: bool
) -> Source | JwtSpec | OAuth2Spec | None:
    match one_of(section, SOURCE_KEYS, understood=understood):
        case None:
            return None
        case "jwt":
            part = section.mapping("jwt", "write a mapping with algorithm, key and claims")
            return read_jwt(part, alias) if part else None
        case "oauth2":
            mend = "write a mapping with token_url, client_id and client_secret"
            part = section.mapping("oauth2", mend)
            return read_oauth2(part, alias) if part else None
        case kind:
            return read_plain(section, kind, alias)


def _headers(section: Section, pool: PoolSpec) -> tuple[tuple[str, str], ...]:
    if "headers" not in section.data:
        return ()
    part = section.mapping("headers", "write a mapping such as {OpenAI-Organization: org-1}")
    found: dict[str, tuple[str, str]] = {}
    for n, (name, value) in enumerate(part.data.items() if part else (), 1):
        try:
            header = _header(name, value, pool, found)
            found[header[0].lower()] = header
        except ValueError as e:
            section.fault("headers", f"entry {n}: {e}")
    return tuple(found.values())


def _header(name: object, value: object, pool: PoolSpec, found: Collection[str]) -> tuple[str, str]:
    name = as_text(name)
    check_header(name)
    if name.lower() in found:
        raise ValueError("this header is written twice: keep one")
    own = pool.inject.name.lower() if pool.inject.where == "header" else None
    if name.lower() in (own, *pool.strip):
        raise ValueError("the pool's inject or strip has this header: choose another")
    text = as_text(value)
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("write visible ASCII only, and spaces only within it")
    return name, text


def _parse_username(text: str) -> str:
    if ":" in text or has_control(text):
        raise ValueError("a user name has no colon and no control characters")
    return text
