"""`rotate_passthrough`: what is in no pool reaches its own server undecrypted."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import ThreadedUpstream

from .world import World, bearers, pool, trusting

ON = {"rotate_passthrough": "true"}


@contextmanager
def connected(proxy: Proxy, authority: str) -> Iterator[socket.socket]:
    """A socket behind the proxy's answer to CONNECT."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as raw:
        raw.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += raw.recv(1)  # what comes behind is the server's
        assert b" 200 " in answer
        yield raw


def issuer(raw: socket.socket, name: str, ca: Path) -> str:
    """Who signed the certificate that a client meets there: the CA is the only one it trusts."""
    with trusting(ca).wrap_socket(raw, server_hostname=name) as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = tls.getpeercert(binary_form=True)
        assert found
        return x509.load_der_x509_certificate(found).issuer.rfc4514_string()


def whose(world: World, proxy: Proxy, authority: str, name: str) -> str:
    """ "own" when the client meets the upstream's own certificate, "proxy" for mitmproxy's."""
    with connected(proxy, authority) as raw:
        try:
            issuer(raw, name, world.authority.ca)
            return "own"
        except ssl.SSLCertVerificationError:
            pass
    with connected(proxy, authority) as raw:
        assert "CN=mitmproxy" in issuer(raw, name, proxy.ca)
        return "proxy"


@pytest.mark.parametrize(
    ("hosts", "target", "name", "expected"),
    [
        (["localhost:{port}"], "localhost:{port}", "localhost", "proxy"),
        (["localhost:{port}"], "LocalHost:{port}", "localhost", "proxy"),
        (["localhost:{port}"], "localhost:{port}", "other.example", "proxy"),
        (["localhost:{port}"], "127.0.0.1:{port}", "localhost", "proxy"),
        (["localhost:*"], "localhost:{port}", "localhost", "proxy"),
        (["*.one.example:{port}"], "127.0.0.1:{port}", "a.one.example", "proxy"),
        (["localhost:{port}"], "127.0.0.1:{port}", "127.0.0.1", "own"),
        (["localhost:1"], "localhost:{port}", "localhost", "own"),
        (["localhost"], "localhost:{port}", "localhost", "own"),
        (["*.one.example:{port}"], "127.0.0.1:{port}", "one.example", "own"),
        (["*.one.example:{port}"], "localhost:{port}", "a.one.example", "own"),
    ],
)
def test_whose_certificate_a_client_meets(
    shared: World,
    named: ThreadedUpstream,
    hosts: list[str],
    target: str,
    name: str,
    expected: str,
) -> None:
    given = tuple(host.format(port=named.port) for host in hosts)
    proxy = proxy_for(shared, given)
    assert whose(shared, proxy, target.format(port=named.port), name) == expected


@pytest.fixture(scope="module")
def named(shared: World) -> ThreadedUpstream:
    """An upstream of many names."""
    names = ["localhost", "127.0.0.1", "a.one.example", "one.example", "other.example"]
    return shared.upstream(leaf=shared.authority.issue(names), alpn=["http/1.1"])


@cache
def proxy_for(shared: World, hosts: tuple[str, ...], strategy: str = "eager") -> Proxy:
    """One for all tests that ask for the same."""
    options = ON | {"connection_strategy": strategy, "flow_detail": "1"}
    return shared.proxy(pool(hosts), options=options)


def direct(world: World, proxy: Proxy, *, http2: bool = False) -> httpx.Client:
    """A client that goes through the proxy, and believes the upstream's own certificate alone."""
    transport = httpx.HTTPTransport(
        verify=trusting(world.authority.ca, http2=http2),
        http2=http2,
        http1=not http2,
        proxy=httpx.Proxy(proxy.url),
    )
    return httpx.Client(transport=transport, trust_env=False, timeout=20)


@pytest.mark.parametrize("strategy", ["eager", "lazy"])
@pytest.mark.parametrize("http2", [False, True])
def test_one_proxy_for_both(world: World, http2: bool, strategy: str) -> None:
    pooled, other = world.upstream(), world.upstream()
    proxy = world.proxy(
        pool([f"localhost:{pooled.port}"]), options=ON | {"connection_strategy": strategy}
    )
    own = world.client(proxy, http2=http2)
    with direct(world, proxy, http2=http2) as direct_one:
        headers = {"Authorization": "Bearer mine"}
        for _ in range(3):
            assert own.get(pooled.url(), headers=headers).status_code == 200
            got = direct_one.get(other.url(), headers=headers)
            assert got.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert bearers(pooled.requests) == ["a", "b", "c"]
    assert [r.header("authorization") for r in other.requests] == ["Bearer mine"] * 3


