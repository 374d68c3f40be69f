"""A secrets file's text -> plain data: mappings, lists, text, numbers. Pure.

The parsers' own messages quote the file, so none of them goes further than this module: what is
told is a place and a fixed sentence.
"""

import json
import re
import tomllib
from collections.abc import Callable, Collection
from typing import NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

LARGEST_FILE = 1024 * 1024
"""Bytes."""

# What YAML calls not printable. It has no place in the other two either.
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TOML_PLACE = re.compile(r"\(at line ([0-9]+), column ([0-9]+)\)$")
# Open brackets on one line: from some hundreds on, ruamel.yaml takes seconds to say no.
_DEEP = re.compile(r"(?:[\[{][^\[\]{}\n]*){40}")
_SMALL_NUMBER = re.compile(r"[-+]?[0-9]{1,18}")
_TAG = "tag:yaml.org,2002:"

TOO_DEEP = "nested too deeply: no key needs so many levels"
TWICE = "is written twice in one mapping: keep one"


class DocumentError(ValueError):
    """What keeps a file from being read at all. `place` is a line and column, or empty."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place


class OddScalar:
    """A date, a fraction, a tagged value: nothing in the file is one, so none needs a value."""


def read_document(data: bytes, suffix: str, known: Collection[str]) -> object:
    """Raises DocumentError. Only keys in `known` are ever shown."""
    reader = _READERS.get(suffix.lower())
    if not reader:
        raise DocumentError("only .yaml, .yml, .json and .toml files are read: rename it")
    text = _text(data)
    if not text.strip():
        raise DocumentError("the file is empty")
    try:
        return reader(text, known)
    except RecursionError:
        raise DocumentError(TOO_DEEP) from None


def _text(data: bytes) -> str:
    if len(data) > LARGEST_FILE:
        raise DocumentError("larger than 1 MiB: this is no secrets file")
    if b"\0" in data:
        raise DocumentError("a binary file, or not saved as UTF-8: save it as UTF-8 text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        place = _place_of(data.decode("latin-1"), e.start)
        raise DocumentError("not UTF-8: save the file as UTF-8 text", place) from None
    if odd := _CONTROL.search(text):
        raise DocumentError("a control character: remove it", _place_of(text, odd.start()))
    return text


def _place(line: int, column: int) -> str:
    return f"line {line}, column {column}"


def _place_of(text: str, offset: int) -> str:
    before = text[:offset]
    return _place(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


def _key_twice(key: object, known: Collection[str]) -> str:
    shown = f"the key '{key}'" if isinstance(key, str) and key in known else "a key"
    return f"{shown} {TWICE}"


def _json(text: str, known: Collection[str]) -> object:
    def mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise DocumentError(_key_twice(key, known))
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=mapping, parse_constant=_no_constant)
    except json.JSONDecodeError as e:
        place = _place(e.lineno, e.colno)
        message = "not valid JSON here: check the commas, quotes and brackets before it"
        raise DocumentError(message, place) from None
    except DocumentError:
        raise
    except ValueError:  # more digits than Python turns into a number
        raise DocumentError("a number is too long: write it in quotes, if it is text") from None


def _no_constant(_: str) -> NoReturn:
    raise DocumentError("not valid JSON: NaN and Infinity are no JSON numbers")


def _toml(text: str, _: Collection[str]) -> object:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        said = str(e)
    except ValueError:
        raise DocumentError("a number or date is out of range: write it in quotes") from None
    else:
        if not data:
            raise DocumentError("the file is empty")
        return data
    found = _TOML_PLACE.search(said)
    place = _place(int(found[1]), int(found[2])) if found else _place_of(text, len(text))
    if said.startswith(("Cannot overwrite", "Cannot declare", "Duplicate inline")):
        raise DocumentError(f"a key or table {TWICE}", place)
    raise DocumentError("not valid TOML here: check the quotes, brackets and = before it", place)


def _yaml(text: str, known: Collection[str]) -> object:
    if _DEEP.search(text):
        raise DocumentError(TOO_DEEP)
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as e:
        message = _yaml_mend(str(e.context), str(e.problem))
        mark = e.problem_mark
        place = _place(mark.line + 1, mark.column + 1) if mark else ""
        raise DocumentError(message, place) from None
    except (YAMLError, ValueError):
        raise DocumentError("not valid YAML") from None
    if node is None:
        raise DocumentError("the file is empty")
    return _plain(node, known, set())


def _yaml_mend(context: str, problem: str) -> str:
    """A fixed sentence for a parser's complaint, whose own words may quote the file."""
    if problem.startswith("found undefined alias") or context.startswith("while scanning an a"):
        return _NO_ALIAS
    if context.startswith("expected a single document"):
        return "a second document begins here: write one only, without ---"
    if problem.startswith("found character '\\t'"):
        return "a tab: YAML is indented with spaces"
    return "not valid YAML here: check the indentation, and quote values with signs such as : { @ #"


_NO_ALIAS = "a value that begins with * or & needs quotes; anchors and aliases are not used here"


def _plain(node: Node, known: Collection[str], seen: set[int]) -> object:
    """The value of a YAML node. An alias is the same node again: a few can stand for billions."""
    if id(node) in seen or str(node.tag) == _TAG + "merge":
        raise DocumentError(_NO_ALIAS, _mark(node))
    seen.add(id(node))
    if isinstance(node, ScalarNode):
        return _scalar(str(node.tag), node.value)
    if str(node.tag) not in (_TAG + "map", _TAG + "seq"):
        raise DocumentError("a tag (!): remove it, tags are not used here", _mark(node))
    if isinstance(node, SequenceNode):
        return [_plain(item, known, seen) for item in node.value]
    assert isinstance(node, MappingNode)
    found: dict[object, object] = {}
    for key_node, value_node in node.value:
        key = _plain(key_node, known, seen)
        if not isinstance(key, str | int):
            raise DocumentError("a key that is not text: write it in quotes", _mark(key_node))
        if key in found:
            raise DocumentError(_key_twice(key, known), _mark(key_node))
        found[key] = _plain(value_node, known, seen)
    return found


def _mark(node: Node) -> str:
    return _place(node.start_mark.line + 1, node.start_mark.column + 1)


def _scalar(tag: str, text: str) -> object:
    if tag == _TAG + "str":
        return text
    if tag == _TAG + "int" and _SMALL_NUMBER.fullmatch(text):
        return int(text)
    if tag == _TAG + "bool":
        return text.lower() in ("true", "yes", "on", "y")
    return None if tag == _TAG + "null" else OddScalar()


_READERS: dict[str, Callable[[str, Collection[str]], object]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".json": _json,
    ".toml": _toml,
}
