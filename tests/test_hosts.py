"""Hosts and paths: tables, and Hypothesis against implementations that are slow but obvious."""

import itertools
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowrotate.hosts import HostRule, canonical, parse_host_rule, rules_overlap, split_authority
from flowrotate.paths import PathRule, parse_path, paths_overlap

CANARY = "sk-canary-5f2a"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("api.openai.com", "api.openai.com"),
        ("API.OpenAI.com", "api.openai.com"),
        ("api.openai.com.", "api.openai.com"),
        ("localhost", "localhost"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("１２７.0.0.1", "127.0.0.1"),  # full-width digits
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        (".".join(["a" * 49] * 5) + ".bcd", ".".join(["a" * 49] * 5) + ".bcd"),
        (".".join(["a" * 49] * 5) + ".bcd.", ".".join(["a" * 49] * 5) + ".bcd"),
    ],
)
def test_canonical(name: str, expected: str) -> None:
    assert canonical(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a..",
        "a b",
        " a",
        "a\n",
        "a\0b",
        "user@host",
        "a/b",
        "a\\b",
        "a:80",
        "a?b",
        "a#b",
        "a%2eb",
        "*.example.com",
        "a／b.example",  # IDNA makes a slash of it
        "a＠b.example",
        "a℀b.example",
        "\u00ad.example",
        "a" * 64,
        "ä" * 64 + ".example",
        ".".join(["a" * 49] * 5) + ".bcde",
        "ü" * 300,
        "[::1",
        "::1]",
        "[]",
        "[127.0.0.1]",
        "[::1].",
        "fe80::1%eth0",
        "[fe80::1%eth0]",
        "1::2::3",
        "256.0.0.1",
        "127.1",
        "0x7f.1",
        "127.0.0.01",
        "2130706433",
        "api.example.0",
    ],
)
def test_no_host_name(name: str) -> None:
    with pytest.raises(ValueError, match="not a host"):
        canonical(name)


@given(st.text(max_size=40) | st.text("aÄß.．。-:[]1%/@ ", max_size=12))
@example("ſ.K")
def test_canonical_is_ascii_and_stable(name: str) -> None:
    try:
        found = canonical(name)
    except ValueError:
        return
    assert found.isascii()
    assert found == found.lower()
    assert not set(found) & set("/@ []%\\?#")
    assert canonical(found) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Host", ("host", None)),
        ("host:8443", ("host", 8443)),
        ("host.:1", ("host", 1)),
        ("[::1]", ("::1", None)),
        ("[::1]:65535", ("::1", 65535)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
    ],
)
def test_split_authority(text: str, expected: tuple[str, int | None]) -> None:
    assert split_authority(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "host:",
        "host:0",
        "host:65536",
        "host:99999",
        "host:-1",
        "host:+1",
        "host: 80",
        "host:8 0",
        "host:８０",
        "host:٨",
        "host:80:80",
        "::1",
        "::1:80",
        "[::1]80",
        "[host]:80",
        "user@host:80",
        "user:password@host",
        "host/path",
        "host:80/",
        "host：80",
        "host\n",
    ],
)
def test_no_authority(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(not a host|a port is)"):
        split_authority(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api.openai.com", HostRule(True, "api.openai.com", False, 443)),
        ("API.openai.com.", HostRule(True, "api.openai.com", False, 443)),
        ("localhost:9443", HostRule(True, "localhost", False, 9443)),
        ("localhost:*", HostRule(True, "localhost", False, None)),
        ("[::1]:*", HostRule(True, "::1", False, None)),
        ("[::1]:8443", HostRule(True, "::1", False, 8443)),
        ("*.claude.example", HostRule(True, "claude.example", True, 443)),
        ("*.corp.internal:*", HostRule(True, "corp.internal", True, None)),
        ("*.a.github.io", HostRule(True, "a.github.io", True, 443)),
        ("*.bücher.example", HostRule(True, "xn--bcher-kva.example", True, 443)),
        ("http://127.0.0.1:9080", HostRule(False, "127.0.0.1", False, 9080)),
        ("HTTP://localhost", HostRule(False, "localhost", False, 80)),
        ("http://localhost:*", HostRule(False, "localhost", False, None)),
        ("http://*.a.example:81", HostRule(False, "a.example", True, 81)),
    ],
)
def test_host_rule(text: str, expected: HostRule) -> None:
    assert parse_host_rule(text) == expected


