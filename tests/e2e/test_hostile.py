"""What upstreams, endpoints, clients and reloads may do at a bad moment: found by attacking it."""

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Response

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, json_reply

from .oauth_server import CLIENT_SECRET, OAuthServer
from .test_commands import CONTROL, run
from .test_failover import is_quiet
from .test_hold import waiting
from .test_minted import SECOND, guarded_by, minted, start, tokens
from .test_watching import put
from .world import World, bearers, forms, pool, secret


@pytest.fixture
def server() -> Iterator[OAuthServer]:
    with OAuthServer() as made:
        yield made


def with_file(world: World, spec: dict[str, Any], **more: Any) -> tuple[Proxy, Path]:
    file = world.secrets(spec)
    options = {"rotate_secrets": str(file), **more.pop("options", {})}
    return world.proxy(options=options, scripts=[SCRIPT, CONTROL], **more), file


def test_g2_a_command_does_not_fetch_its_secret_through_this_proxy(
    world: World, free_port: int
) -> None:
    world.curl()  # or the test is skipped
    vault = world.upstream(lambda _: Reply(200, [], secret("a").encode()), tls=False)
    upstream = world.upstream()
    this = f"http://127.0.0.1:{free_port}"
    spec = {
        "name": "pool",
        "hosts": [f"localhost:{upstream.port}"],
        "credentials": [{"id": "vault", "command": f"curl -sS {vault.url('/', '127.0.0.1')}"}],
    }
    capture = world.folder / "flows.mitm"
    proxy, _ = with_file(
        world,
        spec,
        mode=f"regular@{free_port}",
        env={"http_proxy": this, "ALL_PROXY": this, "HTTPS_PROXY": this},
        args=["-w", str(capture)],
    )
    run(proxy, "rotate.reload")
    proxy.wait_for("reloaded: nothing changed")
    assert len(vault.requests) == 2
    assert world.client(proxy).get(upstream.url("/")).status_code == 200
    proxy.stop()
    assert forms(capture.read_bytes() + proxy.text.encode()) == []


@pytest.mark.parametrize("length", [20_000, 900_000])
def test_an_endless_token_is_none(world: World, server: OAuthServer, length: int) -> None:
    upstream = guarded_by(world, server)
    answer = json.dumps({"access_token": "x" * length, "token_type": "Bearer"})
    server.answer = Response(answer, content_type="application/json")
    proxy = start(world, upstream, minted(server))
    assert world.client(proxy).get(upstream.url("/")).status_code == 429
    proxy.wait_for("minted could not be minted .the token endpoint gave no usable access_token")
    assert upstream.requests == []


def test_a_token_url_that_is_this_proxy(world: World, server: OAuthServer, free_port: int) -> None:
    upstream = guarded_by(world, server)
    capture = world.folder / "flows.mitm"
    spec = minted(server, token_url=f"http://127.0.0.1:{free_port}/token")
    args = ["-w", str(capture)]
    proxy = start(world, upstream, spec, mode=f"regular@{free_port}", args=args)
    assert world.client(proxy).get(upstream.url("/")).status_code == 429
    proxy.wait_for("token_url is this proxy itself")
    proxy.stop()
    seen = capture.read_bytes()
    assert b"/token" not in seen
    assert CLIENT_SECRET.encode() not in seen


def test_a_silent_endpoint_does_not_keep_a_request_from_others(
    world: World, server: OAuthServer
) -> None:
    upstream = guarded_by(world, server)
    server.open.clear()
    slow = [minted(server, scope=f"s{n}") | {"id": f"minted-{n}"} for n in range(4)]
    proxy = start(world, upstream, *slow, SECOND)
    began = time.monotonic()
    c = world.client(proxy)
    assert [c.get(upstream.url("/")).status_code for _ in range(3)] == [200] * 3
    # Two seconds in all, not for each of the four.
    assert time.monotonic() - began < 5
    for n in range(4):
        proxy.wait_for(
            f"minted-{n} could not be minted .the token endpoint has not answered yet., "
            "cooling for 10 s"
        )
    server.open.set()


def test_a_credential_that_is_gone_is_not_minted_again(world: World, server: OAuthServer) -> None:
    """A 401 comes in after a reload, or a hand, took the credential away."""
    held = threading.Event()

    async def app(request: Request) -> Reply:
        good = request.header("authorization") == f"Bearer {secret('static')}"
        if not good:
            await asyncio.to_thread(held.wait)
        return json_reply({}, 200 if good else 401)

    upstream = world.upstream(app)
    proxy = start(world, upstream, minted(server), SECOND)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(world.client(proxy).get, upstream.url("/"))
        while not upstream.requests:
            time.sleep(0.01)
        run(proxy, "rotate.disable pool/minted")
        held.set()
        assert answer.result().status_code == 200
    assert server.requests == 1
    assert tokens(upstream)[1:] == [secret("static")]
    is_quiet(proxy)


