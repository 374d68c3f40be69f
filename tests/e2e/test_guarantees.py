"""G1, G3, G4 and G5, each by somebody who tries (G6: test_faults.py)."""

import socket
from pathlib import Path

import httpx
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import ThreadedUpstream

from .world import World, bearers, pool, trusting

HERE = Path(__file__).parent
SCRIPTS = [SCRIPT, HERE / "control.py", HERE / "elsewhere.py"]


def refused(response: httpx.Response, status: int = 502) -> str:
    """The reason of a refusal."""
    assert (response.status_code, response.headers["x-rotate-error"]) == (status, "refused")
    error = response.json()["error"]
    assert error["type"] == "rotate_refused"
    return str(error["message"])


def set_option(proxy: Proxy, text: str) -> httpx.Response:
    with httpx.Client(proxy=proxy.url, trust_env=False) as c:
        return c.get(f"http://control.test/set?{text}")


@pytest.fixture
def upstream(world: World) -> ThreadedUpstream:
    return world.upstream()


def assert_nothing(upstream: ThreadedUpstream) -> None:
    assert upstream.requests == []


# G1: where a secret goes


@pytest.mark.parametrize("http2", [False, True])
def test_g1_a_front_on_the_same_server_gets_nothing(
    world: World, upstream: ThreadedUpstream, http2: bool
) -> None:
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]))
    c = world.client(proxy, http2=http2)
    url = f"https://localhost:{upstream.port}/"
    hosts = ["evil.test", f"localhost:{upstream.port + 1}", "localhost", "a@localhost", ""]
    # mitmproxy itself takes the last two for broken HTTP/2.
    for host in hosts[:3] if http2 else hosts:
        assert "Host is no host of this pool" in refused(c.get(url, headers={"Host": host}))
    assert_nothing(upstream)
    assert c.get(url).status_code == 200
    assert bearers(upstream.requests) == ["a"]  # who is refused uses up no turn


def test_g1_every_host_header_counts(world: World, upstream: ThreadedUpstream) -> None:
    proxy = world.proxy(pool([f"http://localhost:{upstream.port}"]))
    for second in ("evil.test", f"localhost:{upstream.port}"):
        with socket.create_connection(("127.0.0.1", proxy.port)) as raw:
            own = f"localhost:{upstream.port}"
            raw.sendall(
                f"GET http://{own}/ HTTP/1.1\r\nHost: {own}\r\nHost: {second}\r\n\r\n".encode()
            )
            assert raw.recv(1000).split(b" ")[1] in (b"400", b"502")
    assert_nothing(upstream)


def test_g1_connect_to_one_host_tls_for_another(world: World) -> None:
    """The dialled host is in the pool, the name in the TLS handshake is not; and the reverse."""
    upstream = world.upstream()
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), pool(["api.example.test"], name="p2"))

    def ask(connect: str, sni: str, host: str) -> bytes:
        with socket.create_connection(("127.0.0.1", proxy.port)) as raw:
            raw.sendall(f"CONNECT {connect} HTTP/1.1\r\nHost: {connect}\r\n\r\n".encode())
            assert b"200" in raw.recv(1000)
            with trusting(proxy.ca).wrap_socket(raw, server_hostname=sni) as tls:
                head = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                tls.sendall(head.encode())
                return tls.makefile("rb").read()

    own = f"localhost:{upstream.port}"
    assert b"certificate is for no host of this pool" in ask(own, "api.example.test", own)
    assert_nothing(upstream)
    # 127.0.0.1 is in no pool, but dialled by address with a pool's name: that is a transparent
    # client's way, and the verified name decides. Here the port is not the pool's.
    ask(f"127.0.0.1:{upstream.port}", "api.example.test", "api.example.test")
    assert bearers(upstream.requests) == ["?"]


def test_g1_an_address_dialled_for_a_pools_name_is_verified_for_that_name(world: World) -> None:
    upstream = world.upstream()
    impostor = world.upstream(leaf=world.authority.issue(["impostor.test"]))
    rules = [f"api.example.test:{u.port}" for u in (upstream, impostor)]
    proxy = world.proxy(pool(rules))
    curl = world.curl()

    def ask(port: int) -> str:
        # Resolved by the client: the proxy is asked for 127.0.0.1.
        return curl(
            "--proxy",
            f"socks5://127.0.0.1:{socks.port}",
            "--resolve",
            f"api.example.test:{port}:127.0.0.1",
            "--insecure",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            f"https://api.example.test:{port}/",
        )

    proxy.stop()
    socks = world.proxy(pool(rules), mode="socks5")
    assert ask(upstream.port) == "200"
    assert bearers(upstream.requests) == ["a"]
    assert ask(impostor.port) == "502"
    assert_nothing(impostor)


