"""Host rules and the map of them against label lists, whatever the spelling."""

import re
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TypeVar

import publicsuffix2  # type: ignore[import-untyped]  # it ships no types
from hypothesis import event, example, given
from hypothesis import strategies as st

from flowrotate.hostmap import HostMap
from flowrotate.hosts import HostRule, canonical, parse_host_rule, rules_overlap, split_authority

from . import examples

T = TypeVar("T")
Labels = tuple[str, ...]


@dataclass(frozen=True)
class Server:
    """A place as it is meant: an address is one label."""

    tls: bool
    labels: Labels
    port: int


@dataclass(frozen=True)
class Rule:
    """A line of `hosts` as it is meant; no port is any."""

    tls: bool
    wildcard: bool
    labels: Labels
    port: int | None

    def has(self, server: Server) -> bool:
        if self.tls != server.tls or self.port not in (None, server.port):
            return False
        more = len(server.labels) - len(self.labels)
        tail = server.labels[more:] if more >= 0 else ()
        return tail == self.labels and (more > 0 if self.wildcard else more == 0)


# A label is named by its ASCII form; all its spellings are the same label.
SPELLINGS = {
    "a": ["a", "A", "ａ", "Ａ"],
    "b": ["b", "B"],
    "ab": ["ab", "aB", "AB", "aｂ", "a\u00adb"],
    "-1": ["-1"],
    "xn--bcher-kva": ["bücher", "BÜCHER", "bu\u0308cher", "xn--bcher-kva", "XN--Bcher-KVA"],
    "ss": ["ss", "ß", "ẞ", "ſs"],
    "example": ["example", "EXAMPLE", "ｅxample"],
}
DOTS = [".", ".", ".", "。", "．", "｡"]
ADDRESSES = ["127.0.0.1", "127.0.0.11", "10.0.0.1", "::1", "::", "2001:db8::1", "::ffff:7f00:1"]

# Few of them, so that many are each other's tails.
NAMES = st.builds(
    lambda below, name: (*below, name, "example"),
    st.lists(st.sampled_from(["a", "b", "ab", "ss", "xn--bcher-kva"]), max_size=2),
    st.sampled_from(["a", "b", "b", "ab", "-1"]),
)
ADDRESSED = st.sampled_from(ADDRESSES).map(lambda text: (text,))
PLACES = NAMES | NAMES | NAMES | ADDRESSED
TLS = st.sampled_from([True, True, False])
RULE_PORTS = st.sampled_from([None, 443, 443, 8443, 80])
RULES = st.builds(Rule, TLS, st.just(False), PLACES, RULE_PORTS) | st.builds(
    Rule, TLS, st.just(True), NAMES, RULE_PORTS
)
SERVERS = st.builds(Server, TLS, PLACES, st.sampled_from([443, 443, 8443, 80, 1, 65535]))


def spelled(draw: st.DrawFn, labels: Labels) -> str:
    if len(labels) > 1:
        words = [draw(st.sampled_from(SPELLINGS[label])) for label in labels]
        dotted = [word + draw(st.sampled_from(DOTS)) for word in words[:-1]]
        return "".join([*dotted, words[-1], draw(st.sampled_from(["", "", "."]))])
    if "." in labels[0]:
        return draw(st.sampled_from([labels[0], labels[0] + ".", labels[0].replace("1", "１")]))
    address = IPv6Address(labels[0])
    spellings = [address.exploded, address.compressed.upper()]
    if address.ipv4_mapped:
        spellings.append(f"::FFFF:{address.ipv4_mapped}")
    return f"[{draw(st.sampled_from(spellings))}]"


@st.composite
def written_rules(draw: st.DrawFn, rules: st.SearchStrategy[Rule] = RULES) -> tuple[Rule, str]:
    rule = draw(rules)
    scheme = "" if rule.tls else draw(st.sampled_from(["http://", "HTTP://"]))
    default = rule.port == (443 if rule.tls else 80) and draw(st.booleans())
    port = "" if default else f":{rule.port or '*'}"
    star = "*." if rule.wildcard else ""
    return rule, f"{scheme}{star}{spelled(draw, rule.labels)}{port}"


