"""Secrets files by the grammar, right and wrong, and as bytes that somebody damaged."""

import copy
import io
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from flowrotate.config.older import OLDER_KEYS
from flowrotate.config.pools import KNOWN_KEYS, parse
from flowrotate.config.spec import (
    Config,
    ConfigError,
    CredentialSpec,
    JwtSpec,
    OAuth2Spec,
    PoolSpec,
    Source,
    SourceKind,
)
from flowrotate.hosts import parse_host_rule
from flowrotate.inject import DEFAULT_INJECT, check_secret, parse_inject
from flowrotate.keys import parse_sticky
from flowrotate.paths import PathRule
from flowrotate.secret import Secret
from tests.parsing import C, read

from . import examples

Data = dict[str, Any]

MOST_SECONDS = 20.0
"""Of the processor, for a file of some KiB: only work that explodes takes as long."""


def as_yaml(data: object) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # typed as None
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def as_json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)


def in_toml(value: object) -> str:
    match value:
        case dict():
            pairs = (f"{in_toml(str(key))} = {in_toml(item)}" for key, item in value.items())
            return "{" + ", ".join(pairs) + "}"
        case list():
            return "[" + ", ".join(map(in_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def as_toml(data: Data) -> str:
    lines = []
    for key, value in data.items():
        if key == "pools" and isinstance(value, list) and all(isinstance(p, dict) for p in value):
            for pool in value:
                lines += ["[[pools]]", *(f"{in_toml(k)} = {in_toml(v)}" for k, v in pool.items())]
        else:
            lines.insert(0, f"{in_toml(key)} = {in_toml(value)}")
    return "\n".join(lines) + "\n"


def names_of(data: object) -> list[str]:
    """The file's names by the formats that can hold it: TOML has no null, no list at the top."""
    in_all = isinstance(data, dict) and "null" not in as_json(data)
    return ["s.yaml", "s.yml", "s.json", "s.toml"][: 4 if in_all else 3]


def written(data: Any, name: str) -> str:
    match name:
        case "s.yaml":
            return as_yaml(data)
        case "s.toml":
            return as_toml(data)
    return as_json(data)  # which is YAML too


VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
ANY = st.characters(exclude_categories=("Cc", "Cs", "Cn", "Co", "Zl", "Zp"), exclude_characters=":")
WORDS = st.text(VISIBLE, min_size=1, max_size=8)
NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True)
HEADERS = st.sampled_from(["X-Org", "x-team", "OpenAI-Project", "X.Y"])
PATHS = st.sampled_from(["/v1/**", "/v1/*/chat", "/a", "/a*", "/**"])
SECONDS = st.integers(1, 86400)
SECRETS = st.integers(0, 10**9).flatmap(lambda n: WORDS.map(lambda word: f"{C}-{n}-{word}"))
ODD_SECRETS = st.builds(lambda secret, rest: f"{secret} {rest}!", SECRETS, st.text(ANY, max_size=6))

SOURCES: dict[SourceKind, st.SearchStrategy[str]] = {
    "secret": SECRETS,
    "env": st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True),
    "file": st.text(ANY, min_size=1, max_size=9).map(lambda text: f"~/{text}"),
    "command": st.sampled_from(["op read op://a/b", "sh -c 'echo $A | cut -d: -f2'", 'x "a b"']),
    "keyring": st.builds("{}/{}".format, NAMES, NAMES),
}
CLAIMS = st.recursive(
    st.text(ANY | st.sampled_from('\n\t"'), max_size=8)
    | st.integers(-(10**17), 10**17)
    | st.booleans(),
    lambda claim: st.lists(claim, max_size=2) | st.dictionaries(WORDS, claim, max_size=2),
    max_leaves=4,
)
NESTED = SECRETS | st.sampled_from(list(SOURCES)).flatmap(
    lambda kind: st.fixed_dictionaries({kind: SOURCES[kind]})
)
JWTS = st.fixed_dictionaries(
    {"algorithm": st.sampled_from(["HS256", "HS384", "HS512", "RS256", "ES256"]), "key": NESTED},
    optional={"claims": st.dictionaries(WORDS, CLAIMS, max_size=3), "ttl": SECONDS},
)
CLIENTS = st.fixed_dictionaries(
    {
        "token_url": st.sampled_from(
            ["https://a.example/t?x=1", "http://127.0.0.1:1/", "https://[::1]"]
        ),
        "client_id": st.text(VISIBLE, min_size=1, max_size=8),
        "client_secret": NESTED,
    },
    optional={"scope": st.sampled_from(["read", "read write a:b"])},
)
OAUTH2 = CLIENTS | st.builds(
    lambda client, token: {**client, "grant": "refresh_token", "refresh_token": token},
    CLIENTS,
    NESTED,
)
TUNING = st.fixed_dictionaries(
    {},
    optional={
        "disabled": st.booleans(),
        "weight": st.integers(1, 100),
        "priority": st.integers(0, 100),
        "rpm": st.integers(1, 100_000),
        "max_in_flight": st.integers(1, 100_000),
        "username": st.text(ANY, min_size=1, max_size=6),
        "headers": st.dictionaries(
            HEADERS,
            WORDS,
            min_size=1,
            max_size=2,
        ).filter(lambda headers: len({name.lower() for name in headers}) == len(headers)),
    },
)
DEFAULT = "Authorization: Bearer {secret}"
ANY_SECRET = ["?key={secret}", "A: Basic {basic}"]
INJECTS = [DEFAULT, "x-api-key:{secret}", *ANY_SECRET]


