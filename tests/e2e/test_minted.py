"""Credentials that are minted: real tokens of a real OAuth 2.0 server, real JWTs."""

import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream, json_reply

from .oauth_server import CLIENT_ID, CLIENT_SECRET, OAuthServer
from .test_commands import CONTROL, run
from .test_failover import BOTH, is_quiet
from .world import World, forms, secret

SECOND = {"id": "static", "secret": secret("static")}


@pytest.fixture
def server() -> Iterator[OAuthServer]:
    with OAuthServer() as made:
        yield made


def tokens(upstream: ThreadedUpstream) -> list[str]:
    return [_token(r) for r in upstream.requests]


def _token(request: Request) -> str:
    return (request.header("authorization") or "").removeprefix("Bearer ")


def guarded_by(world: World, server: OAuthServer) -> ThreadedUpstream:
    """An upstream that takes this server's tokens, and the static secret."""

    def app(request: Request) -> Reply:
        token = _token(request)
        good = server.valid(token) or token == secret("static")
        return json_reply({"ok": good}, 200 if good else 401)

    return world.upstream(app)


def minted(server: OAuthServer, **more: Any) -> dict[str, Any]:
    oauth2 = {
        "token_url": server.url,
        "client_id": CLIENT_ID,
        "client_secret": {"secret": CLIENT_SECRET},
        **more,
    }
    return {"id": "minted", "oauth2": oauth2}


def start(world: World, upstream: ThreadedUpstream, *credentials: Any, **options: Any) -> Proxy:
    spec = {"name": "pool", "hosts": [f"localhost:{upstream.port}"], "credentials": credentials}
    return world.proxy(spec, scripts=[SCRIPT, CONTROL], **options)


@BOTH
def test_fifty_requests_at_once_mint_once(world: World, server: OAuthServer, http2: bool) -> None:
    upstream = guarded_by(world, server)
    proxy = start(world, upstream, minted(server))
    server.open.clear()
    c = world.client(proxy, http2=http2)
    with ThreadPoolExecutor(50) as threads:
        answers = [threads.submit(c.get, upstream.url(f"/{n}")) for n in range(50)]
        while not server.requests:
            time.sleep(0.01)
        time.sleep(0.3)
        server.open.set()
        assert [a.result().status_code for a in answers] == [200] * 50
    assert server.requests == 1
    assert len(set(tokens(upstream))) == 1
    is_quiet(proxy)


@BOTH
@pytest.mark.parametrize("others", [[], [SECOND]])
def test_a_revoked_token_is_replaced_within_the_failing_request(
    world: World, server: OAuthServer, http2: bool, others: list[Any]
) -> None:
    upstream = guarded_by(world, server)
    capture = world.folder / "flows.mitm"
    proxy = start(world, upstream, minted(server), *others, args=["-w", str(capture)])
    c = world.client(proxy, http2=http2)
    assert c.post(upstream.url("/"), content=b"x").status_code == 200
    for _ in others:
        c.get(upstream.url("/"))
    server.revoke_all()
    assert c.post(upstream.url("/again"), content=b"body").status_code == 200
    assert server.requests == 2
    first, second = upstream.requests[-2:]
    assert (first.target, second.target) == ("/again", "/again")
    assert (first.body, second.body) == (b"body", b"body")
    assert first.header("authorization") != second.header("authorization")
    status = run(proxy, "rotate.status")[1]
    assert "minted: ready" in status
    assert "failed 0" in status
    is_quiet(proxy)
    for canary in (CLIENT_SECRET, *tokens(upstream)):
        assert canary not in proxy.text
        assert canary.encode() not in capture.read_bytes()
    assert "its token is minted anew" in capture.read_text("utf-8", "replace")


def test_a_second_401_disables(world: World, server: OAuthServer) -> None:
    upstream = world.upstream(lambda _: json_reply({}, 401))
    proxy = start(world, upstream, minted(server))
    c = world.client(proxy)
    assert c.get(upstream.url("/")).status_code == 401
    assert (len(upstream.requests), server.requests) == (2, 2)
    assert "minted: disabled (401)" in run(proxy, "rotate.status")[1]
    assert c.get(upstream.url("/")).status_code == 503
    is_quiet(proxy)


def test_where_a_401_only_cools_the_token_is_replaced_all_the_same(
    world: World, server: OAuthServer
) -> None:
    upstream = guarded_by(world, server)
    spec = {
        "name": "pool",
        "hosts": [f"localhost:{upstream.port}"],
        "fail": {"401": "cooldown"},
        "credentials": [minted(server)],
    }
    proxy = world.proxy(spec, scripts=[SCRIPT, CONTROL])
    c = world.client(proxy)
    assert c.get(upstream.url("/")).status_code == 200
    server.revoke_all()
    assert c.get(upstream.url("/")).status_code == 200
    assert (server.requests, len(upstream.requests)) == (2, 3)
    is_quiet(proxy)


