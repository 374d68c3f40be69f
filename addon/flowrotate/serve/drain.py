"""The end of a server: it takes no more connections, and what is under way may finish."""

import asyncio
import time
from weakref import WeakSet

from mitmproxy import ctx, http
from mitmproxy.proxy.server import ConnectionHandler

MOST_SECONDS = 10.0
QUIET_SECONDS = 1.0
"""Who has moved no byte for so long, and awaits no answer, is idle: a tunnel tells no more."""
STEP_SECONDS = 0.05


class Draining:
    """An addon that knows the requests under way."""

    def __init__(self) -> None:
        self.name = "flowrotate-draining"
        self.flows: WeakSet[http.HTTPFlow] = WeakSet()
        self.ends = False

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        self.flows.add(flow)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if self.ends and flow.response and not flow.response.is_http2:
            # RFC 9112, 9.6: the client sends no more requests on this connection.
            flow.response.headers["Connection"] = "close"

    async def drain(self) -> bool:
        """Whether all came to an end within MOST_SECONDS."""
        self.ends = True
        ctx.options.update(server=False)  # mitmproxy stops listening, and keeps its connections
        deadline = time.monotonic() + MOST_SECONDS
        while self.busy():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(STEP_SECONDS)
        return True

    async def close(self) -> None:
        """Close what is left, and let mitmproxy take notice: else asyncio makes noise of it."""
        connections = ctx.master.addons.get("proxyserver").connections
        for handler in list(connections.values()):
            for io in list(handler.transports.values()):
                if isinstance(io.writer, asyncio.StreamWriter):
                    io.writer.close()
        deadline = time.monotonic() + QUIET_SECONDS
        while connections and time.monotonic() < deadline:  # noqa: ASYNC110  # it sets no event
            await asyncio.sleep(STEP_SECONDS)

    def busy(self) -> int:
        """How many requests, and connections, are at work."""
        flows = sum(flow.live and not flow.websocket for flow in self.flows)
        connections = ctx.master.addons.get("proxyserver").connections.values()
        return flows + sum(map(is_moving, connections))


def is_moving(handler: ConnectionHandler) -> bool:
    quiet = time.time() - handler.timeout_watchdog.last_activity
    return 0 <= quiet < QUIET_SECONDS or any(
        io.writer.transport.get_write_buffer_size()
        for io in handler.transports.values()
        if isinstance(io.writer, asyncio.StreamWriter)
    )