def own_part(entry: str | Data) -> object:
    """What no two credentials of a pool have in common."""
    return entry if isinstance(entry, str) else entry.get("secret", repr(entry))


@st.composite
def credentials(draw: st.DrawFn, inject: str) -> str | Data:
    secrets = ODD_SECRETS if inject in ANY_SECRET else SECRETS
    kind = draw(st.sampled_from(["text", "text", *SOURCES, "jwt", "oauth2"]))
    if kind == "text":
        return draw(secrets)
    entry: Data = draw(TUNING)
    if kind == "secret":
        entry["secret"] = draw(secrets)
    elif kind in ("jwt", "oauth2"):
        entry[kind] = draw(JWTS if kind == "jwt" else OAUTH2)
    else:
        entry |= {k: draw(strategy) for k, strategy in SOURCES.items() if k == kind}
    return entry


@st.composite
def pools(draw: st.DrawFn, number: int) -> Data:
    pool: Data = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "paths": st.lists(PATHS, min_size=1, max_size=3),
                "methods": st.lists(
                    st.sampled_from(["GET", "post", "M-X"]), min_size=1, max_size=2
                ),
                "strip": st.lists(st.sampled_from(["Authorization", "?k", "X-Old"]), max_size=2),
                "fail": st.dictionaries(
                    st.sampled_from([401, 402, "403", "404-428", 429, "500-599"]),
                    st.sampled_from(["disable", "cooldown", "ignore"]),
                    max_size=4,
                ),
                "cooldown": SECONDS,
                "retries": st.integers(0, 100),
                "hold": st.integers(0, 86400),
                "browsers": st.sampled_from(["allow", "deny"]),
                "strategy": st.sampled_from(["round-robin", "fill-first", "least-busy", "random"]),
                "cooldown_by": st.sampled_from(["json:/model", "header:X-Model", "json:/a~1b/0"]),
                "username": st.text(ANY, min_size=1, max_size=6),
            },
        )
    )
    # Each pool has hosts of its own: none overlaps with another's.
    hosts = [
        "{}.example",
        "API.{}.example:8443",
        "*.{}.example:*",
        "http://{}.example",
        "bücher.{}.example",
    ]
    pool["hosts"] = [
        host.format(f"p{number}")
        for host in draw(st.lists(st.sampled_from(hosts), min_size=1, max_size=3))
    ]
    if draw(st.booleans()):
        pool["inject"] = draw(st.sampled_from(INJECTS))
        if "basic" in pool["inject"]:
            pool["username"] = draw(NAMES)
    if draw(st.booleans()):
        pool |= {"strategy": "sticky", "sticky": draw(st.sampled_from(STICKY))}
    if draw(st.booleans()):
        pool["pin"] = draw(
            st.lists(st.sampled_from(pool.get("paths", ["/x"])), min_size=1, max_size=2)
        )
    entry = credentials(pool.get("inject", DEFAULT))
    entries = draw(st.lists(entry, min_size=1, max_size=4, unique_by=own_part))
    ids = draw(st.lists(NAMES, min_size=len(entries), max_size=len(entries), unique=True))
    for id, given_entry in zip(ids, entries, strict=True):
        if isinstance(given_entry, dict) and draw(st.booleans()):
            given_entry["id"] = f"{id}x"  # no pool's name and number
    return {**pool, "credentials": entries}


