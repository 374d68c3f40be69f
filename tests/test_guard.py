"""G1, G3 and G4 as tables: who may use a pool, and where a secret may go."""

import json
from ipaddress import ip_network

import pytest

from flowrotate.guard import (
    Place,
    Refusal,
    check_authorities,
    check_client,
    check_head,
    check_rebinding,
    check_server,
    is_foreign_page,
    is_loopback,
    presents,
    refused,
)
from flowrotate.hostmap import HostMap
from flowrotate.hosts import parse_host_rule
from flowrotate.secret import Secret


def hosts(*rules: str) -> HostMap[None]:
    made: HostMap[None] = HostMap()
    for rule in rules:
        made.add(parse_host_rule(rule), None)
    return made


def https(host: str, port: int = 443, name: str = "") -> Place:
    return Place(True, host, port, name or host)


def http(host: str, port: int = 80) -> Place:
    return Place(False, host, port, host)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("fe80::1%eth0", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("peer", "authenticated", "allowed", "passes"),
    [
        ("127.0.0.1", False, [], True),
        ("::1", False, [], True),
        ("192.168.1.7", False, [], False),
        ("192.168.1.7", True, [], True),
        ("192.168.1.7", False, ["192.168.1.0/24"], True),
        ("::ffff:192.168.1.7", False, ["192.168.1.0/24"], True),
        ("192.168.2.7", False, ["192.168.1.0/24", "fd00::/8"], False),
        ("fd00::5", False, ["192.168.1.0/24", "fd00::/8"], True),
        ("fe80::5%eth0", False, ["fe80::/10"], True),
    ],
)
def test_clients(peer: str, authenticated: bool, allowed: list[str], passes: bool) -> None:
    refusal = check_client(peer, authenticated, [ip_network(n) for n in allowed])
    assert (refusal is None) is passes
    if refusal:
        assert refusal.status == 403
        assert "rotate_allow_clients" in refusal.message


def test_the_token_is_compared_whole() -> None:
    token = Secret("TOKEN", "alias")
    assert presents(token, ["", "x", "TOKEN"])
    assert not presents(token, ["", "TOKE", "TOKENS", "token", "TOKEN ", "\udcff"])
    assert not presents(token, [])


@pytest.mark.parametrize(
    ("place", "headers", "foreign"),
    [
        (https("a.test"), {}, False),
        (https("a.test"), {"Sec-Fetch-Site": "none"}, False),
        (https("a.test"), {"Sec-Fetch-Site": "same-origin"}, False),
        (https("a.test"), {"sec-fetch-site": "same-site"}, True),
        (https("a.test"), {"SEC-FETCH-SITE": "cross-site"}, True),
        (https("a.test"), {"Sec-Fetch-Site": "whatever"}, True),
        (https("a.test"), {"Origin": "https://a.test"}, False),
        (https("a.test"), {"Origin": "https://A.TEST:443"}, False),
        (https("a.test"), {"Origin": "wss://a.test"}, False),
        (https("a.test", 8443), {"Origin": "https://a.test:8443"}, False),
        (https("a.test", 8443), {"Origin": "https://a.test"}, True),
        (https("a.test"), {"Origin": "http://a.test"}, True),
        (https("a.test"), {"Origin": "https://b.a.test"}, True),
        (https("a.test"), {"Origin": "null"}, True),
        (https("a.test"), {"Origin": ""}, True),
        (https("a.test"), {"Origin": "https://a.test:99999"}, True),
        (https("a.test"), {"Origin": "https://[::1"}, True),
        (https("a.test"), {"Referer": "https://evil.test/x"}, False),
        (http("a.test"), {"Referer": "http://evil.test/x"}, True),
        (http("a.test"), {"Referer": "http://a.test/x"}, False),
        (https("10.0.0.1", name="a.test"), {"Origin": "https://a.test"}, False),
    ],
)
def test_pages_of_other_sites(place: Place, headers: dict[str, str], foreign: bool) -> None:
    fields = tuple((k.encode(), v.encode()) for k, v in headers.items())
    assert is_foreign_page(fields, place) is foreign


