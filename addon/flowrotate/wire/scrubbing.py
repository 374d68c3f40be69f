"""The way back of what an answer says: a secret in it becomes its alias before anybody sees it.

A head is scrubbed before mitmproxy has it, a body that is kept whole at its end, and one that is
streamed as it comes. What has to be unpacked for that goes on unpacked: a stream always, a whole
body only where it was changed. So does what has to be read by its charset, as UTF-8.
"""

import codecs
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from mitmproxy import http
from mitmproxy.net.http.headers import (
    assemble_content_type,
    infer_content_encoding,
    parse_content_type,
)
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.http import _events
from mitmproxy.proxy.layers.http._events import (
    HttpEvent,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.websocket import WebsocketLayer

from flowrotate.guard import Refusal, refused
from flowrotate.passage import Passage, guarded
from flowrotate.rotator import ROTATOR
from flowrotate.scrub.body import (
    FEW,
    Streamed,
    TooLargeError,
    is_packed,
    is_rewritten,
    scrub_whole,
    streamed,
)
from flowrotate.scrub.charsets import is_odd, marked
from flowrotate.scrub.scrubber import Lookout, Scrubber
from flowrotate.scrub.stream import Stream, fitted
from flowrotate.unpack import UnreadableError

from .failover import RotatingStream
from .messages import scrub_messages
from .sealing import Steps

T = TypeVar("T")

# 12.x has an enumeration where 11.0 has HTTP statuses; both become RST_STREAM in HTTP/2.
BROKEN: Any = _events.ErrorCode.GENERIC_SERVER_ERROR if hasattr(_events, "ErrorCode") else 502

DIGESTS = ("content-md5", "digest", "content-digest")
"""Headers about the bytes of a body as it came (RFC 9530, 2)."""
CODECS = frozenset(("base64", "bz2", "hex", "quopri", "uu", "zlib"))
"""Python's own, by which mitmproxy shows a body, though they are no encodings of the web."""


class ScrubbingStream(RotatingStream):
    """One request whose answer shows no secret that went out."""

    scrubber: Scrubber | None = None
    """None as long as there is no answer, and where none is to be scrubbed."""
    body: Streamed | None = None
    """The answer's body, when it is streamed."""
    lookout: Lookout | None = None
    """For a body that is kept whole."""
    tunnel: Stream | None = None
    """What comes from the upstream after a 101 that leads to no WebSocket."""

    def _prepare(self, passage: Passage, event: ResponseHeaders, served: int) -> None:
        if passage.sent and ROTATOR.settings.scrub:
            self.scrubber = Scrubber(passage.sent, ROTATOR.sent)
            self.lookout = self.scrubber.lookout()
            data = event.response.data
            data.headers.fields = self.scrubber.fields(data.headers.fields)
            data.reason = self.scrubber.data(data.reason)
            if _is_codec(_encoding(event.response)):
                # Nobody looks into such a body here, so mitmproxy shall not either.
                del event.response.headers["content-encoding"]
        super()._prepare(passage, event, served)

    def start_response_stream(self) -> Steps:
        started = guarded(self._start_streaming)
        if isinstance(started, Refusal):
            return self._fail(started)
        steps: Steps = super().start_response_stream()
        return steps

    def _start_streaming(self) -> None:
        response = self.flow.response
        if not (self.scrubber and response):
            return
        encoding, kind = _encoding(response), _kind(response)
        charset, length = _charset(kind, b""), "content-length" in response.headers
        self.body = streamed(encoding, kind, length, self.scrubber, charset)
        if is_odd(charset):
            _now_in_utf8(response)
        if is_rewritten(encoding, charset):
            _no_more_packed(response, still=not is_packed(encoding))
            if length:
                del response.headers["content-length"]
                if self.flow.request.http_version == "HTTP/1.1":
                    # Its end has to be told in another way (RFC 9112, 6.3).
                    response.headers["Transfer-Encoding"] = "chunked"

    def state_stream_response_body(self, event: HttpEvent) -> Steps:
        body = self.body
        if isinstance(event, ResponseTrailers):
            self._scrub_trailers(event)
        if body and isinstance(event, ResponseData):
            pieces = _readable(partial(body.feed, event.data))
            if isinstance(pieces, Refusal):
                return self._break_off(pieces)
            if not event.data or len(pieces) != 1 or pieces[0] is not event.data:
                return self._send_on(pieces)
        steps: Steps = super().state_stream_response_body(event)
        if body and isinstance(event, ResponseEndOfMessage):
            return self._after_the_rest(body, steps)
        return steps

    def _send_on(self, pieces: list[bytes]) -> Steps:
        # An empty one would be the end of a chunked body.
        for piece in filter(None, pieces):
            data = ResponseData(self.stream_id, piece)
            yield from super().state_stream_response_body(data)

    def _break_off(self, refusal: Refusal) -> Steps:
        """The client has the head already: all that is left is to let it see the body break."""
        self.body = None
        yield from self._detach()
        yield from super().handle_protocol_error(
            ResponseProtocolError(self.stream_id, refusal.message, BROKEN)
        )

    def state_consume_response_body(self, event: HttpEvent) -> Steps:
        if isinstance(event, ResponseData):
            if self.lookout and guarded(partial(self.lookout.add, event.data)):
                self.lookout = None  # the whole of it will be looked through
        elif isinstance(event, ResponseTrailers):
            self._scrub_trailers(event)
        elif isinstance(event, ResponseEndOfMessage):
            done = _readable(self._scrub_whole)
            if isinstance(done, Refusal):
                return self._fail(done)
        steps: Steps = super().state_consume_response_body(event)
        return steps

    def _scrub_whole(self) -> None:
        response = self.flow.response
        if not (self.scrubber and self.response_body_buf and response):
            return
        body = bytes(self.response_body_buf)
        charset = partial(_charset, _kind(response))
        changed = scrub_whole(body, _encoding(response), self.scrubber, self.lookout, charset)
        self.response_body_buf.clear()
        self.response_body_buf += changed.body if changed else body
        if changed:
            _no_more_packed(response, still=not changed.unpacked)
            if changed.in_utf8:
                _now_in_utf8(response)
            if "content-length" in response.headers:
                response.headers["content-length"] = str(len(changed.body))

    def _scrub_trailers(self, event: ResponseTrailers) -> None:
        scrubber, fields = self.scrubber, event.trailers.fields
        if scrubber:
            clean = guarded(lambda: scrubber.fields(fields))
            event.trailers.fields = () if isinstance(clean, Refusal) else clean

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> Steps:
        broken = isinstance(event, ResponseProtocolError)
        if broken and self.passage and self.passage.sent:
            # mitmproxy quotes what it could not read.
            scrubber = Scrubber(self.passage.sent, ROTATOR.sent)
            clean = guarded(lambda: scrubber.message(event.message))
            event.message = clean.message if isinstance(clean, Refusal) else clean
        steps = super().handle_protocol_error(event)
        if broken and self.body and self.server_state == self.state_stream_response_body:
            return self._after_the_rest(self.body, steps)
        return steps

    def _after_the_rest(self, body: Streamed, steps: Steps) -> Steps:
        rest = guarded(body.end)
        if isinstance(rest, bytes):
            yield from self._send_on([rest])
        yield from steps

    def flow_done(self) -> Steps:
        switched = self.flow.response and self.flow.response.status_code == 101
        if self.scrubber and switched and not self.flow.websocket:
            self.tunnel = self.scrubber.stream(fitted, FEW)
        yield from super().flow_done()
        scrubber, child = self.scrubber, self.child_layer
        if (
            scrubber
            and isinstance(child, WebsocketLayer)
            and guarded(lambda: scrub_messages(child.server_ws, scrubber))
        ):
            # As if the upstream had left: nothing that it says is read.
            yield from super().passthrough(ResponseEndOfMessage(self.stream_id))

    def passthrough(self, event: events.Event) -> Steps:
        if self.tunnel is None or not isinstance(event, ResponseData | ResponseEndOfMessage):
            steps: Steps = super().passthrough(event)
            return steps
        return self._tunnelled(self.tunnel, event)

    def _tunnelled(self, tunnel: Stream, event: ResponseData | ResponseEndOfMessage) -> Steps:
        # What came right behind the head is a bytearray.
        got = bytes(event.data) if isinstance(event, ResponseData) else None
        data = guarded(tunnel.end if got is None else partial(tunnel.feed, got))
        if data and isinstance(data, bytes):
            yield from super().passthrough(ResponseData(self.stream_id, data))
        if got is None:
            yield from super().passthrough(event)


def _readable(step: Callable[[], T]) -> T | Refusal:
    """What a step makes of a body, or our answer to one that nobody can make anything of."""
    return guarded(partial(_attempted, step))


def _attempted(step: Callable[[], T]) -> T | Refusal:
    try:
        return step()
    except (UnreadableError, TooLargeError) as e:
        return refused(502, f"the upstream's answer {e}")


def _encoding(response: http.Response) -> str:
    return ",".join(response.headers.get_all("content-encoding"))


def _kind(response: http.Response) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.lower()


def _charset(kind: str, start: bytes) -> str:
    """As mitmproxy takes it to be, and as it says by itself."""
    told: str = infer_content_encoding(kind, start)
    return told if is_odd(told) else marked(kind, start) or told


def _now_in_utf8(response: http.Response) -> None:
    parsed = parse_content_type(response.headers.get("content-type", ""))
    if parsed:
        kind, subkind, params = parsed
        kept = {name: value for name, value in params.items() if name.lower() != "charset"}
        told = assemble_content_type(kind, subkind, kept | {"charset": "utf-8"})
        response.headers["content-type"] = told


def _is_codec(encoding: str) -> bool:
    try:
        return encoding.lower() == "deflateraw" or codecs.lookup(encoding).name in CODECS
    except (LookupError, ValueError):
        return False


def _no_more_packed(response: http.Response, *, still: bool = False) -> None:
    gone = DIGESTS if still else (*DIGESTS, "content-encoding")
    for name in gone:
        response.headers.pop(name, None)