STICKY = ["client", "header:X-Session", "path:/v1", "json:/user"]


@st.composite
def files(draw: st.DrawFn) -> Data:
    if draw(st.integers(0, 3)) == 0:
        return draw(pools(0))
    found = [draw(pools(n)) for n in range(draw(st.integers(1, 2)))]
    return {"pools": [{"name": f"{draw(NAMES)}-{n}", **pool} for n, pool in enumerate(found)]}


OLDER = st.lists(
    st.fixed_dictionaries(
        {"clientId": WORDS, "clientSecret": SECRETS, "tenant": WORDS},
        optional={
            "name": NAMES | st.none() | WORDS,
            "agent": st.none() | WORDS,
            "appToAccess": WORDS,
        },
    ),
    min_size=1,
    max_size=4,
)


def pool_spec(data: Data, name: str, place: str) -> PoolSpec:
    """A pool as the grammar has it. What is not written is the default."""
    fail = data.get("fail")
    pool = PoolSpec(
        name,
        tuple(map(parse_host_rule, data["hosts"])),
        paths=tuple(map(PathRule, data.get("paths", ()))),
        methods=tuple(method.upper() for method in data.get("methods", ())),
        inject=parse_inject(data["inject"]) if "inject" in data else DEFAULT_INJECT,
        fail=None if fail is None else tuple(sorted(rule(*item) for item in fail.items())),
        browsers=data.get("browsers") == "allow",
        sticky=parse_sticky(data["sticky"]) if "sticky" in data else None,
        cooldown_by=parse_sticky(data["cooldown_by"]) if "cooldown_by" in data else None,
        pin=tuple(map(PathRule, data.get("pin", ()))),
        place=place,
        **{key: data[key] for key in ("cooldown", "retries", "hold", "strategy") if key in data},
    )
    if "strip" in data:
        pool = replace(pool, strip=tuple(item.lower() for item in data["strip"]))
    before = f"{place}.credentials" if place else "credentials"
    return replace(
        pool,
        credentials=tuple(
            credential_spec(entry, name, n, f"{before}[{n}]", data.get("username"))
            for n, entry in enumerate(data["credentials"])
        ),
    )


def rule(status: int | str, action: str) -> tuple[int, int, str]:
    low, _, high = str(status).partition("-")
    return int(low), int(high or low), action


def credential_spec(
    entry: str | Data, pool: str, n: int, place: str, username: str | None
) -> CredentialSpec:
    data: Data = {"secret": entry} if isinstance(entry, str) else entry
    id = data.get("id", f"{pool}-{n + 1}")
    kept = {key: data[key] for key in ("weight", "priority", "rpm", "max_in_flight") if key in data}
    return CredentialSpec(
        id,
        pool,
        source(data),
        data.get("username", username),
        data.get("disabled", False),
        place,
        headers=tuple(data.get("headers", {}).items()),
        **kept,
    )


