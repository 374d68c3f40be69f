"""rotate.status, reset, disable, enable, as a user gives them to the running proxy."""

from pathlib import Path

import httpx
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, json_reply

from .world import World, bearers, pool

CONTROL = Path(__file__).parent / "control.py"


def run(proxy: Proxy, command: str) -> tuple[int, str]:
    with httpx.Client(proxy=proxy.url, trust_env=False) as c:
        response = c.get(f"http://control.test/run?{command}")
        return response.status_code, response.text


def app(request: Request) -> Reply:
    status = {"a": 401, "b": 429}.get(bearers([request])[0], 200)
    return json_reply({}, status, [("Retry-After", "100")] if status == 429 else [])


def test_commands(world: World) -> None:
    upstream = world.upstream(app)
    proxy = world.proxy(
        pool([f"localhost:{upstream.port}"], "abcd", retries=0), scripts=[SCRIPT, CONTROL]
    )
    client = world.client(proxy)
    url = f"https://localhost:{upstream.port}/"

    def ask(n: int) -> str:
        before = len(upstream.requests)
        for _ in range(n):
            client.get(url)
        return "".join(bearers(upstream.requests[before:]))

    assert ask(4) == "abcd"
    code, status = run(proxy, "rotate.status")
    assert code == 200
    a, b, c, d = status.splitlines()
    assert a == "pool/a: disabled (401), picked 1, ok 0, failed 1"
    assert b.startswith("pool/b: cooling ")
    assert b.endswith(" s (429), picked 1, ok 0, failed 1")
    assert (c, d) == tuple(f"pool/{x}: ready, picked 1, ok 1, failed 0" for x in "cd")

    run(proxy, "rotate.disable pool/c")
    assert ask(2) == "dd"
    run(proxy, "rotate.reset")
    assert set(ask(3)) == set("dab")  # c was disabled by hand
    run(proxy, "rotate.enable pool/c")
    run(proxy, "rotate.reset pool/a")
    assert set(ask(3)) == set("acd")


@pytest.mark.parametrize("command", ["rotate.reset", "rotate.disable", "rotate.enable"])
def test_an_unknown_credential_is_told_with_the_known_ones(world: World, command: str) -> None:
    proxy = world.proxy(pool(["a.test"], "ab"), scripts=[SCRIPT, CONTROL])
    for name in ("pool/x", "other/a", "pool", "/"):
        code, said = run(proxy, f"{command} {name}")
        assert code == 400
        assert said == "CommandError: no such credential: write one of pool/a, pool/b"
