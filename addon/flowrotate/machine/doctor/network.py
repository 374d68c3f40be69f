"""Hosts of pools: reached, and with a certificate that a proxy accepts."""

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from flowrotate.config.spec import PoolSpec
from flowrotate.hosts import HostRule
from flowrotate.report import show_host

from .finding import Finding, Findings, failure, note, ok, warning

SECONDS = 5.0
AT_ONCE = 16
SKEW_WARNED, SKEW_FAILED = 60.0, 300.0
"""Seconds; tokens are refused as too old, or too young, from about five minutes on."""
PAGE = {"Origin": "https://doctor.invalid", "Sec-Fetch-Site": "cross-site"}
"""A request of a web page gets no credential: none is spent, and none is judged."""

Dates = list[tuple[datetime, datetime]]
"""A server's clock, and ours then."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """Whose certificates are believed: of upstreams, and of the proxy."""

    upstream: ssl.SSLContext
    proxy: ssl.SSLContext | None


def places(pools: Iterable[PoolSpec]) -> Iterator[tuple[str, HostRule]]:
    """Those hosts that one can go to: with one name and one port."""
    for pool in pools:
        for rule in pool.hosts:
            if not rule.wildcard and rule.port is not None:
                yield pool.name, rule


def hosts(
    pools: list[PoolSpec],
    contexts: Contexts,
    now: Callable[[], datetime],
    dates: Dates,
    reached: list[HostRule],
) -> Findings:
    """As upstreams are reached from here, without the proxy. `dates` and `reached` are filled."""
    for pool in pools:
        if not any(name == pool.name for name, _ in places([pool])):
            yield note("hosts", f"pool {pool.name} has no host of one name and port to try")

    def look(place: tuple[str, HostRule]) -> tuple[HostRule, Finding]:
        return place[1], _host(place, contexts.upstream, now, dates)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for rule, finding in threads.map(look, places(pools)):
            if finding.level == "ok":
                reached.append(rule)
            yield finding


def _host(
    place: tuple[str, HostRule],
    context: ssl.SSLContext,
    now: Callable[[], datetime],
    dates: Dates,
) -> Finding:
    pool, rule = place
    shown = f"pool {pool}: {show_host(rule)}"
    assert rule.port
    connection: HTTPConnection
    if rule.tls:
        connection = HTTPSConnection(rule.name, rule.port, timeout=SECONDS, context=context)
    else:
        connection = HTTPConnection(rule.name, rule.port, timeout=SECONDS)
    try:
        connection.connect()
        status = _ask(connection, now, dates)
    except ssl.SSLCertVerificationError as e:
        mend = (
            "no pooled request goes there: mend the host's name or certificate, or give the proxy "
            "its CA (--set ssl_verify_upstream_trusted_ca=FILE, doctor --trust FILE)"
        )
        return failure("hosts", f"{shown}: certificate: {e.verify_message}", mend)
    except OSError as e:
        mend = "mend its name or port, or look at this machine's network (a proxy of the company?)"
        return failure("hosts", f"{shown}: {_why(e)}", mend)
    finally:
        connection.close()
    return ok(
        "hosts", f"{shown} is reached{', its certificate is good' if rule.tls else ''}{status}"
    )


def _ask(connection: HTTPConnection, now: Callable[[], datetime], dates: Dates) -> str:
    """The server's clock, when it speaks HTTP/1 and says it."""
    try:
        connection.request("HEAD", "/", headers=PAGE)
        response = connection.getresponse()
        if said := response.headers.get("Date"):
            dates.append((parsedate_to_datetime(said), now()))
    except (OSError, HTTPException, ValueError):
        return ", but answers no HEAD"
    return ""


def clock(dates: Dates) -> Findings:
    if not dates:
        yield note("clock", "no host has told the time")
        return
    skews = sorted((ours - theirs).total_seconds() for theirs, ours in dates)
    skew = skews[len(skews) // 2]
    mend = "set the clock (timedatectl set-ntp true): tokens and cooldowns depend on it"
    if abs(skew) >= SKEW_WARNED:
        make = failure if abs(skew) >= SKEW_FAILED else warning
        early = "fast" if skew > 0 else "slow"
        yield make("clock", f"this machine's clock is {abs(skew):.0f} s {early}", mend)
    else:
        yield ok("clock", f"right to {max(1.0, abs(skew)):.0f} s")


def through(url: str, reached: list[HostRule], contexts: Contexts) -> Findings:
    """One request, as a web page would send it: a pool's credential stays where it is."""
    if not reached:
        yield note("through", "no pool has a host that could be tried through the proxy")
        return
    place = reached[0]
    shown = show_host(place)
    try:
        status, error = _status(url, place, contexts.proxy)
    except ssl.SSLCertVerificationError as e:
        mend = "the proxy has another CA than --confdir: name the proxy's own"
        yield failure("through", f"{shown}: the proxy's certificate: {e.verify_message}", mend)
    except (OSError, HTTPException) as e:
        yield failure("through", f"{shown}: {_why(e)}", "look at the proxy's log")
    else:
        if status == 502 or error:
            yield failure("through", f"{shown}: the proxy answers {status}", "look at its log")
        else:
            yield ok("through", f"a request through {url} reaches {shown} (it answers {status})")


def _status(url: str, rule: HostRule, context: ssl.SSLContext | None) -> tuple[int, str]:
    parts = urlsplit(url)
    assert rule.port
    host = f"[{rule.name}]" if ":" in rule.name else rule.name
    connection: HTTPConnection
    if rule.tls:
        connection = HTTPSConnection(parts.hostname or "", parts.port, timeout=10, context=context)
        connection.set_tunnel(rule.name, rule.port)
        target = "/"
    else:
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        target = f"http://{host}:{rule.port}/"
    try:
        connection.request("GET", target, headers={**PAGE, "Host": f"{host}:{rule.port}"})
        response = connection.getresponse()
        return response.status, response.headers.get("X-Rotate-Error", "")
    finally:
        connection.close()


def _why(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "it has no address"
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:.0f} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
