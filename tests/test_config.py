"""The secrets file: good ones in three formats, and bad ones, each with its exact lines."""

import json
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrotate.config import (
    Config,
    ConfigError,
    CredentialSpec,
    Inject,
    PoolSpec,
    Source,
    check_secret,
    parse,
    parse_fail_option,
    parse_fail_rules,
)
from flowrotate.hosts import HostRule
from flowrotate.inject import DEFAULT_INJECT, parse_inject
from flowrotate.paths import PathRule
from flowrotate.secret import Secret

C = "sk-canary-5f2a"
"""In every file below, wherever a value can sit: no message and no repr may show it."""

DEFAULT_STRIP = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


def read(text: str | bytes, name: str = "s.yaml") -> Config:
    """Parse, with the check that belongs to every file: nothing shows the canary."""
    config = parse(text if isinstance(text, bytes) else text.encode(), name)
    shown = f"{ConfigError(name, config.problems)} {config!r} {config.problems!r}"
    assert "canary" not in shown.lower()
    return config


def lines(text: str | bytes, name: str = "s.yaml") -> list[str]:
    config = read(text, name)
    said = str(ConfigError(name, config.problems)).splitlines()
    assert all(line.startswith(f"{name}: ") for line in said)
    return [line.removeprefix(f"{name}: ") for line in said]


def pool(name: str = "p", hosts: str = "[a.example]", rest: str = f"credentials: [{C}]") -> str:
    return f"- {{name: {name}, hosts: {hosts}, {rest}}}\n"


def short(rest: str, credentials: str = f"[{C}]") -> str:
    """The short form, with one line of its own: `rest` is at line 3."""
    return f"hosts: [a.example]\ncredentials: {credentials}\n{rest}\n"


def unknown(number: int) -> str:
    return f"unknown key, number {number} here (not shown, it may be a secret); known keys: "


POOL_KEYS = (
    "name, hosts, paths, methods, inject, strip, fail, cooldown, retries, hold, browsers, "
    "strategy, username, credentials"
)
CREDENTIAL_KEYS = "id, secret, env, file, username, disabled"
LATER = "not yet supported by this version"
NO_POOLS = "no pools: write the key 'pools', or 'hosts' and 'credentials'"
AS_TEXT = "must be text: write it in quotes"
EMPTY_TEXT = "empty: write a text"
NAME = "write 1 to 64 letters, digits, dots, - and _ only"
YAML = "not valid YAML here: check the indentation, and quote values with signs such as : { @ #"
JSON = "not valid JSON here: check the commas, quotes and brackets before it"
TOML = "not valid TOML here: check the quotes, brackets and = before it"
ALIAS = "a value that begins with * or & needs quotes; anchors and aliases are not used here"
TWICE = "is written twice in one mapping: keep one"
BRACES = "only {secret} or {basic} may stand in braces: did you mean {secret}?"
STATUS = "write a status from 400 to 599, or a range such as 500-599"
ACTION = "write disable, cooldown or ignore as the action"
HEADER = "not a header name: write letters, digits and - only"
RESERVED = "this header belongs to the connection: choose another"
SECONDS = "write whole seconds from 1 to 86400, without quotes"
CONTROL = "the secret has a control character (a line end or tab?): remove it"
VISIBLE = "a header takes a secret of visible ASCII only: other words belong in 'inject'"
READ_IN_NAME = "the secret can be read in its id or pool name, which are shown: rename them"
APART = "give each pool hosts, paths or methods of its own"

