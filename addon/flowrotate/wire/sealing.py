"""The way out: a credential is picked before mitmproxy dials, and put on the wire alone."""

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http._events import (
    HttpEvent,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHeadersHook
from mitmproxy.proxy.mode_specs import ReverseMode

from flowrotate import attempt
from flowrotate import passage as passages
from flowrotate.display import answer
from flowrotate.guard import Refusal, internal
from flowrotate.passage import Passage, guarded

from .upstream import verified_name

Steps = layer.CommandGenerator[Any]

MitmproxyStream = http_layer.HttpStream


@dataclass
class RotateHoldHook(commands.StartHook):
    """A request waits for a credential, or for its token; the addon's hook returns afterwards."""

    flow: http.HTTPFlow


class SealingStream(MitmproxyStream):
    """One request: waits for its credential, dials, and sends it sealed."""

    owners: ClassVar[set[object]] = set()
    """The addon instances that live now. The seam stays while there is one."""

    passage: Passage | None = None
    said: tuple[str, ...] = ()

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        # Not in _handle_event: a stream that waits sees its events only afterwards.
        if isinstance(event, RequestProtocolError) and self.passage and self.passage.wait:
            self.passage.wait.leave()
        return super().handle_event(event)

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Steps:
        if event.replay_flow:
            # What was decided when this flow was first seen does not hold for a replay.
            passages.PASSAGES.pop(event.replay_flow, None)
        elif isinstance(self.context.client.proxy_mode, ReverseMode):
            self.said = passages.authorities_of(event.request)
        steps: Steps = super().state_wait_for_request_headers(event)
        return steps

    def state_consume_request_body(self, event: HttpEvent) -> Steps:
        self._strip(event)
        steps: Steps = super().state_consume_request_body(event)
        whole = isinstance(event, RequestEndOfMessage)
        return self._letting_go(self._sealing(steps)) if whole else steps

    def state_stream_request_body(self, event: HttpEvent) -> Steps:
        self._strip(event)
        steps: Steps = super().state_stream_request_body(event)
        return steps

    def _strip(self, event: HttpEvent) -> None:
        passage = self.passage or passages.PASSAGES.get(self.flow)
        if isinstance(event, RequestTrailers) and passage and passage.taken is not None:
            event.trailers = passages.without_credentials(passage.pool, event.trailers)

    def start_request_stream(self) -> Steps:
        if self.flow.response:
            # Answered in a hook, and only then the body outgrew stream_large_bodies. Bare
            # mitmproxy crashes here (NotImplementedError), and the client waits for ever.
            return self._send_own_response()
        return self._letting_go(self._sealing(super().start_request_stream()))

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        choice = guarded(self._choose)
        while isinstance(choice, Passage) and choice.wait:
            # Not on a connection: the upstream may close one that is idle.
            self.passage = choice
            yield RotateHoldHook(self.flow)
            if (yield from self.check_killed(True)):
                attempt.leave(choice)
                return False
            choice = guarded(self._resume)
        if isinstance(choice, Refusal):
            yield from self._refuse(choice)
            return False
        self.passage = choice
        return (yield from super().make_server_connection())

    def _choose(self) -> Passage | Refusal | None:
        choice = passages.decide(self.flow, self.said)
        if choice and not self.owners:
            return internal("Flow Rotate's script is not loaded (see mitmproxy's log)")
        return (
            (attempt.pick(self.flow, choice) or choice) if isinstance(choice, Passage) else choice
        )

    def _resume(self) -> Passage | Refusal | None:
        assert self.passage
        resumed = attempt.resume(self.flow, self.passage)
        if resumed is None:
            passages.PASSAGES[self.flow], self.passage = self.passage, None
            return self._choose()
        return resumed

    def _letting_go(self, steps: Steps) -> Steps:
        """Drive steps, and let the credential go when the request ends with them, however it does.

        A stream that is dropped while it waits is closed by the garbage collector: that too.
        """
        try:
            yield from steps
        except BaseException:
            if self.passage:
                attempt.leave(self.passage)
                self.passage.release()
            raise
        if self.passage and not self.flow.live:
            self.passage.release()

    def _sealing(self, steps: Steps) -> Steps:
        """Drive mitmproxy's own steps; exchange the request head, the only place for a secret."""
        reply = None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration:
                return
            if self.passage and (head := _request_head(command)):
                sealed = guarded(self._seal)
                if isinstance(sealed, Refusal):
                    steps.close()
                    yield from self._answer(sealed)
                    return
                head.request = sealed
            reply = yield command

    def _seal(self) -> http.Request | Refusal:
        assert self.passage
        address = self.context.server.address
        assert address
        return attempt.seal(self.flow, self.passage, address, verified_name(self))

    def _refuse(self, refusal: Refusal) -> Steps:
        return self._answer(refusal)

    def _answer(self, refusal: Refusal) -> Steps:
        """Answer in the upstream's place, as mitmproxy does for a response that an addon sets."""
        self.flow.response = answer(self.flow, refusal)
        yield from self._send_own_response()

    def _send_own_response(self) -> Steps:
        assert self.flow.response
        self.flow.response.timestamp_start = time.time()
        whole = self.client_state == self.state_done
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        yield from self.send_response()
        if not whole and self.server_state == self.state_done:
            # The rest of the request's body is read and dropped.
            self.client_state = self.state_errored
            yield from self.flow_done()


def _request_head(command: object) -> RequestHeaders | None:
    if isinstance(command, http_layer.SendHttp) and isinstance(command.event, RequestHeaders):
        return command.event
    return None
