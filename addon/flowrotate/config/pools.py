"""A secrets file's text -> frozen pools and credentials, and all that is wrong with it. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import get_args

from flowrotate.hosts import HostRule, parse_host_rule, rules_overlap
from flowrotate.inject import (
    DEFAULT_INJECT,
    parse_inject,
    parse_method,
    parse_strip,
)
from flowrotate.keys import parse_cooldown_by, parse_sticky
from flowrotate.paths import parse_path, paths_overlap
from flowrotate.verdict import FailRules

from .credentials import CREDENTIAL_KEYS, parse_name, read_credentials, read_username
from .document import DocumentError, read_document
from .failrules import parse_fail_rules
from .mintspecs import MINT_KEYS
from .older import OLDER_KEYS, is_older, read_older
from .section import Problem, Section, as_whole, text_as
from .spec import (
    DEFAULT_STRIP,
    Config,
    PoolSpec,
    Strategy,
)

POOL_KEYS = (
    "name",
    "hosts",
    "paths",
    "methods",
    "inject",
    "strip",
    "fail",
    "cooldown",
    "retries",
    "hold",
    "browsers",
    "strategy",
    "sticky",
    "cooldown_by",
    "pin",
    "username",
    "credentials",
)
TOP_KEYS = ("pools", *POOL_KEYS)
KNOWN_KEYS = frozenset((*TOP_KEYS, *CREDENTIAL_KEYS, *MINT_KEYS, *OLDER_KEYS))
STRATEGIES: Mapping[str, Strategy] = {name: name for name in get_args(Strategy)}
LONGEST = 86_400
"""Seconds."""
PRIVATE_HEADERS = ("proxy-authorization", "cookie")

_SCOPE = re.compile(r"(.+)\.(?:hosts|paths|methods)(?:\[[0-9]+\])?")


def parse(text: bytes, name: str) -> Config:
    """Read a secrets file. `name` is its path, whose suffix says the format."""
    try:
        data = read_document(text, PurePath(name).suffix, KNOWN_KEYS)
    except DocumentError as e:
        return Config((), (Problem(e.place, e.message),))
    problems: list[Problem] = []
    if isinstance(data, list) and is_older(data):
        pools = read_older(data, problems)
        return Config(pools, tuple(problems))
    if not isinstance(data, dict):
        return Config((), (Problem("", "write a mapping with the key 'pools' at the top"),))
    pools = _pools(Section(data, "", problems))
    problems.extend(_overlaps(pools, problems))
    return Config(pools, tuple(problems))


def _pools(root: Section) -> tuple[PoolSpec, ...]:
    short = [key for key in POOL_KEYS if key in root.data]
    if "pools" not in root.data and short:
        return (_pool(root, "default"),)
    for key in short:
        root.fault(key, "cannot stand beside 'pools': move it into one of them")
    rest = {key: value for key, value in root.data.items() if key not in short}
    Section(rest, "", root.problems).check_keys(TOP_KEYS)
    if "pools" not in root.data:
        root.fault("", "no pools: write the key 'pools', or 'hosts' and 'credentials'")
        return ()
    pools: list[PoolSpec] = []
    names: dict[str, str] = {}
    for n, item in enumerate(root.items("pools", "empty: write at least one pool")):
        if not isinstance(item, dict):
            root.fault(f"pools[{n}]", "write a mapping with name, hosts and credentials")
            continue
        section = Section(item, f"pools[{n}]", root.problems)
        if "name" not in item:
            section.fault("name", "missing: give the pool a name")
        pool = _pool(section, f"pool-{n + 1}")
        if "name" in item and pool.name in names:
            section.fault("name", f"same name as {names[pool.name]}: give it another")
        names.setdefault(pool.name, pool.place)
        pools.append(pool)
    return tuple(pools)


def _pool(section: Section, fallback: str) -> PoolSpec:
    section.check_keys(POOL_KEYS)
    if "hosts" not in section.data:
        section.fault("hosts", "missing: write a list such as [api.example.com]")
    all_of_them = "empty: leave the key out to mean all"
    strategy = section.one("strategy", text_as(_parse_strategy), None)
    pool = PoolSpec(
        name=section.one("name", text_as(parse_name), fallback),
        hosts=section.each("hosts", parse_host_rule, (), "empty: write at least one host"),
        paths=section.each("paths", parse_path, (), all_of_them),
        methods=section.each("methods", parse_method, (), all_of_them),
        inject=section.one("inject", text_as(parse_inject), DEFAULT_INJECT),
        strip=section.each("strip", parse_strip, DEFAULT_STRIP),
        fail=_fail(section),
        cooldown=section.one("cooldown", as_whole("whole seconds", 1, LONGEST), None),
        retries=section.one("retries", as_whole("a whole number", 0, 100), None),
        hold=section.one("hold", as_whole("whole seconds", 0, LONGEST), None),
        browsers=section.one("browsers", _browsers, False),
        strategy=strategy or "round-robin",
        sticky=section.one("sticky", text_as(parse_sticky), None),
        cooldown_by=section.one("cooldown_by", text_as(parse_cooldown_by), None),
        pin=section.each("pin", parse_path, (), "empty: leave the key out to mean none"),
        place=section.place,
    )
    if strategy or "strategy" not in section.data:
        _check_sticky(section, pool.strategy)
    _check_scope(section, pool)
    _check_pins(section, pool)
    return replace(pool, credentials=read_credentials(section, pool, read_username(section, None)))


def _fail(section: Section) -> FailRules | None:
    value = section.data.get("fail")
    if "fail" not in section.data:
        return None
    if not isinstance(value, dict):
        section.fault("fail", "write a mapping such as {401: disable, 429: cooldown}")
        return None
    rules, mistakes = parse_fail_rules(value.items())
    for mistake in mistakes:
        section.fault("fail", mistake)
    return rules


def _browsers(value: object) -> bool:
    if value not in ("allow", "deny"):
        raise ValueError("write allow or deny")
    return value == "allow"


def _parse_strategy(text: str) -> Strategy:
    if text not in STRATEGIES:
        raise ValueError("write round-robin, fill-first, least-busy, random or sticky")
    return STRATEGIES[text]


def _check_sticky(section: Section, strategy: Strategy) -> None:
    if strategy == "sticky" and "sticky" not in section.data:
        section.fault("sticky", "missing: write what tells a session, as header:x-session-id")
    if strategy != "sticky" and "sticky" in section.data:
        section.fault("sticky", "write strategy: sticky with it, or leave it out")


def _check_scope(section: Section, pool: PoolSpec) -> None:
    """Its values are shown, where a client's own credential must not be."""
    key, inject = pool.cooldown_by, pool.inject
    if key is None or key.kind != "header":
        return
    private = {*pool.strip, *DEFAULT_STRIP, *PRIVATE_HEADERS}
    if key.name in private or (inject.where == "header" and key.name == inject.name.lower()):
        section.fault("cooldown_by", "this header may hold a credential: choose another")


