"""The entries of `credentials`: good ones, and bad ones, each with its exact lines."""

from itertools import product

import pytest

from flowrotate.config.spec import CredentialSpec, JwtSpec, OAuth2Spec, Source
from flowrotate.secret import Secret

from .parsing import (
    AS_TEXT,
    CONTROL,
    CREDENTIAL_KEYS,
    EMPTY_TEXT,
    HEADER,
    NAME,
    READ_IN_NAME,
    RESERVED,
    VISIBLE,
    C,
    lines,
    read,
    short,
    unknown,
)

KINDS = "secret, env, file, command, keyring, jwt and oauth2"
QUOTES = "unbalanced quotes: close each ' and \", and write \\\\ for a \\ that is meant"
ENTRY = "write service/username, as the keyring has them"
WEIGHT = "write a whole number from 1 to 100, without quotes"
POOLS_OWN = "the pool's inject or strip has this header: choose another"
VALUE = "write visible ASCII only, and spaces only within it"
URL = "write https://HOST/PATH, or http:// for this machine only (localhost, 127.0.0.1, [::1])"
CLAIM = (
    "a claim is text, a whole number, true, false, a list or a mapping: "
    "write any other value in quotes"
)
REFERENCE = "this names an environment variable: write {env: NAME}"
OR_MAPPING = "write the secret in quotes, or a mapping such as {env: NAME}"
ALGORITHM = "write HS256, HS384, HS512, RS256 or ES256"
SCOPE = 'write scopes of visible ASCII without " and \\, one space between them'
JWT_KEYS = "algorithm, key, claims, ttl"
OAUTH2_KEYS = "token_url, client_id, client_secret, scope, grant, refresh_token"

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
    ("[{}]", [f"credentials[0]: no secret: write one of {KINDS}"]),
    (
        f"[{{id: a, env: A, secret: {C}}}]",
        [f"credentials[0]: write only one of {KINDS}"],
    ),
    (f"[{{env: A, file: {C}}}]", [f"credentials[0]: write only one of {KINDS}"]),
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
        (f"[{{command: {text}}}]", [f"credentials[0].command: {message}"])
        for text, message in (
            ("1", AS_TEXT),
            ("[op, read]", "must be one text: a value with [ or { in it needs quotes"),
            ("''", EMPTY_TEXT),
            ("' '", "empty: write a program and its arguments"),
            ("'\"\" x'", "empty: write a program and its arguments"),
            (f"'pass \"{C}'", QUOTES),
            (f"pass {C}\\", QUOTES),
            (f'"pass\\n{C}"', "a command has no control characters: write it on one line"),
        )
    ],
    *[
        (f"[{{keyring: {text}}}]", [f"credentials[0].keyring: {message}"])
        for text, message in (
            ("1", AS_TEXT),
            (C, ENTRY),
            (f"/{C}", ENTRY),
            (f"{C}/", ENTRY),
            (f'"{C}/\\n"', ENTRY),
        )
    ],
    *[
        (f"[{{secret: {C}, weight: {value}}}]", [f"credentials[0].weight: {WEIGHT}"])
        for value in ("0", "101", "1.5", "true", "'2'", C, "null")
    ],
    (
        f"[{{secret: {C}, priority: -1}}]",
        ["credentials[0].priority: write a whole number from 0 to 100, without quotes"],
    ),
    (
        f"[{{secret: {C}, priority: 101, rpm: 0, max_in_flight: 0}}]",
        [
            "credentials[0].priority: write a whole number from 0 to 100, without quotes",
            "credentials[0].rpm: write requests per minute from 1 to 100000, without quotes",
            "credentials[0].max_in_flight: write a whole number from 1 to 100000, without quotes",
        ],
    ),
    *[
        (f"[{{secret: {C}, headers: {value}}}]", [f"credentials[0].headers: {message}"])
        for value, message in (
            (C, "write a mapping such as {OpenAI-Organization: org-1}"),
            ("{}", "write a mapping such as {OpenAI-Organization: org-1}"),
            ("[a]", "write a mapping such as {OpenAI-Organization: org-1}"),
            (f"{{'{C} x': a}}", f"entry 1: {HEADER}"),
            (f"{{1: {C}}}", f"entry 1: {AS_TEXT}"),
            (f"{{A: {C}, Host: {C}}}", f"entry 2: {RESERVED}"),
            (f"{{a: {C}, A: {C}}}", "entry 2: this header is written twice: keep one"),
            (f"{{authorization: {C}}}", f"entry 1: {POOLS_OWN}"),
            (f"{{X-Api-Key: {C}}}", f"entry 1: {POOLS_OWN}"),
            ("{A: 1}", f"entry 1: {AS_TEXT}"),
            ("{A: ''}", f"entry 1: {EMPTY_TEXT}"),
            (f"{{A: '{C} '}}", f"entry 1: {VALUE}"),
            (f"{{A: '{C}ü'}}", f"entry 1: {VALUE}"),
            (f'{{A: "{C}\\r\\nB: c"}}', f"entry 1: {VALUE}"),
        )
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


@pytest.mark.parametrize(("credentials", "expected"), BAD_CREDENTIALS)
def test_bad_credentials(credentials: str, expected: list[str]) -> None:
    assert lines(f"hosts: [a.example]\ncredentials: {credentials}\n") == expected


def in_strip(credentials: str) -> str:
    return short("strip: [X-Old]\ninject: 'X-Auth: {secret}'", credentials)


@pytest.mark.parametrize(
    ("name", "message"),
    [("x-auth", POOLS_OWN), ("x-old", POOLS_OWN), ("Authorization", None)],
)
def test_headers_are_not_those_of_the_pool(name: str, message: str | None) -> None:
    told = lines(in_strip(f"[{{secret: {C}, headers: {{{name}: a}}}}]"))
    assert told == ([f"credentials[0].headers: entry 1: {message}"] if message else [])


def one(credential: str) -> CredentialSpec:
    config = read(short("", f"[{credential}]"))
    assert not config.problems
    return config.pools[0].credentials[0]


def source(kind: str, value: str) -> Source:
    assert kind in ("env", "file", "command", "keyring")
    return Source(kind, value)  # type: ignore[arg-type]  # asserted above


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("command", "op read op://dev/openai/key"),
        ("command", "gpg -d 'my key.gpg' # no comment"),
        ("keyring", "openai/spare"),
        ("keyring", "https://pypi.example/simple/me"),
    ],
)
def test_sources_by_name(kind: str, value: str) -> None:
    assert one(f'{{{kind}: "{value}"}}').source == source(kind, value)


