"""The addon: mitmproxy's options, hooks and commands, each handed to the module that knows."""

import hashlib
import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from mitmproxy import command, ctx, exceptions, http, version
from mitmproxy.addonmanager import Loader
from mitmproxy.flow import Flow

from . import attempt, logs, passage, wire
from .config.spec import ConfigError
from .display import answer
from .options import OPTIONS, current_settings, make_egress, take_deferred
from .ownports import OwnPorts, is_needed
from .pacpage import PacPage
from .passthrough import Passthrough
from .presence import Presence
from .reload import RELOADER
from .rotator import ROTATOR, Pool
from .settings import Settings, SettingsError, find_secrets
from .sources.resolve import ResolvedPool
from .unreached import Unreached
from .versions import NEWEST, OLDEST, numbers
from .why import explain, in_words
from .wishes import scope_of

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parent

_numbers = itertools.count(1)


def fingerprint() -> str:
    """Of the package's files as they are on disk now."""
    files = sorted(PACKAGE.rglob("*.py"))
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()


LOADED = fingerprint()


class FlowRotate:
    """One per load of the script. State that must outlive it is in ROTATOR."""

    def __init__(self) -> None:
        # mitmproxy refuses a second addon of the same name.
        self.name = f"flowrotate-{next(_numbers)}"
        self.scripts: Sequence[str] = ()
        self.configured = False
        self.addons: list[object] = []

    def load(self, loader: Loader) -> None:
        for name, kind, default, text in OPTIONS:
            loader.add_option(name, kind, default, text)
        take_deferred()
        self.scripts = tuple(ctx.options.scripts) if "scripts" in ctx.options else ()
        found = _check_version()
        self.addons = [
            OwnPorts(f"{self.name}-own-ports", is_needed(found)),
            Passthrough(f"{self.name}-passthrough"),
            PacPage(f"{self.name}-pac"),
            Presence(f"{self.name}-presence"),
            Unreached(f"{self.name}-unreached"),
        ]
        ROTATOR.egress = make_egress()
        wire.install(self)
        logs.install(self)
        if fingerprint() != LOADED:
            logger.warning(
                "Flow Rotate's package changed on disk; what runs is the old one: "
                "restart mitmproxy to load it"
            )

    def configure(self, updated: set[str]) -> None:
        first, self.configured = not self.configured, True
        if not first and not any(name.startswith("rotate_") for name in updated):
            return
        try:
            if first or "rotate_secrets" in updated or not ROTATOR.pools:
                _apply()
            else:
                ROTATOR.swap(current_settings(), [p.resolved for p in ROTATOR.pools.values()])
        except SettingsError as e:
            if not first:
                raise exceptions.OptionsError(str(e)) from e
            # Here mitmproxy would print an OptionsError with its traceback; it ends by itself
            # when an error was logged while it started.
            for line in str(e).splitlines():
                logger.error(line)
            if not ROTATOR.pools:
                ROTATOR.broken = "Flow Rotate's configuration is broken (see mitmproxy's log)"

    def running(self) -> None:
        RELOADER.start(self)

    def done(self) -> None:
        RELOADER.stop(self)
        logs.uninstall(self)
        # On a reload the script is still listed, and comes back at once.
        still = "scripts" in ctx.options and set(self.scripts) <= set(ctx.options.scripts)
        wire.uninstall(self, returning=bool(self.scripts) and still)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        refusal = passage.guarded(lambda: passage.enter(flow))
        if refusal and flow not in passage.PASSAGES:
            passage.bare(flow)
        if refusal and not (flow.response or flow.error):
            # A response and a streamed request at once crash mitmproxy (NotImplementedError).
            flow.request.stream = False
            flow.response = answer(flow, refusal)

    async def rotate_hold(self, flow: http.HTTPFlow) -> None:
        if waiter := attempt.WAITING.get(flow):
            await waiter.wait()

    def error(self, flow: http.HTTPFlow) -> None:
        passage.PASSAGES.pop(flow, None)

    @command.command("rotate.status")
    def status(self) -> Sequence[str]:
        """Every credential of every pool: its state and what it served."""
        return [
            f"{pool.name}/{status.id}: {in_words(status)}"
            for pool in ROTATOR.pools.values()
            for status in pool.selector.statuses(ROTATOR.clock())
        ]

    @command.command("rotate.reload")
    def reload(self) -> None:
        """Read the secrets file again, and run its commands again. The log says what came of it."""
        if not RELOADER.ask():
            raise exceptions.CommandError("mitmproxy is still starting: wait a moment")

    @command.command("rotate.why")
    def why(self, flow: Flow) -> str:
        """Why this flow went out with the credentials that it did, and not with others."""
        told = flow.metadata.get("rotate")
        pool = ROTATOR.pools.get(told["pool"]) if told else None
        if told is None or pool is None or not isinstance(flow, http.HTTPFlow):
            return "this flow belongs to no pool that is there now"
        attempts = told["attempts"]
        age = ROTATOR.wall() - (attempts[0]["at"] if attempts else flow.timestamp_created)
        now = ROTATOR.clock()
        outages = pool.selector.outages_at(now - age, scope_of(flow, pool))
        said = explain(attempts, pool.selector.statuses(now), outages, now - age)
        return f"{flow.comment}. {said}" if not attempts else said

    @command.command("rotate.reset")
    def reset(self, credential: str = "") -> None:
        """Make one (POOL/ID), or all, ready again. Not what is disabled by hand or in the file."""
        if credential:
            pool, id = _target(credential)
            pool.selector.reset(ROTATOR.clock(), [id])
        else:
            for pool in ROTATOR.pools.values():
                pool.selector.reset(ROTATOR.clock())

    @command.command("rotate.disable")
    def disable(self, credential: str) -> None:
        """Take one credential (POOL/ID) out of the rotation until rotate.enable."""
        pool, id = _target(credential)
        pool.selector.disable(id, ROTATOR.clock())

    @command.command("rotate.enable")
    def enable(self, credential: str) -> None:
        """Put one credential (POOL/ID) back into the rotation, whatever took it out."""
        pool, id = _target(credential)
        pool.selector.enable(id, ROTATOR.clock())


