"""mitmproxy's options: ours as Settings, and its own as far as token requests depend on them."""

import difflib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mitmproxy import ctx, exceptions
from mitmproxy.proxy.mode_specs import ProxyMode, UpstreamMode

from .mint.egress import Egress
from .settings import DEFAULT_FAIL, Settings, parse_settings

logger = logging.getLogger(__name__)

OPTIONS: tuple[tuple[str, Any, Any, str], ...] = (
    ("rotate_secrets", str, "", "The secrets file: YAML, JSON or TOML."),
    ("rotate_fail", str, DEFAULT_FAIL, "What a status does: cooldown, disable or ignore."),
    ("rotate_cooldown", int, 60, "Seconds of a cooldown when the response names none."),
    ("rotate_retries", int, 3, "Further credentials tried per request. 0 turns failover off."),
    ("rotate_hold", int, 0, "Seconds a request may wait when no credential is ready."),
    ("rotate_stream", bool, True, "Pass event streams of matched flows on as they come."),
    ("rotate_scrub", bool, True, "Write the alias of a secret that an upstream echoes."),
    ("rotate_passthrough", bool, False, "Tunnel connections to hosts in no pool undecrypted."),
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


def take_deferred() -> None:
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


def current_settings() -> Settings:
    options = ctx.options
    return parse_settings(
        fail=options.rotate_fail,
        cooldown=options.rotate_cooldown,
        retries=options.rotate_retries,
        hold=options.rotate_hold,
        stream=options.rotate_stream,
        scrub=options.rotate_scrub,
        passthrough=options.rotate_passthrough,
        client_token=options.rotate_client_token,
        allow_clients=options.rotate_allow_clients,
        expose=options.rotate_expose,
        env=os.environ,
    )


def make_egress() -> Egress:
    """How token requests leave this machine: as mitmproxy's options say when one is made."""
    return Egress(_listening, _upstream, os.environ, _own_ca)


def _listening() -> list[tuple[str, int]]:
    """Where it listens, and where it is meant to: it may be starting still."""
    server, options = ctx.master.addons.get("proxyserver"), ctx.options
    bound = [(address[0], address[1]) for address in server.listen_addrs()] if server else []
    meant = [
        (mode.listen_host(options.listen_host), mode.listen_port(options.listen_port))
        for mode in map(ProxyMode.parse, options.mode)
    ]
    return [*bound, *((host, port) for host, port in meant if port)]


def _upstream() -> str | None:
    """The proxy of `--mode upstream:…`, with the login that mitmproxy has for it."""
    modes = [ProxyMode.parse(mode) for mode in ctx.options.mode]
    mode = next((mode for mode in modes if isinstance(mode, UpstreamMode)), None)
    if mode is None:
        return None
    login = ctx.options.upstream_auth
    user, _, password = (login or "").partition(":")
    shown = f"{quote(user, safe='')}:{quote(password, safe='')}@" if login else ""
    host = f"[{mode.address[0]}]" if ":" in mode.address[0] else mode.address[0]
    return f"{mode.scheme}://{shown}{host}:{mode.address[1]}"


def _own_ca() -> Path:
    return Path(ctx.options.confdir).expanduser() / "mitmproxy-ca-cert.pem"
