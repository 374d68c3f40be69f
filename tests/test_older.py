"""The older plugin's secrets.json: read as it is, or each problem at its entry."""

import json

import pytest

from flowrotate.config.spec import CredentialSpec, JwtSpec, PoolSpec, Source
from flowrotate.hosts import HostRule
from flowrotate.secret import Secret

from .parsing import AS_TEXT, EMPTY_TEXT, READ_IN_NAME, C, lines, read, unknown

KEYS = "name, agent, appToAccess, clientId, clientSecret, tenant"
MAPPING = "write a mapping with clientId, clientSecret and tenant"
NULL = "empty: write a text, in quotes if it is ~ or null"
LACKING = "missing: write it in quotes"


def entry(number: object = 1, **others: object) -> dict[str, object]:
    """Everything in it may be a secret."""
    made = {key: f"{C}-{key}-{number}" for key in ("clientId", "clientSecret", "tenant")}
    return {**made, **others}


def without(key: str) -> dict[str, object]:
    return {k: v for k, v in entry().items() if k != key}


def credential(
    id: str, number: int, place: int, claims: dict[str, object], weight: int = 1
) -> CredentialSpec:
    key = Source("secret", Secret(f"{C}-clientSecret-{number}", ""))
    source = JwtSpec("HS256", key, claims, None)
    return CredentialSpec(id, "flow", source, None, False, f"[{place}]", weight=weight)


FULL = {"name": "primary", "agent": "simple_agent", "appToAccess": "llm-api"}


@pytest.mark.parametrize("name", ["secrets.json", "secrets.yaml"])
def test_it_becomes_one_pool(name: str) -> None:
    config = read(json.dumps([entry(1, **FULL), entry(2)]), name)
    assert config.problems == ()
    assert config.pools == (
        PoolSpec(
            name="flow",
            hosts=(HostRule(True, "flow.ciandt.com", False, 443),),
            credentials=(
                credential("primary", 1, 0, entry(1)),
                credential("flow-2", 2, 1, entry(2)),
            ),
            place="",
        ),
    )


def test_the_claims_are_three_in_this_order() -> None:
    shuffled = {"tenant": "t", "agent": "a", "clientSecret": "s", "name": "n", "clientId": "c"}
    source = read(json.dumps([shuffled]), "s.json").pools[0].credentials[0].source
    assert isinstance(source, JwtSpec)
    assert list(source.claims.items()) == [
        ("clientId", "c"),
        ("clientSecret", "s"),
        ("tenant", "t"),
    ]
    assert isinstance(source.key.value, Secret)
    assert source.key.value.alias == "[rotate:flow/n]"


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a", "b.c-d_E"], ["a", "b.c-d_E"]),
        (["a", None, ""], ["a", "flow-2", "flow-3"]),
        (["team one", "ü", "a" * 65], ["flow-1", "flow-2", "flow-3"]),
        (["a", "b", "a"], ["flow-1", "b", "flow-3"]),
        (["flow-2", "b", "flow-x"], ["flow-1", "b", "flow-x"]),
        (["flow-2", ""], ["flow-1", "flow-2"]),
    ],
)
def test_a_name_is_the_id_when_it_can_be(names: list[str | None], ids: list[str]) -> None:
    entries = [entry(n, name=name) for n, name in enumerate(names)]
    config = read(json.dumps(entries), "s.json")
    assert config.problems == ()
    assert [c.id for c in config.pools[0].credentials] == ids


@pytest.mark.parametrize(("times", "weight"), [(1, 1), (3, 3), (200, 100)])
def test_an_entry_that_is_repeated_weighs_more(times: int, weight: int) -> None:
    entries = [entry(1, name=f"primary-{n}") for n in range(times)]
    config = read(json.dumps([*entries, entry(2, name="backup")]), "s.json")
    assert config.problems == ()
    assert [(c.id, c.weight) for c in config.pools[0].credentials] == [
        ("primary-0", weight),
        ("backup", 1),
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        *[([without(key)], [f"[0].{key}: {LACKING}"]) for key in entry()],
        *[([entry(**{key: 1})], [f"[0].{key}: {AS_TEXT}"]) for key in (*entry(), *FULL)],
        *[([entry(**{key: ""})], [f"[0].{key}: {EMPTY_TEXT}"]) for key in entry()],
        *[([entry(**{key: None})], [f"[0].{key}: {NULL}"]) for key in entry()],
        ([entry(), 1, [C]], [f"[1]: {MAPPING}", f"[2]: {MAPPING}"]),
        ([entry(teant=C)], ["[0]: unknown key 'teant': did you mean 'tenant'?"]),
        ([entry(**{C: C})], [f"[0]: {unknown(4)}{KEYS}"]),
        ([entry(name="wxyz", clientSecret="wxyz")], [f"[0].clientSecret: {READ_IN_NAME}"]),
        (
            [entry(clientSecret="$KEY")],
            ["[0].clientSecret: this names an environment variable: write {env: NAME}"],
        ),
        (
            [{"tenant": C}, entry(2), entry(3, agent=[C], tenant="")],
            [
                f"[0].clientId: {LACKING}",
                f"[0].clientSecret: {LACKING}",
                "[2].agent: must be text: write it in quotes",
                f"[2].tenant: {EMPTY_TEXT}",
            ],
        ),
    ],
)
def test_bad_entries(data: list[object], expected: list[str]) -> None:
    assert lines(json.dumps(data), "s.json") == expected


@pytest.mark.parametrize("data", [[], [C], [{"name": C}], [[entry()]]])
def test_other_lists_are_no_older_file(data: list[object]) -> None:
    said = lines(json.dumps(data), "s.json")
    assert said == ["write a mapping with the key 'pools' at the top"]


def test_a_key_that_is_written_twice() -> None:
    text = f'[{{"clientId": "{C}", "clientId": "{C}"}}]'
    assert lines(text, "s.json") == ["the key 'clientId' is written twice in one mapping: keep one"]
