"""This proxy, written down for the other commands on this machine, as long as it runs.

And the certificate bundles of its CA are made anew when the system's roots change: shells that
have their paths live long.
"""

import asyncio
import logging
import os
from pathlib import Path

from mitmproxy import ctx
from mitmproxy.proxy.mode_specs import RegularMode, UpstreamMode

from .guard import is_loopback
from .machine import proxies
from .machine.bundle import renew
from .machine.places import Places, places
from .machine.target import CA_NAME
from .reload import RELOADER
from .rotator import ROTATOR

RENEW_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Presence:
    """A part of FlowRotate. `private` proxies belong to one `flow-rotate run`."""

    private = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.places = places(os.environ, Path.home())
        self._renewing: asyncio.Task[None] | None = None

    def running(self) -> None:
        ca = Path(ctx.options.confdir).expanduser() / CA_NAME
        self._renewing = asyncio.get_running_loop().create_task(keep_renewed(self.places, ca))
        url = proxy_url()
        if url is None:
            return  # no proxy that tools could be told of
        here = proxies.Running(
            os.getpid(),
            url,
            str(Path(ctx.options.confdir).expanduser().absolute()),
            str(RELOADER.path.absolute()) if RELOADER.path else "",
            ROTATOR.wall(),
            private=Presence.private,
            token=ctx.options.rotate_client_token,
            born=proxies.born(os.getpid()),
            upstream_ca=ctx.options.ssl_verify_upstream_trusted_ca or "",
            next_proxy=_next_proxy(),
        )
        try:
            proxies.enter(self.places.state, here)
        except OSError as e:
            # Some run where nothing can be written: then --proxy tells the others.
            logger.debug("not written down: %s", e.strerror)

    def done(self) -> None:
        proxies.leave(self.places.state, os.getpid())
        if self._renewing:
            self._renewing.cancel()


async def keep_renewed(here: Places, ca: Path, every: float = RENEW_SECONDS) -> None:
    while True:
        for path in await asyncio.to_thread(renew, here, ca):
            logger.info("made anew, for the CA or what it stands beside has changed: %s", path)
        await asyncio.sleep(every)


def proxy_url() -> str | None:
    """Where this machine's tools reach it as an HTTP proxy."""
    servers = ctx.master.addons.get("proxyserver")
    for server in servers.servers if servers else ():
        if isinstance(server.mode, (RegularMode, UpstreamMode)):
            for host, port, *_ in server.listen_addrs:
                return f"http://{_reachable(host)}:{port}"
    return None


def _next_proxy() -> str:
    modes = [server.mode for server in ctx.master.addons.get("proxyserver").servers]
    found = next((mode for mode in modes if isinstance(mode, UpstreamMode)), None)
    return f"{found.scheme}://{found.address[0]}:{found.address[1]}" if found else ""


def _reachable(host: str) -> str:
    if is_loopback(host) and ":" in host:
        return f"[{host}]"
    # Who listens everywhere, or on an address of the network, is reached on loopback too, or not.
    everywhere = host in ("", "::", "0.0.0.0")
    return "127.0.0.1" if everywhere or is_loopback(host) else host
