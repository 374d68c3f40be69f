"""A throw-away certificate authority, strict enough for OpenSSL 3 and `VERIFY_X509_STRICT`."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


class Authority:
    """A CA that lives as long as this object: its key is never written."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.leaf = folder / "leaf.pem"
        self._folder = folder
        self._issued = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _authority_certificate(self._key)
        folder.mkdir(parents=True, exist_ok=True)
        self.ca.write_bytes(_pem(self._certificate))

    def issue(self, names: Sequence[str], *, expired: bool = False) -> Path:
        """Write a file with key and chain for DNS names and IP literals; valid since yesterday."""
        self._issued += 1
        path = self.leaf if self._issued == 1 else self._folder / f"leaf-{self._issued}.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        until = now - timedelta(hours=1) if expired else now + 30 * DAY
        leaf = (
            _builder(names[0], key.public_key(), self._certificate.subject, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False
            )
            .add_extension(_authority_identifier(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        _write_private(path, _key_pem(key) + _pem(leaf) + _pem(self._certificate))
        return path


def make_authority(folder: Path, names: Sequence[str]) -> Authority:
    """Write `ca.pem` and, for `names`, `leaf.pem` into `folder`."""
    authority = Authority(folder)
    authority.issue(names)
    return authority


def _authority_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("Flow Rotate demo CA")
    return (
        _builder("Flow Rotate demo CA", key.public_key(), name, datetime.now(UTC) + 30 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(_authority_identifier(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - DAY)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    # X.520 ends a common name at 64 characters; only the alternative names count anyway.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _authority_identifier(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_private(path: Path, content: bytes) -> None:
    # The mode is part of the open: a chmod afterwards leaves a moment for other readers.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