BAD_DOCUMENTS: list[tuple[str, str | bytes, list[str]]] = [
    ("s.ini", f"key={C}", ["only .yaml, .yml, .json and .toml files are read: rename it"]),
    (C[:2], f"key={C}", ["only .yaml, .yml, .json and .toml files are read: rename it"]),
    ("s.yaml", b"x" * (1024 * 1024 + 1), ["larger than 1 MiB: this is no secrets file"]),
    ("s.yaml", "", ["the file is empty"]),
    ("s.yml", " \n", ["the file is empty"]),
    ("s.yaml", f"# {C}\n", ["the file is empty"]),
    ("s.toml", f"# {C}\n", ["the file is empty"]),
    ("s.json", "\ufeff", ["the file is empty"]),
    ("s.yaml", f"{C}\0", ["a binary file, or not saved as UTF-8: save it as UTF-8 text"]),
    (
        "s.yaml",
        f"a: {C}".encode("utf-16"),
        ["a binary file, or not saved as UTF-8: save it as UTF-8 text"],
    ),
    (
        "s.yaml",
        f"# ok\na: {C}".encode() + b"\xff",
        ["line 2, column 18: not UTF-8: save the file as UTF-8 text"],
    ),
    ("s.yaml", f"a: {C}\nb: {C}\x1b", ["line 2, column 18: a control character: remove it"]),
    ("s.json", f'{{"a": "{C}\x7f"}}', ["line 1, column 22: a control character: remove it"]),
    # Syntax: the parsers quote what they stumble over, we must not.
    ("s.yaml", f"a: {C}: {C}", [f"line 1, column 18: {YAML}"]),
    ("s.yaml", f"inject: Authorization: {C}", [f"line 1, column 22: {YAML}"]),
    ("s.yaml", f"a: @{C}", [f"line 1, column 4: {YAML}"]),
    ("s.yaml", f'a: "\\{C}"', [f"line 1, column 6: {YAML}"]),
    ("s.yaml", f"a: '{C}", [f"line 1, column 19: {YAML}"]),
    ("s.yaml", f"a: {{{C}", [f"line 1, column 19: {YAML}"]),
    ("s.yaml", f"hosts:\n\t- {C}", ["line 2, column 1: a tab: YAML is indented with spaces"]),
    ("s.yaml", "hosts: [*.canary.example]", [f"line 1, column 9: {ALIAS}"]),
    ("s.yaml", f"a: *{C}", [f"line 1, column 4: {ALIAS}"]),
    ("s.yaml", "a: * canary", [f"line 1, column 5: {ALIAS}"]),
    ("s.yaml", f"a: &x {C}\nb: *x", [f"line 1, column 4: {ALIAS}"]),
    ("s.yaml", "a: &x [*x]", [f"line 1, column 4: {ALIAS}"]),
    ("s.yaml", f"<<: {{a: {C}}}", [f"line 1, column 1: {ALIAS}"]),
    (
        "s.yaml",
        f"a: !!python/name:{C} {{}}",
        ["line 1, column 4: a tag (!): remove it, tags are not used here"],
    ),
    ("s.yaml", f"? [{C}]\n: {C}", ["line 1, column 3: a key that is not text: write it in quotes"]),
    (
        "s.yaml",
        f"a: {C}\n---\nb: {C}",
        ["line 2, column 1: a second document begins here: write one only, without ---"],
    ),
    ("s.yaml", f"hosts: [{C}]\nhosts: [{C}]", [f"line 2, column 1: the key 'hosts' {TWICE}"]),
    ("s.yaml", f"{C}: 1\n{C}: 2", [f"line 2, column 1: a key {TWICE}"]),
    ("s.yaml", "[" * 200_000, ["nested too deeply: a secrets file needs four levels"]),
    ("s.yaml", f"[{C}, " * 5000, ["nested too deeply: a secrets file needs four levels"]),
    ("s.yaml", "- " * 5000 + C, ["nested too deeply: a secrets file needs four levels"]),
    ("s.yaml", "[\n" * 5000 + C, ["nested too deeply: a secrets file needs four levels"]),
    ("s.json", f'{{"a": "{C}" "b": 1}}', [f"line 1, column 24: {JSON}"]),
    ("s.json", f'{{\n"a": {C}}}', [f"line 2, column 6: {JSON}"]),
    ("s.json", f'{{"a": "\\{C}"}}', [f"line 1, column 8: {JSON}"]),
    ("s.json", f'{{"hosts": ["{C}"], "hosts": []}}', [f"the key 'hosts' {TWICE}"]),
    ("s.json", f'{{"{C}": 1, "{C}": 2}}', [f"a key {TWICE}"]),
    (
        "s.json",
        f'{{"a": NaN, "b": "{C}"}}',
        ["not valid JSON: NaN and Infinity are no JSON numbers"],
    ),
    (
        "s.json",
        f'["{C}", {"1" * 5000}]',
        ["a number is too long: write it in quotes, if it is text"],
    ),
    ("s.json", "[" * 200_000, ["nested too deeply: a secrets file needs four levels"]),
    ("s.toml", f"a = {C}", [f"line 1, column 5: {TOML}"]),
    ("s.toml", f'a = "{C}', [f"line 1, column 20: {TOML}"]),
    ("s.toml", f'a = "\\{C}"\n', [f"line 1, column 8: {TOML}"]),
    ("s.toml", f'a = "{C}"\na = "{C}"\n', [f"line 2, column 21: a key or table {TWICE}"]),
    ("s.toml", f'["{C}"]\n["{C}"]\n', [f"line 2, column 18: a key or table {TWICE}"]),
    ("s.toml", f'x = {{"{C}" = 1, "{C}" = 2}}', [f"line 1, column 48: a key or table {TWICE}"]),
    (
        "s.toml",
        f"a = 1\n# {C}\nb = {'1' * 5000}",
        ["a number or date is out of range: write it in quotes"],
    ),
    (
        "s.toml",
        f"# {C}\na = " + "[" * 5000,
        ["nested too deeply: a secrets file needs four levels"],
    ),
    # Not a mapping.
    ("s.yaml", C, ["write a mapping with the key 'pools' at the top"]),
    ("s.yaml", f"- {C}", ["write a mapping with the key 'pools' at the top"]),
    ("s.json", "null", ["write a mapping with the key 'pools' at the top"]),
    (
        "s.json",
        f'[{{"clientId": "{C}", "clientSecret": "{C}", "tenant": "{C}"}}]',
        [f"the older plugin's file (a list with clientId and clientSecret) is {LATER}"],
    ),
]

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
        [f"pools[0].pin: {LATER}"],
    ),
    (
        "s.json",
        json.dumps(
            {"pools": [{"name": "p", "hosts": ["a.example"], "credentials": [C, {"id": 1}]}]}
        ),
        [
            f"pools[0].credentials[1].id: {AS_TEXT}",
            "pools[0].credentials[1]: no secret: write one of secret, env and file",
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
    *[(short(f"{key}: {C}"), [f"{key}: {LATER}"]) for key in ("sticky", "cooldown_by", "pin")],
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
    (short("fail: {}"), ["fail: write a mapping such as {401: disable, 429: cooldown}"]),
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
    *[
        (short(f"strategy: {value}"), [f"strategy: this strategy is {LATER}: write round-robin"])
        for value in ("fill-first", "least-busy", "random", "sticky")
    ],
    (short(f"strategy: {C}"), ["strategy: unknown strategy: write round-robin"]),
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

BAD_CREDENTIALS: list[tuple[str, list[str]]] = [
    (f"{{a: {C}}}", ["credentials: write a list, in [ ]"]),
    (C, ["credentials: write a list, in [ ]"]),
    ("[]", ["credentials: empty: write at least one credential"]),
    ("[1]", ["credentials[0]: write the secret in quotes, or a mapping such as {env: NAME}"]),
    (
        "[2026-01-01]",
        ["credentials[0]: write the secret in quotes, or a mapping such as {env: NAME}"],
    ),
    ("[null]", ["credentials[0]: write the secret in quotes, or a mapping such as {env: NAME}"]),
    (f"[[{C}]]", ["credentials[0]: write the secret in quotes, or a mapping such as {env: NAME}"]),
    ("['']", ["credentials[0]: the secret is empty"]),
    ("[{secret: ''}]", ["credentials[0]: the secret is empty"]),
    ("[{secret: 123}]", [f"credentials[0].secret: {AS_TEXT}"]),
    ("[{secret: 1.5}]", [f"credentials[0].secret: {AS_TEXT}"]),
    (f"[{{secret: !x {C}}}]", [f"credentials[0].secret: {AS_TEXT}"]),
    (
        "[{secret: null}]",
        ["credentials[0].secret: empty: write a text, in quotes if it is ~ or null"],
    ),
    (f'["{C}\\n"]', [f"credentials[0]: {CONTROL}"]),
    (f'["{C}\\x00"]', [f"credentials[0]: {CONTROL}"]),
    (f"[' {C}']", ["credentials[0]: the secret begins or ends with a space: remove it"]),
    (f"['{C} ']", ["credentials[0]: the secret begins or ends with a space: remove it"]),
    (f"['Bearer {C}']", [f"credentials[0]: {VISIBLE}"]),
    (f"['{C}ü']", [f"credentials[0]: {VISIBLE}"]),
    (f"[{{evn: {C}}}]", ["credentials[0]: unknown key 'evn': did you mean 'env'?"]),
    (f"[{{id: a, key: {C}}}]", [f"credentials[0]: {unknown(2)}{CREDENTIAL_KEYS}"]),
    ("[$OPENAI_KEY]", ["credentials[0]: this names an environment variable: write {env: NAME}"]),
    ('["${key}"]', ["credentials[0]: this names an environment variable: write {env: NAME}"]),
    ("['env:KEY']", ["credentials[0]: this names an environment variable: write {env: NAME}"]),
    (
        "[sk-put-your-first-key-here]",
        ["credentials[0]: this is the example's text: put your own secret in"],
    ),
    ("[{}]", ["credentials[0]: no secret: write one of secret, env and file"]),
    (
        f"[{{id: a, env: A, secret: {C}}}]",
        ["credentials[0]: write only one of secret, env and file"],
    ),
    (f"[{{env: A, file: {C}}}]", ["credentials[0]: write only one of secret, env and file"]),
    (
        f"[{{env: {C}}}]",
        ["credentials[0].env: write the variable's name alone: letters, digits and _, without $"],
    ),
    ("[{env: ''}]", [f"credentials[0].env: {EMPTY_TEXT}"]),
    ("[{env: 1}]", [f"credentials[0].env: {AS_TEXT}"]),
    ("[{file: 1}]", [f"credentials[0].file: {AS_TEXT}"]),
    (f'[{{file: "{C}\\n"}}]', ["credentials[0].file: a path has no control characters"]),
    ("[{file: ~}]", ["credentials[0].file: empty: write a text, in quotes if it is ~ or null"]),
    (f"[{{secret: {C}, id: '{C} x'}}]", [f"credentials[0].id: {NAME}"]),
    (
        f"[{{secret: {C}, disabled: 'yes'}}]",
        ["credentials[0].disabled: write true or false, without quotes"],
    ),
    (
        f"[{{secret: {C}, disabled: 1}}]",
        ["credentials[0].disabled: write true or false, without quotes"],
    ),
    (
        f"[{{secret: {C}, disabeld: true}}]",
        ["credentials[0]: unknown key 'disabeld': did you mean 'disabled'?"],
    ),
    (f"[{{secret: {C}, {C}: true}}]", [f"credentials[0]: {unknown(2)}{CREDENTIAL_KEYS}"]),
    (f"[{{secret: {C}, token: {C}}}]", [f"credentials[0]: {unknown(2)}{CREDENTIAL_KEYS}"]),
    *[
        (f"[{{{key}: {C}}}]", [f"credentials[0].{key}: {LATER}"])
        for key in ("command", "keyring", "jwt", "oauth2")
    ],
    *[
        (f"[{{secret: {C}, {key}: {C}}}]", [f"credentials[0].{key}: {LATER}"])
        for key in ("weight", "priority", "rpm", "max_in_flight", "headers")
    ],
    (f"[{C}, {{env: A}}, {C}]", ["credentials[2]: same secret as credentials[0]: remove one"]),
    (
        f"[{{id: a, env: A}}, {{id: a, secret: {C}}}]",
        ["credentials[1]: same id as credentials[0]: give it another"],
    ),
    (
        f"[{{id: default-2, env: A}}, {C}]",
        ["credentials[1]: same id as credentials[0]: give it another"],
    ),
    ("[{id: wxyz-1, secret: wxyz}]", [f"credentials[0]: {READ_IN_NAME}"]),
    ("[{id: wxyz, secret: wxyz}]", [f"credentials[0]: {READ_IN_NAME}"]),
    ("[defa]", [f"credentials[0]: {READ_IN_NAME}"]),
    (
        f"[{{env: {C}}}, 1, {{id: '', secret: {C}, wieght: 2}}]",
        [
            "credentials[0].env: write the variable's name alone: letters, digits and _, without $",
            "credentials[1]: write the secret in quotes, or a mapping such as {env: NAME}",
            "credentials[2]: unknown key 'wieght': did you mean 'weight'?",
            f"credentials[2].id: {EMPTY_TEXT}",
        ],
    ),
]


@pytest.mark.parametrize(("name", "text", "expected"), BAD_DOCUMENTS)
def test_files_that_cannot_be_read(name: str, text: str | bytes, expected: list[str]) -> None:
    assert lines(text, name) == expected
    assert read(text, name).pools == ()


def test_deep_nesting_is_refused_at_once() -> None:
    start = time.process_time()
    assert read("[" * 200_000).problems
    assert time.process_time() - start < 1  # ruamel.yaml itself takes twenty


@pytest.mark.parametrize(("name", "text", "expected"), BAD_TOPS)
def test_bad_top_levels(name: str, text: str, expected: list[str]) -> None:
    assert lines(text, name) == expected


@pytest.mark.parametrize(("text", "expected"), BAD_POOLS)
def test_bad_pools(text: str, expected: list[str]) -> None:
    assert lines(text) == expected


@pytest.mark.parametrize(("credentials", "expected"), BAD_CREDENTIALS)
def test_bad_credentials(credentials: str, expected: list[str]) -> None:
    assert lines(f"hosts: [a.example]\ncredentials: {credentials}\n") == expected


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


@pytest.mark.parametrize(
    "secret",
    [
        "yes",
        "on",
        "0o17x",
        "1e",
        "sk-1_000",
        "a:b",
        "a#b",
        "'1234'",
        "'1.5'",
        '"null"',
        "!!str 12",
    ],
)
def test_plain_yaml_words_are_text(secret: str) -> None:
    config = read(short("", f"[{secret}]"))
    assert not config.problems


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(str.encode),
    st.sampled_from([".yaml", ".json", ".toml"]),
)
def test_no_bytes_make_it_stumble(text: bytes, suffix: str) -> None:
    config = parse(text, "s" + suffix)
    assert config.pools or config.problems


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
            st.sampled_from(["pools", *POOL_KEYS.split(", "), *CREDENTIAL_KEYS.split(", "), C]),
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
