"""The proxy's CA: there, good, kept, and believed by whom."""

import os
import shlex
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from flowrotate.machine.environment import ADDING, PROXIES, REPLACING
from flowrotate.sources.files import UnreadableError, read_file

from .finding import EVAL, Findings, failure, note, ok, warning

SOON = timedelta(days=30)
KEY_NAME = "mitmproxy-ca.pem"
LARGEST = 8 * 1024 * 1024
"""Bytes; the roots of a system have some hundred thousand."""


def authority(ca: Path, now: datetime) -> Findings:
    """`ca` is the certificate's file. Its key lies beside it."""
    try:
        certificate = x509.load_pem_x509_certificate(read(ca))
    except ValueError:
        if not _is_there(ca):
            mend = "start the proxy once, it makes its CA (flow-rotate serve), or say --confdir"
            yield failure("ca", f"{ca}: there is none", mend)
            return
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
            only_me = f"chmod 600 {shlex.quote(str(file))}"
            mend = f"{only_me}; were others on this machine, see docs/security.md"
            yield failure("ca", f"{file}: others may read the CA's key", mend)


def trust(
    ca: Path, env: Mapping[str, str], system: Callable[[], bytes], stores: Iterable[str]
) -> Findings:
    """`system` gives the system's roots as PEM; `stores` are others that it was put in."""
    try:
        own = x509.load_pem_x509_certificate(read(ca)).public_bytes(Encoding.PEM)
    except ValueError:
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
        # Only who is sent to the proxy meets its certificates.
        uses = any(env.get(name) for both in PROXIES for name in (both, both.lower()))
        yield (warning if uses else note)(
            "trust",
            "nothing trusts the CA yet: tools that go through the proxy refuse its certificates",
            f"{EVAL} for a shell, flow-rotate run -- CMD for one program, flow-rotate system on "
            "for browsers",
        )
    if holding and others:
        yield warning("trust", f"without the CA: {_files(others)}", f"{EVAL} anew")
    elif others:
        yield note("trust", f"without the CA: {_files(others)}")


def _files(names: list[str]) -> str:
    which = "the file" if len(names) == 1 else "the files"
    return f"{which} that this shell's {', '.join(names)} {'names' if len(names) == 1 else 'name'}"


def _holds(file: str, certificate: bytes) -> bool:
    try:
        return certificate.strip() in read(Path(file))
    except UnreadableError:
        return False


def read(file: Path) -> bytes:
    """In bounds, and no pipe: somebody else may have named it. Raises UnreadableError."""
    return read_file(file, LARGEST)[0]


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:
        return True


def utc_now() -> datetime:
    return datetime.now(UTC)
