"""The process of `flow-rotate serve`: mitmproxy's master, with the few addons that it needs."""

import asyncio
import logging
import os
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from mitmproxy import exceptions, log, optmanager
from mitmproxy.addons import (
    block,
    core,
    disable_h2c,
    dns_resolver,
    errorcheck,
    next_layer,
    proxyauth,
    proxyserver,
    strip_dns_https_records,
    tlsconfig,
    update_alt_svc,
    upstream_auth,
)
from mitmproxy.master import Master
from mitmproxy.options import Options

from flowrotate.addon import FlowRotate
from flowrotate.machine.target import CA_NAME
from flowrotate.presence import Presence

from .drain import Draining
from .ending import Ending
from .plan import Plan, ServeError
from .ready import Ready

LOUD = ("tornado", "asyncio", "hpack", "quic")
"""Loggers that mitmproxy's own programs quiet, too."""


def serve(plan: Plan) -> int:
    """Until a signal. Exit status: 0 when it was asked to end, 1 when it could not start.

    Raises ServeError.
    """
    _raise_limit()
    with _logging(plan) as handler:
        return asyncio.run(_check(plan) if plan.check else _serve(plan, handler))


async def _check(plan: Plan) -> int:
    """What a start would find, without one: it listens to nothing, and leaves nothing behind."""
    with tempfile.TemporaryDirectory() as scratch:
        master = _made(plan, Draining(), Path(scratch))
    return int(bool(master.addons.get("errorcheck").logger.has_errored))


async def _serve(plan: Plan, handler: logging.Handler) -> int:
    _check_port(plan)
    draining, first = Draining(), FailuresFirst()
    handler.addFilter(first)
    master = _made(plan, draining)
    handler.removeFilter(first)
    ending = Ending(master, draining)
    ending.listen_to_signals()
    if plan.private_to is not None:
        Presence.private = True
        ending.end_with(plan.private_to)
    try:
        await master.run()
    except SystemExit:
        return 1  # what is wrong is in the log
    return 0


class FailuresFirst(logging.Filter):
    """Once there is an error, what is well is no news: who looks at the end sees the error."""

    failed = False

    def filter(self, record: logging.LogRecord) -> bool:
        self.failed |= record.levelno >= logging.ERROR
        return not self.failed or record.levelno > logging.INFO


def _made(plan: Plan, draining: Draining, scratch: Path | None = None) -> Master:
    try:
        return make_master(plan, draining, scratch)
    except exceptions.OptionsError as e:
        raise ServeError(str(e)) from e


def make_master(plan: Plan, draining: Draining, scratch: Path | None = None) -> Master:
    """`scratch`: where a CA is made that nobody needs, in place of one that is not there yet.

    Raises ServeError, and mitmproxy's OptionsError.
    """
    options = Options()
    # What counts most comes last: config.yaml, then the command line.
    options.update_defer(rotate_passthrough=True)
    options.set(*(option for option in plan.options if option.startswith("confdir=")))
    confdir = Path(options.confdir).expanduser()
    _check_confdir(confdir, make=scratch is None)
    for name in ("config.yaml", "config.yml"):
        optmanager.load_paths(options, str(confdir / name))
    options.set(*plan.options, defer=True)
    master = Master(options)
    master.addons.add(*_addons(plan, draining))
    for name in (option.partition("=")[0] for option in plan.options):
        if name in options.deferred:
            raise ServeError(
                f"--set {name}: serve has no such option; to save, show or change flows, run "
                'mitmdump or mitmweb with -s "$(flow-rotate path)"'
            )
    # Only now is there anybody whom a bad value could trouble.
    makes_ca = scratch and not _has_ca(Path(options.confdir).expanduser())
    options.update(confdir=str(scratch) if makes_ca else options.confdir)
    early = ("rotate_", "confdir=")
    options.set(*(option for option in plan.options if not option.startswith(early)))
    options.update(mode=list(plan.modes), listen_host=plan.host, listen_port=plan.port)
    _check_trusted(options.ssl_verify_upstream_trusted_ca)
    return master


def _addons(plan: Plan, draining: Draining) -> list[object]:
    return [
        errorcheck.ErrorCheck(),
        core.Core(),
        block.Block(),
        strip_dns_https_records.StripDnsHttpsRecords(),
        disable_h2c.DisableH2C(),
        proxyauth.ProxyAuth(),
        proxyserver.Proxyserver(),
        dns_resolver.DnsResolver(),
        draining,
        FlowRotate(),
        next_layer.NextLayer(),
        tlsconfig.TlsConfig(),
        upstream_auth.UpstreamAuth(),
        update_alt_svc.UpdateAltSvc(),
        Ready(as_json=plan.as_json),
    ]


def _has_ca(confdir: Path) -> bool:
    """All that mitmproxy would else write there."""
    return all((confdir / f"mitmproxy-{name}.pem").exists() for name in ("ca", "dhparam"))


def _check_trusted(file: str | None) -> None:
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


def _check_confdir(folder: Path, *, make: bool) -> None:
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


def _check_port(plan: Plan) -> None:
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


def _open(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as e:
        raise ServeError(f"--log {path}: {e.strerror}: name a file that can be written") from e


def _raise_limit() -> None:
    """A connection takes two descriptors, and the limit is 1024 where select(2) is thought of."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # There the hard limit may say "infinity", and is refused; OPEN_MAX is not.
        wanted = max(soft, 10_240) if sys.platform == "darwin" else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _logging(plan: Plan) -> Iterator[logging.Handler]:
    """To stderr, or to a file, what is worth reading in a log of months."""
    log_file = None if plan.check else plan.log
    stream = _open(log_file) if log_file else sys.stderr
    handler = logging.StreamHandler(stream)
    colours = stream.isatty() and "NO_COLOR" not in os.environ
    # Of a check, the lines are for who asked for it.
    handler.setFormatter(None if plan.check else log.MitmFormatter(colorize=colours))
    root = logging.getLogger()
    root.addHandler(handler)
    # Below these levels mitmproxy does not even make a record of what it says.
    root.setLevel(logging.INFO if plan.verbose else logging.WARNING)
    calm = plan.quiet or plan.check
    logging.getLogger("flowrotate").setLevel(logging.WARNING if calm else logging.INFO)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        if log_file:
            stream.close()