@pytest.mark.parametrize("names", [["other.test"], ["localhost"]], ids=["wrong name", "expired"])
def test_g1_a_bad_certificate_gets_nothing(world: World, names: list[str]) -> None:
    leaf = world.authority.issue(names, expired=names == ["localhost"])
    upstream = world.upstream(leaf=leaf)
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]))
    response = world.client(proxy).get(f"https://localhost:{upstream.port}/")
    assert response.status_code == 502
    assert_nothing(upstream)


def test_g1_ssl_insecure_counts_by_connection(world: World, upstream: ThreadedUpstream) -> None:
    proxy = world.proxy(
        pool([f"localhost:{upstream.port}"]), options={"ssl_insecure": "true"}, scripts=SCRIPTS
    )
    url = f"https://localhost:{upstream.port}/"
    first = world.client(proxy)
    assert "certificate was not verified" in refused(first.get(url))
    set_option(proxy, "ssl_insecure=false")
    # The same connection is what it was; a new one is verified.
    assert "certificate was not verified" in refused(first.get(url))
    second = world.client(proxy)
    assert second.get(url).status_code == 200
    set_option(proxy, "ssl_insecure=true")
    assert second.get(url).status_code == 200
    assert "certificate was not verified" in refused(world.client(proxy).get(url))
    assert bearers(upstream.requests) == ["b", "c"] or len(upstream.requests) == 2


def test_g1_plain_http_goes_where_the_file_says_http(world: World) -> None:
    plain = world.upstream(tls=False)
    proxy = world.proxy(pool([f"localhost:{plain.port}", "http://localhost:1"]))
    c = world.client(proxy)
    headers = {"Authorization": "mine", "Host": f"localhost:{plain.port}"}
    c.get(f"http://localhost:{plain.port}/", headers=headers)
    # A Host of the pool does not make the dialled address one.
    headers["Host"] = "localhost:1"
    c.get(f"http://127.0.0.1:{plain.port}/", headers=headers)
    assert [r.header("authorization") for r in plain.requests] == ["mine", "mine"]


def test_g1_a_request_that_is_sent_elsewhere_after_every_hook(world: World) -> None:
    upstream, other = world.upstream(tls=False), world.upstream(tls=False)
    proxy = world.proxy(pool([f"http://localhost:{upstream.port}"]), scripts=SCRIPTS)
    c = world.client(proxy)
    mine = {"Authorization": "Bearer mine", "Accept": "a"}

    # Out of the pool: it leaves as it came.
    elsewhere = mine | {"X-Elsewhere": f"localhost:{other.port}"}
    c.get(f"http://localhost:{upstream.port}/?a=1", headers=elsewhere)
    (request,) = other.requests
    assert (request.header("authorization"), request.target) == ("Bearer mine", "/?a=1")
    assert_nothing(upstream)

    # Into the pool: with its credential, and not with the client's; but Host tells on it.
    into = mine | {"X-Elsewhere": f"localhost:{upstream.port}"}
    assert "Host is no host" in refused(c.get(f"http://localhost:{other.port}/", headers=into))
    into["Host"] = f"localhost:{upstream.port}"
    c.get(f"http://localhost:{other.port}/", headers=into)
    assert "?" not in bearers(upstream.requests)
    assert "mine" not in str(upstream.requests)


def test_g3_a_request_that_is_sent_elsewhere_does_not_take_the_token_along(world: World) -> None:
    upstream, other = world.upstream(tls=False), world.upstream(tls=False)
    proxy = world.proxy(
        pool([f"http://localhost:{upstream.port}"]),
        scripts=SCRIPTS,
        options={"rotate_client_token": "env:TOKEN"},
        env={"TOKEN": "client-token-canary"},
    )
    headers = {
        "Authorization": "Bearer client-token-canary",
        "X-Api-Key": "mine",
        "X-Elsewhere": f"localhost:{other.port}",
    }
    world.client(proxy).get(f"http://localhost:{upstream.port}/", headers=headers)
    (request,) = other.requests
    assert "canary" not in str(request)
    assert "rotate:" not in str(request)
    assert request.header("x-api-key") == "mine"
    assert_nothing(upstream)


def test_g3_a_request_that_is_sent_to_another_pool_has_presented_the_token(world: World) -> None:
    first, second = world.upstream(tls=False), world.upstream(tls=False)
    proxy = world.proxy(
        pool([f"http://localhost:{first.port}"]),
        pool([f"http://localhost:{second.port}"], "de", name="second"),
        scripts=SCRIPTS,
        options={"rotate_client_token": "env:TOKEN"},
        env={"TOKEN": "client-token-canary"},
    )
    headers = {
        "Authorization": "Bearer client-token-canary",
        "X-Elsewhere": f"localhost:{second.port}",
        "Host": f"localhost:{second.port}",
    }
    response = world.client(proxy).get(f"http://localhost:{first.port}/", headers=headers)
    assert response.status_code == 200
    assert (bearers(second.requests), first.requests) == (["d"], [])


