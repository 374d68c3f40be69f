"""Who may use a pool, and where a secret may go: the guarantees G1, G3 and G4. Pure.

Each check answers None, or the Refusal that the client gets instead of the upstream's answer.
"""

import hmac
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from .hostmap import HostMap
from .hosts import canonical, split_authority
from .placement import Fields, header_values
from .secret import Secret

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of our own: HTTP status, error type, and a message fit to be shown and saved."""

    status: int
    type: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)

    def body(self) -> str:
        error = {"type": self.type, "message": self.message, **self.details}
        return json.dumps({"error": error}, indent=2) + "\n"


def refused(status: int, message: str) -> Refusal:
    return Refusal(status, "rotate_refused", message, {"X-Rotate-Error": "refused"})


def internal(message: str) -> Refusal:
    return Refusal(502, "rotate_internal", message, {"X-Rotate-Error": "internal"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where mitmproxy will dial for a request: canonical names, and the TLS name it will ask for.

    `name` is what pools are looked up by: the host, or for an IP literal that is dialled with TLS
    (a transparent client) the name that the certificate will be verified for.
    """

    tls: bool
    host: str
    port: int
    server_name: str

    @property
    def names(self) -> tuple[str, ...]:
        if self.tls and self.server_name != self.host and is_ip(self.host):
            return self.host, self.server_name
        return (self.host,)

    @property
    def origin(self) -> str:
        return _origin(self.tls, self.names[-1], self.port)


@lru_cache(maxsize=1024)
def is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)
def is_loopback(address: str) -> bool:
    """Also for IPv4 addresses as a dual-stack socket shows them (::ffff:127.0.0.1)."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_loopback


def check_client(peer: str, authenticated: bool, allowed: Sequence[Network]) -> Refusal | None:
    """G3: a client of another machine needs mitmproxy's `proxyauth` or an allowed network."""
    if authenticated or is_loopback(peer):
        return None
    ip = ip_address(peer.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if any(ip in network for network in allowed):
        return None
    return refused(
        403,
        f"the client {ip} is not on this machine: allow its network with "
        "--set rotate_allow_clients=NETWORK, or have clients log in with --proxyauth",
    )


def presents(token: Secret, given: Iterable[str]) -> bool:
    """G3: whether the client token is among what a request gives as its credentials."""
    wanted = token.reveal().encode()
    found = False
    for text in given:
        # All of them are compared, so that the time tells nothing about which one fits.
        found |= hmac.compare_digest(text.encode("utf-8", "surrogateescape"), wanted)
    return found


NO_TOKEN = Refusal(
    401,
    "rotate_refused",
    "this proxy wants its client token as the placeholder credential: send the one "
    "that rotate_client_token names as `Authorization: Bearer TOKEN`",
    {"X-Rotate-Error": "refused", "WWW-Authenticate": 'Bearer realm="flow-rotate"'},
)


_FROM_BROWSERS = frozenset((b"sec-fetch-site", b"origin", b"referer"))


def is_foreign_page(fields: Fields, place: Place, client_tls: bool = True) -> bool:
    """G4: whether a page of another site in the user's browser is behind this request.

    `client_tls` tells whether the client itself speaks TLS to what it takes for the server.

    Browsers set these three by themselves and no script can forge them (Fetch, forbidden
    request-headers): https://fetch.spec.whatwg.org/#forbidden-request-header
    """
    plain = not (place.tls and client_tls)
    if _FROM_BROWSERS.isdisjoint([name.lower() for name, _ in fields]):
        return plain and _is_browser(fields)
    if any(
        v.lower() not in ("none", "same-origin") for v in header_values(fields, b"sec-fetch-site")
    ):
        return True
    if any(_page_origin(v) != place.origin for v in header_values(fields, b"origin")):
        return True
    # Browsers leave Sec-Fetch-* out on plain http, and Origin on a GET.
    referers = header_values(fields, b"referer") if plain else []
    return any(_page_origin(v) != place.origin for v in referers)


def _is_browser(fields: Fields) -> bool:
    """Whether a browser sent it, on plain http, where a page can have all the rest left out."""
    agents = header_values(fields, b"user-agent")
    return any(a.startswith("Mozilla/") and "PowerShell" not in a for a in agents)


def _page_origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        tls = parts.scheme in ("https", "wss")
        port = parts.port or (443 if tls else 80)
        return _origin(tls, canonical(parts.hostname or ""), port)
    except ValueError:
        return "null"


def _origin(tls: bool, host: str, port: int) -> str:
    return f"{'https' if tls else 'http'}://{host}:{port}"


def check_rebinding(
    said: Iterable[str], listening: str, pool: str, hosts: HostMap[None]
) -> Refusal | None:
    """G4: in reverse mode, the client's own Host must be this proxy's address or the pool's."""
    for authority in said:
        name, _ = _split(authority) if authority.isascii() else ("", None)
        here = name == "localhost" or is_loopback(name) or (is_ip(name) and name == listening)
        if not here and not hosts.has_name(name):
            return refused(
                403,
                f"the request's Host is neither this proxy's address nor a host of pool {pool}: "
                "a web page may be behind it (DNS rebinding)",
            )
    return None


# Origin-form (RFC 9112, 3.2.1). An absolute target overrides Host, a fragment would swallow a
# query parameter, and mitmproxy writes a blank or line end of an HTTP/2 :path as it is.
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e\x80-\xff]*")
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2
_LINE_END = re.compile(rb"[\r\n\0]")