def test_a_name_that_only_the_client_hello_tells(world: World) -> None:
    """Intercepted, and what is in it too: the request gets its credential."""
    upstream = world.upstream(alpn=["http/1.1"])
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), options=ON)
    with (
        connected(proxy, f"127.0.0.1:{upstream.port}") as raw,
        trusting(proxy.ca).wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        host = f"Host: localhost:{upstream.port}"
        tls.sendall(f"GET / HTTP/1.1\r\n{host}\r\nAuthorization: mine\r\n\r\n".encode())
        assert tls.recv(65536).startswith(b"HTTP/1.1 200")
    assert bearers(upstream.requests) == ["a"]


@pytest.mark.parametrize("sizes", [[1, 1, 1], [2], [3], [5, 1], [100], [200, 50]])
@pytest.mark.parametrize("pooled", [False, True])
def test_a_client_hello_in_pieces(
    shared: World, named: ThreadedUpstream, sizes: list[int], pooled: bool
) -> None:
    """To an address: only the whole hello tells whose it is."""
    proxy = proxy_for(shared, (f"localhost:{named.port if pooled else 1}",))
    upstream, world = named, shared
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ca = proxy.ca if pooled and sizes[0] > 2 else world.authority.ca
    tls = trusting(ca).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    with connected(proxy, f"127.0.0.1:{upstream.port}") as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = 0
        for size in sizes:
            raw.sendall(hello[at : at + size])
            at += size
            # What was sent has been read, and the proxy has had its turn.
            proxy_settles(raw)
        raw.sendall(hello[at:])
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))


def proxy_settles(raw: socket.socket) -> None:
    raw.settimeout(0.05)
    with pytest.raises(TimeoutError):
        raw.recv(1)
    raw.settimeout(20)


