"""Clients that leave, at every byte and at every moment: nothing stays in flight or in memory."""

import asyncio
import re
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import h2.config  # type: ignore[import-untyped, unused-ignore]  # h2 is typed since 4.2
import h2.connection  # type: ignore[import-untyped, unused-ignore]
import h2.events  # type: ignore[import-untyped, unused-ignore]
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream, json_reply

from . import raw_h2
from .test_broken_upstreams import ask, say
from .test_commands import CONTROL, run
from .test_failover import is_quiet
from .world import World, bearers, client, pool, trusting, tunnel

How = Literal["fin", "rst"]
HOW: list[How] = ["fin", "rst"]
RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER on, for no seconds: close() resets."""
BODY = b"0123456789"

TOKENS = threading.Event()
"""While it is not set, the token endpoint does not answer."""

KEPT = """
import asyncio, gc
from mitmproxy import command, ctx, http
from flowrotate import attempt, passage

@command.command("test.kept")
def kept() -> str:
    for _ in range(3):
        gc.collect()
    objects = gc.get_objects()
    # Of a client that leaves as its HTTP/2 upstream is reached, mitmproxy itself keeps the CONNECT,
    # and the alarm for a ping, for a minute.
    flows = sum(isinstance(o, http.HTTPFlow) and o.request.method != "CONNECT" for o in objects)
    passages = sum(isinstance(o, passage.Passage) for o in objects)
    clients = len(ctx.master.addons.get("proxyserver").connections)
    waits = len(attempt.WAITING)
    tasks = sum("(58.0s)" not in task.get_name() for task in asyncio.all_tasks())
    return f"{flows} flows, {passages} passages, {clients} clients, {waits} waits, {tasks} tasks"
"""


def app(request: Request) -> Any:
    """By path, answers without an end."""
    match request.target.partition("?")[0]:
        case "/v1/half":
            return Reply(200, [("content-length", "1000")], _endless(b"half"))
        case "/v1/events":
            return Reply(200, [("content-type", "text/event-stream")], _endless(b"data: x\n\n"))
        case "/v1/429":
            return Reply(429, [("content-length", "1000")], _endless(b"half"))
        case "/v1/401" if bearers([request]) == ["a"]:
            return Reply(401, (), _endless(b"half"))
        case "/v1/failing" if bearers([request]) == ["a"]:
            return json_reply({}, 429)
        case "/v1/401" | "/v1/failing" | "/v1/silent":
            return _never()
        case "/token":
            return _token()
    return json_reply({"ok": True})


async def _never() -> Reply:
    await asyncio.sleep(600)
    return Reply()


async def _token() -> Reply:
    await asyncio.to_thread(TOKENS.wait, 20)
    return json_reply({"access_token": "canary-access", "expires_in": 0.001})


async def _endless(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk
    await asyncio.sleep(600)


@dataclass(frozen=True, slots=True)
class Scene:
    proxy: Proxy
    plain: ThreadedUpstream
    tls: ThreadedUpstream
    kept: str
    """What the process keeps when nobody is there."""

    @property
    def authority(self) -> str:
        return f"localhost:{self.tls.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.plain.port}"


@pytest.fixture(scope="module")
def scene(shared: World) -> Scene:
    return make_scene(shared)


def make_scene(world: World) -> Scene:
    plain, tls = world.upstream(app, tls=False), world.upstream(app)
    hosts = [f"http://127.0.0.1:{plain.port}", f"localhost:{tls.port}"]
    oauth2 = {
        "token_url": f"http://127.0.0.1:{plain.port}/token",
        "client_id": "rotator",
        "client_secret": {"secret": "canary-client-secret"},
    }
    minted = {
        "name": "minted",
        "hosts": hosts,
        "paths": ["/minted/**"],
        "credentials": [{"id": "m", "oauth2": oauth2}],
    }
    others = pool(hosts, "ab", hold=60, strategy="fill-first", paths=["/v1/**"])
    script = world.folder / "kept.py"
    script.write_text(KEPT)
    proxy = world.proxy(minted, others, scripts=[SCRIPT, CONTROL, script])
    for http2 in (False, True):
        with client(proxy, http2=http2) as c:
            c.get(tls.url("/v1/"))
    return Scene(proxy, plain, tls, run(proxy, "test.kept")[1])


def forgets(scene: Scene) -> None:
    """Of those who left nothing is left, and a good request is served."""
    deadline = time.monotonic() + 20
    while (found := say(scene.proxy, "test.kept")) != scene.kept:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    is_quiet(scene.proxy)
    say(scene.proxy, "rotate.reset")
    assert b" 200 " in ask(scene.proxy, f"http://{scene.address}/v1/")[0]


def leave(sock: socket.socket, how: How) -> None:
    if how == "rst":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def connected(scene: Scene) -> socket.socket:
    return socket.create_connection(("127.0.0.1", scene.proxy.port), timeout=20)


def request(url: str, host: str, body: bytes = BODY) -> bytes:
    return (
        f"POST {url} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer placeholder\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def connection_h2(authority: str, path: str = "/v1/") -> Any:
    """With one request on stream 1 to be sent."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    head = raw_h2.request(authority, path=path, method="POST")
    connection.send_headers(1, list(head))
    connection.send_data(1, BODY, end_stream=True)
    return connection