def _check_version() -> tuple[int, ...]:
    found = numbers(version.VERSION)
    if not OLDEST <= found < NEWEST:
        logger.error("Flow Rotate needs mitmproxy 11.0.2 to 12.x, this is %s", version.VERSION)
    return found


def _apply() -> None:
    """Read options and secrets file, whole, then swap. Raises SettingsError with every problem."""
    problems: list[str] = []
    settings = Settings()
    pools: tuple[ResolvedPool, ...] = ()
    try:
        settings = current_settings()
    except SettingsError as e:
        problems.append(str(e))
    try:
        pools = RELOADER.read(_locate, ROTATOR.egress.environment, current_settings)
    except ConfigError as e:
        problems.append(str(e))
    if problems:
        raise SettingsError("\n".join(problems))
    ROTATOR.swap(settings, pools)
    _tell_pools(pools)


def _locate() -> tuple[Path | None, tuple[Path, ...]]:
    return find_secrets(ctx.options.rotate_secrets, os.environ, Path.home(), PACKAGE)


def _tell_pools(pools: Sequence[ResolvedPool]) -> None:
    path, places = _locate()
    if path is None:
        looked = " or ".join(str(place) for place in places)
        logger.warning("no secrets file, nothing is injected: put one at %s", looked)
        return
    sizes = ", ".join(f"{p.spec.name} ({len(p.secrets)})" for p in pools)
    logger.info("Flow Rotate: pools %s from %s", sizes, path)
    if ctx.options.ssl_insecure:
        logger.warning("ssl_insecure is on: no https request of a pool will go out")


def _target(text: str) -> tuple[Pool, str]:
    try:
        return ROTATOR.target(text)
    except KeyError:
        known = ", ".join(
            f"{pool.name}/{c.id}"
            for pool in ROTATOR.pools.values()
            for c in pool.resolved.spec.credentials
        )
        raise exceptions.CommandError(f"no such credential: write one of {known}") from None