def source(data: Data) -> Source | JwtSpec | OAuth2Spec:
    if "jwt" in data:
        jwt = data["jwt"]
        return JwtSpec(jwt["algorithm"], plain(jwt["key"]), jwt.get("claims", {}), jwt.get("ttl"))
    if "oauth2" in data:
        client = data["oauth2"]
        return OAuth2Spec(
            client["token_url"],
            client["client_id"],
            plain(client["client_secret"]),
            client.get("scope"),
            client.get("grant", "client_credentials"),
            plain(client["refresh_token"]) if "refresh_token" in client else None,
        )
    return plain(data)


def plain(data: str | Data) -> Source:
    data = {"secret": data} if isinstance(data, str) else data
    kind, value = next((kind, data[kind]) for kind in SOURCES if kind in data)
    return Source(kind, Secret(value, "") if kind == "secret" else value)


def specs(data: Data) -> tuple[PoolSpec, ...]:
    if "pools" not in data:
        return (pool_spec(data, "default", ""),)
    return tuple(
        pool_spec(pool, pool["name"], f"pools[{n}]") for n, pool in enumerate(data["pools"])
    )


@examples(60)
@given(files())
def test_a_file_means_what_it_says_in_every_format(data: Data) -> None:
    for name in names_of(data):
        config = read(written(data, name), name)
        assert config.problems == ()
        assert config.pools == specs(data)


@examples(60)
@given(OLDER)
def test_an_older_file_has_every_client(data: list[Data]) -> None:
    for name in names_of(data):
        config = read(written(data, name), name)
        assert config.problems == ()
        [pool] = config.pools
        assert sum(credential.weight for credential in pool.credentials) == len(data)
        keys = ("clientId", "clientSecret", "tenant")
        claims = [{key: entry[key] for key in keys} for entry in data]
        for credential in pool.credentials:
            assert isinstance(credential.source, JwtSpec)
            assert claims.count(dict(credential.source.claims)) == credential.weight
            assert credential.source.key == Source(
                "secret", Secret(str(credential.source.claims["clientSecret"]), "")
            )


