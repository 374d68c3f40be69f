"""A credential and its standing: what the selector keeps of each, and what may be shown. Pure."""

from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING

from flowrotate.secret import Secret

if TYPE_CHECKING:
    from flowrotate.mint.minter import Minter


class State(StrEnum):
    READY = "ready"
    COOLING = "cooling"
    DISABLED = "disabled"


BY_HAND = "by hand"
IN_FILE = "in the secrets file"
FULL = "max_in_flight"
PACED = "rpm"

KEPT_OUTAGES = 8
LONGEST_SHOWN = 64
"""Characters of a scope's value."""
MINUTE = 60.0
"""Seconds: what `rpm` counts over."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the secrets file says of a credential, but for its secret.

    `place` is its number in the file, `rpm` in requests per minute, `headers` (name, value).
    """

    place: int = 0
    weight: int = 1
    priority: int = 0
    rpm: int | None = None
    max_in_flight: int | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    username: str | None = field(default=None, repr=False)

    @property
    def limited(self) -> bool:
        return self.rpm is not None or self.max_in_flight is not None


@dataclass(slots=True, eq=False)
class Credential:
    """One credential and its standing. The fields below `minter` are guarded by the selector."""

    id: str
    secret: Secret
    """Of a minted one, what it was minted from when it was read."""
    value: Secret | None
    """What goes on the wire: the secret in its pool's template. None for a minted one."""
    terms: Terms = field(default_factory=Terms)
    minter: "Minter | None" = None
    state: State = State.READY
    until: float = 0.0
    reason: str = ""
    free: bool = False
    """Whether it stands among those that can be picked."""
    trial: float = inf
    """When a disabled one may be tried again by one request."""
    on_trial: bool = False
    off: bool = False
    """What the secrets file said last of `disabled`."""
    recent: deque[float] = field(default_factory=deque, repr=False)
    """When it was picked, as far back as `rpm` counts."""
    outages: tuple["Outage", ...] = ()
    """The latest ones, for people who ask why."""
    at_limit: "Outage | None" = None
    """The latest time at a limit of its own; apart, for there are many short ones."""
    in_flight: int = 0
    picked: int = 0
    ok: int = 0
    failed: int = 0
    last_status: int | None = None

    @property
    def alias(self) -> str:
        return self.secret.alias

    @property
    def identities(self) -> tuple[Secret, ...]:
        """What tells it from others over a reload: of several, any."""
        return self.minter.identities if self.minter else (self.secret,)

    def limit(self, now: float) -> str:
        """Which of its own limits it is at, if any."""
        terms = self.terms
        if terms.max_in_flight is not None and self.in_flight >= terms.max_in_flight:
            return FULL
        return PACED if self.paced_until() > now else ""

    def paced_until(self) -> float:
        """When `rpm` allows another request."""
        rpm = self.terms.rpm
        return self.recent[-rpm] + MINUTE if rpm and len(self.recent) >= rpm else -inf

    def note_outage(self, outage: "Outage") -> None:
        """The latest; another one of the same requests is over then."""
        cools = outage.state is State.COOLING
        self.end_outages(outage.since, *((outage.scope,) if cools else ()))
        self.outages = (*self.outages[1 - KEPT_OUTAGES :], outage)

    def end_outages(self, now: float, *scope: str | None) -> None:
        """Those that go on: all, or those of one scope."""
        self.outages = tuple(
            replace(o, ended=now) if o.covers(now) and (not scope or o.scope in scope) else o
            for o in self.outages
        )

    def note_limit(self, limit: str, now: float) -> None:
        """It is at this limit of its own, or at none."""
        goes_on = self.at_limit and self.at_limit.covers(now)
        if limit and not goes_on:
            until = self.paced_until() if limit == PACED else inf
            self.at_limit = Outage(now, until, limit, State.READY)
        elif self.at_limit and goes_on and not limit:
            self.at_limit = replace(self.at_limit, ended=now)

    def outage_at(self, then: float, scope: str | None) -> "Outage | None":
        """What kept it from being picked at a time in the past."""
        limits = [self.at_limit] if self.at_limit else []
        known = (*reversed(self.outages), *limits)
        return next((o for o in known if o.scope in (None, scope) and o.covers(then)), None)

    def status(self, now: float, scopes: tuple[tuple[str, float], ...]) -> "Status":
        left = 0.0
        if self.state is State.COOLING:
            left = self.until - now
        elif self.limit(now) == PACED:
            left = self.paced_until() - now
        return Status(
            id=self.id,
            state=self.state,
            reason=self.limit(now) if self.state is State.READY else self.reason,
            seconds_left=left,
            in_flight=self.in_flight,
            picked=self.picked,
            ok=self.ok,
            failed=self.failed,
            last_status=self.last_status,
            weight=self.terms.weight,
            scopes=scopes,
        )

    def note_pick(self, now: float) -> None:
        self.picked += 1
        self.in_flight += 1
        if self.terms.rpm:
            self.recent.append(now)
            while len(self.recent) > self.terms.rpm:
                self.recent.popleft()


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a credential was not ready, in seconds of the selector's `now`.

    With a `scope`, only for the requests that have this value of the pool's `cooldown_by`.
    """

    since: float
    until: float
    reason: str
    state: State
    scope: str | None = None
    ended: float = inf
    """When it was over before its time, by a reset or by the next outage."""

    def covers(self, then: float) -> bool:
        return self.since <= then < min(self.until, self.ended)


@dataclass(frozen=True, slots=True)
class Status:
    """A credential as it may be shown. `seconds_left` of a cooldown, 0 when there is none.

    `scopes` are the values of `cooldown_by` that it cools for, and their seconds.
    """

    id: str
    state: State
    reason: str
    seconds_left: float
    in_flight: int
    picked: int
    ok: int
    failed: int
    last_status: int | None
    weight: int = 1
    scopes: tuple[tuple[str, float], ...] = ()

    def within(self, scope: str | None) -> "Status":
        """As the requests with this value of `cooldown_by` find it."""
        left = dict(self.scopes).get(scope, 0.0) if scope is not None else 0.0
        if scope is None or self.state is not State.READY or left <= self.seconds_left:
            return self
        reason = f"for {show_scope(scope)}"
        return replace(self, state=State.COOLING, reason=reason, seconds_left=left)


def show_scope(value: str) -> str:
    """A value of `cooldown_by`, which a client chose, on one line and fit for any terminal."""
    start = value[:LONGEST_SHOWN]
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in start)
    return shown if len(value) <= LONGEST_SHOWN else f"{shown}…"