def check_head(
    method: bytes, target: bytes, fields: Fields, pool: str, own: frozenset[bytes]
) -> Refusal | None:
    """G1: what is written means what was checked: no second line, target or request is in it.

    `own` are the names of the headers that may hold the credential.
    """
    if not _TOKEN.fullmatch(method) or method.upper() == b"TRACE":
        # TRACE sends the request back, credential and all (RFC 9110, 9.3.8).
        return refused(502, f"pool {pool}: no credential goes out with this method")
    if not _TARGET.fullmatch(target) and (method, target) != (b"OPTIONS", b"*"):
        return refused(502, f"pool {pool}: the request's target is no plain path")
    names = [name.lower() for name, _ in fields]
    # All of them at once: one by one is most of what this costs.
    if not all(names) or not _TOKEN.fullmatch(b"".join(names) or b"-"):
        return refused(502, f"pool {pool}: a header's name is none")
    if _LINE_END.search(b" ".join([value for _, value in fields])):
        return refused(502, f"pool {pool}: a header of the request has a line end in it")
    if not _FRAMING.isdisjoint(names) and not _has_one_length(fields):
        return refused(502, f"pool {pool}: the request's length can be read in two ways")
    if b"connection" in names:
        own = own | {b"host"}
        listed = (_listed(value) for name, value in fields if name.lower() == b"connection")
        if not all(own.isdisjoint(items) for items in listed):
            return refused(502, f"pool {pool}: Connection names the credential's header")
    return None


_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


def _has_one_length(fields: Fields) -> bool:
    """As mitmproxy's own check has it, which can be switched off (RFC 9112, 6.3)."""
    given = [(name.lower(), value) for name, value in fields if name.lower() in _FRAMING]
    if len(given) != 1:
        return False
    name, value = given[0]
    return value.isdigit() if name == b"content-length" else value.strip().lower() == b"chunked"


def _listed(value: bytes) -> set[bytes]:
    return {item.strip().lower() for item in value.split(b",")}


def check_authorities(
    authorities: Sequence[str], place: Place, pool: str, hosts: HostMap[None]
) -> Refusal | None:
    """G1: every Host and :authority of the request names a host of the pool, and one does."""
    if not authorities:
        return refused(502, f"pool {pool}: the request has no Host")
    for authority in authorities:
        # What is not ASCII is another name to who folds it otherwise.
        name, port = _split(authority) if authority.isascii() else ("", None)
        if not hosts.get(place.tls, name, port or (443 if place.tls else 80)):
            return refused(502, f"pool {pool}: the request's Host is no host of this pool")
    return None


def _split(authority: str) -> tuple[str, int | None]:
    try:
        return split_authority(authority)
    except ValueError:
        return "", None


def check_server(
    place: Place, verified: str | None, pool: str, hosts: HostMap[None]
) -> Refusal | None:
    """G1: the connection leads to a host of the pool; `verified` is its certificate's name.

    `verified` is None for a connection without TLS, or whose certificate was not checked.
    """
    if not place.tls:
        if hosts.get(False, place.host, place.port):
            return None
        return refused(502, f"pool {pool}: plain http leads to no host of this pool")
    if verified is None:
        return refused(
            502,
            f"pool {pool}: the upstream's certificate was not verified "
            "(ssl_insecure is on, or was when this connection was made)",
        )
    if not hosts.get(True, verified, place.port):
        return refused(502, f"pool {pool}: the upstream's certificate is for no host of this pool")
    return None
