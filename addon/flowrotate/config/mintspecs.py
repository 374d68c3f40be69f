"""The mappings at `jwt` and `oauth2` -> frozen specs of what mints a credential's tokens. Pure."""

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from flowrotate.inject import has_control

from .section import Section, as_whole, text_as
from .sourcespecs import check_key, check_part, read_nested
from .spec import JwtSpec, OAuth2Spec, Source

T = TypeVar("T")

JWT_KEYS = ("algorithm", "key", "claims", "ttl")
OAUTH2_KEYS = ("token_url", "client_id", "client_secret", "scope", "grant", "refresh_token")
MINT_KEYS = (*JWT_KEYS, *OAUTH2_KEYS)

ALGORITHMS = ("HS256", "HS384", "HS512", "RS256", "ES256")
LONGEST_TTL = 86_400
"""Seconds."""
DEEPEST_CLAIM = 8

_ONE_ALGORITHM = "write HS256, HS384, HS512, RS256 or ES256"
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749, 3.3
_URL = re.compile(r"[\x21-\x7e]+")

Grant = Literal["client_credentials", "refresh_token"]


def read_jwt(section: Section, alias: str) -> JwtSpec | None:
    section.check_keys(JWT_KEYS)
    algorithm = _needed(section, "algorithm", text_as(_parse_algorithm), _ONE_ALGORITHM)
    if "key" not in section.data:
        section.fault("key", "missing: write the key to sign with, or where it is: {env: NAME}")
        return None
    key = read_nested(section, "key", alias, check_key)
    ttl = section.one("ttl", as_whole("whole seconds", 1, LONGEST_TTL), None)
    claims = section.one("claims", _parse_claims, dict[str, object]())
    if "ttl" in section.data and claims.keys() & {"iat", "exp"}:
        section.fault("claims", "with ttl, iat and exp are added: leave them out here")
    return JwtSpec(algorithm, key, claims, ttl) if algorithm and key else None


def read_oauth2(section: Section, alias: str) -> OAuth2Spec | None:
    section.check_keys(OAUTH2_KEYS)
    url = _needed(section, "token_url", text_as(_parse_url), "write https://HOST/PATH")
    client_id = _needed(section, "client_id", text_as(_parse_client_id), "write the client's id")
    scope = section.one("scope", text_as(_parse_scope), None)
    grant = section.one("grant", _parse_grant, None) if "grant" in section.data else _DEFAULT_GRANT
    secret = _part(section, "client_secret", alias)
    refresh = _part(section, "refresh_token", alias)
    if grant:
        _check_parts(section, grant)
    if not url or not client_id or not grant:
        return None
    return OAuth2Spec(url, client_id, secret, scope, grant, refresh)


_DEFAULT_GRANT: Grant = "client_credentials"


def _needed(section: Section, key: str, parse: Callable[[object], T], mend: str) -> T | None:
    if key not in section.data:
        section.fault(key, f"missing: {mend}")
        return None
    return section.one(key, parse, None)


def _part(section: Section, key: str, alias: str) -> Source | None:
    return read_nested(section, key, alias, check_part) if key in section.data else None


def _check_parts(section: Section, grant: Grant) -> None:
    """Note what a grant needs and has not, or has and cannot use."""
    if grant == "refresh_token" and "refresh_token" not in section.data:
        section.fault("refresh_token", "missing: grant: refresh_token needs it")
    if grant == "client_credentials":
        if "client_secret" not in section.data:
            section.fault("client_secret", "missing: grant: client_credentials needs it")
        if "refresh_token" in section.data:
            section.fault("refresh_token", "write grant: refresh_token with it, or leave it out")


def _parse_algorithm(text: str) -> str:
    if text not in ALGORITHMS:
        raise ValueError(_ONE_ALGORITHM)
    return text


def _parse_claims(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("write a mapping such as {iss: my-app}")
    _check_claim(value, 0)
    return value


def _check_claim(value: object, depth: int) -> None:
    if depth > DEEPEST_CLAIM:
        raise ValueError(f"nested too deeply: write at most {DEEPEST_CLAIM} levels")
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("a claim's name must be text: write it in quotes")
        parts = list(value.values())
    elif isinstance(value, list):
        parts = value
    elif isinstance(value, str | int):
        parts = []
    else:
        raise ValueError(
            "a claim is text, a whole number, true, false, a list or a mapping: "
            "write any other value in quotes"
        )
    for part in parts:
        _check_claim(part, depth + 1)


def _parse_url(text: str) -> str:
    """A token endpoint (RFC 6749, 3.2): https, as secrets go there; http for this machine only."""
    mend = "write https://HOST/PATH, or http:// for this machine only (localhost, 127.0.0.1, [::1])"
    try:
        url = urlsplit(text)
        port = url.port  # raises for what is no number
    except ValueError:
        raise ValueError(mend) from None
    host = url.hostname or ""
    secure = url.scheme == "https" or (url.scheme == "http" and _is_loopback(host))
    if not _URL.fullmatch(text) or not secure or not host or port == 0:
        raise ValueError(mend)
    if "@" in url.netloc:
        raise ValueError("a token URL has no user name or password: write client_id, client_secret")
    if "#" in text:
        raise ValueError("a token URL has no #: leave out all from it on")
    return text


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_client_id(text: str) -> str:
    if has_control(text) or not text.isascii():
        raise ValueError("a client id is visible ASCII")
    return text


def _parse_scope(text: str) -> str:
    if not _SCOPE.fullmatch(text):
        raise ValueError('write scopes of visible ASCII without " and \\, one space between them')
    return text


def _parse_grant(value: object) -> Grant:
    if value == "client_credentials":
        return "client_credentials"
    if value == "refresh_token":
        return "refresh_token"
    raise ValueError("write client_credentials or refresh_token")