FULL: Data = {
    "pools": [
        {
            "name": "p",
            "hosts": ["a.example"],
            "paths": ["/v1/**"],
            "methods": ["GET"],
            "inject": "X-Key: {secret}",
            "strip": ["X-Old"],
            "fail": {"401": "disable"},
            "cooldown": 30,
            "retries": 2,
            "hold": 20,
            "browsers": "deny",
            "strategy": "sticky",
            "sticky": "header:X-Session",
            "cooldown_by": "json:/model",
            "pin": ["/v1/files"],
            "username": "me",
            "credentials": [
                f"{C}-1",
                {"id": "b", "secret": f"{C}-2", "username": "you", "disabled": True},
                {"env": "KEY", "weight": 2, "priority": 1, "rpm": 60, "max_in_flight": 4},
                {"file": "~/key", "headers": {"X-Org": "o"}},
                {"command": "op read x"},
                {"keyring": "a/b"},
                {"jwt": {"algorithm": "HS256", "key": f"{C}-3", "claims": {"a": 1}, "ttl": 60}},
                {"jwt": {"algorithm": "HS256", "key": {"secret": f"{C}-4"}}},
                {
                    "oauth2": {
                        "token_url": "https://a.example/token",
                        "client_id": "me",
                        "client_secret": {"env": "KEY"},
                        "scope": "read write",
                        "grant": "refresh_token",
                        "refresh_token": {"file": "~/token"},
                    }
                },
            ],
        }
    ]
}
"""Every key of the grammar."""
WRONG: Mapping[str, list[Any]] = {
    "pools": [[C], [[C]], [7], [None]],
    "name": ["", f"{C} x", "a" * 65],
    "hosts": [[], ["a.example", f"{C} x"], [f"https://{C}"], [f"{C}@a.example"], [7], [[C]]],
    "paths": [[], [C], [f"/{C}?"], [f"/../{C}"], [7], [{C: C}]],
    "methods": [[], [f"{C} x"], [True]],
    "inject": [C, f"{C} x: {{secret}}", f"X: {C}", f"X: {{{C}}}", f"?{C}=x", "Host: {secret}"],
    "strip": [[f"{C} x"], [f"?{C}&"], [None]],
    "fail": [{C: C}, {"401": C}, {"200": "disable"}, {"401": "disable", "400-499": "ignore"}],
    "cooldown": [0, 86401, 10**17],
    "retries": [-1, 101],
    "hold": [-1, 86401],
    "browsers": [C, ""],
    "strategy": [C, ""],
    "sticky": [C, "header", f"header:{C} x", f"path:{C}", f"json:{C}"],
    "cooldown_by": [C, "client", f"header:{C} x", "header:cookie", "header:x-key"],
    "pin": [[], [C], ["/elsewhere"]],
    "username": ["", f"{C}:", f"{C}\x85", f"{C}\n"],
    "credentials": [
        *([], [{C: C}], [[C]], [7], [None], [C, C], [{"id": "a", "env": "A"}] * 2),
        *([f" {C}"], [f"{C}\n"], [{"secret": f"{C}\x85"}], [{"id": C, "secret": C}]),
    ],
    "id": ["", f"{C}/x", f"{C}\n"],
    "secret": ["", "$CANARY", "${canary}", C * 2000],
    "env": ["", f"${C}", f"{C}=1"],
    "file": ["", f"{C}\x85"],
    "command": ["", f"'{C}", f"{C}\n", "''"],
    "keyring": ["", C, f"/{C}", f"{C}/"],
    "jwt": [{C: C}, {"algorithm": C}, {"key": C}],
    "oauth2": [{C: C}, {"client_secret": C}],
    "disabled": [C, "true"],
    "weight": [0, 101],
    "priority": [-1, 101],
    "rpm": [0, 100_001],
    "max_in_flight": [0, 100_001],
    "headers": [{f"{C} x": C}, {"X-Key": C}, {"x-old": C}, {"A": f"{C} "}, {"A": C, "a": C}],
    "algorithm": ["", C, "none", "hs256"],
    "key": ["", {C: C}, {"secret": C, "env": "A"}],
    "claims": [{C: {C: 1.5}}, {C: [[[[[[[[C]]]]]]]]}, {"exp": C}],
    "ttl": [0, 86401],
    "token_url": ["", C, f"http://{C}.example/", "https://[", f"https://{C}@a", f"https://a/#{C}"],
    "client_id": ["", f"{C}ü", f"{C}\n"],
    "client_secret": ["", f"{C} ", {C: C}, {"jwt": {C: C}}],
    "scope": ["", f"{C}  x", f'"{C}"'],
    "grant": ["", C, "password"],
    "refresh_token": ["", f"{C} ", {C: C}],
}
"""For each key, values of the right type that are wrong."""
NUMBERS = ("cooldown", "retries", "hold", "weight", "priority", "rpm", "max_in_flight", "ttl")
LISTS = ("pools", "hosts", "paths", "methods", "strip", "pin", "credentials")
MAPPINGS = ("fail", "jwt", "oauth2", "headers", "claims")
SECRET_OR_MAPPING = ("key", "client_secret", "refresh_token")
JUNK: list[Any] = [
    None, True, False, 0, 7, -1, 10**17, 1.5, C,
    [], [C], [[C]], [{C: C}], {}, {C: C}, {C: {C: [C]}},
]  # fmt: skip


