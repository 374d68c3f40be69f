"""An answer that is kept back: to see what its body says, or while another one is tried."""

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
"""How much of it is awaited before it is passed on, or its connection or stream is given up."""


@dataclass(slots=True)
class Swallowed:
    """An answer on the connection `server`. `whole` tells whether all of it is here."""

    head: ResponseHeaders
    server: Connection
    attempt: int | None = None
    """Which of the passage's attempts it answers; None while its verdict waits for the body."""
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
        if self.size > BYTES and self.attempt is not None:
            self.rest.clear()
        return self.whole or self.size > BYTES

    @property
    def body(self) -> bytes:
        return b"".join(event.data for event in self.rest if isinstance(event, ResponseData))
