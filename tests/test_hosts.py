"""Host names and rules: tables, and Hypothesis against what is slow but obvious."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowrotate.hostmap import HostMap
from flowrotate.hosts import HostRule, canonical, parse_host_rule, rules_overlap, split_authority

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


@given(st.lists(RULES, max_size=5))
def test_the_map_finds_what_each_rule_by_itself_covers(rules: list[HostRule]) -> None:
    filed: HostMap[int] = HostMap()
    for n, rule in enumerate(rules):
        filed.add(rule, n)
    for server in SERVERS:
        covering = [n for n, rule in enumerate(rules) if rule.covers(*server)]
        assert sorted(filed.get(*server)) == covering
        named = any(r.covers(r.tls, server[1], r.port or 1) for r in rules)
        assert filed.has_name(server[1]) is named
