"""The seam: the one place that reaches into mitmproxy's HTTP layer.

mitmproxy makes one HttpStream per request, in every mode, and looks that name up in its module
each time. With our subclass in its place, a credential can be put on the wire without ever being
in a flow. Seen to work on mitmproxy 11.0.2 and 12.2.3.
"""

import time
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http._events import (
    HttpEvent,
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHeadersHook
from mitmproxy.proxy.layers.tls import ServerTLSLayer
from mitmproxy.proxy.mode_specs import ReverseMode
from OpenSSL import SSL

from . import passage as passages
from .display import answer
from .guard import Refusal, internal
from .passage import Passage

Steps = layer.CommandGenerator[Any]

MitmproxyStream = http_layer.HttpStream

_owners: set[object] = set()
"""The addon instances that live now. The seam stays while there is one."""


def install(owner: object) -> None:
    """Put the seam in place. Raises RuntimeError when another addon has changed the same class."""
    if http_layer.HttpStream not in (MitmproxyStream, RotatingStream):
        raise RuntimeError("another addon has replaced mitmproxy's HttpStream")
    _owners.add(owner)
    http_layer.HttpStream = RotatingStream  # type: ignore[misc]


def uninstall(owner: object, *, returning: bool) -> None:
    """Take the seam away with its last owner.

    `returning`: mitmproxy is about to load the script again. Should that fail, the seam is what
    keeps placeholders from going out: it stays, and refuses what belongs to a pool.
    """
    _owners.discard(owner)
    if not _owners and not returning:
        http_layer.HttpStream = MitmproxyStream  # type: ignore[misc]


class RotatingStream(MitmproxyStream):
    """One request: picks before mitmproxy dials, puts the credential on the wire, learns."""

    passage: Passage | None = None
    said: tuple[str, ...] = ()

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
        return self._sealing(steps) if whole else steps

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
        return self._sealing(super().start_request_stream())

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        choice = passages.guarded(self._choose)
        if isinstance(choice, Refusal):
            yield from self._answer(choice)
            return False
        self.passage = choice
        return (yield from super().make_server_connection())

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Steps:
        passage = self.passage
        if passage:
            passages.guarded(lambda: passages.learn(self.flow, passage, event.response))
        steps: Steps = super().state_wait_for_response_headers(event)
        return steps

    def _choose(self) -> Passage | Refusal | None:
        choice = passages.choose(self.flow, self.said)
        if choice and not _owners:
            return internal("Flow Rotate's script is not loaded (see mitmproxy's log)")
        return choice

    def _sealing(self, steps: Steps) -> Steps:
        """Drive mitmproxy's own steps; exchange the request head, the only place for a secret."""
        reply = None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration:
                return
            if self.passage and (head := _request_head(command)):
                sealed = passages.guarded(self._seal)
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
        return passages.seal(self.flow, self.passage, address, self._verified())

    def _verified(self) -> str | None:
        """The name for which the server's certificate was verified, by this connection's own mode.

        What the option `ssl_insecure` says now, or said to other connections, does not count.
        """
        server = self.context.server
        parent = self.context.layers[self.context.layers.index(self) - 1]
        assert isinstance(parent, http_layer.HttpLayer)
        for step in parent.connections[server].context.layers:
            if isinstance(step, ServerTLSLayer) and step.conn == server and server.tls_established:
                return server.sni if step.tls.get_verify_mode() & SSL.VERIFY_PEER else None
        return None

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