# G4: web pages


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("http2", [False, True])
def test_g4_a_page_is_forwarded_as_it_came(
    world: World, upstream: ThreadedUpstream, headers: dict[str, str], http2: bool
) -> None:
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]))
    url = f"https://localhost:{upstream.port}/"
    c = world.client(proxy, http2=http2)
    c.get(url, headers=headers | {"Authorization": "Bearer mine"})
    c.options(url, headers=headers | {"Access-Control-Request-Method": "POST"})
    c.get(url, headers={"Origin": url.rstrip("/"), "Sec-Fetch-Site": "same-origin"})
    page, preflight, own = upstream.requests
    assert page.header("authorization") == "Bearer mine"
    assert preflight.header("authorization") is None
    assert bearers([own]) == ["a"]


def test_g4_a_page_may_where_the_pool_says_so(world: World, upstream: ThreadedUpstream) -> None:
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], browsers="allow"))
    c = world.client(proxy)
    c.get(f"https://localhost:{upstream.port}/", headers={"Origin": "https://evil.test"})
    assert bearers(upstream.requests) == ["a"]


def test_g4_referer_on_plain_http(world: World) -> None:
    upstream = world.upstream(tls=False)
    proxy = world.proxy(pool([f"http://localhost:{upstream.port}"]))
    url = f"http://localhost:{upstream.port}/"
    world.client(proxy).get(url, headers={"Referer": "http://evil.test/"})
    world.client(proxy).get(url, headers={"Referer": url})
    assert bearers(upstream.requests) == ["?", "a"]


def test_g4_a_rebound_name_in_reverse_mode(world: World, upstream: ThreadedUpstream) -> None:
    origin = f"localhost:{upstream.port}"
    proxy = world.proxy(pool([origin]), mode=f"reverse:https://{origin}")
    with httpx.Client(trust_env=False) as c:
        for host in ("evil.test", f"evil.test:{proxy.port}", "localhost.evil.test", "a@localhost"):
            reason = refused(c.get(proxy.url, headers={"Host": host}), 403)
            assert "DNS rebinding" in reason
        assert_nothing(upstream)
        for host in (f"127.0.0.1:{proxy.port}", "localhost", origin, f"[::1]:{proxy.port}"):
            assert c.get(proxy.url, headers={"Host": host}).status_code == 200
        c.get(proxy.url, headers={"Referer": "http://evil.test/"})
    seen = bearers(upstream.requests)
    assert (seen[-1], "?" in seen[:-1]) == ("?", False)


# G3: the client token (other machines: test_lan.py)


@pytest.mark.parametrize("http2", [False, True])
def test_g3_every_client_must_present_the_token(
    world: World, upstream: ThreadedUpstream, http2: bool
) -> None:
    file = world.folder / "token"
    file.write_text("client-token-canary\n")
    proxy = world.proxy(
        pool([f"localhost:{upstream.port}"]),
        options={"rotate_client_token": f"@{file}"},
        args=["-w", str(world.folder / "flows")],
    )
    c = world.client(proxy, http2=http2)
    url = f"https://localhost:{upstream.port}/"
    for wrong in ({}, {"Authorization": "Bearer x"}, {"X-Api-Key": "client-token-canary"}):
        response = c.post(url, headers=wrong, content=b"x" * 1000)
        assert "rotate_client_token" in refused(response, 401)
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert_nothing(upstream)
    right = [
        {"Authorization": "Bearer client-token-canary"},
        {"Authorization": "Basic dXNlcjpjbGllbnQtdG9rZW4tY2FuYXJ5"},
        # A page that knows the token may.
        {"Authorization": "Bearer client-token-canary", "Origin": "https://evil.test"},
    ]
    for headers in right:
        assert c.get(url, headers=headers).status_code == 200
    # A page that does not is forwarded as it came.
    c.get(url, headers={"Origin": "https://evil.test"})
    assert bearers(upstream.requests) == ["a", "b", "c", "?"]
    proxy.stop()
    assert b"client-token-canary" not in (world.folder / "flows").read_bytes()
    assert "client-token-canary" not in proxy.text
    assert "client-token-canary" not in str(upstream.requests)


# G5: what a client sent as its own (test_rotation.py has what goes upstream)


def test_g5_the_clients_own_is_in_no_capture(world: World, upstream: ThreadedUpstream) -> None:
    file = world.folder / "flows"
    proxy = world.proxy(
        pool([f"localhost:{upstream.port}"]), args=["-w", str(file)], options={"flow_detail": "4"}
    )
    c = world.client(proxy)
    c.get(f"https://localhost:{upstream.port}/", headers={"Authorization": "Bearer mine-canary"})
    # Refused, and failed because nobody listens.
    c.get(
        f"https://localhost:{upstream.port}/",
        headers={"Authorization": "Bearer mine-canary", "Host": "evil.test"},
    )
    upstream.stop()
    c.get(f"https://localhost:{upstream.port}/", headers={"X-Api-Key": "mine-canary"})
    proxy.stop()
    assert file.stat().st_size > 1000
    assert b"mine-canary" not in file.read_bytes()
    assert "mine-canary" not in proxy.text
