"""The proxy's CA: there, good, kept, and believed by whom."""

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from flowrotate.machine.environment import ADDING, REPLACING

from .finding import Findings, failure, note, ok, warning

SOON = timedelta(days=30)
KEY_NAME = "mitmproxy-ca.pem"


def authority(ca: Path, now: datetime) -> Findings:
    """`ca` is the certificate's file. Its key lies beside it."""
    try:
        certificate = x509.load_pem_x509_certificate(ca.read_bytes())
    except FileNotFoundError:
        mend = "start the proxy once, it makes its CA (flow-rotate serve), or say --confdir"
        yield failure("ca", f"{ca}: there is none", mend)
        return
    except (OSError, ValueError):
        mend = "take it away, start the proxy anew, and trust the new one"
        yield failure("ca", f"{ca}: no certificate that can be read", mend)
        return
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    anew = f"take {ca.parent}/mitmproxy-* away, start the proxy anew, and trust the new one"
    if not begins <= now < ends:
        yield failure("ca", f"{ca}: good from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}", anew)
    elif ends - now < SOON:
        yield warning("ca", f"{ca}: ends on {ends:%Y-%m-%d}", anew)
    else:
        yield ok("ca", f"{ca}, good until {ends:%Y-%m-%d}")
    yield from _key(ca.parent / KEY_NAME)


def _key(file: Path) -> Findings:
    """Who has it can pretend to be any site."""
    if os.name != "posix":
        return
    with suppress(OSError):
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mend = f"chmod 600 {file}; were others on this machine, see docs/security.md"
            yield failure("ca", f"{file}: others may read the CA's key", mend)


def trust(
    ca: Path, env: Mapping[str, str], system: Callable[[], bytes], stores: Iterable[str]
) -> Findings:
    """`system` gives the system's roots as PEM; `stores` are others that it was put in."""
    try:
        own = x509.load_pem_x509_certificate(ca.read_bytes()).public_bytes(Encoding.PEM)
    except (OSError, ValueError):
        return
    named = {name: env[name] for name in (*REPLACING, *ADDING) if env.get(name)}
    holding = [name for name, file in named.items() if _holds(file, own)]
    others = [name for name in named if name not in holding]
    places = [f"this shell's {', '.join(holding)}"] if holding else []
    places += ["the system's store"] if own.strip() in system() else []
    places += stores
    if places:
        yield ok("trust", f"the CA is trusted in {'; '.join(places)}")
    else:
        yield warning(
            "trust",
            "nothing trusts the CA yet: tools will refuse the proxy's certificates",
            'eval "$(flow-rotate env)" for a shell, flow-rotate run -- CMD for one program, '
            "flow-rotate system on for browsers",
        )
    if holding and others:
        mend = 'eval "$(flow-rotate env)" anew'
        yield warning("trust", f"these name files without the CA: {', '.join(others)}", mend)
    elif named and not holding:
        yield note("trust", f"{', '.join(named)} of this shell name other files")


def _holds(file: str, certificate: bytes) -> bool:
    try:
        return certificate.strip() in Path(file).read_bytes()
    except OSError:
        return False


def utc_now() -> datetime:
    return datetime.now(UTC)