def posts(upstream: ThreadedUpstream, target: str = "/v1/") -> list[Request]:
    return [r for r in upstream.requests if (r.method, r.target) == ("POST", target)]


def are_whole(came: list[Request]) -> bool:
    """None is a part of one, or came with what the client sent."""
    return {(r.body, *bearers([r])) for r in came} <= {(BODY, "a"), (BODY, "b")}


@pytest.mark.parametrize("how", HOW)
def test_at_every_byte_of_a_request(scene: Scene, how: How) -> None:
    whole = request(f"http://{scene.address}/v1/", scene.address)
    before = len(posts(scene.plain))
    for n in range(len(whole) + 1):
        sock = connected(scene)
        sock.sendall(whole[:n])
        leave(sock, how)
    forgets(scene)
    came = posts(scene.plain)[before:]
    assert are_whole(came)
    assert len(came) <= 1


@pytest.mark.parametrize("how", HOW)
def test_at_every_byte_of_a_body_that_is_streamed(scene: Scene, how: How) -> None:
    """Its head goes upstream with the first byte; the rest never comes."""
    head, body = request(f"http://{scene.address}/v1/", scene.address, b""), b"x" * 40
    head = head.replace(b"Length: 0", b"Length: 40")
    say(scene.proxy, "set stream_large_bodies 1")
    for n in range(len(body)):
        connections = scene.plain.connections
        sock = connected(scene)
        sock.sendall(head + body[:n])
        until(partial(has_more_than, scene.plain, connections))
        leave(sock, how)
    say(scene.proxy, "set stream_large_bodies")
    forgets(scene)


def has_more_than(upstream: ThreadedUpstream, connections: int) -> bool:
    return upstream.connections > connections


@pytest.mark.parametrize("how", HOW)
def test_at_every_byte_of_a_connect(scene: Scene, how: How) -> None:
    whole = f"CONNECT {scene.authority} HTTP/1.1\r\nHost: {scene.authority}\r\n\r\n".encode()
    for n in range(len(whole) + 1):
        sock = connected(scene)
        sock.sendall(whole[:n])
        leave(sock, how)
    forgets(scene)


@pytest.mark.parametrize("how", HOW)
def test_within_a_handshake(scene: Scene, how: How) -> None:
    """After every part of what the client has to say, and of what it hears."""
    for n in range(0, 2000, 40):
        sock = connected(scene)
        sock.sendall(f"CONNECT {scene.authority} HTTP/1.1\r\n\r\n".encode())
        assert b" 200 " in sock.recv(4096)
        shake(sock, scene, n)
        leave(sock, how)
    forgets(scene)


def shake(sock: socket.socket, scene: Scene, n: int) -> None:
    """A TLS handshake, as far as the client's byte `n`."""
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(scene.proxy.ca).wrap_bio(came, goes, server_hostname="localhost")
    while True:
        try:
            tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        said = goes.read()
        sock.sendall(said[:n])
        n -= len(said)
        if done or n <= 0:
            return
        came.write(sock.recv(65536))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
