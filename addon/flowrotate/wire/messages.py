"""WebSocket messages from an upstream, with aliases for secrets in them.

They are changed where mitmproxy takes them from the connection: before the flow and the log have
them, and control frames too.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import wsproto.events as ws
from mitmproxy.proxy.layers.websocket import WebsocketConnection

from flowrotate.guard import Refusal
from flowrotate.passage import guarded
from flowrotate.scrub.scrubber import Scrubber

MOST_CONTROL = 125
"""Bytes of a control frame (RFC 6455, 5.5); two of them are a close frame's code."""


def scrub_messages(connection: WebsocketConnection, scrubber: Scrubber) -> None:
    """Scrub what comes in on this connection from now on."""
    events = connection.events

    def scrubbed() -> Iterator[Any]:
        for event in events():
            clean = guarded(partial(_scrubbed, connection, event, scrubber))
            # Policy violation (RFC 6455, 7.4.1): nobody knows what is in there.
            yield ws.CloseConnection(1008) if isinstance(clean, Refusal) else clean

    connection.events = scrubbed


def _scrubbed(connection: WebsocketConnection, event: Any, scrubber: Scrubber) -> Any:
    match event:
        case ws.Ping() | ws.Pong():
            payload = scrubber.data(bytes(event.payload))
            return replace(event, payload=payload[:MOST_CONTROL])
        case ws.CloseConnection(reason=str(reason)):
            return replace(event, reason=_cut(scrubber.data(reason.encode()), MOST_CONTROL - 2))
        case ws.Message(message_finished=True):
            return _scrubbed_message(connection, event, scrubber)
    return event


def _scrubbed_message(connection: WebsocketConnection, event: Any, scrubber: Scrubber) -> Any:
    """The last frame of a message, which is looked at as a whole: a secret may be in two."""
    is_text = isinstance(event.data, str)
    data = event.data.encode() if is_text else bytes(event.data)
    whole = b"".join((*connection.frame_buf, data))
    clean = scrubber.body(whole)
    if clean is whole:
        return event
    connection.frame_buf = [b""]
    return replace(event, data=clean.decode(errors="replace") if is_text else clean)


def _cut(data: bytes, most: int) -> str:
    return data[:most].decode(errors="ignore")
