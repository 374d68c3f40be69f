"""The proxy's own ports are no destination: what goes through it comes from this machine.

A neighbour who reached the proxy through the proxy would pass for a client on loopback (G3), one
request that asks the proxy for itself would go round until nothing is left, and mitmweb below
11.1.2 answers whoever reaches its port (CVE-2025-23217). A connection there is refused twice:
before it is made, by what its host resolves to, and once it is made, by where it has led, for
mitmproxy resolves the name itself and the answer may be another.
"""

import asyncio
import logging
import socket
from functools import cache
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.proxy.mode_specs import UpstreamMode
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from .display import answer
from .guard import is_loopback, refused
from .versions import MENDED

REFUSAL = "this is the proxy's own port: no request goes there through the proxy"

logger = logging.getLogger(__name__)


def is_needed(found: tuple[int, ...]) -> bool:
    """Whether this is a mitmweb, and of a version that lets proxied requests in."""
    return found < MENDED and "web_port" in ctx.options


def stays_here(peer: str, local: str) -> bool:
    """Whether a connection between these two addresses never leaves this machine."""
    return peer == local or is_loopback(peer) or is_loopback(local)


class OwnPorts:
    """A part of FlowRotate; `web` says whether mitmweb's port is to be guarded."""

    def __init__(self, name: str, web: bool) -> None:
        self.name = name
        self.web = web

    def running(self) -> None:
        if self.web:
            web_port()

    async def server_connect(self, data: ServerConnectionHookData) -> None:
        assert data.server.address
        if await self._leads_back(*data.server.address[:2]):
            data.server.error = REFUSAL

    def server_connected(self, data: ServerConnectionHookData) -> None:
        server = data.server
        assert server.peername
        assert server.sockname
        here = stays_here(server.peername[0], server.sockname[0])
        guarded = here and server.transport_protocol == "tcp"
        if not guarded or not self._is_guarded(server.peername[1]):
            return
        server.error = REFUSAL
        logger.warning("refused a connection to %s: %s", server.address, REFUSAL)
        # mitmproxy takes the connection for open and writes to it next: to a closed one, nothing.
        handler = ctx.master.addons.get("proxyserver").connections.get(data.client.id)
        if handler:  # a replay has its own; there the first refusal is the only one
            handler.transports[server].writer.transport.abort()

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        await self._refuse_next_proxy(flow)

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        await self._refuse_next_proxy(flow)

    async def _refuse_next_proxy(self, flow: http.HTTPFlow) -> None:
        """In upstream mode another proxy dials, which may be on this machine too."""
        mode = flow.client_conn.proxy_mode
        if flow.response or flow.error or not isinstance(mode, UpstreamMode):
            return
        for host in (flow.request.host, mode.address[0]):
            if await self._leads_back(host, flow.request.port):
                flow.request.stream = False
                flow.response = answer(flow, refused(403, REFUSAL))
                return

    async def _leads_back(self, host: str, port: int) -> bool:
        return self._is_guarded(port) and await resolves_here(host, port)

    def _is_guarded(self, port: int) -> bool:
        """Whether this port of this machine must not be reached through it."""
        if self.web and port == web_port():
            return True
        # Nor may who is on this machine: a page in a browser is, and a proxy that asks itself
        # asks itself until it has no descriptors left.
        return port in _listening()


def _listening() -> list[int]:
    return [address[1] for address in ctx.master.addons.get("proxyserver").listen_addrs()]


@cache
def web_port() -> int:
    """Where mitmweb listens: from its start on, whatever the option says later."""
    return int(ctx.options.web_port)


async def resolves_here(host: str, port: int) -> bool:
    """Whether a host may be this machine."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, ValueError):
        return False  # mitmproxy cannot resolve it either
    return any(stays_here(*_ends(family, address)) for family, *_, address in found)


def _ends(family: int, address: tuple[Any, ...]) -> tuple[str, str]:
    """The addresses of a connection to there. Of UDP, that is told without sending anything."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return probe.getpeername()[0], probe.getsockname()[0]
    except OSError:
        return str(address[0]), ""
