"""A request that asks the proxy for the proxy itself ends there: it does not go round."""

import socket

import pytest

from flowrotate.demo.proxy import SCRIPT

from .test_web_port import REBIND
from .world import World, pool

HOSTS = ["0.0.0.0", "127.1", "[::ffff:127.0.0.1]", "a.here.test", "localhost", "127.0.0.2"]


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize("mode", ["regular", "upstream"])
def test_it_does_not_go_round(world: World, mode: str, tunnel: bool) -> None:
    """A web page in the user's browser can send one."""
    company = world.proxy(scripts=[], options={"ignore_hosts": ".*"}) if mode != "regular" else None
    proxy = world.proxy(
        pool(["api.example"]),
        mode=f"upstream:{company.url}" if company else "regular",
        scripts=[SCRIPT, REBIND],
        env={"REBIND": ".here.test"},
        options={"rotate_passthrough": "true"},
    )
    for host in HOSTS:
        own = f"{host}:{proxy.port}"
        line = f"CONNECT {own}" if tunnel else f"GET http://{own}/"
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
            client.sendall(f"{line} HTTP/1.1\r\nHost: {own}\r\n\r\n".encode())
            status = client.recv(65536).split(b" ")[1]
            if status == b"200":  # lazily: nothing has been dialled yet
                client.sendall(f"GET http://{own}/ HTTP/1.1\r\nHost: {own}\r\n\r\n".encode())
                status = [*client.recv(65536).split(b" "), b"closed"][1]
        assert status in (b"502", b"403", b"400", b"closed"), host
    proxy.stop()
    # One for each of ours: no more came of them.
    assert proxy.text.count("client connect") == len(HOSTS)