@contextmanager
def speaking(greeting: bytes) -> Iterator[int]:
    """The port of a server of another protocol: it greets, then says everything twice."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.sendall(greeting)
                    while data := peer.recv(65536):
                        peer.sendall(data * 2)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(20)


SILENT = [
    b"\x00\x01\x02",
    b"\x16\x03\x09 nearly TLS",
    b"\x16\x01",
    b"SSH-2.0-client\r\n",
    b"GET / HTTP/1.1\r\nhOst:  odd\r\nX-Odd : 1\r\n\r\n",
    b"x",
]
GREETING = [
    (b"220 mail.example ESMTP\r\n", b"EHLO me\r\n"),
    (b"SSH-2.0-server\r\n", b"SSH-2.0-client\r\n"),
]


@pytest.mark.parametrize(
    ("strategy", "greeting", "said"),
    [
        *(("eager", b"", said) for said in SILENT),
        *(("lazy", b"", said) for said in SILENT),
        # When it is lazy, mitmproxy itself waits for the client.
        *(("eager", greeting, said) for greeting, said in GREETING),
    ],
)
def test_other_protocols(shared: World, greeting: bytes, said: bytes, strategy: str) -> None:
    proxy = proxy_for(shared, ("localhost:1",), strategy)
    with speaking(greeting) as port, connected(proxy, f"127.0.0.1:{port}") as raw:
        got = b""
        while len(got) < len(greeting):
            got += raw.recv(65536)
        raw.sendall(said)
        while len(got) < len(greeting) + 2 * len(said):
            got += raw.recv(65536)
    assert got == greeting + said * 2
    # A tunnel is no flow, which would be shown before its client is gone.
    proxy.wait_for(f"server disconnect 127.0.0.1:{port}")
    assert f"<- tcp <- 127.0.0.1:{port}" not in proxy.text
    assert f"-> tcp -> 127.0.0.1:{port}" not in proxy.text


def test_plain_http_in_a_tunnel(world: World) -> None:
    pooled, other = world.upstream(tls=False), world.upstream(tls=False)
    proxy = world.proxy(pool([f"http://localhost:{pooled.port}"]), options=ON)
    for upstream in (pooled, other):
        with connected(proxy, f"localhost:{upstream.port}") as raw:
            host = f"localhost:{upstream.port}"
            head = f"GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: mine\r\n\r\n"
            raw.sendall(head.encode())
            assert raw.recv(65536).startswith(b"HTTP/1.1 200")
    assert bearers(pooled.requests) == ["a"]
    assert [r.header("authorization") for r in other.requests] == ["mine"]


def test_a_host_that_joins_a_pool(world: World) -> None:
    """Its open tunnels go on, its next connection is intercepted."""
    upstream = world.upstream(alpn=["http/1.1"])
    proxy = world.proxy(pool(["localhost:1"]), options=ON)
    authority = f"localhost:{upstream.port}"
    with direct(world, proxy) as kept:
        assert kept.get(upstream.url()).status_code == 200
        world.secrets(pool([authority]), name="proxy-1.json")
        proxy.wait_for("reloaded: ")
        assert whose(world, proxy, authority, "localhost") == "proxy"
        assert kept.get(upstream.url()).status_code == 200
    assert bearers(upstream.requests) == ["?", "?"]
    client = world.client(proxy)
    assert client.get(upstream.url()).status_code == 200
    assert bearers(upstream.requests)[-1] == "a"
    world.secrets(pool(["localhost:1"]), name="proxy-1.json")
    proxy.wait_for("reloaded: (?s:.*)reloaded: ")
    assert whose(world, proxy, authority, "localhost") == "own"


def test_upstream_mode(world: World) -> None:
    pooled, other = world.upstream(), world.upstream()
    company = world.proxy(scripts=[], options={"ignore_hosts": ".*"})
    hosts = pool([f"localhost:{pooled.port}"])
    proxy = world.proxy(hosts, options=ON, mode=f"upstream:{company.url}")
    assert whose(world, proxy, f"localhost:{pooled.port}", "localhost") == "proxy"
    assert whose(world, proxy, f"localhost:{other.port}", "localhost") == "own"
    company.stop()
    # It went through the next proxy: without that, there is no way.
    with pytest.raises(httpx.TransportError), direct(world, proxy) as client:
        client.get(other.url())


def test_socks(world: World) -> None:
    pooled, other = world.upstream(), world.upstream()
    proxy = world.proxy(pool([f"localhost:{pooled.port}"]), options=ON, mode="socks5")
    curl = world.curl()
    socks = f"socks5h://127.0.0.1:{proxy.port}"
    for upstream, ca in ((pooled, proxy.ca), (other, world.authority.ca)):
        said = curl("--proxy", socks, "--cacert", str(ca), "-H", "Authorization: x", upstream.url())
        assert "true" in said
    assert bearers(pooled.requests) == ["a"]
    assert [r.header("authorization") for r in other.requests] == ["x"]


def test_a_proxy_that_is_reached_by_tls(world: World) -> None:
    """The client's TLS with the proxy itself is no connection to anywhere."""
    pooled, other = world.upstream(), world.upstream()
    proxy = world.proxy(pool([f"localhost:{pooled.port}"]), options=ON)
    curl = world.curl()
    secure = ["--proxy", f"https://localhost:{proxy.port}", "--proxy-cacert", str(proxy.ca)]
    for upstream, ca in ((pooled, proxy.ca), (other, world.authority.ca)):
        said = curl(*secure, "--cacert", str(ca), "-H", "Authorization: x", upstream.url())
        assert "true" in said
    assert bearers(pooled.requests) == ["a"]
    assert [r.header("authorization") for r in other.requests] == ["x"]


@pytest.mark.parametrize("tls", [True, False])
def test_reverse_mode_is_no_tunnel(world: World, tls: bool) -> None:
    """There a client believes that the proxy is the server."""
    upstream = world.upstream(tls=tls)
    origin = f"{'https' if tls else 'http'}://localhost:{upstream.port}"
    proxy = world.proxy(pool(["localhost:1"]), options=ON, mode=f"reverse:{origin}")
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{proxy.url}/x").status_code == 200
    assert [r.target for r in upstream.requests] == ["/x"]


def test_off_is_as_mitmproxy_is(world: World) -> None:
    upstream = world.upstream()
    proxy = world.proxy(pool(["localhost:1"]))
    assert whose(world, proxy, f"localhost:{upstream.port}", "localhost") == "proxy"


def test_a_proxy_without_working_pools_is_no_tunnel(world: World) -> None:
    """While nobody knows what is in a pool, a placeholder must not get through."""
    upstream: ThreadedUpstream = world.upstream()
    script = world.folder / "broken.py"
    script.write_text(
        "from flowrotate.rotator import ROTATOR\n"
        "def running():\n    ROTATOR.broken = 'for a test'\n"
    )
    proxy = world.proxy(pool(["localhost:1"]), options=ON, scripts=[SCRIPT, script])
    assert whose(world, proxy, f"localhost:{upstream.port}", "localhost") == "proxy"
    assert world.client(proxy).get(upstream.url()).status_code == 502
    assert upstream.requests == []
