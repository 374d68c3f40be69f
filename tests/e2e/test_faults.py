"""G6: whatever fails, in the addon or at the upstream, nothing half done goes out."""

from pathlib import Path

import pytest

from flowrotate.demo.proxy import SCRIPT
from flowrotate.demo.upstream import Raw, ThreadedUpstream

from .test_commands import CONTROL, run
from .test_guarantees import SCRIPTS, refused
from .world import World, bearers, client, forms, pool


@pytest.fixture
def upstream(world: World) -> ThreadedUpstream:
    return world.upstream()


BEFORE = [
    "passage.admit",
    "passage.enter",
    "passage.decide",
    "attempt.pick",
    "attempt.show",
    "attempt.annotate",
]
AFTER = ["outcome.learn", "outcome.judge", "outcome.expose", "outcome.must_read"]


def breaking(world: World, step: str) -> Path:
    """A script that puts a fault into one function, for every request with a path of its own."""
    module, name = step.split(".")
    script = world.folder / "breaking.py"
    script.write_text(
        "import importlib\n"
        "broken = False\n"
        "def running():\n"
        f"    module = importlib.import_module('flowrotate.{module}')\n"
        f"    whole = module.{name}\n"
        "    def fault(*args, **named):\n"
        "        if broken:\n"
        "            raise RuntimeError('sk-canary-a-7f3a9c')\n"
        "        return whole(*args, **named)\n"
        f"    module.{name} = fault\n"
        "def requestheaders(flow):\n"
        "    global broken\n"
        "    broken = flow.request.path == '/break'\n"
    )
    return script


@pytest.mark.parametrize("step", [*BEFORE, "attempt.seal", *AFTER])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("http2", [False, True])
def test_g6_a_fault_at_any_step(
    world: World, upstream: ThreadedUpstream, step: str, http2: bool, streamed: bool
) -> None:
    options = {"stream_large_bodies": "100"} if streamed else {}
    proxy = world.proxy(
        pool([f"localhost:{upstream.port}"]),
        scripts=[breaking(world, step), SCRIPT, CONTROL],
        options=options,
    )
    c = world.client(proxy, http2=http2)
    url = f"https://localhost:{upstream.port}/"
    assert c.get(url).status_code == 200
    response = c.post(url + "break", content=b"x" * 1000)
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "rotate_internal"
    assert [r.target for r in upstream.requests][1:] == ["/break"] * (step in AFTER)
    assert c.get(url).status_code == 200
    assert "?" not in bearers(upstream.requests)
    proxy.wait_for(r"internal fault: RuntimeError at breaking.py:8")
    assert "in flight" not in run(proxy, "rotate.status")[1]
    assert forms(proxy.text.encode()) == []
    assert "Traceback" not in proxy.text


def test_g6_a_refusal_with_a_streamed_request(world: World, upstream: ThreadedUpstream) -> None:
    """Every kind of refusal while the body is on its way, known length and chunked."""
    proxy = world.proxy(
        pool([f"localhost:{upstream.port}"]),
        options={"stream_large_bodies": "1k", "rotate_client_token": "env:TOKEN"},
        env={"TOKEN": "token"},
    )
    url = f"https://localhost:{upstream.port}/"
    body = b"x" * 50_000
    right = {"Authorization": "Bearer token"}
    for http2 in (False, True):
        c = world.client(proxy, http2=http2)
        for _ in range(2):
            for content in (body, iter([body[:500], body[500:]])):
                refused(c.post(url, content=content), 401)
            for content in (body, iter([body[:500], body[500:]])):
                refused(c.post(url, content=content, headers=right | {"Host": "evil.test"}))
        assert c.post(url, content=body, headers=right).status_code == 200
    assert "has crashed" not in proxy.text
    assert len(upstream.requests) == 2


def test_a_broken_upstream_costs_a_credential_nothing(world: World) -> None:
    async def garbage(_: object, writer: object) -> None:
        writer.write(b"garbage\r\n\r\n")  # type: ignore[attr-defined]

    upstream = world.upstream(lambda _: Raw(garbage), alpn=["http/1.1"])
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], ids="a"), scripts=SCRIPTS)
    for _ in range(3):
        with client(proxy) as c:
            assert c.get(f"https://localhost:{upstream.port}/").status_code == 502
    assert bearers(upstream.requests) == ["a", "a", "a"]
