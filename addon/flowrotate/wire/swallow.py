"""A failing answer, kept back from the client while another credential is tried. Pure."""

from dataclasses import dataclass, field

from mitmproxy.connection import Connection
from mitmproxy.proxy.layers.http._events import (
    HttpEvent,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)

BYTES = 64 * 1024
SECONDS = 2.0
"""How much of a failing answer is awaited before its connection, or stream, is given up."""


@dataclass(slots=True)
class Swallowed:
    """The answer to the passage's `attempt`, on the connection `server`.

    `whole` tells whether all of it is here.
    """

    head: ResponseHeaders
    attempt: int
    server: Connection
    rest: list[HttpEvent] = field(default_factory=list)
    whole: bool = False
    size: int = 0
    repeated_on: Connection | None = None
    """Where the request went out again."""
    stale: bool = False
    """Whether that connection turned out to be one that the upstream was about to close."""

    def take(self, event: HttpEvent) -> bool:
        """Keep one more event; True when nothing more is to be awaited."""
        self.rest.append(event)
        if isinstance(event, ResponseData):
            self.size += len(event.data)
        self.whole = isinstance(event, ResponseEndOfMessage)
        if self.size > BYTES:
            self.rest.clear()
        return self.whole or self.size > BYTES
