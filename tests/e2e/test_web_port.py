"""mitmweb's own API is out of reach of what goes through the proxy (CVE-2025-23217)."""

import json
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy

from .test_commands import CONTROL, run
from .test_leaks import ask_api
from .test_reload import touch
from .world import World, client, pool

REBIND = Path(__file__).parent / "rebind.py"
HOSTS = [
    "127.0.0.1",
    "localhost",
    "localhost.",
    "127.1",
    "127.0.0.1.",
    "0.0.0.0",
    "0",
    "0x7f.1",
    "2130706433",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "a.here.test",
    "LOCALHOST",
]
Way = Callable[..., bytes]
FLOW = b'"client_conn"'
"""Only an answer of the API has this in it."""
RAW = b"\r\n"
"""What makes mitmproxy take the rest for something else than HTTP."""


@dataclass
class Web:
    """A mitmweb: its proxy's ports by mode, its own, and a flow in its list."""

    proxy: Proxy
    ports: dict[str, int]
    port: int

    def listed(self) -> list[dict[str, Any]]:
        return [f for f in json.loads(ask_api(self.proxy, "flows")) if f["type"] == "http"]

    def keeps(self) -> bool:
        return any(f["request"]["path"] == "/kept" for f in self.listed())

    def request(self, path: str, target: str = "") -> bytes:
        """As somebody would who is not held up by mitmweb's checks against web pages."""
        head = f"{'POST' if path == '/clear' else 'GET'} {target}{path} HTTP/1.1\r\n"
        token = "Cookie: _xsrf=x\r\nX-XSRFToken: x\r\nContent-Length: 0\r\n"
        return f"{head}Host: 127.0.0.1:{self.port}\r\n{token}Connection: close\r\n\r\n".encode()


def free_ports(count: int) -> list[int]:
    found = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in found]
    for s in found:
        s.close()
    return ports


def start(world: World, modes: Sequence[str], *args: str, script: Path = SCRIPT) -> Web:
    port, *ports = free_ports(1 + len(modes))
    named = [m.format(web=port) for m in modes]
    listed = [f"--mode={mode}@{port}" for mode, port in zip(named, ports, strict=True)]
    upstream = world.upstream(tls=False)
    proxy = world.proxy(
        pool([f"http://localhost:{upstream.port}"]),
        command="mitmweb",
        args=["--no-web-open-browser", "--web-port", str(port), *listed, *args],
        scripts=[script, REBIND, CONTROL],
    )
    proxy.wait_for("Web server listening")
    with client(proxy) as c:
        assert c.get(upstream.url("/kept")).status_code == 200
    by_mode = dict(zip([m.partition(":")[0] for m in modes], ports, strict=True))
    web = Web(proxy, {"regular": proxy.port} | by_mode, port)
    assert web.keeps()
    return web


@pytest.fixture(scope="module")
def web(shared: World) -> Web:
    other = shared.proxy(scripts=[REBIND], env={"REBIND": ".here.test .there.test"})
    return start(shared, ["socks5", "reverse:http://127.0.0.1:{web}", f"upstream:{other.url}"])


@pytest.fixture(scope="module")
def lazy(shared: World) -> Web:
    return start(shared, ["socks5"], "--set=connection_strategy=lazy", "--tcp-hosts=.*")


@pytest.fixture(params=["web", "lazy"])
def either(request: pytest.FixtureRequest) -> Web:
    made: Web = request.getfixturevalue(request.param)
    return made


def plain(web: Web, host: str, path: str = "/flows", mode: str = "regular") -> bytes:
    return talk(web.ports[mode], web.request(path, f"http://{host}:{web.port}"))


def connect(web: Web, host: str, path: str = "/flows", mode: str = "regular") -> bytes:
    return talk(web.ports[mode], _connect(web, host), web.request(path))


def connect_raw(web: Web, host: str, path: str = "/flows", mode: str = "regular") -> bytes:
    return talk(web.ports[mode], _connect(web, host), RAW + web.request(path))


def socks(web: Web, host: str, path: str = "/flows") -> bytes:
    return talk(web.ports["socks5"], b"\5\1\0", _socks(web, host), web.request(path))


def socks_raw(web: Web, host: str, path: str = "/flows") -> bytes:
    return talk(web.ports["socks5"], b"\5\1\0", _socks(web, host), RAW + web.request(path))


def _connect(web: Web, host: str) -> bytes:
    return f"CONNECT {host}:{web.port} HTTP/1.1\r\n\r\n".encode()


def _socks(web: Web, host: str) -> bytes:
    name = host.strip("[]").encode()
    return b"\5\1\0\3" + bytes([len(name)]) + name + struct.pack(">H", web.port)


def talk(port: int, *said: bytes) -> bytes:
    """Say each when the last was answered, unless with a refusal; what came, to the end."""
    heard = b""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as proxy:
        for line in said[:-1]:
            proxy.sendall(line)
            answer = proxy.recv(4096)
            heard += answer
            if not answer.startswith((b"HTTP/1.1 200", b"\5\0")):
                return heard
        proxy.sendall(said[-1])
        try:
            while more := proxy.recv(65536):
                heard += more
        except ConnectionResetError:
            pass
    return heard


WAYS = [plain, connect, connect_raw, socks, socks_raw]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", HOSTS)
def test_by_its_name(either: Web, host: str, way: Way) -> None:
    assert FLOW not in way(either, host)


@pytest.mark.parametrize("way", WAYS)
def test_a_name_whose_answer_changes(either: Web, way: Way) -> None:
    """Neither does an answer come back, nor has the request its effect."""
    assert FLOW not in way(either, f"read.{way.__name__}.turns.test")
    way(either, f"clear.{way.__name__}.turns.test", "/clear")
    assert either.keeps()


@pytest.mark.parametrize("way", [plain, connect, connect_raw])
@pytest.mark.parametrize("host", [*HOSTS, "a.there.test"])
def test_through_another_proxy_of_this_machine(web: Web, host: str, way: Way) -> None:
    assert FLOW not in way(web, host, mode="upstream")


def test_in_reverse_mode(web: Web) -> None:
    assert FLOW not in talk(web.ports["reverse"], web.request("/flows"))


def test_when_the_option_changes_mitmweb_stays_where_it_is(web: Web) -> None:
    for port in (1, web.port):
        with httpx.Client(proxy=web.proxy.url, trust_env=False) as control:
            control.get(f"http://control.test/set?web_port={port}").raise_for_status()
        assert FLOW not in plain(web, "127.0.0.1")


def test_after_a_reload_of_the_script(world: World) -> None:
    script = world.copied_addon()
    web = start(world, ["socks5"], script=script)
    for _ in range(2):
        touch(script, web.proxy)
    for way in WAYS:
        assert FLOW not in way(web, "127.0.0.1")
        assert FLOW not in way(web, f"{way.__name__}.turns.test")


def test_a_replay(web: Web) -> None:
    plain(web, "127.0.0.1")
    assert run(web.proxy, "replay.client '~d 127.0.0.1'")[0] == 200
    while run(web.proxy, "replay.client.count")[1] != "0":
        pass
    replayed = [f for f in web.listed() if f["request"]["host"] == "127.0.0.1"]
    assert replayed
    for flow in replayed:
        if flow.get("response"):
            assert FLOW not in ask_api(web.proxy, f"flows/{flow['id']}/response/content.data")
