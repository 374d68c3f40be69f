"""Which way token requests go, and whose certificates they believe."""

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import certifi
import pytest

from flowrotate.demo.certs import Authority
from flowrotate.mint.egress import Egress

URL = "https://auth.example/token"
OURS = ("127.0.0.1", 8080)
CORP = "http://proxy.corp.example:3128"


def egress(
    env: Mapping[str, str] | None = None,
    *,
    listening: tuple[tuple[str, int], ...] = (OURS,),
    upstream: str | None = None,
    own_ca: Path | None = None,
) -> Egress:
    return Egress(lambda: listening, lambda: upstream, env or {}, lambda: own_ca)


@pytest.mark.parametrize(
    ("env", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": CORP}, CORP),
        ({"https_proxy": CORP}, CORP),
        ({"https_proxy": CORP, "HTTPS_PROXY": "http://other.example:1"}, CORP),
        ({"https_proxy": "", "HTTPS_PROXY": CORP}, None),
        ({"HTTPS_PROXY": " proxy.corp.example:3128 "}, CORP),
        ({"HTTPS_PROXY": "http://user:pw@proxy.corp.example"}, "http://user:pw@proxy.corp.example"),
        ({"ALL_PROXY": CORP}, CORP),
        ({"all_proxy": CORP, "HTTPS_PROXY": "https://first.example"}, "https://first.example"),
        ({"HTTP_PROXY": CORP}, None),
        ({"HTTPS_PROXY": CORP, "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": CORP, "NO_PROXY": "other.example, auth.example"}, None),
        ({"HTTPS_PROXY": CORP, "no_proxy": ".example"}, None),
        ({"HTTPS_PROXY": CORP, "no_proxy": "*.EXAMPLE"}, None),
        ({"HTTPS_PROXY": CORP, "NO_PROXY": "auth.example:443"}, None),
        ({"HTTPS_PROXY": CORP, "NO_PROXY": "auth.example:8443"}, CORP),
        ({"HTTPS_PROXY": CORP, "NO_PROXY": "uth.example,other.auth.example,,"}, CORP),
        ({"HTTPS_PROXY": CORP, "no_proxy": "", "NO_PROXY": "*"}, CORP),
    ],
)
def test_proxies_of_the_environment(env: dict[str, str], proxy: str | None) -> None:
    assert egress(env).proxy_for(URL) == proxy


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("https://127.0.0.1:9/token", "", True),
        ("https://127.8.9.1/token", "", True),
        ("https://[::1]/token", "", True),
        ("http://localhost/token", "", True),
        ("https://auth.LOCALHOST./token", "", True),
        ("https://10.1.2.3/token", "", False),
        ("https://10.1.2.3/token", "10.0.0.0/8", True),
        ("https://10.1.2.3/token", "192.168.0.0/16,10.1.2.3", True),
        ("https://10.1.2.3/token", "192.168.0.0/16", False),
        ("https://localhost.example/token", "", False),
    ],
)
def test_addresses_that_need_no_proxy(url: str, no_proxy: str, direct: bool) -> None:
    env = {"HTTPS_PROXY": CORP, "HTTP_PROXY": CORP, "NO_PROXY": no_proxy}
    assert egress(env).proxy_for(url) == (None if direct else CORP)


