"""For the leak audit: a proxy with every kind of source, what clients do, and what is left."""

import asyncio
import base64
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from flowrotate.demo.proxy import SCRIPT
from flowrotate.demo.upstream import Reply, Request

from .audit import MINE, Found, canary, search, seen, strings
from .audit_sources import FAILING, KINDS, MINTED, TOKEN, canaries, pools, surroundings
from .audit_upstreams import (
    BROKEN,
    BROKEN_HTTP2,
    ECHOES,
    ONLY_HTTP2,
    Given,
    Http2,
    broken,
    given,
    sockets,
)
from .oauth_server import OAuthServer
from .test_commands import CONTROL, run
from .world import World, tunnel

LOUD = {"termlog_verbosity": "debug", "flow_detail": "4", "rotate_expose": "true"}
BY_ENV = {"rotate_client_token": "env:AUDIT_TOKEN"}
INSPECTING = CONTROL.parent / "inspecting.py"
PROCESSES = Path("/proc")

PLACED_IN = {"own": "x-own-key", "query": ""}
EVERY = ("secret", "basic", "query")
"""Kinds that go through every echo: plain, in base64 and escaped."""
SOME = ("a body", "header values")
WRITTEN = ("plain", "as it came", "JSON", "hex", "base64 after 0")
"""How it is written in a broken answer."""

