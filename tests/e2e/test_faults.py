"""G6: whatever fails, in the addon or at the upstream, nothing half done goes out."""

import pytest

from flowrotate.demo.proxy import SCRIPT
from flowrotate.demo.upstream import Raw, ThreadedUpstream

from .test_guarantees import SCRIPTS, refused
from .world import World, bearers, client, forms, pool


@pytest.fixture
def upstream(world: World) -> ThreadedUpstream:
    return world.upstream()


@pytest.mark.parametrize("step", ["admit", "choose", "seal", "learn", "enter"])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("http2", [False, True])
def test_g6_a_fault_at_any_step(
    world: World, upstream: ThreadedUpstream, step: str, http2: bool, streamed: bool
) -> None:
    """The fault is put in by a second script, on requests with a path of its own."""
    breaking = world.folder / "breaking.py"
    breaking.write_text(
        "from flowrotate import passage\n"
        f"whole = passage.{step}\n"
        "def broken(flow, *rest, **more):\n"
        "    if flow.request.path == '/break':\n"
        "        raise RuntimeError('sk-canary-a-7f3a9c')\n"
        "    return whole(flow, *rest, **more)\n"
        f"passage.{step} = broken\n"
    )
    options = {"stream_large_bodies": "100"} if streamed else {}
    proxy = world.proxy(
        pool([f"localhost:{upstream.port}"]), scripts=[SCRIPT, breaking], options=options
    )
    c = world.client(proxy, http2=http2)
    url = f"https://localhost:{upstream.port}/"
    assert c.get(url).status_code == 200
    response = c.post(url + "break", content=b"x" * 1000)
    reached = [r.target for r in upstream.requests]
    if step == "learn":
        # The answer is there already, and it is the upstream's.
        assert (response.status_code, reached) == (200, ["/", "/break"])
    else:
        assert (response.status_code, reached) == (502, ["/"])
        assert response.json()["error"]["type"] == "rotate_internal"
    assert c.get(url).status_code == 200
    assert "?" not in bearers(upstream.requests)
    proxy.wait_for("internal fault: RuntimeError at breaking.py:5")
    assert forms(proxy.text.encode()) == []


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