def wrong_types(key: str) -> list[Any]:
    if key in NUMBERS:
        right: tuple[type, ...] = (int,)
    elif key in LISTS:
        right = (list,)
    elif key in MAPPINGS:
        right = (dict,)
    elif key in SECRET_OR_MAPPING:
        right = (str, dict)
    else:
        right = (bool,) if key == "disabled" else (str,)
    return [value for value in JUNK if type(value) not in right]


# What depends on another key is not always wrong.
ALWAYS_WRONG = {
    **WRONG,
    "cooldown_by": [C],
    "pin": [[C]],
    "secret": [""],
    "headers": [{f"{C} x": C}],
    "claims": [{C: {C: 1.5}}],
}


def keys_of(data: Any, place: str = "") -> Iterator[tuple[Data, str, str]]:
    """(mapping, key, place) of every key of a file that the grammar knows."""
    if isinstance(data, list):
        for n, item in enumerate(data):
            yield from keys_of(item, f"{place}[{n}]")
    elif isinstance(data, dict):
        for key, value in data.items():
            here = f"{place}.{key}" if place else key
            yield data, key, here
            if key not in ("fail", "headers", "claims"):
                yield from keys_of(value, here)


def test_no_key_is_forgotten() -> None:
    assert WRONG.keys() == KNOWN_KEYS - set(OLDER_KEYS) | {"name"}
    assert {key for _, key, _ in keys_of(FULL)} == WRONG.keys()
    assert read(as_json(FULL), "s.json").problems == ()


def is_told(data: Data, name: str, place: str) -> bool:
    # A credential is told by its own place when its secret is no good.
    place = place.removesuffix(".secret")
    return any(p.place.startswith(place) for p in read(written(data, name), name).problems)


@pytest.mark.parametrize("key", sorted(WRONG))
def test_every_wrong_value_is_told_with_its_place(key: str) -> None:
    for value in (*WRONG[key], *wrong_types(key)):
        for n in range(len(list(keys_of(FULL)))):
            data = copy.deepcopy(FULL)
            mapping, found, place = list(keys_of(data))[n]
            if found == key:
                mapping[key] = value
                assert all(is_told(data, name, place) for name in names_of(data)[2:]), value


@examples(60)
@given(files(), st.data())
def test_a_wrong_value_is_told_in_any_file(data: Data, draw: st.DataObject) -> None:
    mapping, key, place = draw.draw(st.sampled_from(list(keys_of(data))))
    event(key)
    mapping[key] = draw.draw(st.sampled_from([*ALWAYS_WRONG[key], *wrong_types(key)]))
    assert is_told(data, draw.draw(st.sampled_from(names_of(data))), place)


@pytest.mark.parametrize("key", sorted(OLDER_KEYS))
def test_every_wrong_value_of_an_older_file_is_told(key: str) -> None:
    right = {"clientId": "a", "clientSecret": f"{C}-1", "tenant": "b"}
    fine: tuple[type, ...] = (str,) if key in right else (str, type(None))
    for value in JUNK:
        for name in ("s.json", "s.yaml"):
            if type(value) not in fine:
                text = written([right, {**right, key: value}], name)
                assert [p.place for p in read(text, name).problems] == [f"[1].{key}"]
            if not isinstance(value, dict):
                text = written([right, value], name)
                assert [p.place for p in read(text, name).problems] == ["[1]"]


@examples(100)
@given(files(), st.sampled_from(sorted(KNOWN_KEYS)), st.data())
def test_a_key_too_many_is_told(data: Data, known: str, draw: st.DataObject) -> None:
    mapping, _, place = draw.draw(st.sampled_from(list(keys_of(data))))
    key = draw.draw(st.sampled_from([f"{known}s", f"{C}{known}", C, known.upper(), f" {known}"]))
    mapping[key] = draw.draw(st.sampled_from(JUNK))
    name = draw.draw(st.sampled_from(names_of(data)))
    problems = read(written(data, name), name).problems
    place = place.rpartition(".")[0]
    assert [p.place for p in problems if p.message.startswith("unknown key")] == [place]


