"""The proxy that a command is about: the one that is named, or runs, or would. IO."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from . import proxies
from .places import Places

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

    @property
    def ca(self) -> Path:
        """The proxy's own certificate, PEM. mitmproxy makes it when it starts first."""
        return self.confdir / CA_NAME

    @property
    def pac(self) -> str:
        return f"{self.url}/proxy.pac"

    def with_secrets(self, file: Path | None) -> "Target":
        return replace(self, secrets=file)


class TargetError(ValueError):
    """What is wrong with what was given, and the mend."""


def find_target(places: Places, *, proxy: str = "", confdir: str = "", secrets: str = "") -> Target:
    """Each argument, where it is given, counts more than what the running proxy says of itself.

    Without any, it is the proxy that has run longest and belongs to no `flow-rotate run`. Raises
    TargetError.
    """
    named = parse_proxy(proxy) if proxy else ""
    running = next(
        (
            one
            for one in proxies.find(places.state)
            if (not named or one.url == named)
            and not one.private
            and (not secrets or _same(one.secrets, secrets))
        ),
        None,
    )
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
    )


def parse_proxy(text: str) -> str:
    """`HOST:PORT` or `http://HOST:PORT` as a URL. Raises TargetError."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "http" or not parts.hostname or not port or parts.path not in ("", "/"):
        raise TargetError("--proxy: write http://HOST:PORT, as http://127.0.0.1:8080")
    if parts.username is not None:
        raise TargetError("--proxy: leave out user and password")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"http://{host}:{port}"


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(os.path.expanduser(other))  # noqa: PTH111
