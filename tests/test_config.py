"""The secrets file: good ones in three formats, and bad ones, each with its exact lines."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrotate.config.failrules import parse_fail_option, parse_fail_rules
from flowrotate.config.pools import KNOWN_KEYS
from flowrotate.config.spec import Config, CredentialSpec, PoolSpec, Source
from flowrotate.hosts import HostRule
from flowrotate.inject import DEFAULT_INJECT, Inject, check_secret, parse_inject
from flowrotate.keys import RequestKey
from flowrotate.paths import PathRule
from flowrotate.secret import Secret

from .parsing import (
    AS_TEXT,
    CONTROL,
    EMPTY_TEXT,
    HEADER,
    NAME,
    POOL_KEYS,
    READ_IN_NAME,
    RESERVED,
    VISIBLE,
    C,
    lines,
    read,
    short,
    unknown,
)

DEFAULT_STRIP = ("authorization", "x-api-key", "api-key", "x-goog-api-key")

BRACES = "only {secret} or {basic} may stand in braces: did you mean {secret}?"
STATUS = "write a status from 400 to 599, or a range such as 500-599"
ACTION = "write disable, cooldown or ignore as the action"
SECONDS = "write whole seconds from 1 to 86400, without quotes"
APART = "give each pool hosts, paths or methods of its own"
NO_POOLS = "no pools: write the key 'pools', or 'hosts' and 'credentials'"
NO_SECRET = "no secret: write one of secret, env, file, command, keyring, jwt and oauth2"
STRATEGY = "write round-robin, fill-first, least-busy, random or sticky"
STICKY = "write client, header:NAME, path:/prefix or json:/pointer"
NO_STICKY = "missing: write what tells a session, as header:x-session-id"
NOT_STICKY = "write strategy: sticky with it, or leave it out"
BY_HEADER = "write header: and a header's name, as header:x-session-id"
BY_PATH = "write path:/prefix: the segment after it tells the session"
BY_JSON = "write json: and a JSON pointer, as json:/model"


def pool(name: str = "p", hosts: str = "[a.example]", rest: str = f"credentials: [{C}]") -> str:
    return f"- {{name: {name}, hosts: {hosts}, {rest}}}\n"


BAD_TOPS: list[tuple[str, str, list[str]]] = [
    ("s.json", "{}", [NO_POOLS]),
    ("s.yaml", f"{C}: {C}", [unknown(1) + "pools, " + POOL_KEYS, NO_POOLS]),
    ("s.yaml", f"pool: [{C}]", ["unknown key 'pool': did you mean 'pools'?", NO_POOLS]),
    ("s.yaml", "pools:\n", ["pools: write a list, in [ ]"]),
    ("s.yaml", "pools: []\n", ["pools: empty: write at least one pool"]),
    ("s.yaml", f"pools: {{openai: {C}}}", ["pools: write a list, in [ ]"]),
    ("s.yaml", f"pools: [{C}]", ["pools[0]: write a mapping with name, hosts and credentials"]),
    (
        "s.yaml",
        f"hosts: [{C}]\nsticky: {C}\npools:\n" + pool(),
        [
            "hosts: cannot stand beside 'pools': move it into one of them",
            "sticky: cannot stand beside 'pools': move it into one of them",
        ],
    ),
    (
        "s.toml",
        f'[[pools]]\nname = "p"\nhosts = ["a.example"]\ncredentials = ["{C}"]\npin = 2\n',
        ["pools[0].pin: write a list, in [ ]"],
    ),
    (
        "s.json",
        json.dumps(
            {"pools": [{"name": "p", "hosts": ["a.example"], "credentials": [C, {"id": 1}]}]}
        ),
        [
            f"pools[0].credentials[1].id: {AS_TEXT}",
            f"pools[0].credentials[1]: {NO_SECRET}",
        ],
    ),
]

BAD_POOLS: list[tuple[str, list[str]]] = [
    (
        "pools:\n- {}\n",
        [
            "pools[0].name: missing: give the pool a name",
            "pools[0].hosts: missing: write a list such as [api.example.com]",
            "pools[0].credentials: missing: write a list with at least one credential",
        ],
    ),
    ("pools:\n" + pool(name=f"'{C} x'"), [f"pools[0].name: {NAME}"]),
    ("pools:\n" + pool(name="123"), [f"pools[0].name: {AS_TEXT}"]),
    ("pools:\n" + pool(name="a/b"), [f"pools[0].name: {NAME}"]),
    ("pools:\n" + pool(name="a" * 65), [f"pools[0].name: {NAME}"]),
    ("pools:\n" + pool(name="''"), [f"pools[0].name: {EMPTY_TEXT}"]),
    (
        "pools:\n" + pool() + pool(hosts="[b.example]"),
        ["pools[1].name: same name as pools[0]: give it another"],
    ),
    (short(f"hostss: [{C}]"), ["unknown key 'hostss': did you mean 'hosts'?"]),
    (short(f"stickyy: {C}"), ["unknown key 'stickyy': did you mean 'sticky'?"]),
    (short(f"Hosts: [{C}]"), [unknown(3) + POOL_KEYS]),
    (short(f"{C}: {C}"), [unknown(3) + POOL_KEYS]),
    (short("skcanary: x"), [unknown(3) + POOL_KEYS]),
    (short(f"7: {C}"), [unknown(3) + POOL_KEYS]),
    (short(f"strategy: sticky\nsticky: {C}"), [f"sticky: {STICKY}"]),
    (short("strategy: sticky\nsticky: header"), [f"sticky: {BY_HEADER}"]),
    (short(f"strategy: sticky\nsticky: 'header:{C} x'"), [f"sticky: {BY_HEADER}"]),
    (short("strategy: sticky\nsticky: path:v1"), [f"sticky: {BY_PATH}"]),
    (short("strategy: sticky\nsticky: json:model"), [f"sticky: {BY_JSON}"]),
    (short("strategy: sticky\nsticky: 1"), [f"sticky: {AS_TEXT}"]),
    (short("strategy: sticky"), [f"sticky: {NO_STICKY}"]),
    (short("sticky: client"), [f"sticky: {NOT_STICKY}"]),
    (short("strategy: random\nsticky: client"), [f"sticky: {NOT_STICKY}"]),
    (short("strategy: Sticky\nsticky: client"), [f"strategy: {STRATEGY}"]),
    (short(f"cooldown_by: {C}"), ["cooldown_by: write header:NAME or json:/pointer"]),
    (short("cooldown_by: client"), ["cooldown_by: write header:NAME or json:/pointer"]),
    (short("cooldown_by: json:/~2"), [f"cooldown_by: {BY_JSON}"]),
    (short(f"pin: /{C}"), ["pin: write a list, in [ ]"]),
    (short("pin: []"), ["pin: empty: leave the key out to mean none"]),
    (short(f"pin: [/v1/**, {C}]"), ["pin[1]: a path starts with /"]),
    (f"hosts: a.example\ncredentials: [{C}]", ["hosts: write a list, in [ ]"]),
    (f"hosts: []\ncredentials: [{C}]", ["hosts: empty: write at least one host"]),
    (f"credentials: [{C}]", ["hosts: missing: write a list such as [api.example.com]"]),
    (
        "hosts: [1, '', null, [x], 'https://a.example', "
        f"'{C} x', 'a.example/{C}']\ncredentials: [{C}]",
        [
            f"hosts[0]: {AS_TEXT}",
            f"hosts[1]: {EMPTY_TEXT}",
            "hosts[2]: empty: write a text, in quotes if it is ~ or null",
            "hosts[3]: must be one text: a value with [ or { in it needs quotes",
            "hosts[4]: leave out https://, it is the default",
            "hosts[5]: not a host: write api.example.com, api.example.com:8443 or [::1]:8443",
            "hosts[6]: a host has no path: write the path under 'paths'",
        ],
    ),
    (short("paths: [v1]"), ["paths[0]: a path starts with /"]),
    (short("paths: []"), ["paths: empty: leave the key out to mean all"]),
    (short(f"paths: /{C}"), ["paths: write a list, in [ ]"]),
    (
        short(f"methods: ['{C} {C}']"),
        ["methods[0]: not an HTTP method: write GET, POST or the like"],
    ),
    (short("methods: []"), ["methods: empty: leave the key out to mean all"]),
    (short(f"inject: {C}"), ['inject: write "Header: {secret}" or "?name={secret}"']),
    (
        short("inject: {secret}"),
        ["inject: must be one text: a value with [ or { in it needs quotes"],
    ),
    (short(f"inject: 'X: {C}'"), ["inject: write {secret} or {basic} exactly once"]),
    (short("inject: 'X: {secret}{secret}'"), ["inject: write {secret} or {basic} exactly once"]),
    (short("inject: 'X: {secret} {basic}'"), ["inject: write {secret} or {basic} exactly once"]),
    (short("inject: 'X: {secrte}'"), [f"inject: {BRACES}"]),
    (short(f"inject: 'X: {{secret}} {{{C}}}'"), [f"inject: {BRACES}"]),
    (short("inject: 'X: {secret'"), [f"inject: {BRACES}"]),
    (short("inject: 'X: {secret}}'"), [f"inject: {BRACES}"]),
    (short("inject: 'X: ü{secret}'"), ["inject: write only visible ASCII characters and spaces"]),
    (
        short('inject: "X: {secret}\\r\\nY: z"'),
        ["inject: write only visible ASCII characters and spaces"],
    ),
    (short(f"inject: '{C} x: {{secret}}'"), [f"inject: {HEADER}"]),
    (short("inject: ': {secret}'"), [f"inject: {HEADER}"]),
    *[
        (short(f"inject: '{name}: {{secret}}'"), [f"inject: {RESERVED}"])
        for name in (
            *("Host", "Content-Length", "Transfer-Encoding", "Connection", "TE", "Trailer"),
            *("Upgrade", "Expect", "Proxy-Authorization", "Proxy-Anything", "Keep-Alive"),
        )
    ],
    *[
        (
            short(f"inject: '{text}'"),
            ["inject: write a query parameter as ?name={secret}, its name without escapes"],
        )
        for text in (
            f"?{C}",
            "?={secret}",
            "?a b={secret}",
            "?a%20={secret}",
            "?a={secret}&b=c",
            "?a={basic}",
        )
    ],
    (
        short(f"strip: [1, '{C} x', Host, '?a&b', '?']"),
        [
            f"strip[0]: {AS_TEXT}",
            f"strip[1]: {HEADER}",
            f"strip[2]: {RESERVED}",
            "strip[3]: write a query parameter as ?name, without escapes",
            "strip[4]: write a query parameter as ?name, without escapes",
        ],
    ),
    (short(f"fail: [{C}]"), ["fail: write a mapping such as {401: disable, 429: cooldown}"]),
    (
        short("cooldown_by: header:Authorization"),
        ["cooldown_by: this header may hold a credential: choose another"],
    ),
    (
        short("inject: 'X-Own: {secret}'\ncooldown_by: header:x-own"),
        ["cooldown_by: this header may hold a credential: choose another"],
    ),
    (
        short("cooldown_by: header:cookie"),
        ["cooldown_by: this header may hold a credential: choose another"],
    ),
    (
        short("paths: [/v1/**]\npin: [/v1/files, /v2/files]"),
        ["pin[1]: no path of this pool: mend it, or add it to 'paths'"],
    ),
    (
        short(
            f"fail: {{399: disable, 401: {C}, {C}: disable, 600: ignore, 429-401: ignore, "
            "true: ignore, 403: 1}"
        ),
        [
            f"fail: entry 1: {STATUS}",
            f"fail: entry 2: {ACTION}",
            f"fail: entry 3: {STATUS}",
            f"fail: entry 4: {STATUS}",
            f"fail: entry 5: {STATUS}",
            f"fail: entry 6: {STATUS}",
            f"fail: entry 7: {ACTION}",
        ],
    ),
    (
        short("fail: {401: disable, '401': ignore, 400-402: ignore}"),
        [
            "fail: entry 2: overlaps with entry 1: write each status once",
            "fail: entry 3: overlaps with entry 1: write each status once",
        ],
    ),
    *[
        (short(f"cooldown: {value}"), [f"cooldown: {SECONDS}"])
        for value in (
            "0",
            "86401",
            "0x1F",
            "1" * 5000,
            "-1",
            "1.5",
            "true",
            f"'{C}'",
            "'30'",
            "null",
            "[1]",
        )
    ],
    (short("retries: 101"), ["retries: write a whole number from 0 to 100, without quotes"]),
    (short("hold: -1"), ["hold: write whole seconds from 0 to 86400, without quotes"]),
    *[
        (short(f"browsers: {value}"), ["browsers: write allow or deny"])
        for value in ("true", C, "Allow", "[allow]", "null")
    ],
    (short(f"strategy: {C}"), [f"strategy: {STRATEGY}"]),
    (short("strategy: 1"), [f"strategy: {AS_TEXT}"]),
    (short(f"username: '{C}:x'"), ["username: a user name has no colon and no control characters"]),
    (
        short(f'username: "{C}\\n"'),
        ["username: a user name has no colon and no control characters"],
    ),
    (
        short("inject: 'A: {basic}'\nusername: 1", f"[{C}, {C}2]"),
        [f"username: {AS_TEXT}"],
    ),
    (
        short(
            "inject: 'A: {basic}'",
            f"[{C}, {{secret: {C}2, username: u}}, {{secret: {C}3, username: 'a:b'}}]",
        ),
        [
            "credentials[0].username: missing: {basic} needs one here or on the pool",
            "credentials[2].username: a user name has no colon and no control characters",
        ],
    ),
]


@pytest.mark.parametrize(("name", "text", "expected"), BAD_TOPS)
def test_bad_top_levels(name: str, text: str, expected: list[str]) -> None:
    assert lines(text, name) == expected


@pytest.mark.parametrize(("text", "expected"), BAD_POOLS)
def test_bad_pools(text: str, expected: list[str]) -> None:
    assert lines(text) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("hosts: [b.example, a.example]", "hosts: [c.example, a.example]", (1, 1)),
        ("hosts: ['*.a.example']", "hosts: [x.a.example]", (0, 0)),
        ("hosts: [x.y.a.example]", "hosts: ['*.a.example']", (0, 0)),
        ("hosts: ['a.example:*']", "hosts: ['a.example:8443']", (0, 0)),
        ("hosts: [a.example], paths: [/v1/**]", "hosts: [a.example]", (0, 0)),
        (
            "hosts: [a.example], paths: [/a, /v1/**]",
            "hosts: [a.example], paths: [/b, /v1/x]",
            (0, 0),
        ),
        ("hosts: [a.example], methods: [get]", "hosts: [a.example], methods: [POST, GET]", (0, 0)),
        ("hosts: [a.example]", "hosts: [a.example, 'a.example:443']", (0, 0)),
        ("hosts: [a.example]", "hosts: ['a.example:8443']", None),
        ("hosts: [a.example]", "hosts: ['http://a.example:443']", None),
        ("hosts: ['*.a.example']", "hosts: [a.example]", None),
        ("hosts: [a.example], paths: [/v1/**]", "hosts: [a.example], paths: [/v2/**]", None),
        ("hosts: [a.example], methods: [GET]", "hosts: [a.example], methods: [POST]", None),
        (
            "hosts: [a.example, 'a.example:443', '*.a.example', b.a.example]",
            "hosts: [c.example]",
            None,
        ),
    ],
)
def test_overlapping_pools(one: str, other: str, expected: tuple[int, int] | None) -> None:
    entries = [
        f"- {{name: {n}, {rest}, credentials: [{C}]}}" for n, rest in enumerate((one, other))
    ]
    told = lines("pools:\n" + "\n".join(entries).replace("name: ", "name: p"))
    if expected:
        theirs, ours = expected
        assert told == [f"pools[1].hosts[{ours}]: overlaps with pools[0].hosts[{theirs}]; {APART}"]
    else:
        assert told == []


@pytest.mark.parametrize("wrong", ["paths: [x]", "methods: ['a b']", "paths: []"])
def test_what_was_left_out_makes_no_overlap(wrong: str) -> None:
    told = lines("pools:\n" + pool("a", rest=f"{wrong}, credentials: [{C}]") + pool("b"))
    assert len(told) == 1
    assert told[0].startswith("pools[0].")


def test_all_problems_come_at_once() -> None:
    text = (
        "pools:\n" + pool("a", "[x/y]", f"cooldown: 0, credentials: [{C}, {C}]") + pool("a", "[z]")
    )
    assert [line.partition(": ")[0] for line in lines(text)] == [
        "pools[0].hosts[0]",
        "pools[0].cooldown",
        "pools[0].credentials[1]",
        "pools[1].name",
    ]


DESIGN = f"""
pools:
  - name: openai
    hosts: [api.openai.com]                  # https, port 443
    inject: "Authorization: Bearer {{secret}}" # the default
    strategy: round-robin
    credentials:
      - {C}
      - {{id: team-b, env: OPENAI_KEY_TEAM_B}}
      - {{id: ci, file: ~/.keys/openai-ci, disabled: true}}
  - name: claude
    hosts: [api.anthropic.com, "*.claude.example", "localhost:9443", "http://127.0.0.1:9080"]
    paths: ["/v1/**"]
    methods: [post]
    inject: "x-api-key: {{secret}}"
    strip: [Authorization, "?key"]
    fail: {{401: disable, 403: disable, 429: cooldown, 500-599: ignore}}
    cooldown: 30
    retries: 2
    hold: 20
    browsers: allow
    strategy: sticky
    sticky: "header:X-Session-Id"
    cooldown_by: "json:/model"
    pin: ["/v1/files/**", "/v1/batches/**"]
    credentials: [{{id: a, secret: ant-1}}, {{id: b, secret: ant-2}}]
