"""All checks, one after the other."""

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowrotate.config.spec import PoolSpec
from flowrotate.hosts import HostRule
from flowrotate.machine import commands, proxies
from flowrotate.machine.bundle import BundleError, system_roots
from flowrotate.machine.places import Places
from flowrotate.machine.system.kinds import Computer
from flowrotate.machine.system.ledger import LedgerError
from flowrotate.machine.target import Target

from . import certificates, desktop, network, versions
from .finding import Finding, Findings, failure, ok
from .secrets import secrets
from .shell import shell, stacks


@dataclass(frozen=True, slots=True)
class Asked:
    """`env` is the shell's, `sources_env` what the secrets file's sources may see of it; `trusted`
    a CA file for upstreams, where the proxy itself does not say which it has."""

    target: Target
    env: Mapping[str, str] = field(repr=False)
    sources_env: Mapping[str, str] = field(repr=False)
    computer: Computer
    trusted: Path | None = None


def examine(asked: Asked) -> Iterator[Finding]:
    target, env, places = asked.target, asked.env, asked.computer.places
    trusted = asked.trusted or target.upstream_ca
    pools: list[PoolSpec] = []
    dates: network.Dates = []
    reached: list[HostRule] = []
    yield from versions.versions(versions.installed())
    yield from port(target, places)
    yield from certificates.authority(target.ca, certificates.utc_now())
    yield from certificates.trust(target.ca, env, lambda: _roots(places), _stores(asked.computer))
    yield from secrets(target.secrets, asked.sources_env, pools)
    try:
        contexts = _contexts(target, trusted)
    except OSError as e:
        yield failure("hosts", f"{trusted}: {e.strerror or e}", "name a file of certificates, PEM")
        return
    yield from network.hosts(pools, contexts, certificates.utc_now, dates, reached)
    yield from network.clock(dates)
    if target.runs and contexts.proxy:
        yield from network.through(target.url, reached, contexts)
    yield from shell(env, target.url, [rule for pool in pools for rule in pool.hosts])
    yield from desktop.desktop(asked.computer, target)
    yield from stacks(target.url, str(target.ca))


def port(target: Target, places: Places) -> Findings:
    """Whether the proxy runs, or could."""
    running = [one for one in proxies.find(places.state) if not one.private]
    mine = next((one for one in running if one.url == target.url), None)
    if mine:
        others = [one.url for one in running if one is not mine]
        also = f" (also running: {', '.join(others)})" if others else ""
        yield ok("proxy", f"runs at {mine.url}, process {mine.pid}{also}")
    elif proxies.answers(target.url):
        yield failure(
            "proxy",
            f"something answers at {target.url} that is none of this user's",
            "end it, or serve at another port: flow-rotate serve --listen 127.0.0.1:0",
        )
    else:
        mend = "flow-rotate serve, or flow-rotate service install to have it always"
        yield failure("proxy", f"none runs at {target.url}", mend)


def _stores(computer: Computer) -> list[str]:
    try:
        return list(desktop.stores(computer.book.load()))
    except LedgerError:
        return []


def _roots(places: Places) -> bytes:
    try:
        return system_roots(places.platform, commands.run)
    except BundleError:
        return b""


def _contexts(target: Target, trusted: Path | None) -> network.Contexts:
    """As mitmproxy believes upstreams: certifi's roots, or the file that it was given."""
    import certifi

    upstream = ssl.create_default_context(cafile=str(trusted or certifi.where()))
    # Python 3.13 asks for more than mitmproxy does.
    upstream.verify_flags &= ~ssl.VERIFY_X509_STRICT
    upstream.set_alpn_protocols(["http/1.1"])
    try:
        proxy = ssl.create_default_context(cafile=str(target.ca))
    except OSError:
        return network.Contexts(upstream, None)
    return network.Contexts(upstream, proxy)
