"""The way back: an answer that fails its credential is kept back, and the request goes out again.

    wait_for_response_headers --may fail, its body will tell--> weigh
    weigh --whole, too long, too slow: it fails, another is there--> turn, else on to the client
    wait_for_response_headers --fails, another is there--> swallow
    swallow --whole, too long, too slow--> turn
    turn --alarm--> wait_for_response_headers, with the next credential

mitmproxy's HTTP/1 client has to end its turn before its connection is used again, so the next
attempt starts with an alarm, never in the event that ended the last one. When the next attempt
brings no answer, the client gets the one that was kept.
"""

from collections.abc import Callable
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http._events import (
    HttpEvent,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from flowrotate import attempt, outcome
from flowrotate.guard import Refusal
from flowrotate.passage import Passage, guarded, own_fault
from flowrotate.rotator import ROTATOR
from flowrotate.streams import Tee, is_incremental

from .sealing import SealingStream, Steps
from .swallow import SECONDS, Swallowed
from .upstream import detach

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))


class Alarm(commands.RequestWakeup):
    """A wake-up for one stream. Those of the streams in a tunnel pass through the tunnel's own."""

    def __init__(self, delay: float, stream: "RotatingStream") -> None:
        super().__init__(delay)
        self.stream = stream


class RotatingStream(SealingStream):
    """One request, with as many attempts as it needs."""

    swallowed: Swallowed | None = None
    alarm: Alarm | None = None
    failure: Refusal | None = None
    """Our own answer, to be given when the upstream's is out of the way."""
    streamed = False
    """Whether the request's body went out as it came: there is nothing to send again."""

    def _handle_event(self, event: events.Event) -> Steps:
        if isinstance(event, events.Wakeup):
            return self._letting_go(self._wake(event))
        steps: Steps = super()._handle_event(event)
        if self.passage is None:
            return steps
        if isinstance(event, ResponseEndOfMessage):
            # The upstream is done with it, though somebody may look at the response for hours.
            self.passage.release()
        return self._letting_go(steps)

    def passthrough(self, event: events.Event) -> Steps:
        if isinstance(event, events.Wakeup) and _stream_of(event) is self:
            return _nothing()  # it came late: this is a WebSocket by now
        steps: Steps = super().passthrough(event)
        return steps

    def start_request_stream(self) -> Steps:
        self.streamed = True
        return super().start_request_stream()

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Steps:
        passage = self.passage
        if passage is None:
            steps: Steps = super().state_wait_for_response_headers(event)
            return steps
        more = guarded(lambda: outcome.must_read(passage, event.response))
        if isinstance(more, Refusal):
            return self._fail(more)
        if more and not event.end_stream:
            return self._keep_back(Swallowed(event, self.context.server), self.state_weigh)
        another = self._learn(passage, event.response, b"")
        if isinstance(another, Refusal):
            return self._fail(another)
        if another:
            kept = Swallowed(event, self.context.server, len(passage.attempts) - 1)
            return self._keep_back(kept, self.state_swallow)
        self.swallowed = None
        return self._deliver(passage, event)

    def _learn(self, passage: Passage, response: http.Response, body: bytes) -> bool | Refusal:
        repeatable = not self.streamed and self.client_state == self.state_done
        return guarded(
            lambda: outcome.learn(self.flow, passage, response, body, repeatable=repeatable)
        )

    def _deliver(self, passage: Passage, event: ResponseHeaders, served: int = -1) -> Steps:
        """Hand the answer to mitmproxy: this is the one that the client gets."""
        refusal = guarded(lambda: self._prepare(passage, event, served))
        if refusal:
            return self._fail(refusal)
        steps: Steps = super().state_wait_for_response_headers(event)
        return steps

    def _prepare(self, passage: Passage, event: ResponseHeaders, served: int) -> None:
        response = event.response
        outcome.expose(passage, response, served)
        bodiless = event.end_stream or response.status_code in (101, 204, 304)
        if (
            not bodiless
            and ROTATOR.settings.stream
            and is_incremental(response.data.headers.fields)
        ):
            response.stream = Tee(lambda body: setattr(response.data, "content", body))

    def _keep_back(self, answer: Swallowed, state: Callable[[HttpEvent], Steps]) -> Steps:
        self.swallowed, self.server_state = answer, state
        yield self._set_alarm(SECONDS)

    def state_weigh(self, event: HttpEvent) -> Steps:
        """The body of an answer is coming in that will tell whether it fails."""
        assert self.swallowed
        if self.swallowed.take(event):
            yield from self._weighed(self.swallowed)

    def state_swallow(self, event: HttpEvent) -> Steps:
        """The body of a failing answer is coming in."""
        assert self.swallowed
        if self.swallowed.take(event):
            yield self._turn()

    def _weighed(self, answer: Swallowed) -> Steps:
        """As much of the body as is awaited is here: on to the next attempt, or to the client."""
        assert self.passage
        another = self._learn(self.passage, answer.head.response, answer.body)
        answer.attempt = len(self.passage.attempts) - 1
        if isinstance(another, Refusal):
            yield from self._fail(another)
        elif another:
            yield self._turn()
        else:
            yield from self._pass_on(answer)

    def state_turn(self, _: HttpEvent) -> Steps:
        """The next attempt is about to start; nothing of the last one matters any more."""
        yield from ()

    def _turn(self) -> Alarm:
        self.server_state = self.state_turn
        return self._set_alarm(0)

    def _set_alarm(self, seconds: float) -> Alarm:
        self.alarm = Alarm(seconds, self)
        return self.alarm

    def _wake(self, event: events.Wakeup) -> Steps:
        # An alarm cannot be stopped: it may come late, or when the client has left.
        if event.command is self.alarm and self.client_state != self.state_errored:
            self.alarm = None
            if self.failure:
                yield from self._give_up(self.failure)
            elif self.swallowed and self.server_state == self.state_weigh:
                yield from self._weighed(self.swallowed)
            else:
                yield from self._repeat()

    def _give_up(self, failure: Refusal) -> Steps:
        yield from self._detach()
        yield from self._answer(failure)

    def _detach(self) -> layer.CommandGenerator[Refusal | None]:
        try:
            yield from detach(self)
        except Exception as fault:
            return own_fault(fault)
        return None

    def _repeat(self) -> Steps:
        assert self.swallowed
        if (yield from self.check_killed(True)):
            return
        if refusal := (yield from self._detach()):
            yield from self._answer(refusal)
            return
        self.server_state = self.state_wait_for_response_headers
        if (yield from self.make_server_connection()):
            self.swallowed.repeated_on = self.context.server
            yield from self._sealing(self._send_again())

    def _send_again(self) -> Steps:
        request, server = self.flow.request, self.context.server
        content, trailers = request.raw_content, request.trailers
        head = RequestHeaders(self.stream_id, request, not (content or trailers))
        yield http_layer.SendHttp(head, server)
        if content:
            yield http_layer.SendHttp(RequestData(self.stream_id, content), server)
        if trailers:
            yield http_layer.SendHttp(RequestTrailers(self.stream_id, trailers), server)
        yield http_layer.SendHttp(RequestEndOfMessage(self.stream_id), server)

    def _choose(self) -> Passage | Refusal | None:
        if self.passage is None or self.swallowed is None:
            return super()._choose()
        if self.passage.holds:
            return self.passage
        return attempt.again(self.flow, self.passage)

    def _refuse(self, refusal: Refusal) -> Steps:
        if self.swallowed and self.swallowed.whole and refusal.type == "rotate_exhausted":
            return self._pass_on(self.swallowed)
        return super()._refuse(refusal)

    def _pass_on(self, swallowed: Swallowed) -> Steps:
        """The client gets this one: no other credential brought an answer, or none is needed."""
        assert self.passage
        assert swallowed.attempt is not None
        self.swallowed = self.alarm = None
        yield from self._deliver(self.passage, swallowed.head, swallowed.attempt)
        for event in swallowed.rest:
            yield from self.server_state(event)

    def _fail(self, refusal: Refusal) -> Steps:
        """Our own answer instead of the upstream's, which has begun to come in."""
        self.failure = refusal
        yield self._turn()

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> Steps:
        steps: Steps = super().handle_protocol_error(event)
        broken = (
            isinstance(event, ResponseProtocolError) and self.client_state != self.state_errored
        )
        passage = self.passage
        if self.swallowed and self.server_state == self.state_weigh and not broken:
            self._left(self.swallowed)
        if not (broken and passage):
            return steps
        if self.server_state == self.state_turn:
            return _nothing()  # what is over was reset afterwards
        if self.server_state == self.state_wait_for_response_headers:
            guarded(lambda: outcome.unanswered(self.flow, passage))
        return self._broken_off(self.swallowed, steps) if self.swallowed else steps

    def _left(self, answer: Swallowed) -> None:
        """The client is gone; what the answer says of its credential counts all the same."""
        assert self.passage
        self.server_state = self.state_swallow
        self._learn(self.passage, answer.head.response, answer.body)

    def _broken_off(self, swallowed: Swallowed, otherwise: Steps) -> Steps:
        if self.server_state == self.state_swallow:
            yield self._turn()
        elif self.server_state == self.state_weigh:
            yield from self._weighed(swallowed)
            if self.server_state != self.state_turn:
                # Its body does not tell against it: the client sees it break, as it did.
                yield from otherwise
        elif self._was_stale(swallowed):
            # Answered, and then closed by the upstream, as idle connections are. Only what may
            # be sent twice (RFC 9110, 9.2.2): nobody knows what became of it.
            swallowed.stale = True
            yield self._turn()
        elif swallowed.whole:
            yield from self._pass_on(swallowed)
        else:
            yield from otherwise

    def _was_stale(self, swallowed: Swallowed) -> bool:
        server = self.context.server
        same = swallowed.repeated_on is server and swallowed.server is server
        harmless = self.flow.request.method in IDEMPOTENT
        return same and harmless and not server.connected and not swallowed.stale


def _stream_of(event: events.Wakeup) -> RotatingStream | None:
    return event.command.stream if isinstance(event.command, Alarm) else None


def _nothing() -> layer.CommandGenerator[Any]:
    yield from ()
