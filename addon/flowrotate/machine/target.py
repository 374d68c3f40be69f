"""The proxy that a command is about: the one that is named, or runs, or would. IO."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from . import proxies
from .places import Places
from .proxies import TargetError, parse_proxy

__all__ = ["CA_NAME", "DEFAULT_URL", "Target", "TargetError", "find_target", "parse_proxy"]

DEFAULT_URL = "http://127.0.0.1:8080"
CA_NAME = "mitmproxy-ca-cert.pem"


@dataclass(frozen=True, slots=True)
class Target:
    """`url` has no path and no slash at its end; `secrets` is None when nobody named a file."""

    url: str
    confdir: Path
    secrets: Path | None
    runs: bool
    token: str = ""
    """What the proxy's `rotate_client_token` says: where the token is."""
    upstream_ca: Path | None = None
    """Whom the proxy believes instead of certifi's authorities."""
    next_proxy: str = ""
    """The proxy that it goes on through."""

    @property
    def ca(self) -> Path:
        """The proxy's own certificate, PEM. mitmproxy makes it when it starts first."""
        return self.confdir / CA_NAME

    @property
    def pac(self) -> str:
        return f"{self.url}/proxy.pac"

    def with_secrets(self, file: Path | None) -> "Target":
        return replace(self, secrets=file)


def find_target(
    places: Places, *, proxy: str = "", confdir: str = "", secrets: str = "", current: str = ""
) -> Target:
    """Each argument, where it is given, counts more than what the running proxy says of itself.

    Without any, it is the one that this shell uses already (`current` is its URL), or else the
    proxy that has run longest and belongs to no `flow-rotate run`. Raises TargetError.
    """
    named = parse_proxy(proxy) if proxy else ""
    fitting = [
        one
        for one in proxies.find(places.state)
        if (not named or one.url == named)
        and (not one.private or one.url in (named, current))
        and (not secrets or _same(one.secrets, secrets))
    ]
    running = next((one for one in fitting if one.url == current), next(iter(fitting), None))
    home = places.home / ".mitmproxy"
    folder = Path(confdir).expanduser() if confdir else Path(running.confdir if running else home)
    file = secrets or (running.secrets if running else "")
    return Target(
        named or (running.url if running else DEFAULT_URL),
        folder,
        Path(file).expanduser() if file else None,
        # Who answers at the default port, and was not written down, may be anybody.
        running is not None or bool(named and proxies.answers(named)),
        running.token if running else "",
        Path(running.upstream_ca) if running and running.upstream_ca else None,
        running.next_proxy if running else "",
    )


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(os.path.expanduser(other))  # noqa: PTH111