"""

DESIGN_TOML = f"""
[[pools]]
name = "openai"
hosts = ["api.openai.com"]
inject = "Authorization: Bearer {{secret}}"
strategy = "round-robin"
credentials = [
    "{C}",
    {{id = "team-b", env = "OPENAI_KEY_TEAM_B"}},
    {{id = "ci", file = "~/.keys/openai-ci", disabled = true}},
]

[[pools]]
name = "claude"
hosts = ["api.anthropic.com", "*.claude.example", "localhost:9443", "http://127.0.0.1:9080"]
paths = ["/v1/**"]
methods = ["post"]
inject = "x-api-key: {{secret}}"
strip = ["Authorization", "?key"]
fail = {{401 = "disable", 403 = "disable", 429 = "cooldown", 500-599 = "ignore"}}
cooldown = 30
retries = 2
hold = 20
browsers = "allow"
strategy = "sticky"
sticky = "header:X-Session-Id"
cooldown_by = "json:/model"
pin = ["/v1/files/**", "/v1/batches/**"]
[[pools.credentials]]
id = "a"
secret = "ant-1"
[[pools.credentials]]
id = "b"
secret = "ant-2"
"""

DESIGN_JSON = json.dumps(
    {
        "pools": [
            {
                "name": "openai",
                "hosts": ["api.openai.com"],
                "inject": "Authorization: Bearer {secret}",
                "strategy": "round-robin",
                "credentials": [
                    C,
                    {"id": "team-b", "env": "OPENAI_KEY_TEAM_B"},
                    {"id": "ci", "file": "~/.keys/openai-ci", "disabled": True},
                ],
            },
            {
                "name": "claude",
                "hosts": [
                    "api.anthropic.com",
                    "*.claude.example",
                    "localhost:9443",
                    "http://127.0.0.1:9080",
                ],
                "paths": ["/v1/**"],
                "methods": ["post"],
                "inject": "x-api-key: {secret}",
                "strip": ["Authorization", "?key"],
                "fail": {
                    "401": "disable",
                    "403": "disable",
                    "429": "cooldown",
                    "500-599": "ignore",
                },
                "cooldown": 30,
                "retries": 2,
                "hold": 20,
                "browsers": "allow",
                "strategy": "sticky",
                "sticky": "header:X-Session-Id",
                "cooldown_by": "json:/model",
                "pin": ["/v1/files/**", "/v1/batches/**"],
                "credentials": [{"id": "a", "secret": "ant-1"}, {"id": "b", "secret": "ant-2"}],
            },
        ]
    }
)

OPENAI = PoolSpec(
    name="openai",
    hosts=(HostRule(True, "api.openai.com", False, 443),),
    paths=(),
    methods=(),
    inject=Inject("header", "Authorization", "Bearer {secret}"),
    strip=DEFAULT_STRIP,
    fail=None,
    cooldown=None,
    retries=None,
    hold=None,
    browsers=False,
    strategy="round-robin",
    sticky=None,
    cooldown_by=None,
    pin=(),
    credentials=(
        CredentialSpec(
            "openai-1",
            "openai",
            Source("secret", Secret(C, "")),
            None,
            False,
            "pools[0].credentials[0]",
        ),
        CredentialSpec(
            "team-b",
            "openai",
            Source("env", "OPENAI_KEY_TEAM_B"),
            None,
            False,
            "pools[0].credentials[1]",
        ),
        CredentialSpec(
            "ci",
            "openai",
            Source("file", "~/.keys/openai-ci"),
            None,
            True,
            "pools[0].credentials[2]",
        ),
    ),
    place="pools[0]",
)
CLAUDE = PoolSpec(
    name="claude",
    hosts=(
        HostRule(True, "api.anthropic.com", False, 443),
        HostRule(True, "claude.example", True, 443),
        HostRule(True, "localhost", False, 9443),
        HostRule(False, "127.0.0.1", False, 9080),
    ),
    paths=(PathRule("/v1/**"),),
    methods=("POST",),
    inject=Inject("header", "x-api-key", "{secret}"),
    strip=("authorization", "?key"),
    fail=(
        (401, 401, "disable"),
        (403, 403, "disable"),
        (429, 429, "cooldown"),
        (500, 599, "ignore"),
    ),
    cooldown=30,
    retries=2,
    hold=20,
    browsers=True,
    strategy="sticky",
    sticky=RequestKey("header", "x-session-id"),
    cooldown_by=RequestKey("json", "/model"),
    pin=(PathRule("/v1/files/**"), PathRule("/v1/batches/**")),
    credentials=(
        CredentialSpec(
            "a",
            "claude",
            Source("secret", Secret("ant-1", "")),
            None,
            False,
            "pools[1].credentials[0]",
        ),
        CredentialSpec(
            "b",
            "claude",
            Source("secret", Secret("ant-2", "")),
            None,
            False,
            "pools[1].credentials[1]",
        ),
    ),
    place="pools[1]",
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.yaml", DESIGN),
        ("s.YML", "\ufeff" + DESIGN),
        ("s.yaml", DESIGN.replace("\n", "\r\n")),
        ("s.yaml", DESIGN_JSON),
        ("s.json", DESIGN_JSON),
        ("s.toml", DESIGN_TOML),
    ],
)
def test_the_designs_example(name: str, text: str) -> None:
    assert read(text, name) == Config((OPENAI, CLAUDE), ())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.yaml", f"hosts: [api.openai.com]\ncredentials: [{C}]"),
        ("s.json", f'{{"hosts": ["api.openai.com"], "credentials": [{{"secret": "{C}"}}]}}'),
        ("s.toml", f'hosts = ["api.openai.com"]\ncredentials = ["{C}"]'),
    ],
)
def test_the_short_form_is_one_pool(name: str, text: str) -> None:
    credential = CredentialSpec(
        "default-1", "default", Source("secret", Secret(C, "")), None, False, "credentials[0]"
    )
    assert read(text, name).pools == (
        replace(OPENAI, name="default", credentials=(credential,), place=""),
    )


def test_every_inline_secret_has_its_credentials_alias() -> None:
    for pool_spec in read(DESIGN).pools:
        for credential in pool_spec.credentials:
            assert isinstance(credential.source, Source)
            if isinstance(credential.source.value, Secret):
                assert credential.source.value.alias == credential.alias
    assert OPENAI.credentials[1].alias == "[rotate:openai/team-b]"


@pytest.mark.parametrize(
    "credential", [f"{{secret: {C}, username: {C}u}}", "{env: CANARY}", "{file: canary}"]
)
def test_no_repr_tells_where_a_secret_is_or_whose(credential: str) -> None:
    assert not read(short("", f"[{credential}]")).problems


def test_a_credentials_username_wins() -> None:
    text = short(
        "inject: 'Authorization: Basic {basic}'\nusername: all",
        f"[{C}, {{secret: ü ü, username: one}}]",
    )
    config = read(text)
    assert not config.problems
    assert [c.username for c in config.pools[0].credentials] == ["all", "one"]


@pytest.mark.parametrize(
    ("text", "strip"),
    [
        ("strip: []", ()),
        ("strip: [Cookie, '?a.b']", ("cookie", "?a.b")),
        ("browsers: deny", DEFAULT_STRIP),
    ],
)
def test_strip(text: str, strip: tuple[str, ...]) -> None:
    config = read(short(text))
    assert (config.problems, config.pools[0].strip, config.pools[0].browsers) == ((), strip, False)


SPACED = "sk canary 5f2a"
"""No name and no host, so that nothing may show it; but a user name, or a file's."""

TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.just(SPACED),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*sorted(KNOWN_KEYS), C]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(TREES)
def test_no_tree_makes_it_stumble_or_tell(tree: object) -> None:
    config = read(json.dumps(tree), "s.json")
    assert config.pools or config.problems


def test_many_pools_are_compared_in_good_time() -> None:
    pools = [
        {"name": f"p{n}", "hosts": [f"h{n}.d{n}.example"], "credentials": ["k"]}
        for n in range(12_000)
    ]
    assert not read(json.dumps({"pools": pools}, separators=(",", ":")), "s.json").problems


# --- inject


@pytest.mark.parametrize(
    ("text", "secret", "rendered", "shown"),
    [
        ("Authorization: Bearer {secret}", "s3", "Bearer s3", "Bearer [rotate:p/a]"),
        ("x-api-key:{secret}", "{basic}", "{basic}", "[rotate:p/a]"),
        ("Cookie:  session={secret}; a=b ", "s3", "session=s3; a=b", "session=[rotate:p/a]; a=b"),
        ("Authorization: Basic {basic}", "ä:b", "Basic dXNlcjrDpDpi", "Basic [rotate:p/a]"),
        ("?key={secret}", "a/b c&ü", "a%2Fb%20c%26%C3%BC", "%5Brotate:p/a%5D"),
    ],
)
def test_inject(text: str, secret: str, rendered: str, shown: str) -> None:
    inject = parse_inject(text)
    assert inject.render(secret, "user") == rendered
    assert inject.show("[rotate:p/a]") == shown
    assert inject.needs_username is ("{basic}" in text)


