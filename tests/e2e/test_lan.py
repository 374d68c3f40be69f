"""G3 over a real network: network namespaces are machines of their own."""

import ctypes
import os
import secrets
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowrotate.demo.proxy import Proxy

from .world import World, bearers, forms, pool, trusting

HERE, THERE = "192.0.2.1", "192.0.2.2"  # TEST-NET-1 (RFC 5737)
BRIDGE = {"172.30.0.1": 16, "fd12:3456:789a::1": 48}
INSIDE = ["172.30.1.0/24", "fd12:3456:789a:1::/64"]


@dataclass
class Lan:
    """The proxy's host and its neighbours, joined by a cable or a bridge."""

    home: str
    neighbours: Sequence[str]
    curl: str

    @contextmanager
    def at(self, host: str) -> Iterator[None]:
        """What this thread starts here, processes and threads too, is on that host."""
        ours, theirs = Path("/proc/self/ns/net"), Path(f"/run/netns/{host}")
        with ours.open() as before, theirs.open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def ask(self, proxy: Proxy, url: str, *args: str, by: int = 0, at: str = HERE) -> str:
        """The status of a request that a neighbour makes."""
        command = [
            *("ip", "netns", "exec", self.neighbours[by], self.curl, "--silent"),
            *("--max-time", "20", "--proxy", f"http://{at}:{proxy.port}"),
            *("--cacert", str(proxy.ca)),
            *("--output", "/dev/null", "--write-out", "%{http_code}", *args, url),
        ]
        return subprocess.run(command, capture_output=True, text=True).stdout


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


@contextmanager
def hosts(neighbours: int) -> Iterator[Lan]:
    curl = shutil.which("curl") or pytest.skip("curl is not installed")
    if not shutil.which("ip"):
        pytest.skip("iproute2 is not installed")
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    mark = secrets.token_hex(3)
    made = Lan(f"home-{mark}", [f"neighbour{n}-{mark}" for n in range(neighbours)], curl)
    names = [made.home, *made.neighbours]
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        yield made
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def cable(home: str, end: str, neighbour: str) -> None:
    """From `end` at home to `eth0` at the neighbour's."""
    _ip(
        *("link", "add", end, "netns", home, "type", "veth"),
        *("peer", "name", "eth0", "netns", neighbour),
    )
    _ip("-n", home, "link", "set", end, "up")
    _ip("-n", neighbour, "link", "set", "eth0", "up")


def address(host: str, device: str, *addresses: str) -> None:
    for one in addresses:
        # Without IPv6's search for duplicates, which takes a second.
        _ip("-n", host, "address", "add", one, "dev", device, *["nodad"] * (":" in one))


@pytest.fixture
def lan() -> Iterator[Lan]:
    with hosts(1) as made:
        cable(made.home, "eth0", made.neighbours[0])
        for host, ip in ((made.home, HERE), (made.neighbours[0], THERE)):
            address(host, "eth0", f"{ip}/30")
        yield made