@st.composite
def lists_of_rules(draw: st.DrawFn) -> tuple[list[tuple[Rule, str]], Server, str]:
    """Rules, and a server that often differs in one thing from what one of them has."""
    rules = draw(st.lists(written_rules(), min_size=1, max_size=5))
    rule, server = draw(st.sampled_from(rules))[0], draw(SERVERS)
    if len(rule.labels) > 2 and draw(st.booleans()):
        wider = Rule(rule.tls, True, rule.labels[1:], rule.port)
        rules.insert(draw(st.integers(0, len(rules))), draw(written_rules(st.just(wider))))
    change = draw(
        st.sampled_from(["as it is", "below", "above", "beside", "port", "scheme", "other"])
    )
    match change:
        case "as it is":
            server = Server(rule.tls, rule.labels, rule.port or server.port)
        case "below" if len(rule.labels) > 1:
            server = Server(rule.tls, ("b", *rule.labels), rule.port or server.port)
        case "above" if len(rule.labels) > 2:
            server = Server(rule.tls, rule.labels[1:], rule.port or server.port)
        case "beside" if rule.labels[0] == "b":
            server = Server(rule.tls, ("ab", *rule.labels[1:]), rule.port or server.port)
        case "port":
            server = Server(rule.tls, rule.labels, server.port)
        case "scheme":
            server = Server(server.tls, rule.labels, rule.port or server.port)
    port = f"{server.port:05}" if draw(st.booleans()) else str(server.port)
    return rules, server, f"{spelled(draw, server.labels)}:{port}"


@examples(200)
@given(written_rules())
def test_a_rule_is_what_it_says(written: tuple[Rule, str]) -> None:
    rule, text = written
    name = ".".join(rule.labels)
    expected = str(IPv6Address(name)) if ":" in name else name
    assert parse_host_rule(text) == HostRule(rule.tls, expected, rule.wildcard, rule.port)


@examples(300)
@given(lists_of_rules())
def test_the_map_finds_the_rules_that_have_a_server(
    drawn: tuple[list[tuple[Rule, str]], Server, str],
) -> None:
    rules, server, authority = drawn
    filed: HostMap[int] = HostMap()
    parsed = [parse_host_rule(text) for _, text in rules]
    for n, rule in enumerate(parsed):
        filed.add(rule, n)
    name, port = split_authority(authority)
    assert port == server.port
    expected = [n for n, (rule, _) in enumerate(rules) if rule.has(server)]
    event(f"rules that have it: {min(len(expected), 2)}")
    found = filed.get(server.tls, name, port)
    assert sorted(found) == expected
    assert [n for n, r in enumerate(parsed) if r.covers(server.tls, name, port)] == expected
    # Exact names first, then the wildcards from the longest to the shortest.
    order = [(rules[n][0].wildcard, -len(rules[n][0].labels)) for n in found]
    assert order == sorted(order)
    named = any(
        Rule(True, r.wildcard, r.labels, None).has(Server(True, server.labels, 1)) for r, _ in rules
    )
    assert filed.has_name(name) is named


@examples(200)
@given(written_rules(), written_rules(), SERVERS)
@example(
    (Rule(True, True, ("b", "example"), 443), "*.b.example"),
    (Rule(True, False, ("ab", "example"), 443), "ab.example"),
    Server(True, ("b", "example"), 443),
)
def test_rules_overlap_when_a_server_is_in_both(
    one: tuple[Rule, str], other: tuple[Rule, str], server: Server
) -> None:
    (a, x), (b, y) = one, other
    # The longer name, or one below it, is in both rules if any server is.
    longer = max(a.labels, b.labels, key=len)
    ports = [port for port in (a.port, b.port) if port] or [1]
    tried = [Server(a.tls, (*below, *longer), p) for below in ((), ("b",)) for p in ports]
    common = any(a.has(s) and b.has(s) for s in (*tried, server))
    event(f"common: {common}")
    r, s = parse_host_rule(x), parse_host_rule(y)
    assert rules_overlap(r, s) is rules_overlap(s, r) is common