def test_a_streamed_request_gets_its_401_and_the_next_one_a_new_token(
    world: World, server: OAuthServer
) -> None:
    upstream = guarded_by(world, server)
    proxy = start(world, upstream, minted(server), options={"stream_large_bodies": "100"})
    c = world.client(proxy)
    assert c.post(upstream.url("/"), content=b"x" * 1000).status_code == 200
    server.revoke_all()
    assert c.post(upstream.url("/"), content=b"x" * 1000).status_code == 401
    assert c.post(upstream.url("/"), content=b"x" * 1000).status_code == 200
    assert server.requests == 2


@BOTH
def test_an_endpoint_that_is_down_costs_nobody_a_request(
    world: World, server: OAuthServer, http2: bool
) -> None:
    upstream = guarded_by(world, server)
    server.down = True
    proxy = start(world, upstream, minted(server), SECOND)
    c = world.client(proxy, http2=http2)
    assert [c.get(upstream.url("/")).status_code for _ in range(4)] == [200] * 4
    assert tokens(upstream) == [secret("static")] * 4
    assert server.requests == 1
    assert "minted: cooling" in run(proxy, "rotate.status")[1]
    proxy.wait_for(
        "minted could not be minted .the token endpoint answered 503: it may be better later., "
        "cooling for 60 s"
    )
    server.down = False
    deadline = time.monotonic() + 10
    # Its own patience with the endpoint is a second, whatever the selector says.
    while not any(server.valid(token) for token in tokens(upstream)):
        assert time.monotonic() < deadline
        run(proxy, "rotate.reset")
        assert c.get(upstream.url("/")).status_code == 200
    assert CLIENT_SECRET not in proxy.text
    is_quiet(proxy)


def test_an_endpoint_that_is_down_and_nobody_else(world: World, server: OAuthServer) -> None:
    upstream = guarded_by(world, server)
    server.down = True
    proxy = start(world, upstream, minted(server))
    answer = world.client(proxy).get(upstream.url("/"))
    assert (answer.status_code, answer.headers["x-rotate-error"]) == (429, "exhausted")
    (listed,) = answer.json()["error"]["credentials"]
    assert (listed["id"], listed["state"], listed["reason"]) == ("minted", "cooling", "mint")
    assert upstream.requests == []


def test_a_client_that_leaves_during_a_mint(world: World, server: OAuthServer) -> None:
    upstream = guarded_by(world, server)
    proxy = start(world, upstream, minted(server))
    server.open.clear()
    with pytest.raises(Exception, match="timed out"):
        world.client(proxy, timeout=0.5).get(upstream.url("/"))
    assert server.requests == 1
    server.open.set()
    assert world.client(proxy).get(upstream.url("/")).status_code == 200
    assert server.requests == 1
    is_quiet(proxy)


def test_a_rotated_refresh_token_is_written_back_and_survives_reload_and_restart(
    world: World, server: OAuthServer
) -> None:
    upstream = guarded_by(world, server)
    file = world.folder / "refresh"
    file.touch(mode=0o600)
    first = server.refresh_token()
    file.write_text(first)
    spec = minted(server, grant="refresh_token", refresh_token={"file": str(file)})
    proxy = start(world, upstream, spec)
    c = world.client(proxy)
    assert c.get(upstream.url("/")).status_code == 200
    second = file.read_text().strip()
    assert second != first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # The watch sees the file that the mint wrote: the credential is the same one.
    proxy.wait_for("reloaded: nothing changed")
    assert "minted: ready, picked 1, ok 1" in run(proxy, "rotate.status")[1]
    server.revoke_all()
    assert c.get(upstream.url("/")).status_code == 200
    assert server.requests == 2
    proxy.stop()
    another = start(world, upstream, spec)
    assert world.client(another).get(upstream.url("/")).status_code == 200
    assert server.requests == 3
    assert first not in proxy.text + another.text


RESOLVE = """
import socket
real = socket.getaddrinfo
def getaddrinfo(host, *rest, **named):
    here = host in ("api.example.test", b"api.example.test")
    return real("127.0.0.1" if here else host, *rest, **named)
socket.getaddrinfo = getaddrinfo
"""


def test_token_requests_do_not_go_through_this_proxy(world: World, free_port: int) -> None:
    """Though all variables say so; and SSL_CERT_FILE says whose certificates are believed."""
    resolve = world.folder / "resolve.py"
    resolve.write_text(RESOLVE)
    with OAuthServer(leaf=world.authority.leaf) as server:
        upstream = guarded_by(world, server)
        url = server.url.replace("127.0.0.1", "api.example.test")
        spec = {
            "name": "pool",
            "hosts": [f"localhost:{upstream.port}"],
            "credentials": [minted(server, token_url=url)],
        }
        this = f"http://127.0.0.1:{free_port}"
        proxy = world.proxy(
            spec,
            scripts=[resolve, SCRIPT],
            mode=f"regular@{free_port}",
            env={
                "HTTPS_PROXY": this,
                "ALL_PROXY": this,
                "SSL_CERT_FILE": str(world.authority.ca),
            },
        )
        assert world.client(proxy).get(upstream.url("/")).status_code == 200
        assert server.requests == 1
        assert "api.example.test" not in proxy.text