WIDE = "too wide: write two labels or more after the *."
PUBLIC = "too wide: a public suffix, where anybody may have a name; write one label more"
NO_PATH = "a host has no path: write the path under 'paths'"
STAR = "* may only be the whole first label, as in *.example.com, or the port"
NO_HOST = "not a host: write api.example.com, api.example.com:8443 or [::1]:8443"
PORT = "a port is a number from 1 to 65535"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://api.openai.com", "leave out https://, it is the default"),
        ("HTTPS://api.openai.com/v1", "leave out https://, it is the default"),
        ("ftp://a.example", "only http:// may stand before a host; without it, https is meant"),
        ("api.openai.com/v1", NO_PATH),
        ("http://a.example/", NO_PATH),
        (f"{CANARY}@a.example", "a host has no user name or password: leave out all up to the @"),
        ("*.com", WIDE),
        ("*.internal", WIDE),
        ("*.example:*", WIDE),
        ("*.co.uk", PUBLIC),
        ("*.github.io", PUBLIC),
        ("*.GitHub.io.", PUBLIC),
        ("*.公司.cn", PUBLIC),
        ("*.anything.ck", PUBLIC),
        ("*.127.0.0.1", "an IP address has no subdomains: leave out the *."),
        ("*.[::1]", "an IP address has no subdomains: leave out the *."),
        ("*", STAR),
        ("*:443", STAR),
        ("api.*.example", STAR),
        ("*.*.example.com", STAR),
        ("*api.example.com", STAR),
        ("＊.example.com", NO_HOST),
        ("a.example:443:*", "write one port, or * for any"),
        ("a.example:0", PORT),
        ("a.example:70000", PORT),
        ("a.example:", NO_HOST),
        ("::1", NO_HOST),
        ("::1:*", NO_HOST),
        ("", NO_HOST),
        ("http://", NO_HOST),
        (f"{CANARY} x", NO_HOST),
    ],
)
def test_no_host_rule(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_host_rule(text)


@pytest.mark.parametrize(
    ("rule", "tls", "name", "port", "expected"),
    [
        ("a.example.com", True, "a.example.com", 443, True),
        ("a.example.com", True, "b.a.example.com", 443, False),
        ("a.example.com", True, "a.example.com", 444, False),
        ("a.example.com", False, "a.example.com", 443, False),
        ("a.example.com:*", True, "a.example.com", 1, True),
        ("*.example.com", True, "a.example.com", 443, True),
        ("*.example.com", True, "b.a.example.com", 443, True),
        ("*.example.com", True, "example.com", 443, False),
        ("*.example.com", True, "badexample.com", 443, False),
        ("*.example.com", True, "example.com.evil.com", 443, False),
        ("*.example.com", True, "a.example.com", 8443, False),
        ("http://127.0.0.1", False, "127.0.0.1", 80, True),
        ("http://127.0.0.1", True, "127.0.0.1", 80, False),
    ],
)
def test_covers(rule: str, tls: bool, name: str, port: int, expected: bool) -> None:
    assert parse_host_rule(rule).covers(tls, name, port) is expected


NAMES = ["b.c", "a.b.c", "x.a.b.c", "y.b.c", "b.d", "c.b.c"]
RULES = st.builds(
    HostRule,
    tls=st.booleans(),
    name=st.sampled_from(NAMES),
    wildcard=st.booleans(),
    port=st.sampled_from([None, 1, 2]),
)
SERVERS = [
    (tls, prefix + name, port)
    for tls in (True, False)
    for prefix in ("", "q.", "q.q.")
    for name in NAMES
    for port in (1, 2)
]


@given(RULES, RULES)
def test_rules_overlap_when_a_server_is_in_both(a: HostRule, b: HostRule) -> None:
    common = any(a.covers(*server) and b.covers(*server) for server in SERVERS)
    assert rules_overlap(a, b) is rules_overlap(b, a) is common


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
def test_match_differential(pattern: str, path: str) -> None:
    assert parse_path(pattern).matches(path) is slow_match(pattern, path)


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
