"""How token requests leave this machine: through which proxy, and whose certificates are believed.

Never through this very proxy. A developer exports HTTPS_PROXY and SSL_CERT_FILE so that tools
come here: a token request that did too would lay its client secret open in a flow.
"""

import socket
import ssl
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

Address = IPv4Address | IPv6Address

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PROXIES = frozenset(
    ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "ws_proxy", "wss_proxy")
)
_CA_FILES = frozenset(
    (
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "NODE_EXTRA_CA_CERTS",
        "AWS_CA_BUNDLE",
    )
)


@dataclass(frozen=True, slots=True)
class Egress:
    """`listening` gives the (host, port) pairs of this proxy, `upstream` its own upstream proxy.

    `upstream` is a URL, with user and password in it if it needs them. Both, and `own_ca`, the
    file of mitmproxy's CA, are asked at each token request: mitmproxy's options may change.
    """

    listening: Callable[[], Collection[tuple[str, int]]]
    upstream: Callable[[], str | None]
    env: Mapping[str, str] = field(repr=False)
    own_ca: Callable[[], Path | None]

    def proxy_for(self, url: str) -> str | None:
        """The proxy's URL, or None for a direct way. May ask the DNS for a proxy's name.

        Raises ValueError, with the mend, for a proxy that is none we can use.
        """
        target = urlsplit(url)
        if _is_loopback(target.hostname or ""):
            # Another proxy would read it in plain text, and has a 127.0.0.1 of its own.
            return None
        named = self._unless_it_is_us(self.upstream() or "", "--mode upstream")
        if named:
            return named
        if self._is_exempt(target):
            return None
        for name in (f"{target.scheme}_proxy", "all_proxy"):
            named = self._unless_it_is_us(self._variable(name), name.upper())
            if named:
                return named
        return None

    def environment(self) -> dict[str, str]:
        """The variables, without those that lead back to this very proxy, or name its CA alone.

        For programs that fetch a secret: what they ask would be seen in a flow.
        """
        return {
            name: value
            for name, value in self.env.items()
            if not (name.lower() in _PROXIES and self._leads_here(value))
            and not (name in _CA_FILES and self._names_own_ca(value))
        }

    def _leads_here(self, written: str) -> bool:
        with suppress(ValueError):
            return bool(written.strip()) and self._unless_it_is_us(written.strip(), "") is None
        return False

    def _names_own_ca(self, written: str) -> bool:
        with suppress(OSError):
            return self._is_own_ca(Path(written))
        return False

    def ssl_context(self) -> ssl.SSLContext:
        """Believe SSL_CERT_FILE and SSL_CERT_DIR, or else certifi and this system.

        Raises ValueError, with the mend, when they cannot be read.
        """
        file, folder = self.env.get("SSL_CERT_FILE"), self.env.get("SSL_CERT_DIR")
        try:
            if file and self._is_own_ca(Path(file)):
                file = None
            if file or folder:
                return ssl.create_default_context(cafile=file or None, capath=folder or None)
        except OSError:
            raise ValueError(
                "SSL_CERT_FILE or SSL_CERT_DIR has no certificates that can be read: mend it, "
                "or unset it"
            ) from None
        return _everybodys_context()

    def _variable(self, name: str) -> str:
        # Lower case wins, even when it is empty: that is how one is taken back.
        return self.env.get(name, self.env.get(name.upper(), "")).strip()

    def _is_exempt(self, target: SplitResult) -> bool:
        host = (target.hostname or "").rstrip(".")
        port = target.port or _DEFAULT_PORTS.get(target.scheme)
        entries = [entry.strip().lower() for entry in self._variable("no_proxy").split(",")]
        return any(_exempts(entry, host, port) for entry in entries if entry)

    def _unless_it_is_us(self, written: str, source: str) -> str | None:
        if not written:
            return None
        # As curl reads it: without a scheme it is an http:// proxy.
        url = written if "://" in written else f"http://{written}"
        return None if self._is_here(_split_proxy(url, source)) else url

    def is_this_proxy(self, url: str) -> bool:
        """Whether a token endpoint's URL leads to a port of this very proxy."""
        return self._is_here(urlsplit(url))

    def _is_here(self, parts: SplitResult) -> bool:
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        bound = [host for host, number in self.listening() if number == port]
        # Only with our port is a name worth a look in the DNS.
        addresses = _addresses(unquote(parts.hostname or "")) if bound else set()
        return any(_reaches(address, bound) for address in addresses)

    def _is_own_ca(self, file: Path) -> bool:
        """Whether a file has no other CA certificates than mitmproxy's own CA file."""
        own = self.own_ca()
        if not own or not own.exists():
            return False
        named = _certificates(file)
        return bool(named) and named <= _certificates(own)


def _split_proxy(url: str, source: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{source} names no http:// or https:// proxy: mend it")
    return parts


def _exempts(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    with suppress(ValueError):
        return ip_address(host) in ip_network(entry, strict=False)
    name = entry.lstrip("*").lstrip(".")
    return any(whole == name or whole.endswith(f".{name}") for whole in (host, f"{host}:{port}"))


def _is_loopback(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ip_address(name).is_loopback
    return False


def _addresses(host: str) -> set[Address]:
    if _is_loopback(host):
        return {ip_address("127.0.0.1")}
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {_plain(str(address[0])) for *_, address in found}


def _plain(text: str) -> Address:
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _reaches(address: Address, bound: list[str]) -> bool:
    """Whether an address leads to one of the hosts that sockets here are bound to."""
    if address.is_loopback or address.is_unspecified:
        return True
    # An empty host is every address, as in asyncio.
    listeners = {found for host in bound for found in _addresses(host or "::")}
    everywhere = any(listener.is_unspecified for listener in listeners)
    return address in listeners or (everywhere and _is_of_this_machine(address))


def _is_of_this_machine(address: Address) -> bool:
    # The system binds a socket to its own addresses only. Nothing is sent.
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _certificates(file: Path) -> set[bytes]:
    """The CA certificates of a PEM file, in DER. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not file.is_file():
        raise FileNotFoundError(file)  # nor a pipe, which would be waited on for ever
    context.load_verify_locations(file)
    return set(context.get_ca_certs(binary_form=True))


def _everybodys_context() -> ssl.SSLContext:
    import certifi

    context = ssl.create_default_context(cafile=certifi.where())
    if sys.platform == "win32":
        context.load_default_certs()
    else:
        # Not load_default_certs: OpenSSL itself reads SSL_CERT_FILE there, which may name our CA.
        paths = ssl.get_default_verify_paths()
        with suppress(OSError):
            context.load_verify_locations(cafile=paths.openssl_cafile)
        with suppress(OSError):
            context.load_verify_locations(capath=paths.openssl_capath)
    return context
