"""All checks, one after the other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowrotate.config.spec import PoolSpec
from flowrotate.machine import commands, proxies
from flowrotate.machine.bundle import BundleError, system_roots
from flowrotate.machine.places import Places
from flowrotate.machine.system.kinds import Computer
from flowrotate.machine.system.ledger import LedgerError
from flowrotate.machine.target import Target

from . import certificates, desktop, network, upstreams, versions
from .finding import Finding, Findings, failure, note, ok
from .secrets import secrets
from .shell import shell
from .stacks import stacks
from .through import through


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
    mine = _mine(target, places)
    pools: list[PoolSpec] = []
    looked: list[network.Looked] = []
    yield from versions.versions(versions.installed())
    yield from port(target, places)
    yield from certificates.authority(target.ca, certificates.utc_now())
    yield from certificates.trust(target.ca, env, lambda: _roots(places), _stores(asked.computer))
    yield from secrets(target.secrets, asked.sources_env, pools)
    known = target.upstream_ca if mine else upstreams.configured(target.confdir)
    trusted = asked.trusted or known
    try:
        context = upstreams.believed(trusted)
    except (OSError, ValueError) as e:
        said = f"{trusted}: {getattr(e, 'strerror', None) or e}"
        yield failure("hosts", said, "name a file of certificates, PEM")
        return
    yield from network.hosts(pools, context, certificates.utc_now, looked)
    yield from network.clock(looked)
    if target.runs and (proxys := upstreams.of_proxy(target.ca)):
        if mine and target.secrets and _same(mine.secrets, target.secrets):
            yield from through(target.url, pools, looked, proxys)
        else:
            said = "not tried: which pools this proxy has is not known, and a request could spend"
            yield note("through", f"{said} a credential")
    rules = [rule for pool in pools for rule in pool.hosts]
    yield from shell(env, target.url, rules, target.next_proxy)
    yield from desktop.desktop(asked.computer, target)
    yield from stacks(target.url, str(target.ca), asked.computer.which, asked.computer.run)


def _mine(target: Target, places: Places) -> proxies.Running | None:
    """The target, where it is a proxy that has written itself down."""
    return next((one for one in proxies.find(places.state) if one.url == target.url), None)


def _same(one: str, other: Path) -> bool:
    return Path(one).resolve() == other.resolve()


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
