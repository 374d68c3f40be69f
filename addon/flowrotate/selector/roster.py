"""The credentials of one pool and who of them can be picked. Pure; its selector has the lock.

A ready credential is free, unless it is at a limit of its own (`rpm`, `max_in_flight`). The free
ones stand in an Order. With `cooldown_by`, a cooldown is for the requests of one value, a scope:
each has an Order of its own while something cools in it.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from random import Random

from flowrotate.config.spec import Strategy
from flowrotate.verdict import Verdict

from .scopes import Scope
from .standing import BY_HAND, FULL, IN_FILE, PACED, Credential, Outage, State, Status
from .strategies import Order
from .timers import Timers

TRIAL_AFTER = 1800.0
"""Seconds until a disabled credential is tried by one request."""
MOST_SCOPES = 64

_FULL_FOR = 1.0
"""Seconds after which to ask again for one whose requests in flight nobody can foresee."""


@dataclass(slots=True, eq=False, repr=False)
class Roster:
    """`due` are disabled ones that a request may try."""

    random: Random
    members: dict[str, Credential] = field(default_factory=dict)
    disabled: set[Credential] = field(default_factory=set)
    due: dict[Credential, None] = field(default_factory=dict)
    base: Scope = field(init=False)
    """Of all requests: its order has the free ones; what cools in it cools for everybody."""
    scopes: OrderedDict[str, Scope] = field(default_factory=OrderedDict)
    timers: Timers = field(default_factory=Timers)
    _wanted: tuple[Strategy, bool, int] = ("round-robin", False, 1)
    """Strategy, whether there are pins, and the heaviest weight of a ring."""

    def __post_init__(self) -> None:
        self.base = Scope(self._new_order())

    def replace(
        self, members: Sequence[Credential], off: Collection[str], strategy: Strategy, pins: bool
    ) -> None:
        """Another list of credentials; `take_stock` has to follow."""
        before = {identity: c for c in self.members.values() for identity in c.identities}
        kept = [(new, before.get(new.identities[0])) for new in members]
        heaviest = max((new.terms.weight for new in members), default=1)
        wanted = (strategy, pins, heaviest if strategy == "sticky" else 1)
        reordered = wanted != self._wanted
        # Under the names and terms that they entered with.
        for credential in set(self.members.values()) - {old for _, old in kept}:
            self.set_free(credential, free=False)
        for new, old in kept:
            if old and (reordered or _moves(old, new)):
                self.set_free(old, free=False)
        if reordered:
            self._wanted = wanted
            for scope in (self.base, *self.scopes.values()):
                scope.order = scope.order and self._new_order()
        self.members = {new.id: _kept(new, old) for new, old in kept}
        for credential in self.members.values():
            self._take_from_file(credential, off=credential.id in off)

    def _take_from_file(self, credential: Credential, *, off: bool) -> None:
        """What the file says of `disabled`, when it says something new."""
        if off and not credential.off:
            credential.state, credential.reason = State.DISABLED, IN_FILE
            credential.until, credential.trial = 0.0, inf
            self.base.until.pop(credential, None)
        elif credential.reason == IN_FILE and not off:
            credential.state, credential.reason = State.READY, ""
        credential.off = off

    def _new_order(self) -> Order:
        strategy, pins, heaviest = self._wanted
        return Order(strategy, self.random, pins=pins, heaviest=heaviest)

    def take_stock(self, now: float) -> None:
        """Bring everything that is derived from the members' standing in line with it."""
        members = set(self.members.values())
        self.disabled = {c for c in members if c.state is State.DISABLED}
        self.due = {c: None for c in self.due if c in self.disabled and c.trial < inf}
        for scope in (self.base, *self.scopes.values()):
            scope.keep_only(members)
        for credential in self.members.values():
            self.settle(credential, now)
        for order in self.orders():
            order.refile()
        self._set_timers()

    def has(self, credential: Credential) -> bool:
        return self.members.get(credential.id) is credential

    def own(self) -> Order:
        assert self.base.order
        return self.base.order

    def orders(self) -> list[Order]:
        scoped = (scope.order for scope in self.scopes.values() if scope.order)
        return [self.own(), *scoped]

    def order(self, value: str | None) -> Order:
        scope = self.scopes.get(value) if value is not None else None
        return (scope and scope.order) or self.own()

    def scope(self, value: str | None) -> Scope:
        """Of a value, which is the latest one then; the oldest of too many is forgotten."""
        if value is None:
            return self.base
        scope = self.scopes.setdefault(value, Scope(None, value))
        self.scopes.move_to_end(value)
        if len(self.scopes) > MOST_SCOPES:
            idle = next((v for v, s in self.scopes.items() if not s.until and v != value), None)
            self.scopes.pop(idle if idle is not None else next(iter(self.scopes)))
        return scope

    def try_disabled(self, now: float, tried: Collection[Credential]) -> Credential | None:
        free = (c for c in self.due if c not in tried and not c.limit(now))
        credential = next(free, None)
        if credential:
            del self.due[credential]
            credential.on_trial = True
            self._next_trial(credential, now)
        return credential

    def _next_trial(self, credential: Credential, now: float) -> None:
        credential.trial = now + TRIAL_AFTER
        self._look_at(credential, credential.trial)

    def succeeded(
        self, credential: Credential, now: float, scope: str | None, *, on_trial: bool
    ) -> None:
        credential.ok += 1
        self.base.succeeded(credential)
        if scope is not None and (here := self.scopes.get(scope)):
            here.succeeded(credential)
        if on_trial and credential.reason not in (BY_HAND, IN_FILE):
            self.make_ready(credential, now)

    def make_ready(self, credential: Credential, now: float) -> None:
        credential.state, credential.reason, credential.until = State.READY, "", 0.0
        credential.trial = inf
        self.disabled.discard(credential)
        self.due.pop(credential, None)
        self.base.forget(credential)
        for scope in self.scopes.values():
            self._thaw(credential, scope)
            scope.forget(credential)
        credential.end_outages(now)
        self.settle(credential, now)

    def disable(self, credential: Credential, now: float, reason: str) -> None:
        credential.note_outage(Outage(now, inf, reason, State.DISABLED))
        credential.state, credential.reason, credential.until = State.DISABLED, reason, 0.0
        credential.trial = inf
        self.due.pop(credential, None)
        self.base.until.pop(credential, None)
        self.settle(credential, now)
        if self.has(credential):
            self.disabled.add(credential)
            if reason != BY_HAND:
                self._next_trial(credential, now)

    def cool(self, credential: Credential, verdict: Verdict, now: float, value: str | None) -> None:
        """For the requests with this value of `cooldown_by`, if there is one."""
        if credential.state is State.DISABLED or not self.has(credential):
            return
        scope = self.scope(value)
        running = scope.until.get(credential, now)
        until = scope.cool(credential, verdict, now)
        if until <= running:
            return
        credential.note_outage(Outage(now, until, verdict.reason, State.COOLING, value))
        if scope is self.base:
            credential.state, credential.until = State.COOLING, until
            credential.reason = verdict.reason
            self.settle(credential, now)
        elif scope.order is None:
            scope.order = self.own().fork()
            if credential.free:
                scope.order.leave(credential)
        elif credential.free and running <= now:
            scope.order.leave(credential)
        scope.notice_limit(now)
        self._look_at(credential, until)

    def cooldown(self, credential: Credential, now: float, scope: str | None) -> float:
        """Seconds for which it cools, for the requests of a scope when there is one."""
        here = self.scopes.get(scope) if scope is not None else None
        times = [s.until.get(credential, now) for s in (self.base, here) if s]
        return max(times) - now

    def _thaw(self, credential: Credential, scope: Scope) -> None:
        """Its cooldown in a scope of some requests is over."""
        if scope.until.pop(credential, None) is not None and scope.order and credential.free:
            scope.order.enter(credential)
        if not scope.until:
            scope.order = None

    def settle(self, credential: Credential, now: float) -> None:
        """Put it among the free ones, or take it out, as its standing says."""
        if credential.state is State.COOLING and credential.until <= now:
            credential.state, credential.reason, credential.until = State.READY, "", 0.0
            self.base.until.pop(credential, None)
        limit = credential.limit(now)
        if limit == PACED:
            self._look_at(credential, credential.paced_until())
        if credential.terms.limited:
            credential.note_limit(limit, now)
        ready = credential.state is State.READY and self.has(credential)
        self.set_free(credential, free=ready and not limit)

    def set_free(self, credential: Credential, *, free: bool) -> None:
        if credential.free == free:
            return
        credential.free = free
        own = self.own()
        (own.enter if free else own.leave)(credential)
        for scope in self.scopes.values():
            if scope.order and credential not in scope.until:
                (scope.order.enter if free else scope.order.leave)(credential)

    def load_changed(self, credential: Credential, now: float) -> None:
        if self._wanted[0] == "least-busy":
            for order in self.orders():
                order.load_changed(credential)
        if credential.terms.limited:
            self.settle(credential, now)

    def catch_up(self, now: float) -> None:
        """Take in what ended meanwhile, the earliest first."""
        while self.timers.first <= now:
            when, credential = self.timers.pop()
            if not self.has(credential):
                continue
            # As of then: what ends later comes back later, though both are over by now.
            for scope in self.scopes.values():
                if scope.until.get(credential, inf) <= when:
                    self._thaw(credential, scope)
            self.settle(credential, when)
            if credential.state is State.DISABLED and credential.trial <= when:
                self.due[credential] = None

    def _look_at(self, credential: Credential, when: float) -> None:
        self.timers.add(when, credential)
        if self.timers.too_many:
            self._set_timers()

    def _set_timers(self) -> None:
        self.timers.replace((when, c) for c in self.members.values() for when in self._times(c))

    def _times(self, credential: Credential) -> Iterator[float]:
        if credential.state is State.COOLING:
            yield credential.until
        if credential.state is State.DISABLED and credential.trial < inf:
            yield credential.trial
        if credential.paced_until() > -inf:
            yield credential.paced_until()
        for scope in self.scopes.values():
            if credential in scope.until:
                yield scope.until[credential]

    def status(self, credential: Credential, now: float) -> Status:
        scopes = tuple(
            (value, scope.until[credential] - now)
            for value, scope in self.scopes.items()
            if credential in scope.until
        )
        return credential.status(now, scopes)


def wait_for(credential: Credential, scope: Scope | None, now: float) -> float:
    """Seconds until one that is not disabled can be picked."""
    times = [now, credential.until, credential.paced_until()]
    if scope:
        times.append(scope.until.get(credential, now))
    if credential.limit(now) == FULL:
        times.append(now + _FULL_FOR)
    return max(times) - now


def _moves(old: Credential, new: Credential) -> bool:
    """Whether it has to enter anew: its place in the file alone is no reason."""
    return old.id != new.id or replace(old.terms, place=0) != replace(new.terms, place=0)


def _kept(new: Credential, old: Credential | None) -> Credential:
    """The old object under its new name: requests in flight hold it, and report on it."""
    if old is None:
        return new
    old.id, old.secret, old.value, old.terms = new.id, new.secret, new.value, new.terms
    if old.minter and new.minter:
        old.minter.adopt(new.minter.mint)
    return old
