"""The process of `flow-rotate serve`: mitmproxy's master, with the few addons that it needs."""

import asyncio
import logging
import tempfile
from pathlib import Path

from mitmproxy import exceptions, optmanager
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
from flowrotate.presence import Presence

from .checks import check_confdir, check_port, check_trusted, has_ca, raise_limit
from .drain import Draining
from .ending import Ending
from .journal import FailuresFirst, logging_to
from .plan import Plan, ServeError
from .ready import Ready


def serve(plan: Plan) -> int:
    """Until a signal. Exit status: 0 when it was asked to end, 1 when it could not start.

    Raises ServeError.
    """
    raise_limit()
    with logging_to(plan) as handler:
        return asyncio.run(_check(plan) if plan.check else _serve(plan, handler))


async def _check(plan: Plan) -> int:
    """What a start would find, without one: it listens to nothing, and leaves nothing behind."""
    with tempfile.TemporaryDirectory() as scratch:
        master = _made(plan, Draining(), Path(scratch))
    return int(bool(master.addons.get("errorcheck").logger.has_errored))


async def _serve(plan: Plan, handler: logging.Handler) -> int:
    check_port(plan)
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
    check_confdir(confdir, make=scratch is None)
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
    makes_ca = scratch and not has_ca(Path(options.confdir).expanduser())
    options.update(confdir=str(scratch) if makes_ca else options.confdir)
    early = ("rotate_", "confdir=")
    options.set(*(option for option in plan.options if not option.startswith(early)))
    options.update(mode=list(plan.modes), listen_host=plan.host, listen_port=plan.port)
    check_trusted(options.ssl_verify_upstream_trusted_ca)
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
