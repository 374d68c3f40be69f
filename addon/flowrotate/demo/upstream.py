"""An HTTP server for `flow-rotate demo` and the tests: HTTP/1.1 and HTTP/2, with or without TLS."""

import asyncio
import inspect
import logging
import socket
import ssl
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from .h1 import Http1
from .h2 import Http2
from .message import (
    Answer,
    App,
    Early,
    Raw,
    Reply,
    Request,
    Reset,
    json_reply,
)

__all__ = ["Raw", "Reply", "Request", "Reset", "ThreadedUpstream", "Upstream", "json_reply"]

ALPN = ("h2", "http/1.1")
TLS_SECONDS = 5

logger = logging.getLogger(__name__)


class Upstream:
    """Serves `app` until `stop`; `early` may answer from a request's head alone."""

    def __init__(
        self,
        app: App,
        *,
        leaf: Path | None,
        alpn: Sequence[str] = ALPN,
        early: Early | None = None,
    ) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[Request] = []
        self._app = app
        self._early_app = early
        self._tls = _server_context(leaf, alpn) if leaf else None
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Upstream":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; with port 0 the system picks one, which `self.port` then names."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept(self._listener))

    async def stop(self) -> None:
        """Close the listener and every connection, at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener:
            self._listener.close()
        await asyncio.sleep(0)  # aborted transports close their sockets in the loop's next turn

    def drop(self) -> None:
        """Close every connection; the listener stays."""
        for task in self._connections:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # asyncio.start_server would hide connections that are still in their TLS handshake, and
    # `stop` could not end them.
    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await _readable(listener)
            try:
                sock, _ = listener.accept()
            except OSError:
                continue  # the client has left again
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A task that is cancelled before its first step would leave the socket open.
            task = self._spawn(self._connection(sock))
            task.add_done_callback(partial(_close, sock))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _connection(self, sock: socket.socket) -> None:
        self.connections += 1
        number = self.connections
        try:
            reader, writer = await self._open(sock)
        except OSError:
            return  # no handshake: the client does not trust us, or left
        tls = writer.get_extra_info("ssl_object")
        http = Http2 if tls and tls.selected_alpn_protocol() == "h2" else Http1
        try:
            await http(reader, writer, number, self._answer, self._early).serve()
            writer.close()
            await writer.wait_closed()
        except OSError:
            pass  # the client went away
        except Exception:
            logger.exception("connection %d failed", number)
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _open(self, sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        seconds = TLS_SECONDS if self._tls else None
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            sock,
            ssl=self._tls,
            ssl_handshake_timeout=seconds,
            ssl_shutdown_timeout=seconds,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def _early(self, request: Request) -> Answer | None:
        answer = self._early_app(request) if self._early_app else None
        if answer:
            self.requests.append(request)
        return answer

    async def _answer(self, request: Request) -> Answer:
        self.requests.append(request)
        try:
            answer = self._app(request)
            return await answer if inspect.isawaitable(answer) else answer
        except Reset as reset:
            return reset
        except Exception:
            logger.exception("the app failed at %s %s", request.method, request.target)
            return json_reply({"error": "the app failed"}, 500)


class ThreadedUpstream:
    """An `Upstream` with a loop and thread of its own, for code that is not asynchronous."""

    def __init__(
        self,
        app: App,
        *,
        leaf: Path | None,
        alpn: Sequence[str] = ALPN,
        early: Early | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._upstream = Upstream(app, leaf=leaf, alpn=alpn, early=early)
        self._address = host, port
        self._scheme = "https" if leaf else "http"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Future[None] = Future()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._upstream.port

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in order of arrival."""
        return list(self._upstream.requests)

    @property
    def connections(self) -> int:
        """How many TCP connections were accepted so far."""
        return self._upstream.connections

    def url(self, path: str = "/", host: str = "localhost") -> str:
        """An address of this upstream."""
        return f"{self._scheme}://{host}:{self.port}{path}"

    def start(self) -> None:
        """Return when it listens. Raises OSError when it cannot."""
        self._thread.start()
        self._started.result()

    def stop(self) -> None:
        """Return when every connection is closed."""
        if not self._stop.done():
            self._stop.set_result(None)
        self._thread.join()

    def drop(self) -> None:
        """Close every connection, as a server does with those that idle; it goes on listening."""
        assert self._loop
        self._loop.call_soon_threadsafe(self._upstream.drop)

    def __enter__(self) -> "ThreadedUpstream":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            await self._upstream.start(*self._address)
        except OSError as e:
            self._started.set_exception(e)
            return
        self._started.set_result(None)
        await asyncio.wrap_future(self._stop)
        await self._upstream.stop()


async def _readable(listener: socket.socket) -> None:
    """Until somebody connects. Not `sock_accept`: cancelled just then, it loses the connection."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(listener, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(listener)


def _close(sock: socket.socket, _task: asyncio.Task[None]) -> None:
    sock.close()


def _server_context(leaf: Path, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(leaf)
    context.set_alpn_protocols(list(alpn))
    return context