@pytest.mark.parametrize("streamed", [False, True])
def test_at_every_byte_in_tls(scene: Scene, streamed: bool, alpn: str, how: How) -> None:
    whole = request("/v1/", scene.authority)
    if alpn == "h2":
        whole = connection_h2(scene.authority).data_to_send()
    before = len(posts(scene.tls))
    say(scene.proxy, f"set stream_large_bodies {'1' * streamed}")
    for n in range(len(whole) + 1):
        with tunnel(scene.proxy, scene.authority, [alpn]) as tls:
            assert tls.selected_alpn_protocol() == alpn
            tls.sendall(whole[:n])
            leave(tls, how)
    say(scene.proxy, "set stream_large_bodies")
    forgets(scene)
    came = posts(scene.tls)[before:]
    assert are_whole(came)
    assert len(came) <= 1


# A path, the credentials that its request has when the client leaves, and what the first is then:
# of the 429 nobody knows whether its head is there yet.
MOMENTS = [
    ("/v1/silent", "a", "ready"),
    ("/v1/half", "a", "ready"),
    ("/v1/events", "a", "ready"),
    ("/v1/429", "a", "ready|cooling"),
    ("/v1/401", "a", "disabled"),
    ("/v1/failing", "ab", "cooling"),
    ("/v1/held", "", "disabled"),
    ("/minted/", "", "ready"),
]
WAYS = [
    ("http/1.1", "fin"),
    ("http/1.1", "rst"),
    ("h2", "fin"),
    ("h2", "rst"),
    ("h2", "RST_STREAM"),
    ("h2", "GOAWAY"),
]


@pytest.mark.parametrize(("path", "ids", "state"), MOMENTS)
@pytest.mark.parametrize(("alpn", "how"), WAYS)
def test_while_it_is_served(
    scene: Scene, path: str, ids: str, state: str, alpn: str, how: str
) -> None:
    target = f"{path}?{alpn}-{how}"
    TOKENS.clear()
    tokens = len(posts(scene.plain, "/token"))
    held = ["pool/a", "pool/b"] if path == "/v1/held" else []
    for name in held:
        say(scene.proxy, f"rotate.disable {name}")
    said = len(scene.proxy.text)
    connection = connection_h2(scene.authority, target)
    with tunnel(scene.proxy, scene.authority, [alpn]) as tls:
        http1 = request(target, scene.authority)
        tls.sendall(connection.data_to_send() if alpn == "h2" else http1)
        until(lambda: "".join(bearers(posts(scene.tls, target))) == ids)
        match path:
            case "/v1/events":
                hear(tls, b"data: x")
            case "/v1/401":
                scene.proxy.wait_for("a answered 401", 20, after=said)
            case "/v1/held":
                until(lambda: say(scene.proxy, "test.waiting") == "1")
            case "/minted/":
                until(lambda: len(posts(scene.plain, "/token")) > tokens)
        if how == "RST_STREAM":
            connection.reset_stream(1)
        elif how == "GOAWAY":
            connection.close_connection()
        if alpn == "h2":
            tls.sendall(connection.data_to_send())
        if how == "RST_STREAM":
            until(lambda: "in flight" not in say(scene.proxy, "rotate.status"))
            assert next_status(connection, tls, scene.authority) == 200
        leave(tls, "rst" if how == "rst" else "fin")
    until(lambda: "in flight" not in say(scene.proxy, "rotate.status"))
    until(lambda: say(scene.proxy, "test.waiting") == "0")
    assert re.search(f"pool/a: ({state})", say(scene.proxy, "rotate.status"))
    TOKENS.set()
    for name in held:
        say(scene.proxy, f"rotate.enable {name}")
    forgets(scene)
    assert "".join(bearers(posts(scene.tls, target))) == ids


def hear(tls: ssl.SSLSocket, text: bytes) -> None:
    heard = b""
    while text not in heard:
        heard += some(tls)


def some(tls: ssl.SSLSocket) -> bytes:
    data = tls.recv(65536)
    assert data, "hung up"
    return data


def next_status(connection: Any, tls: ssl.SSLSocket, authority: str) -> int:
    """Of another request on the same connection, to a path of no pool."""
    connection.send_headers(3, list(raw_h2.request(authority)), end_stream=True)
    tls.sendall(connection.data_to_send())
    while True:
        for event in connection.receive_data(some(tls)):
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id == 3:
                return int(dict(event.headers)[b":status"])
