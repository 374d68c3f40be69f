"""Path patterns: tables, and Hypothesis against implementations that are slow but obvious."""

import itertools
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowrotate.paths import PathRule, parse_path, paths_overlap

CANARY = "sk-canary-5f2a"


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/v1", "/v1", True),
        ("/v1", "/v1/", False),
        ("/v1", "/V1", False),
        ("/v1/**", "/v1", True),
        ("/v1/**", "/v1/", True),
        ("/v1/**", "/v1/a/b", True),
        ("/v1/**", "/v1x", False),
        ("/v1/**", "/v2/v1/a", False),
        ("/v1/**", "/v1?key=/../..", True),
        ("/v1/**", "/v1/a?b=%zz%00", True),
        ("/v1/*", "/v1/a", True),
        ("/v1/*", "/v1/", True),
        ("/v1/*", "/v1/.", True),
        ("/v1/*", "/v1/a/b", False),
        ("/v1/*/files", "/v1/a/files", True),
        ("/v1/*/files", "/v1/a/b/files", False),
        ("/v1/**/files", "/v1/a/b/files", True),
        ("/a*c", "/abc", True),
        ("/a*c", "/ab/c", False),
        ("/a**c", "/ab/c", True),
        ("/a***c", "/ab/c", True),
        ("/**", "/", True),
        ("/**", "/anything", True),
        ("/**", "", False),
        ("/**", "*", False),
        ("/**", "http://a/", False),
        ("/a.b", "/axb", False),
        ("/[ab]", "/a", False),
        ("/[ab]", "/[ab]", True),
        ("/a b".replace(" ", "*"), "/a%20b", True),
        ("/v1/**", "/v1/ü", True),
        ("/v1/**", "/v1/%C3%BC", True),
    ],
)
def test_path_matches(pattern: str, path: str, expected: bool) -> None:
    assert parse_path(pattern).matches(path) is expected


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin",
        "/v1/..",
        "/v1/a/../../admin",
        "/v1/%2e%2e/admin",
        "/v1/.%2E/admin",
        "/v1/..%2fadmin",
        "/v1/%252e%252e/admin",
        "/v1/%252e%252e%252fadmin",
        "/v1/..\\admin",
        "/v1\\..\\admin",
        "/v1/..%5cadmin",
        "/v1/%2e%2e%5cadmin",
        "/v1//../../admin",
        "/v1/..;/admin",
        "/v1/..;x=y/admin",
        "/v1/..%3b/admin",
        "/v1/a\\..;\\..;\\admin",
        "/v1/%25252e%25252e/admin",  # encoded more often than is looked into
        "/v1/%25252525",
        "/v1/../x//../v1/y",  # unless slashes are merged: /x/v1/y
        "/v1/../x\\..\\v1/y",  # unless backslashes are slashes: /x\..\v1/y
        "/v1/../admin%2f..%2fv1/y",  # unless it is decoded: /admin%2f..%2fv1/y
        "/v1/../admin%252f..%252fv1/y",
        "/v1/%c0%ae%c0%ae/admin",  # overlong UTF-8
        "/v1/\udcc0\udcae/admin",
        "/v1/%00/a",
        "/v1/%0a",
        "/v1/\ud800",
        "/v1/a#b",
        "//v1/a",
        "/%76%31/a",  # its raw form is not in the pool
        "v1/a",
    ],
)
def test_no_path_sneaks_in(path: str) -> None:
    assert not parse_path("/v1/**").matches(path)


@pytest.mark.parametrize(
    "path", ["/v1/a/../b", "/v1/./b", "/v1//b", "/v1/a%2fb", "/v1/.well", "/v1/;a"]
)
def test_odd_paths_that_stay_inside_match(path: str) -> None:
    assert parse_path("/v1/**").matches(path)


