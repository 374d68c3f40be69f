"""What a server says once, when it is ready: where it is, what it has, and what to do next."""

import json
import os
import shutil
import sys
from pathlib import Path

from mitmproxy import ctx

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
    addresses = [list(a[:2]) for a in ctx.master.addons.get("proxyserver").listen_addrs()]
    return {
        "version": __version__,
        "proxy": proxy_url(),
        "listening": addresses,
        "ca": str(Path(ctx.options.confdir).expanduser() / "mitmproxy-ca-cert.pem"),
        "secrets": str(RELOADER.path) if RELOADER.path else None,
        "client_token": ctx.options.rotate_client_token,
        "pools": {name: len(p.resolved.secrets) for name, p in ROTATOR.pools.items()},
    }


def line() -> str:
    pools = ", ".join(f"{n} ({len(p.resolved.secrets)})" for n, p in ROTATOR.pools.items())
    url = proxy_url()
    where = url or " and ".join(
        f"{address[0]}:{address[1]}"
        for address in ctx.master.addons.get("proxyserver").listen_addrs()
    )
    told = f"pools {pools}" if pools else "no pools"
    hint = f"; next, in your shell: {_next(url)}" if url else ""
    return f"Flow Rotate {__version__} at {where or ', '.join(ctx.options.mode)}, {told}{hint}"


def _next(url: str) -> str:
    option = "" if url == DEFAULT_URL else f" --proxy {url}"
    name = own_name(shutil.which, Path(sys.argv[0]))
    return line_for(shell_of(os.environ, sys.platform), f"{name} env{option}")
