"""JSON Web Tokens, signed with PyJWT's algorithms."""

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from flowrotate.secret import Secret

Signer = Callable[[bytes], bytes]

_WRONG_KEYS = {
    "RS256": "RS256 needs an RSA private key, as PEM without a passphrase",
    "ES256": "ES256 needs a P-256 private key, as PEM without a passphrase",
}
_WRONG_KEY = "HS256, HS384 and HS512 need a plain text as key: for a PEM, write RS256 or ES256"


def signer(name: str, secret: Secret) -> Signer:
    """What signs bytes by an algorithm of RFC 7518, 3. Raises ValueError with the mend."""
    algorithm = _algorithm(name)
    key = None
    with suppress(Exception):  # whatever it is, it may quote the key
        key = algorithm.prepare_key(secret.reveal())
    if key is None or not _fits(name, key):
        raise ValueError(_WRONG_KEYS.get(name, _WRONG_KEY))
    return lambda text: algorithm.sign(text, key)


def _algorithm(name: str) -> Any:
    try:
        import jwt
    except ImportError:
        raise ValueError("needs the extra 'jwt': install PyJWT beside mitmproxy") from None
    return jwt.get_algorithm_by_name(name)


def _fits(algorithm: str, key: object) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    match algorithm:
        case "RS256":
            return isinstance(key, rsa.RSAPrivateKey)
        case "ES256":
            return isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1"
    return True


def jwt(algorithm: str, claims: Mapping[str, object], sign: Signer) -> str:
    """The signed token, in the compact form of RFC 7515, 7.1.

    Not by `jwt.encode`: it warns of short keys, which others choose, and a warning can be silenced
    for all threads only.
    """
    head = _base64url(_json({"alg": algorithm, "typ": "JWT"}))
    signed = head + b"." + _base64url(_json(claims))
    return (signed + b"." + _base64url(sign(signed))).decode("ascii")


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