NEVER = "would never match: leave out empty segments, . and .."
QUERY = "a path is compared without its query: leave out all from the ? or # on"
ASCII = "write visible ASCII without % and \\, and * for what cannot be written"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a path starts with /"),
        ("v1/**", "a path starts with /"),
        ("**", "a path starts with /"),
        ("https://a/v1", "a path starts with /"),
        ("/v1?x", QUERY),
        ("/v1#x", QUERY),
        ("/v1 /x", ASCII),
        ("/ü", ASCII),
        ("/a%20b", ASCII),
        ("/a\\b", ASCII),
        ("/a\n", ASCII),
        ("//a", NEVER),
        ("/a/../b", NEVER),
        ("/a/.", NEVER),
        ("/./a", NEVER),
        ("/" + "a" * 256, "too long: write at most 256 characters, * for the rest"),
    ],
)
def test_no_path_rule(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_path(text)


def slow_match(pattern: str, path: str) -> bool:
    """What the stars mean, tried one by one."""
    if pattern.endswith("/**") and pattern != "/**" and slow_match(pattern[:-3], path):
        return True
    if not pattern:
        return not path
    if pattern.startswith("**"):
        rest = pattern.lstrip("*")
        return any(_tail(rest, path[n:]) for n in range(len(path) + 1))
    if pattern.startswith("*"):
        runs = len(path.partition("/")[0])
        return any(_tail(pattern[1:], path[n:]) for n in range(runs + 1))
    return path[:1] == pattern[0] and _tail(pattern[1:], path[1:])


def _tail(pattern: str, path: str) -> bool:
    # Within the recursion the ending `/**` is only a slash and a run.
    if pattern == "/**":
        return path.startswith("/")
    return slow_match(pattern, path)


PATTERNS = st.text("/ab*", max_size=6).map(lambda t: "/" + t).filter(lambda t: "//" not in t)
PATHS = st.text("/ab", max_size=7).map(lambda t: "/" + t)


@given(PATTERNS, PATHS)
@example("/**a*b", "/a/ab")
@example("/a/*/**", "/a/b")
@example("/*/", "//")
def test_match_differential(pattern: str, path: str) -> None:
    # A server that merges slashes must not see a path that the pattern leaves out.
    readings = (path, re.sub("/+", "/", path))
    expected = all(slow_match(pattern, reading) for reading in readings)
    assert parse_path(pattern).matches(path) is expected


# Three literals each at most, so a common text, if any, has one of 7 characters or fewer.
SHORT = st.text("/a*", max_size=4).map(lambda t: "/" + t).filter(lambda t: "//" not in t)
TEXTS = ["/" + "".join(t) for n in range(7) for t in itertools.product("/ab", repeat=n)]


@given(SHORT, SHORT)
@example("/*/a", "/a/*")
@example("/a*", "/*b")
@example("/*", "/a/*")
def test_overlap_differential(a: str, b: str) -> None:
    x, y = parse_path(a), parse_path(b)
    common = any(x.matches(t) and y.matches(t) for t in TEXTS)
    assert paths_overlap(x, y) is paths_overlap(y, x) is common


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("/v1/**", "/v1", True),
        ("/v1/**", "/v1/chat/*", True),
        ("/v1/**", "/v10/**", False),
        ("/v1/*", "/v1/*/x", False),
        ("/*/files", "/v1/**", True),
        ("/**/a", "/**/b", False),
        ("/*a*", "/*b*", True),
        ("/a*c", "/ab*", True),
        ("/a*/c", "/ab*/d", False),
        ("/**", "/x", True),
    ],
)
def test_overlap_table(a: str, b: str, expected: bool) -> None:
    assert paths_overlap(parse_path(a), parse_path(b)) is expected


def is_inside(path: str) -> bool:
    """Whether a server that decodes first, then resolves, stays under /v1/."""
    depth: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del depth[-1:]
        elif segment not in (".", ""):
            depth.append(segment)
    return depth[:1] == ["v1"]


@given(st.lists(st.sampled_from(["v1", "..", ".", "a", ""]), max_size=6), st.data())
def test_no_encoding_leaves_the_folder(segments: list[str], data: st.DataObject) -> None:
    plain = "/v1/" + "/".join(segments)
    encoded = "".join(c if data.draw(st.booleans()) else f"%{ord(c):02x}" for c in plain[4:])
    if parse_path("/v1/**").matches("/v1/" + encoded):
        assert is_inside(plain)


@pytest.mark.parametrize("unit", ["a", "ab", "a/", "%2e", "%25", "../"])
def test_no_path_takes_long(unit: str) -> None:
    rule = PathRule("/" + "**a*b" * 50)
    start = time.process_time()
    rule.matches("/" + unit * (30_000 // len(unit)))
    assert time.process_time() - start < 5  # exponential work would take for ever