MOZILLA = "Mozilla/5.0 (X11; Linux x86_64)"


@pytest.mark.parametrize(
    ("agent", "place", "more", "foreign"),
    [
        (MOZILLA, http("a.test"), (), True),
        (MOZILLA, https("a.test"), (), False),
        (MOZILLA, http("a.test"), ((b"Referer", b"http://a.test/"),), False),
        ("Mozilla/5.0 (Windows NT; en-US) WindowsPowerShell/5.1", http("a.test"), (), False),
        ("python-httpx/0.28", http("a.test"), (), False),
    ],
)
def test_on_plain_http_a_browser_that_says_nothing_else_is_a_page(
    agent: str, place: Place, more: tuple[tuple[bytes, bytes], ...], foreign: bool
) -> None:
    fields = ((b"User-Agent", agent.encode()), *more)
    assert is_foreign_page(fields, place) is foreign


def test_the_referer_counts_when_the_client_itself_speaks_plain_http() -> None:
    fields = ((b"Referer", b"http://evil.test/"),)
    assert is_foreign_page(fields, https("a.test"), client_tls=False)
    assert not is_foreign_page(fields, https("a.test"), client_tls=True)


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        (["localhost:8080"], True),
        (["127.0.0.1"], True),
        (["[::1]:8080"], True),
        (["192.168.1.2:8080"], True),
        (["192.168.1.3:8080"], False),
        (["api.example.test"], True),
        (["x.wild.test:1"], True),
        (["evil.test"], False),
        (["localhost", "evil.test"], False),
        (["localhost.evil.test"], False),
        (["user@localhost"], False),
        ([""], False),
        ([], True),
    ],
)
def test_rebinding(said: list[str], passes: bool) -> None:
    pool = hosts("api.example.test", "*.wild.test")
    assert (check_rebinding(said, "192.168.1.2", "p", pool) is None) is passes


@pytest.mark.parametrize(
    ("authorities", "passes"),
    [
        (["api.example.test"], True),
        (["API.Example.Test."], True),
        (["api.example.test:443"], True),
        (["api.example.test", "api.example.test"], True),
        (["api.example.test", "evil.test"], False),
        (["api.example.test:444"], False),
        (["evil.test"], False),
        (["api.example.test@evil.test"], False),
        (["api.example.test, evil.test"], False),
        (["api.example.test.evil.test"], False),
        ([""], False),
        (["\uff41pi.example.test"], False),  # folds to the pool's, for who folds
        ([], False),
    ],
)
def test_every_host_names_a_host_of_the_pool(authorities: list[str], passes: bool) -> None:
    refusal = check_authorities(
        authorities, https("api.example.test"), "p", hosts("api.example.test")
    )
    assert (refusal is None) is passes


@pytest.mark.parametrize(
    ("method", "target", "field", "passes"),
    [
        (b"GET", b"/v1?a=b&c=%0d", (b"a", b"b"), True),
        (b"GET", "/\u00fc".encode(), (b"a", b"\xff \t b"), True),
        (b"OPTIONS", b"*", (b"a", b""), True),
        (b"GET", b"*", (b"a", b""), False),
        (b"TRACE", b"/", (b"a", b""), False),
        (b"trace", b"/", (b"a", b""), False),
        (b"G T", b"/", (b"a", b""), False),
        (b"", b"/", (b"a", b""), False),
        (b"GET", b"", (b"a", b""), False),
        (b"GET", b"https://evil.test/x", (b"a", b""), False),
        (b"GET", b"evil.test/x", (b"a", b""), False),
        (b"GET", b"/x#fragment", (b"a", b""), False),
        (b"GET", b"/ HTTP/1.1\r\nHost: evil.test\r\nX: y", (b"a", b""), False),
        (b"GET", b"/a b", (b"a", b""), False),
        (b"GET", b"/\x00", (b"a", b""), False),
        (b"GET", b"/", (b"a", b"b\r\nHost: evil.test"), False),
        (b"GET", b"/", (b"a", b"b\r\n Host: evil.test"), False),
        (b"GET", b"/", (b"a", b"b\nc"), False),
        (b"GET", b"/", (b"a", b"b\rc"), False),
        (b"GET", b"/", (b"a", b"b\0c"), False),
        (b"GET", b"/", (b"a\r\nHost", b"evil.test"), False),
        (b"GET", b"/", (b"a b", b"c"), False),
        (b"GET", b"/", (b"", b"c"), False),
        (b"GET", b"/", (b"Connection", b"close, Authorization"), False),
        (b"GET", b"/", (b"Connection", b"keep-alive"), True),
        (b"GET", b"/", (b"Connection", b"close, Host"), False),
        (b"POST", b"/", (b"Content-Length", b"1"), True),
        (b"POST", b"/", (b"Content-Length", b""), False),
        (b"POST", b"/", (b"Content-Length", b"1, 1"), False),
        (b"POST", b"/", (b"Content-Length", b"+1"), False),
        (b"POST", b"/", (b"Transfer-Encoding", b" Chunked "), True),
        (b"POST", b"/", (b"Transfer-Encoding", b"gzip, chunked"), False),
        (b"POST", b"/", (b"Transfer-Encoding", b"identity"), False),
    ],
)
def test_what_is_written_means_what_was_checked(
    method: bytes, target: bytes, field: tuple[bytes, bytes], passes: bool
) -> None:
    fields = ((b"Host", b"a.test"), field)
    refusal = check_head(method, target, fields, "p", frozenset({b"authorization"}))
    assert (refusal is None) is passes