def test_terms() -> None:
    assert one(f"{{id: a, secret: {C}}}") == CredentialSpec(
        "a", "default", Source("secret", Secret(C, "")), None, False, "credentials[0]"
    )
    text = (
        f"{{id: a, secret: {C}, weight: 100, priority: 100, rpm: 100000, max_in_flight: 1, "
        "headers: {OpenAI-Organization: org-1, X-Team: a b}}"
    )
    assert one(text) == CredentialSpec(
        "a",
        "default",
        Source("secret", Secret(C, "")),
        None,
        False,
        "credentials[0]",
        weight=100,
        priority=100,
        rpm=100_000,
        max_in_flight=1,
        headers=(("OpenAI-Organization", "org-1"), ("X-Team", "a b")),
    )


BAD_JWTS: list[tuple[str, list[str]]] = [
    (C, [": write a mapping with algorithm, key and claims"]),
    ("{}", [": write a mapping with algorithm, key and claims"]),
    (f"[{C}]", [": write a mapping with algorithm, key and claims"]),
    (
        f"{{claims: {{a: {C}}}}}",
        [
            f".algorithm: missing: {ALGORITHM}",
            ".key: missing: write the key to sign with, or where it is: {env: NAME}",
        ],
    ),
    (f"{{algorithm: none, key: {C}}}", [f".algorithm: {ALGORITHM}"]),
    (f"{{algorithm: hs256, key: {C}}}", [f".algorithm: {ALGORITHM}"]),
    ("{algorithm: HS256, key: 1}", [f".key: {OR_MAPPING}"]),
    (f"{{algorithm: HS256, key: [{C}]}}", [f".key: {OR_MAPPING}"]),
    ("{algorithm: HS256, key: ''}", [".key: the secret is empty"]),
    ("{algorithm: HS256, key: ' '}", [".key: the secret is empty"]),
    ("{algorithm: HS256, key: $KEY}", [f".key: {REFERENCE}"]),
    ("{algorithm: HS256, key: {secret: $KEY}}", [f".key: {REFERENCE}"]),
    ("{algorithm: HS256, key: default-1}", [f".key: {READ_IN_NAME}"]),
    (
        "{algorithm: HS256, key: sk-put-your-first-key-here}",
        [".key: this is the example's text: put your own secret in"],
    ),
    (
        "{algorithm: HS256, key: {}}",
        [".key: no secret: write one of secret, env, file, command and keyring"],
    ),
    (
        f"{{algorithm: HS256, key: {{env: A, secret: {C}}}}}",
        [".key: write only one of secret, env, file, command and keyring"],
    ),
    (
        f"{{algorithm: HS256, key: {{jwt: {C}}}}}",
        [f".key: {unknown(1)}secret, env, file, command, keyring"],
    ),
    (
        f"{{algorithm: HS256, key: {{command: '{C} \"'}}}}",
        [f".key.command: {QUOTES}"],
    ),
    (
        f"{{algorithm: HS256, key: {C}, exp: {C}}}",
        [f": {unknown(3)}{JWT_KEYS}"],
    ),
    (
        f"{{algorithm: HS256, key: {C}, claim: {{}}}}",
        [": unknown key 'claim': did you mean 'claims'?"],
    ),
    *[
        (
            f"{{algorithm: HS256, key: {C}, ttl: {value}}}",
            [".ttl: write whole seconds from 1 to 86400, without quotes"],
        )
        for value in ("0", "86401", "1.5", "true", "'60'", "null")
    ],
    *[
        (f"{{algorithm: HS256, key: {C}, claims: {value}}}", [f".claims: {message}"])
        for value, message in (
            (C, "write a mapping such as {iss: my-app}"),
            ("null", "write a mapping such as {iss: my-app}"),
            ("{a: 1.5}", CLAIM),
            ("{a: null}", CLAIM),
            (f"{{a: [{{b: 2026-01-01, c: {C}}}]}}", CLAIM),
            (f"{{1: {C}}}", "a claim's name must be text: write it in quotes"),
            (f"{{a: [{{1: {C}}}]}}", "a claim's name must be text: write it in quotes"),
            ("{a: " + "[" * 8 + "1" + "]" * 8 + "}", "nested too deeply: write at most 8 levels"),
        )
    ],
    *[
        (
            f"{{algorithm: HS256, key: {C}, ttl: {ttl}, claims: {{{claim}: 1}}}}",
            [
                *([".ttl: write whole seconds from 1 to 86400, without quotes"] if not ttl else []),
                ".claims: with ttl, iat and exp are added: leave them out here",
            ],
        )
        for claim, ttl in product(("iat", "exp"), (60, 0))
    ],
]

