"""What the seam stands on in mitmproxy: says which ground moved when a release changes it."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from mitmproxy import version
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers import tls
from mitmproxy.proxy.layers.http import _http1, _http2
from mitmproxy.proxy.layers.http._events import RequestProtocolError
from mitmproxy.proxy.layers.websocket import WebsocketLayer

from flowrotate import wire
from flowrotate.wire.sealing import RotateHoldHook
from flowrotate.wire.upstream import CANCEL

Stream = wire.MitmproxyStream


def says(function: Callable[..., Any], *names: str) -> bool:
    """Whether a function's code uses these names."""
    used = set(function.__code__.co_names)
    return set(names) <= used


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(inspect.unwrap(function)).parameters)


GROUND: dict[str, Callable[[], bool]] = {
    "HttpLayer.make_stream looks HttpStream up when it runs": lambda: says(
        http_layer.HttpLayer.make_stream, "HttpStream"
    ),
    "HttpLayer brings a stream's wake-ups back to it": lambda: says(
        http_layer.HttpLayer.event_to_child, "command_sources", "RequestWakeup"
    ),
    "HttpLayer.connections leads to the layers of a connection": lambda: says(
        http_layer.HttpLayer.__init__, "connections", "streams"
    ),
    "HttpStream hands events to client_state and server_state": lambda: says(
        inspect.unwrap(Stream._handle_event), "client_state", "server_state"
    ),
    "a whole request is dialled for, and sent, in state_consume_request_body": lambda: says(
        inspect.unwrap(Stream.state_consume_request_body),
        "make_server_connection",
        "RequestHeaders",
        "RequestEndOfMessage",
    ),
    "a streamed request is dialled for, and its head sent, in start_request_stream": lambda: says(
        Stream.start_request_stream, "make_server_connection", "RequestHeaders"
    ),
    "make_server_connection sets context.server, and reports errors": lambda: says(
        Stream.make_server_connection, "server", "server_conn", "handle_protocol_error"
    ),
    "an ended stream's flow is live no more": lambda: all(
        "live" in inspect.unwrap(end).__code__.co_names
        for end in (Stream.flow_done, Stream.handle_protocol_error, Stream.check_killed)
    ),
    "a stream is upgraded by exchanging _handle_event for passthrough": lambda: says(
        Stream.flow_done, "_handle_event", "passthrough"
    ),
    "check_killed looks at the events that came during a pause": lambda: says(
        Stream.check_killed, "_paused_event_queue"
    ),
    "a layer that waits keeps its events": lambda: says(
        layer.Layer.handle_event, "_paused", "_paused_event_queue"
    ),
    "Http1Client has a stream_id, a state, and a state that ignores all": lambda: (
        hasattr(_http1.Http1Client, "stream_id")
        and hasattr(_http1.Http1Client, "state")
        and parameters(_http1.Http1Client.done) == ["self", "event"]
    ),
    "Http1Client gives a connection up on RequestProtocolError": lambda: says(
        _http1.Http1Client.send, "RequestProtocolError", "CloseConnection"
    ),
    "Http2Client maps stream ids both ways": lambda: says(
        _http2.Http2Client._handle_event, "our_stream_id", "their_stream_id"
    ),
    "Http2Connection knows whether a stream is closed": lambda: (
        parameters(_http2.Http2Connection.is_closed) == ["self", "stream_id"]
    ),
    "a request can be given up with our code": lambda: (
        RequestProtocolError(1, "given up", CANCEL).code is CANCEL
    ),
    "the TLS layer of a server connection shows its own verify mode": lambda: (
        says(tls.ServerTLSLayer.start_tls, "tls") or "tls" in tls.TLSLayer.__annotations__
    ),
    "a wake-up names the request for it": lambda: (
        "command" in events.Wakeup.__annotations__
        and parameters(commands.RequestWakeup.__init__) == ["self", "delay"]
    ),
    "a body that is kept whole is in response_body_buf until its end": lambda: says(
        inspect.unwrap(Stream.state_consume_response_body), "bytes", "response_body_buf"
    ),
    "a WebSocket's messages come from events() and frame_buf": lambda: says(
        inspect.unwrap(WebsocketLayer.relay_messages), "events", "frame_buf", "server_ws"
    ),
    "our hook is the addon's rotate_hold": lambda: RotateHoldHook.name == "rotate_hold",
}

OVERRIDDEN = {
    "handle_event": ["self", "event"],
    "_handle_event": ["self", "event"],
    "passthrough": ["self", "event"],
    "state_wait_for_request_headers": ["self", "event"],
    "state_consume_request_body": ["self", "event"],
    "state_stream_request_body": ["self", "event"],
    "state_wait_for_response_headers": ["self", "event"],
    "start_request_stream": ["self"],
    "start_response_stream": ["self"],
    "state_consume_response_body": ["self", "event"],
    "state_stream_response_body": ["self", "event"],
    "flow_done": ["self"],
    "make_server_connection": ["self"],
    "handle_protocol_error": ["self", "event"],
}
CALLED = {
    "send_response": ["self", "already_streamed"],
    "check_killed": ["self", "emit_error_hook"],
    "state_done": ["self", "_"],
    "state_errored": ["self", "_"],
}


@pytest.mark.parametrize("ground", GROUND)
def test_the_ground_has_not_moved(ground: str) -> None:
    said = f"mitmproxy {version.VERSION} has changed what flowrotate/wire stands on: {ground}"
    try:
        still = GROUND[ground]()
    except (AttributeError, TypeError) as e:
        pytest.fail(f"{said} ({e})")
    assert still, said


@pytest.mark.parametrize("name", [*OVERRIDDEN, *CALLED])
def test_a_method_is_as_it_was(name: str) -> None:
    found = getattr(Stream, name, None)
    expected = (OVERRIDDEN | CALLED)[name]
    said = f"mitmproxy {version.VERSION} has changed HttpStream.{name}, used by flowrotate/wire"
    assert found, said
    assert parameters(found) == expected, said


def test_what_is_listed_is_what_is_overridden() -> None:
    ours = {
        name
        for kind in wire.ScrubbingStream.__mro__
        if kind.__module__.startswith("flowrotate.")
        for name in vars(kind)
    }
    assert {name for name in ours if hasattr(Stream, name) and callable(getattr(Stream, name))} - {
        "__module__"
    } == set(OVERRIDDEN)