HEAD = (
    "GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
    "Connection: {connection}close\r\n{more}\r\n"
)
HANDSHAKE = (
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
# Heads that break off, or are wrong; with a credential of the client's own in them.
HALVES = (
    "GET /secret/x HTTP/1.1\r\nAuthorization: Bearer {mine}",
    "GET /secret/x HTTP/1.1\r\nAuthorization: Bearer {token}\r\nHost: ",
    "GET /secret/x HTTP/1.1\r\nX-Odd: {token}\r\n",
    "GET /secret/x HTTP/1.1\r\nauthorization: Bearer {mine}\r\nx-api-key: {mine}\r\nhost: x\r\n",
    "GET /secret/x HTTP/1.1\r\nX-Goog-Api-Key: {mine}\r\nApi-Key:{mine}\r\n",
    "GET /secret/x HTTP/1.1\r\nAuthorization:\tBearer\t{mine}",
    "GET /secret/x HTTP/1.1\r\nAuthorization: Bearer\r\n {mine}\r\nHost: x\r\n",
    'GET /secret/x HTTP/1.1\r\nAuthorization: Digest username="me", response="{mine}"\r\n',
    "GET /secret/x HTTP/1.1\r\nAuthorization: AWS4-HMAC-SHA256 A=b, Signature={mine}\r\n",
    "GET /secret/x HTTP/1.1\r\nAuthorization: Bearer {mine}\r\nodd\r\n\r\n",
    "GET /secret/x HTTP/1.1\r\nAuthorization: Bearer {mine}\r\n"
    "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "POST /secret/x HTTP/1.1\r\nAuthorization: Bearer {mine}\r\nContent-Length: 9\r\n\r\n.",
    "GET /own/x HTTP/1.1\r\nX-Own-Key: {mine}",
    "GET /basic/x HTTP/1.1\r\nAuthorization: Basic {basic}\r\nHost: x\r\n",
    "GET /query/x?a=1&key={query} HTTP/1.1\r\nHost: x\r\n",
    "GET /query/x?key={query}",
    "GET /query/x?key={query}\r\n\r\n",
    "GET /query/x?key={query} HTTP/x\r\nAuthorization: Bearer {mine}\r\n\r\n",
    "GET /query/x?key={query} HTTP/1.1\r\nTransfer-Encoding: odd\r\n\r\n",
)
TO_THE_PROXY = (
    "GET http://x/ HTTP/1.1\r\nProxy-Authorization: Basic {basic}\r\n",
    "CONNECT x:1 HTTP/1.1\r\nProxy-Authorization: Basic {basic}\r\n",
)


@dataclass
class Audit:
    """`got` is what clients got. Every client has the token, and a credential of its own."""

    world: World
    options: Mapping[str, str]
    args: Sequence[str] = ()
    command: str = "mitmdump"
    got: list[bytes] = field(default_factory=list)
    wrong: list[Request] = field(default_factory=list)
    """Requests that came to the upstream otherwise than they should."""

    def __enter__(self) -> "Audit":
        self._stack = ExitStack()
        self.server = self._stack.enter_context(OAuthServer())
        self.http2 = self._stack.enter_context(Http2(self.world.authority.leaf))
        world, folder = self.world, self.world.folder
        self.arrived, self.leave = threading.Event(), threading.Event()
        self.last: Given | None = None
        self.upstream = world.upstream(self._app)
        self.broken = world.upstream(broken, alpn=["http/1.1"])
        self.sockets = world.upstream(sockets, alpn=["http/1.1"])
        ports = (u.port for u in (self.upstream, self.broken, self.sockets, self.http2))
        self.capture, self.har = folder / "flows.mitm", folder / "flows.har"
        self.proxy = world.proxy(
            *pools(folder, self.server, [f"localhost:{port}" for port in ports]),
            options={**LOUD, "hardump": str(self.har), **self.options},
            args=["-w", str(self.capture), *self.args],
            command=self.command,
            scripts=[SCRIPT, CONTROL, INSPECTING],
            env=surroundings(folder),
        )
        self.clients = {http2: world.client(self.proxy, http2=http2) for http2 in (False, True)}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def _app(self, request: Request) -> Reply:
        _, kind, name, *_ = map(unquote, request.target.partition("?")[0].split("/"))
        got = given(dict(request.headers), request.target)
        last, self.last = self.last or got, got
        if kind == "failing":
            failing = 429 if name == "header values" else 200
            status = dict(zip(FAILING, (429, 401), strict=False)).get(got.secret, failing)
            return replace(ECHOES[name](got), status=status)
        if not self._is_right(request, kind, got.secret):
            self.wrong.append(request)
        if name == "held":
            self.arrived.set()
            await asyncio.to_thread(self.leave.wait, 20)
        if name == "the last one":
            return Reply(200, [], last.body)
        return {"held": ECHOES["a body"], **ECHOES, **ONLY_HTTP2}[name](got)

    def _is_right(self, request: Request, kind: str, secret: str) -> bool:
        """The right credential came, and no compression table keeps it (RFC 7541, 7.1.3)."""
        header = PLACED_IN.get(kind, "authorization")
        kept = request.http_version == "2" and header and header not in request.never_indexed
        return not kept and (kind in MINTED or secret == canary(kind))

    def get(
        self, kind: str, name: str, http2: bool = False, port: int = 0, **given: str
    ) -> httpx.Response:
        own = f"?key={quote(MINE, safe='')}" if kind == "query" else ""
        url = f"https://localhost:{port or self.upstream.port}/{kind}/{quote(name)}{own}"
        headers = {"Authorization": f"Bearer {TOKEN}", "X-Api-Key": MINE, **given}
        if kind == "own":
            headers["X-Own-Key"] = MINE
        body = b""
        broken = suppress(httpx.RemoteProtocolError, httpx.ReadError)
        with self.clients[http2].stream("GET", url, headers=headers) as answer, broken:
            for piece in answer.iter_raw():
                body += piece
        self.got += [repr(answer.headers.raw).encode(), body]
        return answer

    def echo(self, names: Sequence[str] = SOME, kinds: Sequence[str] = KINDS) -> None:
        for http2 in (False, True):
            for kind in kinds:
                for name in names:
                    if http2 or name not in ONLY_HTTP2:
                        answer = self.get(kind, name, http2)
                        assert answer.headers["X-Rotate-Credential"] == f"{kind}/c"

    def fail_over(self) -> None:
        """Two fail, the third serves; then all fail, and the next request waits for one."""
        for http2 in (False, True):
            for name in ("a body", "an error page", "events", "gzip"):
                answer = self.get("failing", name, http2)
                assert (answer.status_code, answer.headers["X-Rotate-Attempts"]) == (200, "3")
                run(self.proxy, "rotate.reset")
        assert self.get("failing", "header values").status_code == 429
        assert self.get("failing", "a body").status_code == 200

    def break_off(self, written: Sequence[str] = WRITTEN, kinds: Sequence[str] = EVERY) -> None:
        """Upstreams break off, and send what is no HTTP."""
        for writing in written:
            for kind in kinds if writing == "as it came" else kinds[:1]:
                for name in BROKEN:
                    self.send(f"{kind}/{quote(name)}/{quote(writing)}", self.broken.port)
                for name in BROKEN_HTTP2:
                    with suppress(httpx.RemoteProtocolError):
                        self.get(kind, f"{name}/{writing}", True, self.http2.port)

    def open_socket(self, kind: str, name: str = "") -> None:
        self.send(f"{kind}/{name}", self.sockets.port, "upgrade, ", HANDSHAKE)

    def send(self, path: str, port: int, connection: str = "", more: str = "") -> None:
        """A request of a client that sees every byte that comes back."""
        host = f"localhost:{port}"
        head = HEAD.format(path=path, host=host, token=TOKEN, connection=connection, more=more)
        got = b""
        with tunnel(self.proxy, host) as tls, suppress(ConnectionError):
            tls.sendall(head.encode())
            while data := tls.recv(65536):
                got += data
        self.got.append(got)

    def vanish(self) -> None:
        """Clients leave in the middle, or send what is no HTTP."""
        basic = base64.b64encode(f"me:{MINE}".encode()).decode()
        own = {"mine": MINE, "basic": basic, "query": quote(MINE, safe=""), "token": TOKEN}
        for half in HALVES:
            with tunnel(self.proxy, f"localhost:{self.upstream.port}", ["http/1.1"]) as tls:
                tls.sendall(half.format(**own).encode())
        for half in TO_THE_PROXY:
            with socket.create_connection(("127.0.0.1", self.proxy.port), timeout=20) as sock:
                sock.sendall(half.format(**own).encode())
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass

    def refuse(self) -> None:
        for http2 in (False, True):
            for kind in EVERY:
                answer = self.get(kind, "a body", http2, Authorization=f"Bearer {MINE}")
                assert answer.status_code == 401
                assert self.get(kind, "a body", http2, Host="evil.test").status_code == 502

    def left(self, **more: bytes) -> dict[str, bytes]:
        """What is left at its end, by name. An alias in each tells that it is the right thing."""
        more["rotate.status"] = b"[rotate:secret/c]" + run(self.proxy, "rotate.status")[1].encode()
        process = PROCESSES / str(self.proxy.pid)
        shown = [
            file.read_bytes() for file in (process / "cmdline", process / "comm") if file.exists()
        ]
        self.proxy.stop()
        artefacts = {
            "what clients got": b"\n".join(self.got),
            "-w": seen(self.capture),
            "HAR": strings(self.har.read_bytes()),
            "the log": self.proxy.text.encode(),
            **more,
        }
        assert self.wrong == []
        assert [name for name, data in artefacts.items() if b"[rotate:secret/c]" not in data] == []
        return artefacts | {"its files": self._files(), "its process": b"\n".join(shown)}

    def _files(self) -> bytes:
        """Whatever it wrote by itself."""
        folders = (self.proxy.folder, self.world.folder / "scratch")
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        assert self.proxy.ca in files
        return b"\n".join(file.name.encode() + file.read_bytes() for file in files)

    def search(self, artefacts: Mapping[str, bytes]) -> list[Found]:
        requests = self.upstream.requests
        return search(artefacts, canaries(self.world.folder, self.server, requests))


class Web:
    """mitmweb's interface, as somebody who knows its password sees it."""

    def __init__(self, audit: Audit) -> None:
        found = re.search(r"Web server listening at (\S+?)/(?:\?token=(\S+))?\s", audit.proxy.text)
        assert found
        self.proxy, self.url = audit.proxy, found[1]
        self.headers = {"Authorization": f"Bearer {found[2]}"}
        self.updates: list[bytes] = []
        self._listens = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()))

    def __enter__(self) -> "Web":
        self._thread.start()
        assert self._listens.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.stop()
        self._thread.join()

    async def _listen(self) -> None:
        """Until mitmweb ends."""
        url = self.url.replace("http", "ws", 1) + "/updates"
        socket = await websocket_connect(HTTPRequest(url, headers=self.headers))
        self._listens.set()
        while isinstance(update := await socket.read_message(), str):
            self.updates.append(strings(update.encode()))
        socket.close()

    def wait_for(self, update: bytes, after: int) -> None:
        """Until it is among the updates, behind so many others."""
        deadline = time.monotonic() + 20
        while not any(update in told for told in self.updates[after:]):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def see(self) -> bytes:
        """All that it shows now."""
        with httpx.Client(headers=self.headers, trust_env=False, timeout=20) as c:
            pages = ("flows", "flows/dump", "events", "state", "options", "commands")
            shown = {page: c.get(f"{self.url}/{page}").raise_for_status() for page in pages}
            parts = [
                c.get(f"{self.url}/flows/{flow['id']}/{part}/{view}")
                for flow in shown["flows"].json()
                for part in ("request", "response", "messages")
                for view in ("content.data", "content/auto.json")
            ]
        return b"\n".join(answer.content for answer in (*shown.values(), *parts))