CLIENT = f"token_url: https://a.example/t, client_id: {C}"

BAD_OAUTH2S: list[tuple[str, list[str]]] = [
    (C, [": write a mapping with token_url, client_id and client_secret"]),
    (
        f"{{scope: {C}}}",
        [
            ".token_url: missing: write https://HOST/PATH",
            ".client_id: missing: write the client's id",
            ".client_secret: missing: grant: client_credentials needs it",
        ],
    ),
    *[
        (
            f"{{token_url: '{url}', client_id: a, client_secret: {C}}}",
            [f".token_url: {message}"],
        )
        for url, message in (
            (f"a.example/{C}", URL),
            (f"ftp://a.example/{C}", URL),
            (f"http://a.example/{C}", URL),
            (f"http://localhost.a.example/{C}", URL),
            (f"http://128.0.0.1/{C}", URL),
            (f"https:///{C}", URL),
            (f"https://a.example:x/{C}", URL),
            (f"https://a.example:0/{C}", URL),
            (f"https://[a/{C}", URL),
            (f"https://a.example/{C} x", URL),
            (f"https://a.example/{C}ü", URL),
            (
                f"https://{C}:{C}@a.example/t",
                "a token URL has no user name or password: write client_id, client_secret",
            ),
            (f"https://a.example/t#{C}", "a token URL has no #: leave out all from it on"),
        )
    ],
    (
        f'{{token_url: https://a.example, client_id: "{C}\\n", client_secret: a}}',
        [".client_id: a client id is visible ASCII"],
    ),
    *[
        (f"{{{CLIENT}, client_secret: a, scope: {scope}}}", [f".scope: {message}"])
        for scope, message in (
            (f"[{C}]", "must be one text: a value with [ or { in it needs quotes"),
            (f"'{C}  b'", SCOPE),
            (f"'{C} '", SCOPE),
            (f"'{C}ü'", SCOPE),
        )
    ],
    (
        f"{{{CLIENT}, client_secret: a, grant: {C}}}",
        [".grant: write client_credentials or refresh_token"],
    ),
    (
        f"{{{CLIENT}, client_secret: a, grant: null}}",
        [".grant: write client_credentials or refresh_token"],
    ),
    (
        f"{{{CLIENT}, client_secret: a, grant: [refresh_token]}}",
        [".grant: write client_credentials or refresh_token"],
    ),
    (
        f"{{{CLIENT}, client_secret: a, refresh_token: b}}",
        [".refresh_token: write grant: refresh_token with it, or leave it out"],
    ),
    (
        f"{{{CLIENT}, grant: refresh_token}}",
        [".refresh_token: missing: grant: refresh_token needs it"],
    ),
    (f"{{{CLIENT}}}", [".client_secret: missing: grant: client_credentials needs it"]),
    (f"{{{CLIENT}, client_secret: $A}}", [f".client_secret: {REFERENCE}"]),
    (f'{{{CLIENT}, client_secret: "{C}\\n"}}', [f".client_secret: {CONTROL}"]),
    (
        f"{{{CLIENT}, grant: refresh_token, refresh_token: {{env: '${C}'}}}}",
        [".refresh_token.env: write the variable's name alone: letters, digits and _, without $"],
    ),
    (f"{{{CLIENT}, client_secret: a, audience: {C}}}", [f": {unknown(4)}{OAUTH2_KEYS}"]),
]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *(("jwt", value, expected) for value, expected in BAD_JWTS),
        *(("oauth2", value, expected) for value, expected in BAD_OAUTH2S),
    ],
)
def test_bad_mints(key: str, value: str, expected: list[str]) -> None:
    told = lines(short("", f"[{{{key}: {value}}}]"))
    assert told == [f"credentials[0].{key}{line}" for line in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"{{algorithm: HS256, key: {C}, ttl: 86400, "
            f"claims: {{sub: {C}, n: [1, {{a: true}}]}}}}",
            JwtSpec(
                "HS256",
                Source("secret", Secret(C, "")),
                {"sub": C, "n": [1, {"a": True}]},
                86_400,
            ),
        ),
        (
            f'{{algorithm: HS512, key: "{C}\\n{C}\\n", claims: {{exp: 1}}}}',
            JwtSpec("HS512", Source("secret", Secret(f"{C}\n{C}\n", "")), {"exp": 1}, None),
        ),
        (
            "{algorithm: ES256, key: {keyring: canary/key}, ttl: 1}",
            JwtSpec("ES256", Source("keyring", "canary/key"), {}, 1),
        ),
    ],
)
def test_jwts(text: str, expected: JwtSpec) -> None:
    assert one(f"{{jwt: {text}}}").source == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"{{token_url: 'https://a.example:8443/t?canary', client_id: {C}, client_secret: {C}}}",
            OAuth2Spec(
                "https://a.example:8443/t?canary",
                C,
                Source("secret", Secret(C, "")),
                None,
                "client_credentials",
                None,
            ),
        ),
        (
            "{token_url: 'http://[::1]:9/', client_id: a, scope: canary b, grant: refresh_token, "
            "refresh_token: {file: canary}}",
            OAuth2Spec(
                "http://[::1]:9/",
                "a",
                None,
                "canary b",
                "refresh_token",
                Source("file", "canary"),
            ),
        ),
        (
            "{token_url: 'http://localhost/t', client_id: a, grant: refresh_token, "
            "client_secret: {command: canary 1}, refresh_token: {env: A}}",
            OAuth2Spec(
                "http://localhost/t",
                "a",
                Source("command", "canary 1"),
                None,
                "refresh_token",
                Source("env", "A"),
            ),
        ),
    ],
)
def test_oauth2(text: str, expected: OAuth2Spec) -> None:
    assert one(f"{{oauth2: {text}}}").source == expected


def test_a_minted_ones_secrets_have_its_alias() -> None:
    source = one(f"{{id: a, jwt: {{algorithm: HS256, key: {C}}}}}").source
    assert isinstance(source, JwtSpec)
    assert isinstance(source.key.value, Secret)
    assert source.key.value.alias == "[rotate:default/a]"