@pytest.mark.parametrize("first", [b"Content-Length", b"Transfer-Encoding"])
@pytest.mark.parametrize("second", [b"content-length", b"TRANSFER-ENCODING"])
def test_a_request_has_one_length(first: bytes, second: bytes) -> None:
    """Even where mitmproxy's own check is off (validate_inbound_headers)."""
    values = {b"content-length": b"1", b"transfer-encoding": b"chunked"}
    fields = tuple((name, values[name.lower()]) for name in (first, second))
    assert check_head(b"POST", b"/", fields, "p", frozenset())
    assert check_head(b"POST", b"/", fields[:1], "p", frozenset()) is None


@pytest.mark.parametrize(
    ("place", "verified", "rules", "passes"),
    [
        (https("a.test"), "a.test", ["a.test"], True),
        (https("a.test"), None, ["a.test"], False),
        (https("a.test"), "front.test", ["a.test"], False),
        (https("a.test"), "b.test", ["a.test", "b.test"], True),
        (https("a.test"), "x.wild.test", ["*.wild.test"], True),
        (https("a.test"), "wild.test", ["*.wild.test"], False),
        (https("a.test"), "xwild.test", ["*.wild.test"], False),
        (https("10.0.0.1", name="a.test"), "a.test", ["a.test"], True),
        (https("a.test", 444), "a.test", ["a.test"], False),
        (https("a.test", 444), "a.test", ["a.test:*"], True),
        (https("a.test"), "a.test", ["http://a.test"], False),
        (https("a.test", 80), "a.test", ["http://a.test"], False),
        (http("a.test"), None, ["a.test"], False),
        (http("a.test"), None, ["http://a.test"], True),
        (http("a.test", 81), None, ["http://a.test"], False),
    ],
)
def test_where_a_secret_may_go(
    place: Place, verified: str | None, rules: list[str], passes: bool
) -> None:
    refusal = check_server(place, verified, "p", hosts(*rules))
    assert (refusal is None) is passes
    assert refusal is None or refusal.status == 502


def test_a_place_has_the_servers_name_only_when_it_is_dialled_by_address() -> None:
    assert https("10.0.0.1", name="a.test").names == ("10.0.0.1", "a.test")
    assert https("evil.test", name="a.test").names == ("evil.test",)
    assert Place(False, "10.0.0.1", 80, "a.test").names == ("10.0.0.1",)


def test_a_refusal_is_json() -> None:
    assert json.loads(refused(403, 'no "entry"').body()) == {
        "error": {"type": "rotate_refused", "message": 'no "entry"'}
    }
    more = Refusal(429, "rotate_exhausted", "none", details={"pool": "p"})
    assert json.loads(more.body())["error"]["pool"] == "p"
