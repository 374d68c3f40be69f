"""Files that cannot be read as YAML, JSON or TOML, each with its exact line."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrotate.config.pools import parse

from .parsing import C, lines, read, short

YAML = "not valid YAML here: check the indentation, and quote values with signs such as : { @ #"
JSON = "not valid JSON here: check the commas, quotes and brackets before it"
TOML = "not valid TOML here: check the quotes, brackets and = before it"
ALIAS = "a value that begins with * or & needs quotes; anchors and aliases are not used here"
TWICE = "is written twice in one mapping: keep one"

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
    ("s.yaml", "[" * 200_000, ["nested too deeply: no key needs so many levels"]),
    ("s.yaml", f"[{C}, " * 5000, ["nested too deeply: no key needs so many levels"]),
    ("s.yaml", "- " * 5000 + C, ["nested too deeply: no key needs so many levels"]),
    ("s.yaml", "[\n" * 5000 + C, ["nested too deeply: no key needs so many levels"]),
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
    ("s.json", "[" * 200_000, ["nested too deeply: no key needs so many levels"]),
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
        ["nested too deeply: no key needs so many levels"],
    ),
    # Not a mapping.
    ("s.yaml", C, ["write a mapping with the key 'pools' at the top"]),
    ("s.yaml", f"- {C}", ["write a mapping with the key 'pools' at the top"]),
    ("s.json", "null", ["write a mapping with the key 'pools' at the top"]),
]


@pytest.mark.parametrize(("name", "text", "expected"), BAD_DOCUMENTS)
def test_files_that_cannot_be_read(name: str, text: str | bytes, expected: list[str]) -> None:
    assert lines(text, name) == expected
    assert read(text, name).pools == ()


def test_deep_nesting_is_refused_at_once() -> None:
    start = time.process_time()
    assert read("[" * 200_000).problems
    assert time.process_time() - start < 1  # ruamel.yaml itself takes twenty


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
