"""The variables of this shell."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from flowrotate.guard import is_loopback
from flowrotate.hosts import HostRule, canonical
from flowrotate.machine.environment import PROXIES, hides
from flowrotate.report import show_host

from .finding import EVAL, Findings, note, ok, warning

SCHEMES = ("http", "https", "socks", "socks4", "socks4a", "socks5", "socks5h")
UNREADABLE = "one that cannot be read"


def shell(
    env: Mapping[str, str], url: str, rules: Iterable[HostRule], next_proxy: str = ""
) -> Findings:
    """As its tools will read them: many know only one of the two cases. `next_proxy` is the one
    that this proxy goes on through."""
    named = {name: env.get(name, "") for name in (*PROXIES, *map(str.lower, PROXIES))}
    if not any(named.values()):
        yield note("shell", "this shell sends nothing to a proxy", EVAL)
        return
    wrong = {name: shown(text) for name, text in named.items() if not _same(text, url)}
    if wrong:
        listed = ", ".join(f"{name}={text}" for name, text in wrong.items())
        yield warning("shell", f"not this proxy ({url}): {listed}", _mend(wrong, next_proxy))
    else:
        yield ok("shell", f"this shell's tools go to {url}")
    entries = {e.strip() for name in ("NO_PROXY", "no_proxy") for e in env.get(name, "").split(",")}
    for rule in rules:
        hidden = [entry for entry in sorted(entries) if entry and hides(entry, rule)]
        if hidden:
            said = f"NO_PROXY names {', '.join(hidden)}: {show_host(rule)} goes past the proxy"
            yield warning("shell", said, f"take it out, or {EVAL}")


def _mend(wrong: Mapping[str, str], next_proxy: str) -> str:
    """A proxy of another machine may be the only way out, and what it lets out may be its say."""
    elsewhere = [text for text in wrong.values() if _is_elsewhere(text)]
    if not elsewhere or elsewhere[0] == next_proxy:
        return EVAL
    other = elsewhere[0]
    if not other.startswith("http"):
        return f"{EVAL}; requests then go past {other}, which mitmproxy cannot go on through"
    return (
        f"start the proxy with flow-rotate serve --mode upstream:{other}, then {EVAL}: it goes on "
        f"through {other}; without --mode, requests go past it"
    )


def shown(text: str) -> str:
    """A proxy's scheme, name and port: what else is written may be its login."""
    if not text:
        return "unset"
    with suppress(ValueError):
        parts = urlsplit(text if "://" in text else f"http://{text}")
        name, port = canonical(parts.hostname or ""), parts.port
        if parts.scheme in SCHEMES:
            host = f"[{name}]" if ":" in name else name
            return f"{parts.scheme}://{host}:{port}" if port else f"{parts.scheme}://{host}"
    return UNREADABLE


def _is_elsewhere(text: str) -> bool:
    host = urlsplit(text).hostname or ""
    return bool(host) and host != "localhost" and not is_loopback(host)


def _same(text: str, url: str) -> bool:
    return text.rstrip("/") in (url, url.removeprefix("http://"))
