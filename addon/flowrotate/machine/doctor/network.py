"""Hosts of pools: reached, and with a certificate that a proxy accepts."""

import ssl
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException

from flowrotate.config.spec import PoolSpec
from flowrotate.hosts import HostRule
from flowrotate.report import show_host

from .deadline import SECONDS, Deadline
from .finding import Finding, Findings, failure, note, ok, warning

AT_ONCE = 16
SKEW_WARNED, SKEW_FAILED = 60.0, 300.0
"""Seconds; tokens are refused as too old, or too young, from about five minutes on."""
PAGE = {"Origin": "https://doctor.invalid", "Sec-Fetch-Site": "cross-site"}
"""A request of a web page gets no credential, where the pool does not say `browsers: allow`."""


@dataclass(frozen=True, slots=True)
class Looked:
    """At one host. `answers`: it speaks HTTP/1; `skew`: how far our clock is before its own, in
    seconds."""

    finding: Finding
    rule: HostRule
    answers: bool = False
    skew: float | None = None


def places(pools: Iterable[PoolSpec]) -> Iterator[tuple[str, HostRule]]:
    """Those hosts that one can go to: with one name and one port."""
    for pool in pools:
        for rule in pool.hosts:
            if not rule.wildcard and rule.port is not None:
                yield pool.name, rule


def hosts(
    pools: list[PoolSpec],
    context: ssl.SSLContext,
    now: Callable[[], datetime],
    looked: list[Looked],
) -> Findings:
    """As upstreams are reached from here, without the proxy. `looked` is filled."""
    for pool in pools:
        if not any(name == pool.name for name, _ in places([pool])):
            yield note("hosts", f"pool {pool.name} has no host of one name and port to try")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for one in threads.map(lambda place: look(place, context, now), places(pools)):
            looked.append(one)
            yield one.finding


def look(
    place: tuple[str, HostRule], context: ssl.SSLContext, now: Callable[[], datetime]
) -> Looked:
    pool, rule = place
    shown = f"pool {pool}: {show_host(rule)}"
    connection = HTTPConnection(rule.name, rule.port, timeout=SECONDS)
    with Deadline(connection) as deadline:
        try:
            deadline.connect()
            if rule.tls:
                deadline.secure(context, rule.name)
        except ssl.SSLCertVerificationError as e:
            mend = (
                "no pooled request goes there: mend the host's name or certificate, or give the "
                "proxy its CA (--set ssl_verify_upstream_trusted_ca=FILE, doctor --trust FILE)"
            )
            said = f"{shown}: certificate: {e.verify_message}"
            return Looked(failure("hosts", said, mend), rule)
        except OSError as e:
            mend = (
                "mend its name or port, or look at this machine's network (a proxy of the company?)"
            )
            return Looked(failure("hosts", f"{shown}: {deadline.why(e)}", mend), rule)
        answers, date = _head(connection, rule)
        answers &= not deadline.over
    good = ", its certificate is good" if rule.tls else ""
    silent = "" if answers else ", but answers no HEAD"
    finding = ok("hosts", f"{shown} is reached{good}{silent}")
    return Looked(finding, rule, answers, skew(date, now()))


def authority(rule: HostRule) -> str:
    """As a client names it to a server: without the port that its scheme has anyway."""
    return show_host(rule).removeprefix("http://")


def _head(connection: HTTPConnection, rule: HostRule) -> tuple[bool, str]:
    """Whether it answers, and the server's date."""
    try:
        connection.request("HEAD", "/", headers={**PAGE, "Host": authority(rule)})
        return True, connection.getresponse().headers.get("Date", "")
    except (OSError, HTTPException, ValueError):
        return False, ""


def skew(date: str, now: datetime) -> float | None:
    """Seconds from a server's date to ours; None where it has said none that is one."""
    with suppress(ValueError, TypeError, OverflowError):
        theirs = parsedate_to_datetime(date)
        # RFC 5322, 3.3: "-0000" is UTC, of an unknown zone.
        theirs = theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)
        return (now - theirs).total_seconds()
    return None


def clock(looked: Iterable[Looked]) -> Findings:
    skews = sorted(one.skew for one in looked if one.skew is not None)
    if not skews:
        yield note("clock", "not compared: no host has answered with a date")
        return
    found = skews[len(skews) // 2]
    mend = "set the clock (timedatectl set-ntp true): tokens and cooldowns depend on it"
    if abs(found) >= SKEW_WARNED:
        make = failure if abs(found) >= SKEW_FAILED else warning
        early = "fast" if found > 0 else "slow"
        yield make("clock", f"this machine's clock is {abs(found):.0f} s {early}", mend)
    else:
        yield ok("clock", f"right to {max(1.0, abs(found)):.0f} s")
