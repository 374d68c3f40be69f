"""What is looked at before a server starts, for mitmproxy would say it late, or not so well. IO."""

import os
import socket
import ssl
import sys
from contextlib import suppress
from pathlib import Path

from flowrotate.machine.target import CA_NAME

from .plan import Plan, ServeError


def check_port(plan: Plan) -> None:
    """mitmproxy would tell it, too, but with a mend that is none here. Raises ServeError."""
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    try:
        with socket.create_server((plan.host, plan.port), family=family):
            pass
    except OSError as e:
        raise ServeError(
            f"--listen {plan.host}:{plan.port}: {e.strerror}; does one run already "
            "(flow-rotate doctor)? Another port, or 0 for any that is free, is as good"
        ) from e


def check_confdir(folder: Path, *, make: bool) -> None:
    """mitmproxy would show where its code stood. Raises ServeError."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        if (folder / CA_NAME).exists() or (there.is_dir() and os.access(there, os.W_OK)):
            return
        why = "it may not be written, and has no CA yet"
    except OSError as e:
        why = str(e.strerror).lower()
    raise ServeError(f"{folder}: {why}: name another folder with --confdir")


def has_ca(confdir: Path) -> bool:
    """All that mitmproxy would else write there."""
    return all((confdir / f"mitmproxy-{name}.pem").exists() for name in ("ca", "dhparam"))


def check_trusted(file: str | None) -> None:
    """mitmproxy would say so with each request, and where its code stood. Raises ServeError."""
    if file is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        why = "it is no PEM file of certificates"
    except OSError as e:
        why = str(e.strerror).lower()
    else:
        return
    raise ServeError(
        f"ssl_verify_upstream_trusted_ca={file}: {why}: name a PEM file of the authorities that "
        "upstreams are to be believed from, by its whole path"
    )


def raise_limit() -> None:
    """A connection takes two descriptors, and the limit is 1024 where select(2) is thought of."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # There the hard limit may say "infinity", and is refused; OPEN_MAX is not.
        wanted = max(soft, 10_240) if sys.platform == "darwin" else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