def test_token_requests_go_through_mitmproxys_own_upstream_proxy(world: World) -> None:
    resolve = world.folder / "resolve.py"
    resolve.write_text(RESOLVE)
    with OAuthServer(leaf=world.authority.leaf) as server:
        upstream = guarded_by(world, server)
        outer = world.proxy(scripts=[resolve])
        spec = {
            "name": "pool",
            "hosts": [f"localhost:{upstream.port}"],
            "credentials": [
                minted(server, token_url=server.url.replace("127.0.0.1", "api.example.test"))
            ],
        }
        proxy = world.proxy(
            spec,
            mode=f"upstream:{outer.url}",
            trust=outer.ca,
            env={"SSL_CERT_FILE": str(outer.ca)},
            own_ca=True,
        )
        assert world.client(proxy).get(upstream.url("/")).status_code == 200
        assert server.requests == 1
        outer.wait_for("POST .*/token")


@pytest.mark.parametrize("http2", [False, True])
def test_a_jwt_has_its_claims_and_its_times(world: World, http2: bool) -> None:
    upstream = world.upstream()
    entry = {
        "id": "signed",
        "jwt": {
            "algorithm": "HS256",
            "key": {"secret": 2 * secret("key")},
            "claims": {"iss": "me", "n": 3},
            "ttl": 300,
        },
    }
    proxy = start(world, upstream, entry)
    c = world.client(proxy, http2=http2)
    for _ in range(3):
        c.get(upstream.url("/"))
    (token,) = set(tokens(upstream))
    claims = jwt.decode(token, 2 * secret("key"), algorithms=["HS256"])
    assert claims.pop("exp") - claims.pop("iat") == 300
    assert claims == {"iss": "me", "n": 3}
    assert forms(proxy.text.encode()) == []
    assert token not in proxy.text


def test_each_revoked_token_is_replaced_when_the_one_before_was_taken(
    world: World, server: OAuthServer
) -> None:
    upstream = guarded_by(world, server)
    proxy = start(world, upstream, minted(server))
    c = world.client(proxy)
    for _ in range(3):
        assert c.get(upstream.url("/")).status_code == 200
        server.revoke_all()
    assert c.get(upstream.url("/")).status_code == 200
    assert server.requests == 4
    assert "minted: ready" in run(proxy, "rotate.status")[1]


def test_a_new_token_costs_none_of_the_retries(world: World, server: OAuthServer) -> None:
    """401, a new token, 429: that was one credential, and the one retry is still to come."""

    def app(request: Request) -> Reply:
        token = _token(request)
        if token == secret("static"):
            return json_reply({}, 200)
        return json_reply({}, 429 if server.requests > 1 else 401)

    upstream = world.upstream(app)
    proxy = start(world, upstream, minted(server), SECOND, options={"rotate_retries": "1"})
    assert world.client(proxy).get(upstream.url("/")).status_code == 200
    assert len(upstream.requests) == 3


def test_who_has_a_new_token_and_fails_again_waits_for_another(
    world: World, server: OAuthServer
) -> None:
    """The minted one is tried twice: that must not count as two credentials."""

    asked = []

    def app(request: Request) -> Reply:
        token = _token(request)
        if token == secret("static"):
            asked.append(1)
            head = [("retry-after", "3")]
            return Reply(429, head) if len(asked) == 1 else json_reply({})
        if not server.valid(token):
            return json_reply({}, 401)
        return json_reply({}, 200 if server.requests == 1 else 429)

    upstream = world.upstream(app)
    proxy = start(world, upstream, SECOND, minted(server), options={"rotate_hold": "10"})
    c = world.client(proxy)
    assert c.get(upstream.url("/")).status_code == 200
    server.revoke_all()
    assert c.get(upstream.url("/")).status_code == 200


def test_another_status_that_disables_is_not_the_tokens_fault(
    world: World, server: OAuthServer
) -> None:
    upstream = world.upstream(lambda _: json_reply({}, 403))
    spec = {
        "name": "pool",
        "hosts": [f"localhost:{upstream.port}"],
        "fail": {403: "disable"},
        "credentials": [minted(server)],
    }

    proxy = world.proxy(spec, scripts=[SCRIPT, CONTROL])
    assert world.client(proxy).get(upstream.url("/")).status_code == 403
    assert (len(upstream.requests), server.requests) == (1, 1)
    assert "minted: disabled (403)" in run(proxy, "rotate.status")[1]