def _check_pins(section: Section, pool: PoolSpec) -> None:
    for n, pin in enumerate(pool.pin):
        if pool.paths and not any(paths_overlap(pin, path) for path in pool.paths):
            section.fault(f"pin[{n}]", "no path of this pool: mend it, or add it to 'paths'")


def _overlaps(pools: Sequence[PoolSpec], problems: Sequence[Problem]) -> Iterator[Problem]:
    """One problem for each two pools that some request would belong to."""
    # What is wrong was left out: without its paths, a pool would seem to have all of them.
    wrong = {match[1] for p in problems if (match := _SCOPE.fullmatch(p.place))}
    # Rules that overlap agree in the last two labels, so only those of one bucket are compared.
    filed: dict[str, list[tuple[PoolSpec, int, HostRule]]] = {}
    told: set[tuple[str, str]] = set()
    for pool in (p for p in pools if p.place not in wrong):
        for n, rule in enumerate(pool.hosts):
            bucket = filed.setdefault(".".join(rule.name.split(".")[-2:]), [])
            for other, m, earlier in bucket:
                pair = (other.place, pool.place)
                if pair not in told and rules_overlap(earlier, rule) and _share(other, pool):
                    told.add(pair)
                    yield Problem(
                        f"{pool.place}.hosts[{n}]",
                        f"overlaps with {other.place}.hosts[{m}]; "
                        "give each pool hosts, paths or methods of its own",
                    )
            bucket.append((pool, n, rule))


def _share(a: PoolSpec, b: PoolSpec) -> bool:
    """Whether two pools have a method and a path in common."""
    if a is b or (a.methods and b.methods and not set(a.methods) & set(b.methods)):
        return False
    if not a.paths or not b.paths:
        return True
    return any(paths_overlap(x, y) for x in a.paths for y in b.paths)
