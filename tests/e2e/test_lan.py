"""G3 over a real network: network namespaces are machines of their own."""

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowrotate.demo.proxy import Proxy

from .world import World, bearers, pool

HERE, THERE = "192.0.2.1", "192.0.2.2"  # TEST-NET-1 (RFC 5737)


@dataclass
class Lan:
    """Two hosts joined by a cable: the proxy's, and a neighbour's."""

    home: str
    neighbour: str
    curl: str

    @contextmanager
    def at_home(self) -> Iterator[None]:
        """What this thread starts here, processes and threads too, is on the proxy's host."""
        ours, theirs = Path("/proc/self/ns/net"), Path(f"/run/netns/{self.home}")
        with ours.open() as before, theirs.open() as home:
            _enter(home.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def ask(self, proxy: Proxy, url: str, *args: str) -> str:
        """The status of a request that the neighbour makes."""
        command = [
            *("ip", "netns", "exec", self.neighbour, self.curl, "--silent", "--max-time", "20"),
            *("--proxy", f"http://{HERE}:{proxy.port}", "--cacert", str(proxy.ca)),
            *("--output", "/dev/null", "--write-out", "%{http_code}", *args, url),
        ]
        return subprocess.run(command, capture_output=True, text=True).stdout


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


@pytest.fixture
def lan() -> Iterator[Lan]:
    curl = shutil.which("curl") or pytest.skip("curl is not installed")
    if not shutil.which("ip"):
        pytest.skip("iproute2 is not installed")
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    mark = secrets.token_hex(3)
    made = Lan(f"home-{mark}", f"neighbour-{mark}", curl)
    try:
        for name in (made.home, made.neighbour):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        ends = f"h{mark}", f"n{mark}"
        _ip(
            *("link", "add", ends[0], "netns", made.home, "type", "veth"),
            *("peer", "name", ends[1], "netns", made.neighbour),
        )
        for name, end, address in zip(
            (made.home, made.neighbour), ends, (HERE, THERE), strict=True
        ):
            _ip("-n", name, "address", "add", f"{address}/30", "dev", end)
            _ip("-n", name, "link", "set", end, "up")
        yield made
    finally:
        for name in (made.home, made.neighbour):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def test_g3_a_neighbour_gets_nothing_unless_allowed(world: World, lan: Lan) -> None:
    with lan.at_home():
        upstream = world.upstream()
        hosts = pool([f"localhost:{upstream.port}"])
        url = f"https://localhost:{upstream.port}/"
        proxy = world.proxy(hosts, host="0.0.0.0")
        others = {
            status: world.proxy(
                hosts,
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


def test_g3_a_neighbour_who_logs_in(world: World, lan: Lan) -> None:
    with lan.at_home():
        upstream = world.upstream()
        proxy = world.proxy(
            pool([f"localhost:{upstream.port}"]), host="0.0.0.0", args=["--proxyauth", "user:pass"]
        )
    url = f"https://localhost:{upstream.port}/"
    assert lan.ask(proxy, url) == "000"  # CONNECT itself was answered with 407
    assert lan.ask(proxy, url, "--proxy-user", "user:wrong") == "000"
    assert lan.ask(proxy, url, "--proxy-user", "user:pass") == "200"
    assert bearers(upstream.requests) == ["a"]
