"""One HTTP/1 connection of the upstream, over h11."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import h11  # type: ignore[import-untyped, unused-ignore]  # typed since 0.13

from .message import (
    Answer,
    Early,
    Raw,
    Reply,
    Request,
    Reset,
    bodiless,
    chunks,
    decode,
    encode,
    reply_headers,
)

T = TypeVar("T")

CHUNK = 65536
# Room for a head that is too large for the proxy: the proxy shall refuse it, not we.
MAX_HEAD = 1 << 20


class Http1:
    """Serves requests one after the other until either side ends the connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
        answer: Callable[[Request], Coroutine[Any, Any, Answer]],
        early: Early,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._number = number
        self._answer = answer
        self._early = early
        self._conn = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def serve(self) -> None:
        """Return when the connection is to be closed."""
        try:
            while await self._exchange():
                self._conn.start_next_cycle()
        except h11.RemoteProtocolError:
            if self._conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._send("GET", Reply(400, [("connection", "close")]))
        except Reset:
            self._writer.transport.abort()

    async def _exchange(self) -> bool:
        """Take one request and answer it; say whether another may follow."""
        head = await self._event()
        if isinstance(head, h11.ConnectionClosed):
            return False
        request = self._request(head)
        waiting = self._conn.they_are_waiting_for_100_continue
        if answer := self._early(request):
            # Without "100 Continue" the body may never come: what follows cannot be told apart.
            if not await self._give(request, answer) or waiting:
                return False
            await self._body(request)
        else:
            if waiting:
                self._write(h11.InformationalResponse(status_code=100, headers=[]))
            request = await self._body(request)
            answer = await self._while_connected(self._answer(request))
            if not await self._give(request, answer):
                return False
        return self._conn.our_state is h11.DONE and self._conn.their_state is h11.DONE

    def _request(self, head: Any) -> Request:
        headers = decode(head.headers)
        return Request(
            method=head.method.decode(),
            target=head.target.decode("latin-1"),
            authority=next((value for name, value in headers if name == "host"), ""),
            headers=headers,
            body=b"",
            http_version=head.http_version.decode(),
            connection=self._number,
        )

    async def _body(self, request: Request) -> Request:
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
        return replace(request, body=bytes(body), trailers=decode(event.headers))

    async def _give(self, request: Request, answer: Answer) -> bool:
        """Send an answer; false when it took the connection over."""
        if isinstance(answer, Reset):
            raise answer
        if isinstance(answer, Raw):
            await answer.run(self._reader, self._writer)
            return False
        if isinstance(answer.body, bytes):
            await self._send(request.method, answer)
        else:
            await self._while_connected(self._send(request.method, answer))
        return True

    async def _send(self, method: str, reply: Reply) -> None:
        silent = bodiless(method, reply.status)
        self._write(h11.Response(status_code=reply.status, headers=reply_headers(reply)))
        if not silent:
            async with aclosing(chunks(reply.body)) as body:
                async for chunk in body:
                    self._write(h11.Data(data=chunk))
                    await self._writer.drain()
        self._write(h11.EndOfMessage(headers=[] if silent else encode(reply.trailers)))
        await self._writer.drain()

    async def _while_connected(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, but no longer than the client is there: a hanging app ends with it."""
        task = asyncio.ensure_future(work)
        watch = asyncio.ensure_future(self._reader.read(CHUNK))
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                if not watch.result() and not task.done():
                    raise ConnectionResetError("the client went away")
                # It sends ahead: keep the bytes, and watch no longer.
                self._conn.receive_data(watch.result())
            return await task
        finally:
            task.cancel()
            watch.cancel()
            await asyncio.gather(task, watch, return_exceptions=True)

    async def _event(self) -> Any:
        while (event := self._conn.next_event()) is h11.NEED_DATA:
            self._conn.receive_data(await self._reader.read(CHUNK))
        return event

    def _write(self, event: Any) -> None:
        self._writer.write(self._conn.send(event) or b"")