@pytest.fixture
def bridge() -> Iterator[Lan]:
    """As Docker joins containers to their host; the first one's networks are INSIDE."""
    with hosts(2) as made:
        _ip("-n", made.home, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", made.home, "link", "set", "bridge0", "up")
        address(made.home, "bridge0", *(f"{ip}/{bits}" for ip, bits in BRIDGE.items()))
        for n, name in enumerate(made.neighbours):
            cable(made.home, f"veth{n}", name)
            _ip("-n", made.home, "link", "set", f"veth{n}", "master", "bridge0")
            address(name, "eth0", f"172.30.{n + 1}.2/16", f"fd12:3456:789a:{n + 1}::2/48")
        yield made


def test_g3_a_neighbour_gets_nothing_unless_allowed(world: World, lan: Lan) -> None:
    with lan.at(lan.home):
        upstream = world.upstream()
        spec = pool([f"localhost:{upstream.port}"])
        url = f"https://localhost:{upstream.port}/"
        proxy = world.proxy(spec, host="0.0.0.0")
        others = {
            status: world.proxy(
                spec,
                host="0.0.0.0",
                options={"rotate_allow_clients": ["10.0.0.0/8", network]},
            )
            for network, status in (("192.0.2.4/30", "403"), ("192.0.2.0/30", "200"))
        }
    assert lan.ask(proxy, url) == "403"
    assert lan.ask(proxy, url, "--http1.1", "--data", "x") == "403"
    # Hosts in no pool are open, as in bare mitmproxy.
    assert lan.ask(proxy, url.replace("localhost", "127.0.0.1")) == "200"
    assert bearers(upstream.requests) == ["?"]
    for status, other in others.items():
        assert lan.ask(other, url) == status
    assert bearers(upstream.requests) == ["?", "a"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", HERE])
def test_a_neighbour_does_not_get_the_pac(world: World, lan: Lan, host: str) -> None:
    """It would tell which services somebody has keys for; nor one who may use the pools."""
    with lan.at(lan.home):
        options = {"rotate_allow_clients": ["192.0.2.0/30"]}
        proxy = world.proxy(pool(["api.example"]), host="0.0.0.0", options=options)
        here = subprocess.run(
            [lan.curl, "--silent", f"{proxy.url}/proxy.pac"], capture_output=True, text=True
        )
    assert "api.example" in here.stdout
    url = f"http://{HERE}:{proxy.port}/proxy.pac"
    command = ["ip", "netns", "exec", lan.neighbours[0], lan.curl, "--silent", "--include", url]
    command += ["--max-time", "20", "--header", f"Host: {host}:{proxy.port}"]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    assert said.startswith(("HTTP/1.1 403", "HTTP/1.1 502"))
    assert "api.example" not in said


def test_g3_a_neighbour_who_logs_in(world: World, lan: Lan) -> None:
    with lan.at(lan.home):
        upstream = world.upstream()
        proxy = world.proxy(
            pool([f"localhost:{upstream.port}"]), host="0.0.0.0", args=["--proxyauth", "user:pass"]
        )
    url = f"https://localhost:{upstream.port}/"
    assert lan.ask(proxy, url) == "000"  # CONNECT itself was answered with 407
    assert lan.ask(proxy, url, "--proxy-user", "user:wrong") == "000"
    assert lan.ask(proxy, url, "--proxy-user", "user:pass") == "200"
    assert bearers(upstream.requests) == ["a"]


def test_g3_containers_of_a_bridge_and_its_allowed_networks(world: World, bridge: Lan) -> None:
    with bridge.at(bridge.home):
        upstream = world.upstream()
        proxy = world.proxy(
            pool([f"localhost:{upstream.port}"]),
            host="",
            options={"rotate_allow_clients": INSIDE},
        )
    url = f"https://localhost:{upstream.port}/"
    for at in ("172.30.0.1", "[fd12:3456:789a::1]"):
        assert bridge.ask(proxy, url, by=0, at=at) == "200"
        assert bridge.ask(proxy, url, by=1, at=at) == "403"
    assert bearers(upstream.requests) == ["a", "b"]


@pytest.mark.parametrize("source", ["env:TOKEN", "@FILE"])
def test_g3_a_neighbour_with_the_token(world: World, bridge: Lan, source: str) -> None:
    """It is asked for beside the network, not in its place."""
    file = world.folder / "token"
    file.write_text("its-token\n")
    with bridge.at(bridge.home):
        upstream = world.upstream()
        proxy = world.proxy(
            pool([f"localhost:{upstream.port}"]),
            host="0.0.0.0",
            options={
                "rotate_allow_clients": INSIDE,
                "rotate_client_token": source.replace("FILE", str(file)),
            },
            env={"TOKEN": "its-token"},
        )
    url = f"https://localhost:{upstream.port}/"
    right, wrong = "Authorization: Bearer its-token", "Authorization: Bearer its-tokem"
    for by, header, status in (
        (0, right, "200"),
        (0, wrong, "401"),
        (0, "Accept: */*", "401"),
        (1, right, "403"),
        (1, "Accept: */*", "403"),
    ):
        assert bridge.ask(proxy, url, "--header", header, by=by, at="172.30.0.1") == status
    assert bearers(upstream.requests) == ["a"]


@pytest.mark.parametrize("mode", ["regular", "socks5"])
def test_g3_a_neighbour_who_comes_through_the_proxy_itself(
    world: World, lan: Lan, mode: str
) -> None:
    """Seen from there, it would be a client of this machine."""
    with lan.at(lan.home):
        upstream = world.upstream()
        proxy = world.proxy(pool([f"localhost:{upstream.port}"]), host="0.0.0.0", mode=mode)
    for host in ("127.1", "127.0.0.2", "2130706433", "0.0.0.0", HERE):
        with lan.at(lan.neighbours[0]), suppress(OSError), _connected(proxy) as raw:
            for name, port in ((host, proxy.port), ("localhost", upstream.port)):
                _dial(raw, mode, name, port)
            context = trusting(proxy.ca)
            with context.wrap_socket(raw, server_hostname="localhost") as tls:
                authority = f"localhost:{upstream.port}"
                tls.sendall(f"GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
                tls.recv(4096)
        assert forms(repr(upstream.requests).encode()) == []


def _connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection((HERE, proxy.port), timeout=20)


def _dial(raw: socket.socket, mode: str, host: str, port: int) -> None:
    """Raises OSError when the proxy refuses."""
    if mode == "regular":
        # A blank line: the proxy that is in between is to take what follows for no HTTP.
        asked = [b"\r\n", f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode()]
        raw.sendall(asked[0])
    else:
        name = host.encode()
        asked = [b"\5\1\0", b"\5\1\0\3" + bytes([len(name)]) + name + struct.pack(">H", port)]
        raw.sendall(asked[0])
        if raw.recv(2) != b"\5\0":
            raise ConnectionRefusedError
    time.sleep(0.3)
    raw.sendall(asked[1])
    if not raw.recv(4096).startswith((b"HTTP/1.1 200", b"\5\0")):
        raise ConnectionRefusedError


def test_a_neighbour_does_not_reach_mitmweb_through_the_proxy(world: World, lan: Lan) -> None:
    """Not even where mitmweb listens at every address of the machine, as in a container."""
    (neighbour,) = lan.neighbours
    with lan.at(neighbour):
        other = world.proxy(scripts=[], host="0.0.0.0")
        elsewhere = world.upstream(tls=False, host="0.0.0.0", port=8081)
    with lan.at(lan.home):
        proxy = world.proxy(
            pool([f"localhost:{elsewhere.port}"]),
            command="mitmweb",
            host="0.0.0.0",
            options={"web_host": ""},
            args=["--no-web-open-browser", f"--mode=upstream:http://{THERE}:{other.port}@8082"],
        )
    proxy.wait_for("Web server listening")
    for host in ("127.0.0.1", HERE, "[::1]"):
        assert lan.ask(proxy, f"http://{host}:8081/flows") != "200"
        assert lan.ask(proxy, f"http://{host}:8081/flows", "--proxytunnel") != "200"
    # The other proxy would come back with it.
    through = f"http://{HERE}:8082"
    assert lan.ask(proxy, f"http://{HERE}:8081/flows", "--proxy", through) != "200"
    # The same port of another machine is nobody's business.
    assert lan.ask(proxy, f"http://{THERE}:8081/") == "200"
    assert [r.target for r in elsewhere.requests] == ["/"]