@pytest.mark.parametrize(
    ("listening", "proxy"),
    [
        (OURS, "http://127.0.0.1:8080"),
        (OURS, "127.0.0.1:8080"),
        (OURS, "http://user:pw@localhost:8080/"),
        (OURS, "http://127.0.0.2:8080"),
        (OURS, "https://[::1]:8080"),
        (OURS, "http://[::ffff:127.0.0.1]:8080"),
        (OURS, "http://0.0.0.0:8080"),
        (("::1", 80), "http://localhost"),
        (("", 443), "https://localhost"),
        (("192.0.2.7", 8080), "http://192.0.2.7:8080"),
        (("192.0.2.7", 8080), "http://127.0.0.1:8080"),
        (("192.0.2.7", 8080), "http://[::ffff:192.0.2.7]:8080"),
    ],
)
def test_never_through_this_proxy(listening: tuple[str, int], proxy: str) -> None:
    env = {"HTTPS_PROXY": proxy}
    listeners = (("127.0.0.1", 1), listening)
    assert egress(env, listening=listeners).proxy_for(URL) is None
    assert egress(env, listening=(("127.0.0.1", 1),)).proxy_for(URL) is not None
    assert egress({**env, "ALL_PROXY": CORP}, listening=listeners).proxy_for(URL) == CORP
    assert egress(upstream=proxy, listening=listeners).proxy_for(URL) is None