@examples(60)
@given(files(), st.data())
def test_a_key_twice_is_told(data: Data, draw: st.DataObject) -> None:
    text = as_json(data)
    keys = sorted({key for _, key, _ in keys_of(data)})
    key = draw.draw(st.sampled_from(keys))
    twice = text.replace(f'"{key}": ', f'"{key}": "{C}", "{key}": ', 1)
    for name in ("s.json", "s.yaml"):
        assert any("is written twice" in p.message for p in read(twice, name).problems)
    toml = as_toml(data)
    twice = toml.replace(f'\n"{key}" = ', f'\n"{key}" = "{C}"\n"{key}" = ', 1)
    told = any("is written twice" in p.message for p in read(twice, "s.toml").problems)
    assert told is (twice != toml)


def bounded(text: bytes, name: str) -> Config:
    """Parse, with what holds for every file: an end, an answer, and no secret in it."""
    start = time.process_time()
    config = parse(text, name)
    assert time.process_time() - start < MOST_SECONDS
    assert config.pools or config.problems
    assert "canary" not in str(ConfigError(name, config.problems)).lower()
    for pool in () if config.problems else config.pools:
        for credential in pool.credentials:
            value = credential.source.value if isinstance(credential.source, Source) else ""
            if isinstance(value, Secret):
                assert check_secret(value.reveal(), pool.inject, credential.alias) is None
    return config


PIECES = [
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\t", b"\r",
    b"\n", b"\n\n", b"\n---\n", b"\n...\n", b"%YAML 1.1\n---\n", b"# ", b" #", b": ", b":", b"- ",
    b"? ", b", ", b"{", b"}", b"[", b"]", b"[" * 41, b"{a: " * 39, b"[[", b"'", b'"', b'"""',
    b"'''",
    b"\\", b"\\ud800", b"\\x00", b"&a ", b"*a", b"&a [*a]", b"<<: *a\n", b"<<: {a: b}\n", b"!",
    b"!!binary ", b"!!set ", b"!!str ", b"!!map ", b"!!python/object/apply:os.system ", b"| ",
    b">-\n", b"= ", b"~", b"null", b"NaN", b".inf", b"1e999", b"-0", b"0x1F", b"0o17", b"1_000",
    b"9" * 30, b"9" * 5000, b"2020-01-01", b"12:30:45", b"yes", b"hosts", b"pools", b"secret",
    b"? [a]\n: b\n", C.encode(), b"%s: 1\n%s: 2\n" % (C.encode(), C.encode()),
    b"%s = 1\n%s = 2\n" % (C.encode(), C.encode()),
    b'"%s": 1, "%s": 2, ' % (C.encode(), C.encode()),
]  # fmt: skip


SHORT = {
    "s.yaml": f"""
hosts: [a.example, 'b.example']
cooldown: 30
credentials:
- {C}
- id: b
  secret: "{C}-2"
  headers: {{X-Org: o}}
""",
    "s.json": as_json(
        {"hosts": ["a.example"], "cooldown": 30, "credentials": [C, {"secret": f"{C}-2"}]}
    ),
    "s.toml": f"""
hosts = ["a.example", 'b.example']
cooldown = 30
credentials = ["{C}", {{secret = "{C}-2", headers = {{"X-Org" = "o"}}}}]
""",
}


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("n", range(len(PIECES)))
def test_a_piece_put_in_anywhere_is_fine_or_told(name: str, n: int) -> None:
    whole = SHORT[name].encode()
    assert bounded(whole, name).problems == ()
    for at in (m.start() for m in re.finditer(rb"\b(?=\w)|(?<=[{\[\n])|\Z", whole)):
        bounded(whole[:at] + PIECES[n] + whole[at:], name)
        bounded(whole[:at] + PIECES[n], name)


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 1, 2, 9, 60]))
        before, part, after = data[:start], data[start:end], data[end:]
        match draw(st.sampled_from(["out", "piece", "piece", "bytes", "twice", "flip", "end"])):
            case "out":
                part = b""
            case "piece":
                part = draw(st.sampled_from(PIECES))
            case "bytes":
                part = draw(st.binary(min_size=1, max_size=4))
            case "twice":
                part *= 2
            case "flip":
                mask = draw(st.integers(1, 255))
                part = bytes(byte ^ mask for byte in part)
            case "end":
                after = b""
        data = before + part + after
    return data