def test_basic_without_a_username_is_not_sent() -> None:
    with pytest.raises(ValueError, match="needs a username"):
        parse_inject("A: {basic}").render("s3", None)


BASIC = parse_inject("A: {basic}")
QUERY = parse_inject("?a={secret}")


@pytest.mark.parametrize(
    ("secret", "inject", "alias", "expected"),
    [
        ("s3!~", DEFAULT_INJECT, "", None),
        ("ü ü", BASIC, "", None),
        ("ü ü", QUERY, "", None),
        ("ü", DEFAULT_INJECT, "", VISIBLE),
        ("a b", DEFAULT_INJECT, "", VISIBLE),
        ("", BASIC, "", "the secret is empty"),
        ("a\tb", BASIC, "", CONTROL),
        ("a\x85b", QUERY, "", CONTROL),
        ("a\u2028b", QUERY, "", CONTROL),
        ("a\ud800", BASIC, "", CONTROL),
        ("a\xa0", BASIC, "", "the secret begins or ends with a space: remove it"),
        ("abcd", BASIC, "[rotate:p/abcde]", READ_IN_NAME),
        ("abcd", BASIC, "[rotate:abcd/x]", READ_IN_NAME),
        ("abc", BASIC, "[rotate:p/abc]", None),
        ("abcd", BASIC, "[rotate:p/abc]", None),
    ],
)
def test_check_secret(secret: str, inject: Inject, alias: str, expected: str | None) -> None:
    assert check_secret(secret, inject, alias) == expected