@pytest.mark.parametrize("bound", ["", "0.0.0.0", "::"])
def test_every_address_of_this_machine_is_ours_when_all_are_bound(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"me.example": "127.0.0.1", "other.example": "192.0.2.9"}

    def resolve(host: str, *_: object, **__: object) -> list[object]:
        return [(0, 0, 0, "", (names.get(host, host), 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for name, proxy in [("me", None), ("other", "http://other.example:8080")]:
        env = {"HTTPS_PROXY": f"http://{name}.example:8080"}
        assert egress(env, listening=((bound, 8080),)).proxy_for(URL) == proxy


def test_an_own_address_beyond_loopback() -> None:
    mine = "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing; it tells the address towards elsewhere
        mine = probe.getsockname()[0]
    env = {"HTTPS_PROXY": f"http://{mine}:8080"}
    assert egress(env, listening=(("0.0.0.0", 8080),)).proxy_for(URL) is None


def test_a_proxy_whose_name_leads_nowhere_is_not_ours() -> None:
    env = {"HTTPS_PROXY": "http://proxy.invalid:8080"}
    assert egress(env).proxy_for(URL) == "http://proxy.invalid:8080"


def test_mitmproxys_own_upstream_comes_first() -> None:
    env = {"HTTPS_PROXY": "http://other.example:1", "NO_PROXY": "*"}
    assert egress(env, upstream=CORP).proxy_for(URL) == CORP


@pytest.mark.parametrize("url", ["http://127.0.0.1/token", "https://localhost:9/", "http://[::1]/"])
def test_this_machine_is_asked_by_itself(url: str) -> None:
    assert egress({"HTTPS_PROXY": CORP, "http_proxy": CORP}, upstream=CORP).proxy_for(url) is None


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8080/token", True),
        ("https://localhost:8080/token", True),
        ("https://localhost:8081/token", False),
        ("https://endpoint.invalid:8080/token", False),
    ],
)
def test_whether_an_endpoint_is_this_proxy(url: str, here: bool) -> None:
    assert egress({}).is_this_proxy(url) == here


@pytest.mark.parametrize(
    "proxy", ["socks5://h:1", "ftp://h", "http://", "http://h:0", "http://h:x", "http://[canary"]
)
def test_a_proxy_that_is_none(proxy: str) -> None:
    for name in ("HTTPS_PROXY", "all_proxy"):
        with pytest.raises(ValueError, match=f"{name.upper()} names no http:// or https:// proxy"):
            egress({name: proxy}).proxy_for(URL)
    with pytest.raises(ValueError, match="--mode upstream names no http://"):
        egress(upstream=proxy).proxy_for(URL)


def certificates(context: ssl.SSLContext) -> set[bytes]:
    return set(context.get_ca_certs(binary_form=True))


def certificates_of(*files: Path) -> set[bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for file in files:
        context.load_verify_locations(file)
    return certificates(context)


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Path, Path]:
    return Authority(tmp_path / "own").ca, Authority(tmp_path / "corp").ca


def test_what_programs_that_fetch_a_secret_get_of_the_environment(
    authorities: tuple[Path, Path],
) -> None:
    ca, other = authorities
    env = {
        "HTTPS_PROXY": "http://127.0.0.1:8080",
        "http_proxy": "localhost:8080",
        "ALL_PROXY": CORP,
        "NO_PROXY": "a.test",
        "SSL_CERT_FILE": str(ca),
        "CURL_CA_BUNDLE": str(other),
        "REQUESTS_CA_BUNDLE": "/missing.pem",
        "HOME": "/home/me",
        "EMPTY_PROXY": "",
        "https_proxy": "http://[broken",
    }
    gone = {"HTTPS_PROXY", "http_proxy", "SSL_CERT_FILE"}
    left = egress(env, own_ca=ca).environment()
    assert left == {name: value for name, value in env.items() if name not in gone}


def test_a_named_file_is_believed_alone(authorities: tuple[Path, Path]) -> None:
    own, corp = authorities
    for own_ca in (own, None, own.parent / "absent.pem"):
        context = egress({"SSL_CERT_FILE": str(corp)}, own_ca=own_ca).ssl_context()
        assert certificates(context) == certificates_of(corp)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


@pytest.mark.parametrize("kind", ["same", "link", "copy", "other words"])
def test_the_own_ca_is_passed_over(kind: str, authorities: tuple[Path, Path]) -> None:
    own, _ = authorities
    named = own if kind == "same" else own.parent / "named.pem"
    if kind == "link":
        named.symlink_to(own)
    if kind in ("copy", "other words"):
        named.write_text(("# a comment\n" if kind == "other words" else "") + own.read_text())
    found = certificates(egress({"SSL_CERT_FILE": str(named)}, own_ca=own).ssl_context())
    assert found >= certificates_of(Path(certifi.where()))
    assert not found & certificates_of(own)


def test_a_bundle_that_holds_the_own_ca_too_is_believed(
    authorities: tuple[Path, Path], tmp_path: Path
) -> None:
    own, corp = authorities
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(own.read_text() + corp.read_text())
    context = egress({"SSL_CERT_FILE": str(bundle)}, own_ca=own).ssl_context()
    assert certificates(context) == certificates_of(own, corp)


def test_a_file_without_a_ca_is_not_taken_for_the_own_ca(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    _, leaf, _ = authority.issue(["a.example"]).read_text().split("-----BEGIN ")[1:]
    (tmp_path / "named.pem").write_text(f"-----BEGIN {leaf}")
    env = {"SSL_CERT_FILE": str(tmp_path / "named.pem")}
    assert not certificates(egress(env, own_ca=authority.ca).ssl_context())


def test_a_named_folder_is_believed_alone(tmp_path: Path) -> None:
    # Its files are read when they are needed: none is loaded here, and none of certifi's.
    assert not certificates(egress({"SSL_CERT_DIR": str(tmp_path)}).ssl_context())


@pytest.mark.parametrize("content", [None, "", "canary"])
def test_a_named_file_without_certificates(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    own = Authority(tmp_path / "own").ca
    with pytest.raises(ValueError, match=r"^SSL_CERT_FILE or SSL_CERT_DIR has no certificates"):
        egress({"SSL_CERT_FILE": str(file)}, own_ca=own).ssl_context()


def test_openssls_own_look_at_the_environment_finds_no_own_ca(
    authorities: tuple[Path, Path],
) -> None:
    own, _ = authorities
    script = (
        "import os, pathlib\n"
        "from tests.test_egress import certificates, certificates_of\n"
        "from flowrotate.mint.egress import Egress\n"
        "own = pathlib.Path(os.environ['SSL_CERT_FILE'])\n"
        "context = Egress(tuple, lambda: None, os.environ, lambda: own).ssl_context()\n"
        "assert not certificates(context) & certificates_of(own)\n"
    )
    env = {**os.environ, "SSL_CERT_FILE": str(own), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=env, check=True, timeout=60)
