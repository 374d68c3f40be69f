"""The proxy's CA certificate. IO, but only to read it, and to keep a copy for `off`."""

import hashlib
import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flowrotate.machine.files import write_private

from .kinds import ChangeError
from .ledger import Book


@dataclass(frozen=True)
class Certificate:
    """`pem` is the certificate alone, as we write it."""

    der: bytes

    @cached_property
    def pem(self) -> bytes:
        return ssl.DER_cert_to_PEM_cert(self.der).encode()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.der).hexdigest()

    @cached_property
    def sha1(self) -> str:
        """macOS and Windows name certificates by it."""
        return hashlib.sha1(self.der, usedforsecurity=False).hexdigest().upper()


def read_certificate(file: Path) -> Certificate:
    """Raises ChangeError."""
    try:
        return Certificate(ssl.PEM_cert_to_DER_cert(file.read_text("ascii").strip()))
    except FileNotFoundError as e:
        raise ChangeError(
            f"no CA certificate at {file}: the proxy makes it; start it once: flow-rotate serve"
        ) from e
    except OSError as e:
        raise ChangeError(f"{file}: {e.strerror}") from e
    except ValueError as e:
        raise ChangeError(f"{file} is no certificate: --confdir names the proxy's folder") from e


def kept(book: Book, sha256: str) -> Path:
    """Our own copy: `off` needs it when the proxy's folder is gone."""
    return book.folder / f"{sha256}.pem"


def keep_certificate(book: Book, certificate: Certificate) -> None:
    write_private(kept(book, certificate.sha256), certificate.pem)