# --- fail


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("401=disable,429=cooldown", ((401, 401, "disable"), (429, 429, "cooldown"))),
        (" 500-599 = ignore , 401=disable", ((401, 401, "disable"), (500, 599, "ignore"))),
        ("400-599=cooldown", ((400, 599, "cooldown"),)),
        ("", ()),
    ],
)
def test_fail_option(text: str, expected: tuple[tuple[int, int, str], ...]) -> None:
    assert parse_fail_option(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (C, f"entry 1: {STATUS}"),
        ("401", f"entry 1: {ACTION}"),
        ("401=disable,", f"entry 2: {STATUS}"),
        (f"401=disable,429={C}", f"entry 2: {ACTION}"),
        ("399-401=disable", f"entry 1: {STATUS}"),
        ("599-600=disable", f"entry 1: {STATUS}"),
        ("450-440=disable", f"entry 1: {STATUS}"),
        ("４０１=disable", f"entry 1: {STATUS}"),
        ("401=disable,400-450=ignore", "entry 2: overlaps with entry 1: write each status once"),
        ("x=disable,401=y", f"entry 1: {STATUS}; entry 2: {ACTION}"),
    ],
)
def test_bad_fail_option(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_fail_option(text)


def test_fail_rules_take_numbers_and_texts() -> None:
    assert parse_fail_rules([(429, "cooldown"), ("401-403", "disable")]) == (
        ((401, 403, "disable"), (429, 429, "cooldown")),
        (),
    )


def test_no_status_does_anything() -> None:
    (pool,) = read(short("fail: {}")).pools
    assert pool.fail == ()
