"""The older plugin's secrets.json, a list of clients of one host -> a pool. Pure."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from flowrotate.hosts import parse_host_rule
from flowrotate.secret import Secret

from .credentials import HEAVIEST, parse_name
from .section import Problem, Section, as_text
from .sourcespecs import check_key
from .spec import CredentialSpec, JwtSpec, PoolSpec, Source, alias_of

NAME = "flow"
HOST = "flow.ciandt.com"
CLAIMS = ("clientId", "clientSecret", "tenant")
"""What a token says, in this order, and nothing else."""
OLDER_KEYS = ("name", "agent", "appToAccess", *CLAIMS)

_NUMBERED = re.compile(rf"{NAME}-[0-9]+")


def is_older(data: object) -> bool:
    """Whether a file's data is the older plugin's, if perhaps a faulty one."""
    return isinstance(data, list) and any(
        isinstance(entry, dict) and not entry.keys().isdisjoint(CLAIMS) for entry in data
    )


def read_older(data: Sequence[object], problems: list[Problem]) -> tuple[PoolSpec, ...]:
    """The one pool. An entry that repeats another's claims adds to its weight, as it always did."""
    names = Counter(entry["name"] for entry in data if isinstance(entry, dict) and _named(entry))
    found: dict[tuple[str, ...], CredentialSpec] = {}
    for n, entry in enumerate(data):
        if not isinstance(entry, dict):
            message = "write a mapping with clientId, clientSecret and tenant"
            problems.append(Problem(f"[{n}]", message))
            continue
        own_name = _named(entry) and names[entry["name"]] == 1
        id = entry["name"] if own_name else f"{NAME}-{n + 1}"
        spec = _credential(Section(entry, f"[{n}]", problems), id)
        if not spec:
            continue
        claims = tuple(str(entry[key]) for key in CLAIMS)
        before = found.get(claims)
        found[claims] = replace(before, weight=min(before.weight + 1, HEAVIEST)) if before else spec
    pool = PoolSpec(NAME, (parse_host_rule(HOST),), credentials=tuple(found.values()))
    return (pool,)


def _named(entry: dict[object, object]) -> bool:
    """Whether an entry's name can be its id, and will not be mistaken for another's number."""
    name = entry.get("name")
    if not isinstance(name, str) or _NUMBERED.fullmatch(name):
        return False
    try:
        return bool(parse_name(name))
    except ValueError:
        return False


def _credential(section: Section, id: str) -> CredentialSpec | None:
    section.check_keys(OLDER_KEYS)
    for key in ("name", "agent", "appToAccess"):
        section.one(key, _as_remark, None)
    claims: dict[str, object] = {}
    for key in CLAIMS:
        if key not in section.data:
            section.fault(key, "missing: write it in quotes")
        elif text := section.one(key, as_text, ""):
            claims[key] = text
    if len(claims) < len(CLAIMS):
        return None
    secret = Secret(str(claims["clientSecret"]), alias_of(NAME, id))
    wrong = check_key(secret.reveal(), secret.alias)
    if wrong:
        section.fault("clientSecret", wrong)
        return None
    source = JwtSpec("HS256", Source("secret", secret), claims, ttl=None)
    return CredentialSpec(id, NAME, source, username=None, disabled=False, place=section.place)


def _as_remark(value: object) -> None:
    """What only people read: any text, or none."""
    if value is not None and not isinstance(value, str):
        raise ValueError("must be text: write it in quotes")
