"""`GET /proxy.pac` on the proxy's own port: who may go where, for browsers and desktops.

It tells which hosts are in pools, so that it is for this machine alone, and not for web pages: they
cannot say which host they ask (a rebound name), cannot leave out where they come from, and
cannot run it as a script of theirs (`nosniff`).
"""

from mitmproxy import ctx, http
from mitmproxy.proxy.mode_specs import RegularMode, UpstreamMode

from .guard import is_loopback
from .machine.pac import MEDIA_TYPE, pac
from .rotator import ROTATOR

PATH = "/proxy.pac"
HEADERS = {
    "Content-Type": MEDIA_TYPE,
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LOCAL = ("localhost", "127.0.0.1", "::1")
FROM_A_PAGE = ("Origin", "Referer", "Sec-Fetch-Site")


class PacPage:
    """A part of FlowRotate."""

    def __init__(self, name: str) -> None:
        self.name = name

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if not is_asked(flow):
            return
        # Streamed and answered at once, a request crashes mitmproxy.
        flow.request.stream = False
        if not is_loopback(flow.client_conn.peername[0]) or is_from_page(flow.request):
            flow.response = http.Response.make(403, "Flow Rotate: for this machine's tools only\n")
            return
        host = f"[{flow.request.host}]" if ":" in flow.request.host else flow.request.host
        rules = [rule for pool in ROTATOR.pools.values() for rule in pool.resolved.spec.hosts]
        script = pac(rules, f"http://{host}:{flow.request.port}")
        body = "" if flow.request.method == "HEAD" else script
        flow.response = http.Response.make(200, body, HEADERS)


def is_asked(flow: http.HTTPFlow) -> bool:
    """Whether somebody asks the proxy itself for it, as one asks a web server."""
    request = flow.request
    return (
        request.path == PATH
        and request.method in ("GET", "HEAD")
        and request.scheme == "http"
        and isinstance(flow.client_conn.proxy_mode, (RegularMode, UpstreamMode))
        and request.host.lower() in LOCAL
        and request.port in {a[1] for a in ctx.master.addons.get("proxyserver").listen_addrs()}
    )


def is_from_page(request: http.Request) -> bool:
    return any(name in request.headers for name in FROM_A_PAGE)
