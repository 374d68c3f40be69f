"""G1 against certificates with one fault each, and against who switches verification off."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flowrotate.demo.proxy import Proxy

from .test_destination import Tap, echo
from .test_guarantees import SCRIPTS, refused, set_option
from .world import World, bearers, client, pool

DAY = timedelta(days=1)

BAD_CERTIFICATES: dict[str, tuple[dict[str, Any], str]] = {
    "signed by itself": ({"signed": False}, "self-signed certificate"),
    "expired": ({"valid": (-2 * DAY, -DAY)}, "certificate has expired"),
    "not yet valid": ({"valid": (DAY, 2 * DAY)}, "certificate is not yet valid"),
    "another name": ({"name": "other.test"}, "hostname mismatch"),
    "a subdomain": ({"name": "www.localhost"}, "hostname mismatch"),
    "a wildcard for all": ({"name": "*"}, "hostname mismatch"),
    "a wildcard below it": ({"name": "*.localhost"}, "hostname mismatch"),
    "a name that goes on": ({"name": "localhost.evil.test"}, "hostname mismatch"),
    "the common name alone": ({"alternative": False}, "hostname mismatch"),
    "for clients": ({"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, "certificate purpose"),
}


class Issuer:
    """An authority that signs whatever it is asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "issuer.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(folder.name)
        made = _builder(self._name, self._name, self._key.public_key(), (-DAY, DAY))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.ca.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))

    def issue(
        self,
        file: str,
        *,
        name: str = "localhost",
        alternative: bool = True,
        signed: bool = True,
        valid: tuple[timedelta, timedelta] = (-DAY, DAY),
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> Path:
        """A file with key and certificate, valid from and until some time from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._name if signed else _named(name)
        made = _builder(_named(name), issuer, key.public_key(), valid)
        made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternative:
            names = x509.SubjectAlternativeName([x509.DNSName(name)])
            made = made.add_extension(names, critical=False)
        path = self.folder / file
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + _pem(made.sign(self._key if signed else key, hashes.SHA256()))
        )
        return path


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    valid: tuple[timedelta, timedelta],
) -> x509.CertificateBuilder:
    start, end = (datetime.now(UTC) + offset for offset in valid)
    number = x509.random_serial_number()
    return x509.CertificateBuilder(issuer, subject, key, number, start, end)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def issuer(shared: World) -> Issuer:
    return Issuer(shared.folder)


@pytest.fixture(scope="module")
def proxy(shared: World, issuer: Issuer) -> Proxy:
    return shared.proxy(pool(["localhost:*"]), scripts=SCRIPTS, trust=issuer.ca)


def get(proxy: Proxy, tap: Tap) -> httpx.Response:
    """On a connection of its own."""
    with client(proxy) as c:
        return c.get(f"https://localhost:{tap.port}/")


@pytest.mark.parametrize("what", BAD_CERTIFICATES)
def test_g1_a_bad_certificate(proxy: Proxy, issuer: Issuer, what: str) -> None:
    """Nothing is sent; not even while `ssl_insecure` is on, when mitmproxy takes it."""
    fault, reason = BAD_CERTIFICATES[what]
    with Tap(echo, leaf=issuer.issue(f"{what}.pem", **fault)) as tap:
        for insecure in ("false", "true", "false"):
            set_option(proxy, f"ssl_insecure={insecure}")
            response = get(proxy, tap)
            if insecure == "true":
                assert "was not verified" in refused(response)
            else:
                assert response.status_code == 502
                assert reason in response.text
        assert not any(tap.raw)


def test_g1_a_good_certificate(proxy: Proxy, issuer: Issuer) -> None:
    """So that it was the fault for which the others got nothing, and the switch."""
    with Tap(echo, leaf=issuer.issue("good.pem")) as tap:
        for insecure in ("false", "true", "false"):
            set_option(proxy, f"ssl_insecure={insecure}")
            assert get(proxy, tap).status_code == (502 if insecure == "true" else 200)
        assert len(set(bearers(tap.requests))) == 2


def test_g1_an_authority_that_nobody_trusts(proxy: Proxy, tmp_path: Path) -> None:
    set_option(proxy, "ssl_insecure=false")
    with Tap(echo, leaf=Issuer(tmp_path).issue("good.pem")) as tap:
        assert "local issuer certificate" in get(proxy, tap).text
        assert not any(tap.raw)


def test_g1_plain_text_where_tls_is_due(proxy: Proxy) -> None:
    with Tap(echo, leaf=None) as tap:
        for insecure in ("false", "true"):
            set_option(proxy, f"ssl_insecure={insecure}")
            assert "does not speak TLS" in get(proxy, tap).text
        assert all(raw.startswith(b"\x16\x03") for raw in tap.raw)  # a handshake, and no more
        assert tap.canaries == []
