"""Certificate bundles: whom a tool trusts already, and the proxy's own CA. IO.

Most tools take one file that stands for all that they trust, so that file needs the system's roots
too: what passes the proxy undecrypted shows its own certificate. A bundle names its source in
its first line, so that it can be made anew from there, and is not taken for somebody's own.
"""

import hashlib
import re
import ssl
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from flowrotate.sources.files import UnreadableError, read_file

from . import commands
from .files import make_folder, write_private
from .places import Places

HEAD = b"# Made by Flow Rotate, and made anew when either changes: the proxy's CA, and "
SYSTEM = "system"
"""The name of the source that is the system's own roots."""

# Where systems keep them: the list of Go's crypto/x509 (root_linux.go, root_bsd.go).
ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cert.pem",
)
KEYCHAINS = (
    "/System/Library/Keychains/SystemRootCertificates.keychain",
    "/Library/Keychains/System.keychain",
)
BEGIN = b"-----BEGIN "
CERTIFICATE = re.compile(
    rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]+-----END (?:TRUSTED )?CERTIFICATE-----"
)
LARGEST = 16 << 20
"""Bytes of a file of certificates."""
SERVERS = "1.3.6.1.5.5.7.3.1"
"""Trusted to sign for TLS servers (RFC 5280, 4.2.1.12)."""


class BundleError(ValueError):
    """Which file is no good, and the mend."""


class Bundles:
    """Those of one proxy's CA, in our own folder."""

    def __init__(self, places: Places, ca: Path, run: commands.Run = commands.run) -> None:
        self._places = places
        self._ca = ca
        self._run = run

    def of(self, written: str) -> Path:
        """The bundle for a path that somebody trusts instead of the system's roots ("": for these).

        Made, or made anew, where it is not as it should be. A bundle of ours stands for its own
        source. Raises BundleError.
        """
        source = source_of(self._places, written)
        path = self._places.state / "ca" / f"{_digest(source, str(self._ca))}.pem"
        content = b"".join((HEAD, source.encode(), b"\n", self._ca_bytes(), self._roots(source)))
        try:
            # Readable: containers, which have other users, get it mounted.
            make_folder(path.parent, 0o755)
            if not path.exists() or path.read_bytes() != content:
                write_private(path, content, 0o644)
        except OSError as e:
            raise BundleError(f"{path}: {e.strerror}: make the folder yours") from e
        return path

    def _ca_bytes(self) -> bytes:
        try:
            return certificates(self._ca)
        except OSError as e:
            raise BundleError(
                f"{self._ca}: {e.strerror}: start the proxy once, it makes its CA "
                "(flow-rotate serve), or name its folder with --confdir"
            ) from e

    def _roots(self, source: str) -> bytes:
        if source == SYSTEM:
            return system_roots(self._places.platform, self._run)
        path = Path(source)
        try:
            files = [f for f in sorted(path.iterdir()) if f.is_file()] if path.is_dir() else [path]
            texts = [certificates(file) for file in files]
        except OSError as e:
            raise BundleError(f"{source}: {e.strerror}: mend the variable that names it") from e
        # In a folder as OpenSSL's `rehash` makes it, each certificate is there twice.
        return b"".join(dict.fromkeys(texts))


def certificates(file: Path) -> bytes:
    """What of a PEM file is public: there may be a key beside it. Raises OSError."""
    try:
        text, _ = read_file(file, LARGEST)
    except UnreadableError as e:
        raise OSError(0, str(e)) from None
    return b"".join(b"%s\n" % found for found in CERTIFICATE.findall(text))


def source_of(places: Places, written: str) -> str:
    """What a bundle was made from; of another file, its absolute path."""
    if not written or written == SYSTEM:
        return SYSTEM
    path = Path(written).absolute()
    if path.parent != places.state / "ca":
        return str(path)  # whatever it says of itself
    with suppress(OSError), path.open("rb") as file:
        first = file.readline().rstrip(b"\n")
        if first.startswith(HEAD):
            return first.removeprefix(HEAD).decode()
    return str(path)


def renew(places: Places, ca: Path) -> list[Path]:
    """Make those of this CA anew whose source, or CA, has changed; which these were."""
    renewed = []
    for path in sorted((places.state / "ca").glob("*.pem")):
        with suppress(OSError, BundleError):
            source, before = source_of(places, str(path)), path.stat().st_mtime_ns
            if path.stem == _digest(source, str(ca)):
                Bundles(places, ca).of(source)
                if path.stat().st_mtime_ns != before:
                    renewed.append(path)
    return renewed


def system_roots(platform: str, run: commands.Run, roots: Iterable[str] = ROOTS) -> bytes:
    """What this machine trusts, PEM. Raises BundleError."""
    if platform == "win32":
        return b"".join(dict.fromkeys(_windows_roots()))
    if platform == "darwin":
        # What the user or the company has added is in the keychain alone.
        found = run(["security", "find-certificate", "-a", "-p", *KEYCHAINS])
        if found.ok and BEGIN.decode() in found.text:
            return _with_line_end(found.text.encode())
    own = ssl.get_default_verify_paths().openssl_cafile
    for place in (*roots, own):
        with suppress(OSError):
            return certificates(Path(place))
    return _mozillas()


def _mozillas() -> bytes:
    import certifi

    return certificates(Path(certifi.where()))


def _windows_roots() -> list[bytes]:
    if sys.platform != "win32":  # mypy: elsewhere `ssl` has no such function
        return []
    return [
        ssl.DER_cert_to_PEM_cert(der).encode()
        for store in ("ROOT", "CA")
        for der, kind, trust in ssl.enum_certificates(store)
        if kind == "x509_asn" and (trust is True or SERVERS in trust)
    ]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _with_line_end(text: bytes) -> bytes:
    return text if text.endswith(b"\n") else text + b"\n"
