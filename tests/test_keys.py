"""What tells sessions and limits apart."""

import json
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrotate.keys import (
    LARGEST_BODY,
    LONGEST_VALUE,
    RequestKey,
    parse_cooldown_by,
    parse_sticky,
)

BODY = {
    "model": "large",
    "user": {"id": 7, "a/b": "slash", "m~n": "tilde", "": "empty"},
    "messages": [{"role": "user"}, {"role": "tool"}],
    "nothing": None,
    "yes": True,
    "blank": "",
}


def never() -> NoReturn:
    raise AssertionError("the body was read")


def value(key: str, *, path: str = "/", body: bytes | None = None) -> str | None:
    text = json.dumps(BODY).encode() if body is None else body
    headers = {"x-session-id": "s-1", "x-empty": ""}
    return parse_sticky(key).value("10.0.0.9", headers, path, lambda: text)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("client", "10.0.0.9"),
        ("header:X-Session-Id", "s-1"),
        ("header:x-other", None),
        ("header:x-empty", None),
        ("json:/model", "large"),
        ("json:/user/id", "7"),
        ("json:/user/a~1b", "slash"),
        ("json:/user/m~0n", "tilde"),
        ("json:/user/", "empty"),
        ("json:/messages/1/role", "tool"),
        ("json:/messages/1", None),
        ("json:/messages", None),
        ("json:/messages/2/role", None),
        ("json:/messages/01/role", None),
        ("json:/messages/-/role", None),
        ("json:/model/deeper", None),
        ("json:/nothing", None),
        ("json:/blank", None),
        ("json:/yes", "true"),
        ("json:/absent", None),
    ],
)
def test_the_value_of_a_request(key: str, found: str | None) -> None:
    assert value(key) == found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/tenants/t1/chat", "t1"),
        ("/tenants/t1", "t1"),
        ("/tenants/t1?x=/tenants/t2", "t1"),
        ("/tenants/", None),
        ("/tenants", None),
        ("/other/t1", None),
    ],
)
@pytest.mark.parametrize("key", ["path:/tenants", "path:/tenants/"])
def test_the_segment_after_a_prefix(key: str, path: str, found: str | None) -> None:
    assert value(key, path=path) == found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b'{"model": ',
        b"[" * 100_000,
        b'["model"]',
        b'{"model": "large"}' + b" " * LARGEST_BODY,
    ],
)
def test_a_body_without_the_value(body: bytes) -> None:
    assert value("json:/model", body=body) is None


def test_of_a_long_value_the_start_counts() -> None:
    text = json.dumps({"model": "x" * 5000}).encode()
    assert value("json:/model", body=text) == "x" * LONGEST_VALUE


@pytest.mark.parametrize("key", ["client", "header:x-session-id", "path:/tenants"])
def test_the_body_is_read_for_json_alone(key: str) -> None:
    parse_sticky(key).value("10.0.0.9", {}, "/tenants/t1", never)


@given(st.binary(max_size=200))
def test_no_body_is_too_odd(body: bytes) -> None:
    found = value("json:/a/0", body=body)
    assert found is None or isinstance(found, str)


BOTH = [
    ("header:", "header's name"),
    ("header:a b", "header's name"),
    ("json:", "JSON pointer"),
    ("json:model", "JSON pointer"),
    ("json:/a~2", "JSON pointer"),
]


@pytest.mark.parametrize(
    ("parse", "text", "mend"),
    [
        *(
            (parse, text, mend)
            for parse in (parse_sticky, parse_cooldown_by)
            for text, mend in BOTH
        ),
        (parse_sticky, "cookie:x", "write client, header:NAME, path:/prefix or json:/pointer"),
        (parse_sticky, "path:prefix", "write path:/prefix"),
        (parse_sticky, "path:/a*", "write path:/prefix"),
        (parse_sticky, "path:/a?b", "write path:/prefix"),
        (parse_cooldown_by, "client", "write header:NAME or json:/pointer"),
        (parse_cooldown_by, "path:/a", "write header:NAME or json:/pointer"),
    ],
)
def test_what_is_wrong_with_a_key(parse: Callable[[str], RequestKey], text: str, mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        parse(text)
