"""The addon: mitmproxy's options, hooks and commands, each handed to the module that knows."""

import difflib
import hashlib
import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mitmproxy import command, ctx, exceptions, http, version
from mitmproxy.addonmanager import Loader
from mitmproxy.flow import Flow

from . import attempt, passage, wire
from .config import ConfigError
from .display import answer
from .rotator import ROTATOR, Pool
from .selector import State
from .settings import DEFAULT_FAIL, Settings, SettingsError, find_secrets, parse_settings
from .sources import ResolvedPool, load
from .why import explain

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parent
OLDEST, NEWEST = (11, 0, 2), (13,)
MITMWEB_MENDED = (11, 1, 2)
"""Below, mitmweb's API is within reach of proxied requests (mitmproxy's changelog, 11.1.2)."""

_numbers = itertools.count(1)


OPTIONS: tuple[tuple[str, Any, Any, str], ...] = (
    ("rotate_secrets", str, "", "The secrets file: YAML, JSON or TOML."),
    ("rotate_fail", str, DEFAULT_FAIL, "What a status does: cooldown, disable or ignore."),
    ("rotate_cooldown", int, 60, "Seconds of a cooldown when the response names none."),
    ("rotate_retries", int, 3, "Further credentials tried per request. 0 turns failover off."),
    ("rotate_hold", int, 0, "Seconds a request may wait when no credential is ready."),
    ("rotate_stream", bool, True, "Pass event streams of matched flows on as they come."),
    (
        "rotate_client_token",
        str,
        "",
        "What every client must send as its placeholder: env:NAME or @FILE.",
    ),
    (
        "rotate_allow_clients",
        Sequence[str],
        [],
        "Networks (CIDR) besides loopback whose clients may use the pools.",
    ),
    ("rotate_expose", bool, False, "Add X-Rotate-Credential and X-Rotate-Attempts to responses."),
)


KINDS: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    Sequence[str]: "a list of texts; with --set, one --set for each",
}


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

    def load(self, loader: Loader) -> None:
        for name, kind, default, text in OPTIONS:
            loader.add_option(name, kind, default, text)
        _take_deferred()
        self.scripts = tuple(ctx.options.scripts) if "scripts" in ctx.options else ()
        _check_version()
        wire.install(self)
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
            _apply()
        except SettingsError as e:
            if not first:
                raise exceptions.OptionsError(str(e)) from e
            # Here mitmproxy would print an OptionsError with its traceback; it ends by itself
            # when an error was logged while it started.
            for line in str(e).splitlines():
                logger.error(line)
            if not ROTATOR.pools:
                ROTATOR.broken = "Flow Rotate's configuration is broken (see mitmproxy's log)"

    def done(self) -> None:
        # On a reload the script is still listed, and comes back at once.
        still = "scripts" in ctx.options and set(self.scripts) <= set(ctx.options.scripts)
        wire.uninstall(self, returning=bool(self.scripts) and still)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        refusal = passage.guarded(lambda: passage.enter(flow))
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
            f"{pool.name}/{s.id}: {s.state}"
            + (f" {s.seconds_left:.0f} s" if s.state is State.COOLING else "")
            + (f" ({s.reason})" if s.reason else "")
            + (f", in flight {s.in_flight}" if s.in_flight else "")
            + f", picked {s.picked}, ok {s.ok}, failed {s.failed}"
            for pool in ROTATOR.pools.values()
            for s in pool.selector.statuses(ROTATOR.clock())
        ]

    @command.command("rotate.why")
    def why(self, flow: Flow) -> str:
        """Why this flow went out with the credentials that it did, and not with others."""
        told = flow.metadata.get("rotate")
        pool = ROTATOR.pools.get(told["pool"]) if told else None
        if told is None or pool is None or not isinstance(flow, http.HTTPFlow):
            return "this flow belongs to no pool"
        attempts = told["attempts"]
        age = ROTATOR.wall() - (attempts[0]["at"] if attempts else flow.timestamp_created)
        now = ROTATOR.clock()
        outages = pool.selector.outages_at(now - age)
        said = explain(attempts, pool.selector.statuses(now), outages, now - age)
        return f"{flow.comment}. {said}" if not attempts else said

    @command.command("rotate.reset")
    def reset(self, credential: str = "") -> None:
        """Make one credential (POOL/ID), or all, ready again. Not what was disabled by hand."""
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


def _take_deferred() -> None:
    """Take over what --set and config.yaml say of our options, each by itself.

    mitmproxy does it after `load`, but an error there is lost, and the proxy runs without us.
    """
    deferred = ctx.options.deferred
    kinds = {name: kind for name, kind, _, _ in OPTIONS}
    ours = {name: deferred.pop(name) for name in list(deferred) if name.startswith("rotate_")}
    for name, value in ours.items():
        if name not in kinds:
            close = difflib.get_close_matches(name, kinds, n=1)
            mend = f": did you mean {close[0]}?" if close else ""
            logger.error("%s: there is no such option%s", name, mend)
            continue
        deferred[name] = value
        try:
            ctx.options.process_deferred()
        except (exceptions.OptionsError, TypeError):
            deferred.pop(name, None)
            logger.error("%s: write %s", name, KINDS[kinds[name]])


def _check_version() -> None:
    found = tuple(int(n) for n in version.VERSION.split(".")[:3] if n.isdecimal())
    if not OLDEST <= found < NEWEST:
        logger.error("Flow Rotate needs mitmproxy 11.0.2 to 12.x, this is %s", version.VERSION)
    elif found < MITMWEB_MENDED and "web_port" in ctx.options:
        logger.warning(
            "this mitmweb (%s, below 11.1.2) can be reached by requests through the proxy itself: "
            "use mitmdump, or Python 3.12 and a later mitmproxy",
            version.VERSION,
        )


def _apply() -> None:
    """Read options and secrets file, whole, then swap. Raises SettingsError with every problem."""
    problems: list[str] = []
    settings = Settings()
    pools: tuple[ResolvedPool, ...] = ()
    try:
        settings = _settings()
    except SettingsError as e:
        problems.append(str(e))
    try:
        pools = _pools()
    except ConfigError as e:
        problems.append(str(e))
    if problems:
        raise SettingsError("\n".join(problems))
    ROTATOR.swap(settings, pools)
    if ctx.options.ssl_insecure and pools:
        logger.warning("ssl_insecure is on: no https request of a pool will go out")


def _settings() -> Settings:
    options = ctx.options
    return parse_settings(
        fail=options.rotate_fail,
        cooldown=options.rotate_cooldown,
        retries=options.rotate_retries,
        hold=options.rotate_hold,
        stream=options.rotate_stream,
        client_token=options.rotate_client_token,
        allow_clients=options.rotate_allow_clients,
        expose=options.rotate_expose,
        env=os.environ,
    )


def _pools() -> tuple[ResolvedPool, ...]:
    path, places = find_secrets(ctx.options.rotate_secrets, os.environ, Path.home(), PACKAGE)
    if path is None:
        looked = " or ".join(str(place) for place in places)
        logger.warning("no secrets file, nothing is injected: put one at %s", looked)
        return ()
    pools = load(path, os.environ)
    sizes = ", ".join(f"{p.spec.name} ({len(p.secrets)})" for p in pools)
    logger.info("Flow Rotate: pools %s from %s", sizes, path)
    return pools


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
