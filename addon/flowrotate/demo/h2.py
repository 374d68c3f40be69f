"""One HTTP/2 connection of the upstream, over h2."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import h2.config  # type: ignore[import-untyped, unused-ignore]  # h2 is typed since 4.2
import h2.connection  # type: ignore[import-untyped, unused-ignore]
import h2.errors  # type: ignore[import-untyped, unused-ignore]
import h2.events  # type: ignore[import-untyped, unused-ignore]
import h2.exceptions  # type: ignore[import-untyped, unused-ignore]
from hpack import NeverIndexedHeaderTuple

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

CHUNK = 65536

logger = logging.getLogger(__name__)


@dataclass
class _Stream:
    request: Request
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    task: asyncio.Task[None] | None = None


class Http2:
    """Serves any number of streams at once until the client ends the connection."""

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
        self._streams: dict[int, _Stream] = {}
        self._window_grew = asyncio.Event()
        # Not validated: the upstream records whatever came, and tests look at it.
        config = h2.config.H2Configuration(
            client_side=False, header_encoding=None, validate_inbound_headers=False
        )
        self._conn = h2.connection.H2Connection(config)

    async def serve(self) -> None:
        """Return when the connection is to be closed."""
        self._conn.initiate_connection()
        self._flush()
        try:
            # Never waits for the client to read: it may itself be waiting for us to read.
            while data := await self._reader.read(CHUNK):
                for event in self._conn.receive_data(data):
                    if isinstance(event, h2.events.ConnectionTerminated):
                        return
                    self._take(event)
                self._flush()
        except h2.exceptions.ProtocolError:
            self._flush()  # h2 has a GOAWAY ready
        finally:
            await self._cancel_all()

    def _take(self, event: Any) -> None:
        match event:
            case h2.events.RequestReceived():
                self._begin(event)
            case h2.events.DataReceived():
                # Acknowledged at once: bodies are kept whole, so there is nothing to slow down.
                self._conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if stream := self._streams.get(event.stream_id):
                    stream.body += event.data
            case h2.events.TrailersReceived():
                if stream := self._streams.get(event.stream_id):
                    stream.request = replace(stream.request, trailers=decode(event.headers))
            case h2.events.StreamEnded():
                self._end(event.stream_id)
            case h2.events.StreamReset():
                stream = self._streams.pop(event.stream_id, None)
                if stream and stream.task:
                    stream.task.cancel()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._window_grew.set()
                self._window_grew = asyncio.Event()

    def _begin(self, event: Any) -> None:
        fields = decode(event.headers)
        pseudo = dict(fields)
        request = Request(
            method=pseudo.get(":method", ""),
            target=pseudo.get(":path", ""),
            authority=pseudo.get(":authority", ""),
            headers=tuple((name, value) for name, value in fields if not name.startswith(":")),
            body=b"",
            http_version="2",
            connection=self._number,
            never_indexed=tuple(
                bytes(name).decode("latin-1")
                for name, _ in filter(_is_never_indexed, event.headers)
            ),
        )
        stream = self._streams[event.stream_id] = _Stream(request)
        if answer := self._early(request):
            stream.task = asyncio.create_task(self._respond(event.stream_id, stream, answer))

    def _end(self, stream_id: int) -> None:
        if not (stream := self._streams.get(stream_id)):
            return
        stream.ended = True
        if stream.task is None:
            stream.request = replace(stream.request, body=bytes(stream.body))
            stream.task = asyncio.create_task(self._respond(stream_id, stream, None))

    async def _respond(self, stream_id: int, stream: _Stream, answer: Answer | None) -> None:
        try:
            answer = answer or await self._answer(stream.request)
            if isinstance(answer, Reset):
                raise answer
            if isinstance(answer, Raw):
                raise Reset(h2.errors.ErrorCodes.HTTP_1_1_REQUIRED)
            await self._send(stream_id, stream.request.method, answer)
            if not stream.ended:
                # Answered before the body was whole: RFC 9113, 8.1 asks for NO_ERROR.
                self._conn.reset_stream(stream_id, h2.errors.ErrorCodes.NO_ERROR)
        except Reset as reset:
            self._conn.reset_stream(stream_id, reset.code)
        except OSError:
            pass  # the client went away; `serve` sees it too
        except Exception:
            logger.exception("%s %s failed", stream.request.method, stream.request.target)
            self._conn.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        self._flush()
        self._streams.pop(stream_id, None)

    async def _send(self, stream_id: int, method: str, reply: Reply) -> None:
        headers = [(b":status", b"%d" % reply.status), *reply_headers(reply)]
        if bodiless(method, reply.status) or not (reply.body or reply.trailers):
            self._conn.send_headers(stream_id, headers, end_stream=True)
            return
        self._conn.send_headers(stream_id, headers)
        self._flush()
        async with aclosing(chunks(reply.body)) as body:
            async for chunk in body:
                await self._send_data(stream_id, chunk)
        if reply.trailers:
            self._conn.send_headers(stream_id, encode(reply.trailers), end_stream=True)
        else:
            self._conn.end_stream(stream_id)

    async def _send_data(self, stream_id: int, data: bytes) -> None:
        """Send as the client's windows allow."""
        sent = 0
        while sent < len(data):
            window = self._conn.local_flow_control_window(stream_id)
            room = min(window, self._conn.max_outbound_frame_size)
            if room <= 0:
                await self._window_grew.wait()
                continue
            self._conn.send_data(stream_id, data[sent : sent + room])
            sent += room
            self._flush()
            await self._writer.drain()

    def _flush(self) -> None:
        if not self._writer.is_closing():
            self._writer.write(self._conn.data_to_send())

    async def _cancel_all(self) -> None:
        tasks = [stream.task for stream in self._streams.values() if stream.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_never_indexed(header: Any) -> bool:
    return isinstance(header, NeverIndexedHeaderTuple)
