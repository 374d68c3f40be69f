"""What a server says once, when it is ready: where it is, what it has, and what to do next."""

import json
import os
import shutil
import sys
from pathlib import Path

from mitmproxy import ctx
from mitmproxy.proxy.mode_specs import ReverseMode

from flowrotate import __version__
from flowrotate.machine.shells import line_for, own_name, shell_of
from flowrotate.machine.target import DEFAULT_URL
from flowrotate.presence import proxy_url
from flowrotate.reload import RELOADER
from flowrotate.rotator import ROTATOR


class Ready:
    """An addon. The one line goes to stdout; the log goes to stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self.name = "flowrotate-ready"
        self.as_json = as_json

    def running(self) -> None:
        if not ctx.master.addons.get("errorcheck").logger.has_errored:
            print(json.dumps(state()) if self.as_json else line(), flush=True)


def state() -> dict[str, object]:
    return {
        "version": __version__,
        "proxy": proxy_url(),
        "listening": [list(address) for address in dict.fromkeys(_addresses())],
        "ca": str(Path(ctx.options.confdir).expanduser() / "mitmproxy-ca-cert.pem"),
        "secrets": str(RELOADER.path) if RELOADER.path else None,
        "client_token": ctx.options.rotate_client_token,
        "pools": {name: len(p.resolved.secrets) for name, p in ROTATOR.pools.items()},
    }


def line() -> str:
    pools = ", ".join(f"{n} ({len(p.resolved.secrets)})" for n, p in ROTATOR.pools.items())
    url = proxy_url()
    # An address that is listened at by TCP and UDP is there twice.
    where = url or " and ".join(dict.fromkeys(map(_shown, _addresses())))
    told = f"pools {pools}" if pools else "no pools"
    hint = f"; next, in your shell: {_next(url)}" if url else _as_service()
    return f"Flow Rotate {__version__} at {where or ', '.join(ctx.options.mode)}, {told}{hint}"


def _addresses() -> list[tuple[str, int]]:
    return [(a[0], a[1]) for a in ctx.master.addons.get("proxyserver").listen_addrs()]


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _as_service() -> str:
    """Whoever stands for a service is not set as a proxy."""
    for server in ctx.master.addons.get("proxyserver").servers:
        mode = server.mode
        if isinstance(mode, ReverseMode) and mode.scheme in ("http", "https"):
            where = _shown(server.listen_addrs[0][:2])
            return f"; next: give your tool http://{where} as the service's address"
    return ""


def _next(url: str) -> str:
    option = "" if url == DEFAULT_URL else f" --proxy {url}"
    name = own_name(shutil.which, Path(sys.argv[0]))
    return line_for(shell_of(os.environ, sys.platform), f"{name} env{option}")
