"""The process of `flow-rotate serve`: mitmproxy's master, with the few addons that it needs."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    with _logging(plan):
        return asyncio.run(_serve(plan))


async def _serve(plan: Plan) -> int:
    _check_port(plan)
    draining = Draining()
    try:
        master = make_master(plan, draining)
    except exceptions.OptionsError as e:
        raise ServeError(str(e)) from e
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


def make_master(plan: Plan, draining: Draining) -> Master:
    """Raises ServeError, and mitmproxy's OptionsError."""
    options = Options()
    # What counts most comes last: config.yaml, then the command line.
    options.update_defer(rotate_passthrough=True)
    options.set(*(option for option in plan.options if option.startswith("confdir=")))
    confdir = Path(options.confdir).expanduser()
    _check_confdir(confdir)
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
    options.set(*(option for option in plan.options if not option.startswith("rotate_")))
    options.update(mode=list(plan.modes), listen_host=plan.host, listen_port=plan.port)
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


def _check_confdir(folder: Path) -> None:
    """mitmproxy would show where its code stood. Raises ServeError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (folder / CA_NAME).exists() or os.access(folder, os.W_OK):
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


@contextmanager
def _logging(plan: Plan) -> Iterator[None]:
    """To stderr, or to a file, what is worth reading in a log of months."""
    stream = _open(plan.log) if plan.log else sys.stderr
    handler = logging.StreamHandler(stream)
    colours = stream.isatty() and "NO_COLOR" not in os.environ
    handler.setFormatter(log.MitmFormatter(colorize=colours))
    root = logging.getLogger()
    root.addHandler(handler)
    # Below these levels mitmproxy does not even make a record of what it says.
    root.setLevel(logging.INFO if plan.verbose else logging.WARNING)
    logging.getLogger("flowrotate").setLevel(logging.WARNING if plan.quiet else logging.INFO)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(handler)
        if plan.log:
            stream.close()