def test_who_waits_goes_along_when_a_reload_moves_its_host(world: World) -> None:
    upstream = world.upstream()
    here, there = f"localhost:{upstream.port}", "elsewhere.test"
    one = {"name": "one", "hosts": [here], "hold": 20, "credentials": [secret("a")]}
    two = {"name": "two", "hosts": [there], "hold": 20, "credentials": [secret("b")]}
    file = world.secrets(one, two)
    proxy = world.proxy(options={"rotate_secrets": str(file)}, scripts=[SCRIPT, CONTROL])
    run(proxy, "rotate.disable one/one-1")
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(world.client(proxy).get, upstream.url("/"))
        waiting(proxy, 1)
        put(file, json.dumps({"pools": [one | {"hosts": [there]}, two | {"hosts": [here]}]}))
        proxy.wait_for("reloaded: ")
        run(proxy, "rotate.enable one/one-1")
        assert answer.result().status_code == 200
    assert bearers(upstream.requests) == ["b"]
    is_quiet(proxy)


def test_an_option_that_changes_during_a_reload_loses_nothing(world: World) -> None:
    upstream = world.upstream()
    said, gate = world.folder / "said", world.folder / "gate"
    said.write_text(secret("a"))
    gate.touch()
    script = world.folder / "vault.sh"
    script.write_text(f"cat {said}; while [ ! -e {gate} ]; do sleep 0.05; done\n")
    spec = {
        "name": "pool",
        "hosts": [f"localhost:{upstream.port}"],
        "credentials": [{"id": "vault", "command": f"sh {script}"}],
    }
    other = world.secrets(spec | {"hold": 1}, name="other.json")
    proxy, _ = with_file(world, spec)
    said.write_text(secret("b"))
    gate.unlink()
    run(proxy, "rotate.reload")
    time.sleep(0.3)  # its command runs
    run_set(proxy, f"rotate_secrets={other}")
    gate.touch()
    proxy.wait_for("reloaded: \\+0 −0 ~1")
    world.client(proxy).get(upstream.url("/"))
    assert bearers(upstream.requests) == ["b"]
    # What is watched is what is used.
    put(other, json.dumps({"pools": [spec | {"hold": 2}]}))
    proxy.wait_for("reloaded: pools changed: pool")


def run_set(proxy: Proxy, what: str) -> None:
    import httpx

    with httpx.Client(proxy=proxy.url, trust_env=False) as control:
        control.get(f"http://control.test/set?{what}").raise_for_status()


def test_a_refresh_token_that_the_user_replaces_meanwhile_is_kept(
    world: World, server: OAuthServer
) -> None:
    upstream = guarded_by(world, server)
    file = world.folder / "refresh"
    file.touch(mode=0o600)
    file.write_text(server.refresh_token())
    mine = server.refresh_token()
    spec = minted(server, grant="refresh_token", refresh_token={"file": str(file)})
    proxy = start(world, upstream, spec)
    server.open.clear()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(world.client(proxy).get, upstream.url("/"))
        while not server.requests:
            time.sleep(0.01)
        put(file, mine)
        proxy.wait_for("reloaded: \\+0 −0 ~1")
        server.open.set()
        answer.result()
    time.sleep(0.3)  # for what it might write
    assert mine not in [form["refresh_token"] for form in server.forms]
    assert file.read_text().strip() == mine


def test_bodies_that_are_meant_to_stall_it(world: World) -> None:
    upstream = world.upstream()
    spec = pool([f"localhost:{upstream.port}"], "ab", cooldown_by="json:/model")
    proxy = world.proxy(spec, scripts=[SCRIPT, CONTROL])
    c = world.client(proxy)
    lists = b'{"model":[' + b"[]," * 2_600_000 + b"[]]}"
    for body, headers in (
        (gzip.compress(lists), {"content-encoding": "gzip"}),
        (b"[" * 100_000, {}),
        (b'{"model": "\\ud800\\u001b[2J\\nforged"}', {}),
    ):
        assert c.post(upstream.url("/"), content=body, headers=headers).status_code == 200
    assert run(proxy, "rotate.status")[0] == 200


def test_what_a_client_names_its_model_is_shown_on_one_line(world: World) -> None:
    upstream = world.upstream(lambda _: json_reply({}, 429, [("Retry-After", "50")]))
    spec = pool([f"localhost:{upstream.port}"], "a", cooldown_by="json:/model")
    proxy = world.proxy(spec, scripts=[SCRIPT, CONTROL])
    c = world.client(proxy)
    body = b'{"model": "\\ud800\\u001b[2J\\nforged' + b"x" * 200 + b'"}'
    for _ in range(2):
        assert c.post(upstream.url("/"), content=body).status_code == 429
    status, text = run(proxy, "rotate.status")
    assert status == 200
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text + proxy.text
    assert "x" * 65 not in text
    assert "\nforged" not in proxy.text


def test_a_retry_after_that_echoes_a_credential_is_not_kept(world: World) -> None:
    def echo(request: Request) -> Reply:
        given = request.header("authorization") or ""
        return json_reply({}, 429 if "-a-" in given else 200, [("Retry-After", given)])

    upstream = world.upstream(echo)
    capture = world.folder / "flows.mitm"
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], "ab"), args=["-w", str(capture)])
    assert world.client(proxy).get(upstream.url("/")).status_code == 200
    proxy.stop()
    assert forms(capture.read_bytes(), ["a"]) == []