@st.composite
def written_addresses(draw: st.DrawFn) -> str:
    """An IPv4 address as resolvers take it: one to four parts, decimal, octal or hexadecimal."""
    parts = draw(
        st.lists(st.integers(0, 256), min_size=4, max_size=4)
        | st.lists(st.integers(0, 2**32), min_size=1, max_size=5)
    )
    forms = st.sampled_from(
        draw(st.sampled_from([["{}"], ["{}", "0{:o}", "0x{:x}", "0{}", "{}."]]))
    )
    text = ".".join(draw(forms).format(part) for part in parts)
    return text.replace("1", draw(st.sampled_from("1１"))).replace(
        ".", draw(st.sampled_from("..．"))
    )


@examples(400)
@given(written_addresses() | st.text("01.xX１．", max_size=9))
@example("0x7f.1")
@example("017700000001")
@example("127.0.0.1.")
@example("１２７。0.0.1")
def test_no_name_is_an_address_in_disguise(text: str) -> None:
    try:
        name = canonical(text)
    except ValueError:
        event("no name")
        return
    try:
        packed = socket.inet_aton(name)
    except OSError:
        event("a name")
        return
    event("an address")
    assert str(IPv4Address(packed)) == name


PIECES = [
    "http://", "https://", "HTTP://", "*", "*.", ".", ":", ":*", ":443", ":0", ":065", "@", "/",
    "[", "]", "[::1]", "1", "a", "a" * 64, "ä", "b.example", "co.uk", "xn--", "xn--a", " ", "\n",
    "%", "％", "\u2024", "\u3002", "\u00ad", "\u200d", "İ", "\ud800", "sk-canary-5f2a",
    ":65535", ":65536", "sk-canary-5f2a" * 19,
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)


def read(parse: Callable[[str], T], text: str) -> T | None:
    """What is made of a text, or None when it is refused, without a word of it."""
    try:
        return parse(text)
    except ValueError as e:
        said = str(e)
    event("refused")
    assert "canary" not in said
    return None


@examples(500)
@given(TEXTS | st.text(max_size=30))
def test_any_text_is_a_rule_or_is_refused(text: str) -> None:
    rule = read(parse_host_rule, text)
    if rule:
        assert canonical(rule.name) == rule.name
        assert re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", rule.name)
        assert not rule.wildcard or "." in rule.name
        name = f"[{rule.name}]" if ":" in rule.name else rule.name
        again = f"{'' if rule.tls else 'http://'}{'*.' * rule.wildcard}{name}:{rule.port or '*'}"
        assert parse_host_rule(again) == rule


@examples(500)
@given(TEXTS | st.text(max_size=30))
def test_any_text_is_an_authority_or_is_refused(text: str) -> None:
    found = read(split_authority, text)
    if found:
        name, port = found
        assert canonical(name) == name
        assert port is None or 1 <= port <= 65535


LIST = Path(publicsuffix2.__file__).parent / "public_suffix_list.dat"


def test_no_public_suffix_has_a_wildcard() -> None:
    lines = LIST.read_text("utf-8").splitlines()
    rules = [line.strip() for line in lines if line.strip() and not line.startswith("//")]
    wrong = []
    for rule in rules:
        suffix = rule.removeprefix("!").replace("*", "anything")
        try:
            parse_host_rule(f"*.{suffix}")
            refused = False
        except ValueError:
            refused = True
        if refused is rule.startswith("!"):
            wrong.append(rule)
    assert len(rules) > 5000
    assert wrong == []


def test_hits_and_misses_are_both_common() -> None:
    seen: Counter[bool] = Counter()

    @examples(300)
    @given(lists_of_rules())
    def count(drawn: tuple[list[tuple[Rule, str]], Server, str]) -> None:
        rules, server, _ = drawn
        seen[any(rule.has(server) for rule, _ in rules)] += 1

    count()
    assert min(seen[True], seen[False]) > seen.total() // 20