@examples(200)
@given(files() | OLDER, st.data())
def test_damaged_bytes_are_a_file_or_told(data: Any, draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(names_of(data)))
    damaged = draw.draw(damaged_bytes(written(data, name).encode()))
    config = bounded(damaged, name)
    event(f"{name[2:]}: {'told' if config.problems else 'a file'}")


READABLE = ["utf-8", "utf-8-sig", "ascii"]
ENCODINGS = [*READABLE, "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037", "cp1252"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["s.yaml", "s.json", "s.toml"])
def test_other_encodings_are_told(name: str, encoding: str) -> None:
    odd = {**FULL["pools"][0], "username": "a" if encoding == "ascii" else "\u00fc+"}
    config = bounded(written({"pools": [odd]}, name).encode(encoding), name)
    assert (config.problems == ()) is (encoding in READABLE)
    again = b"\xef\xbb\xbf" * 2 + written(FULL, name).encode(encoding)
    assert bounded(again, name).problems or name == "s.yaml"


NO_ALIAS = "a value that begins with * or & needs quotes; anchors and aliases are not used here"


@st.composite
def laughs(draw: st.DrawFn) -> str:
    """Few bytes that stand for many values, by aliases, merges or both."""
    levels, many = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    lines = [f"a0: &a0 {draw(st.sampled_from([C, f'[{C}]', f'{{a: {C}}}']))}"]
    for n in range(1, levels + 1):
        parts = ", ".join([f"*a{n - 1}"] * many)
        form = draw(st.sampled_from(["[{}]", "{{<<: [{}]}}", "{{a: {}}}", "{{? [{}] : b}}"]))
        lines.append(f"a{n}: &a{n} " + form.format(parts))
    lines.append(
        draw(st.sampled_from([f"pools: *a{levels}", f"<<: *a{levels}", f"hosts: [*a{levels}]"]))
    )
    return "\n".join(lines)


@examples(60)
@given(laughs())
@example("a: &a [*a, *a]\npools: *a")
@example("a0: &a0 x\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 8}]\n" for n in range(1, 6)))
def test_aliases_do_not_explode(text: str) -> None:
    assert [p.message for p in bounded(text.encode(), "s.yaml").problems] == [NO_ALIAS]


NESTS = [
    ("s.yaml", "[", "]"), ("s.yaml", "{a: ", "}"), ("s.yaml", "[\n", "]"), ("s.yaml", "- ", ""),
    ("s.yaml", "? ", ""), ("s.yaml", "[{a: ", "}]"), ("s.yaml", "!!seq [", "]"),
    ("s.json", "[", "]"), ("s.json", '{"a": ', "}"),
    ("s.toml", "[", "]"), ("s.toml", "{a = ", "}"), ("s.toml", "[{a = ", "}]"),
]  # fmt: skip
OUTER = [
    "{}",
    "hosts: {}",
    '{{"hosts": {}}}',
    "hosts = {}",
    "credentials: [{{jwt: {{claims: {}}}}}]",
]


@examples(60)
@given(st.sampled_from(NESTS), st.sampled_from(OUTER), st.integers(1, 3000), st.booleans())
def test_deep_nesting_is_told(
    nest: tuple[str, str, str], outer: str, depth: int, closed: bool
) -> None:
    name, opening, closing = nest
    text = outer.format(opening * depth + f'"{C}"' + closing * depth * closed)
    assert bounded(text.encode(), name).problems
