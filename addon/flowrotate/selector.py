"""Which credential is next: states, cooldowns and the round-robin. Pure: `now` is an argument.

A credential's states and what moves it between them (everything not listed changes nothing):

    ready    --cooldown-->  cooling   --time is up, reset, enable-->  ready
    ready    --disable-->   disabled  --reset, enable-->              ready
    cooling  --disable-->   disabled
    cooling  --cooldown-->  cooling   (a later, shorter time never shortens a running one)

What was disabled by hand, or in the secrets file, only `enable` (or the file) brings back.

The ready ones stand in a queue: a pick takes the first and puts it last. Whoever leaves the
queue, or comes back to its end, changes nothing in the order of the others. So no pick looks at
more than the credentials which this request has tried already.
"""

import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf

from .secret import Secret
from .verdict import Action, Verdict


class State(StrEnum):
    READY = "ready"
    COOLING = "cooling"
    DISABLED = "disabled"


_KEPT_OUTAGES = 8

BY_HAND = "by hand"
IN_FILE = "in the secrets file"


@dataclass(slots=True, eq=False)
class Credential:
    """One credential and its standing. The fields below `value` are guarded by the selector."""

    id: str
    secret: Secret
    value: Secret
    """What goes on the wire: the secret in its pool's template."""
    state: State = State.READY
    until: float = 0.0
    reason: str = ""
    outages: tuple["Outage", ...] = ()
    """The latest ones, for people who ask why."""
    in_flight: int = 0
    picked: int = 0
    ok: int = 0
    failed: int = 0
    last_status: int | None = None

    @property
    def alias(self) -> str:
        return self.secret.alias


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a credential was not ready, in seconds of the selector's `now`."""

    since: float
    until: float
    reason: str
    state: State
    ended: float = inf
    """When it was over before its time, by a reset or by the next outage."""

    def covers(self, then: float) -> bool:
        return self.since <= then < min(self.until, self.ended)


@dataclass(frozen=True, slots=True)
class Status:
    """A credential as it may be shown. `seconds_left` of a cooldown, 0 when there is none."""

    id: str
    state: State
    reason: str
    seconds_left: float
    in_flight: int
    picked: int
    ok: int
    failed: int
    last_status: int | None


def _nothing() -> None:
    pass


@dataclass(slots=True, eq=False, repr=False)
class Selector:
    """The credentials of one pool. Every method is safe from any thread."""

    _all: dict[str, Credential] = field(default_factory=dict)
    _ready: OrderedDict[str, Credential] = field(default_factory=OrderedDict)
    _cooling: list[tuple[float, int, Credential]] = field(default_factory=list)
    """A heap by end of cooling; an entry whose credential moved on meanwhile is passed over."""
    _pushed: int = 0
    _lock: AbstractContextManager[object] = field(default_factory=threading.RLock)
    """Guards everything above and every credential's standing. Nothing under it does IO.

    Re-entrant for `release`, which the garbage collector may call from anywhere: it ends
    requests that mitmproxy has dropped while they waited for something.
    """
    changed: Callable[[], None] = _nothing
    """Told, without the lock, when something else than time may have made a credential ready."""

    def __repr__(self) -> str:
        with self._lock:
            shown = (f"{c.id}:{c.state}" for c in self._all.values())
            return f"Selector({' '.join(shown)})"

    def pick(self, now: float, tried: Collection[Credential] = ()) -> Credential | None:
        """The next ready credential that is not among `tried`, or None when there is none."""
        with self._lock:
            self._thaw(now)
            for credential in self._ready.values():
                if not tried or credential not in tried:
                    self._ready.move_to_end(credential.id)
                    credential.picked += 1
                    credential.in_flight += 1
                    return credential
            return None

    def release(self, credential: Credential) -> None:
        """The request that it was picked for is over. Once for each pick."""
        with self._lock:
            credential.in_flight -= 1

    def has_other(self, now: float, tried: Collection[Credential], *, waiting: bool) -> bool:
        """Whether `pick` would find one; when `waiting`, one that is cooling counts too."""
        with self._lock:
            self._thaw(now)
            if any(credential not in tried for credential in self._ready.values()):
                return True
            cooling = self._cooling if waiting else ()
            return any(_is_current(entry) and entry[2] not in tried for entry in cooling)

    def report(self, credential: Credential, verdict: Verdict, status: int, now: float) -> None:
        """Take in what an answer to a request with this credential said of it."""
        with self._lock:
            credential.last_status = status
            if verdict.action is Action.OK:
                credential.ok += 1
            elif verdict.action is Action.COOLDOWN:
                credential.failed += 1
                self._cool(credential, now, now + verdict.seconds, verdict.reason)
            elif verdict.action is Action.DISABLE:
                credential.failed += 1
                if credential.state is not State.DISABLED:
                    self._leave(credential, Outage(now, inf, verdict.reason, State.DISABLED))

    def reset(self, now: float, ids: Iterable[str] | None = None) -> None:
        """Make these (all) ready again, but not what was disabled by hand. Counters stay.

        Raises KeyError for an id that is not here.
        """
        with self._lock:
            for credential in self._named(ids):
                if credential.reason not in (BY_HAND, IN_FILE):
                    self._end_outage(credential, now)
                    self._enter(credential)
        self.changed()

    def enable(self, id: str, now: float) -> None:
        """Make one ready again, whatever it was. Raises KeyError for an id that is not here."""
        with self._lock:
            self._end_outage(self._all[id], now)
            self._enter(self._all[id])
        self.changed()

    def disable(self, id: str, now: float) -> None:
        """Take one out until `enable`. Raises KeyError for an id that is not here."""
        with self._lock:
            self._leave(self._all[id], Outage(now, inf, BY_HAND, State.DISABLED))

    def ready_in(self, now: float) -> float | None:
        """Seconds until the first cooling one is ready; 0 if any is ready now, None if never."""
        with self._lock:
            self._thaw(now)
            return 0.0 if self._ready else self._next_thaw(now)

    def thaws_in(self, now: float) -> float | None:
        """Seconds until the next cooling one is ready, whoever is ready now; None if none cools."""
        with self._lock:
            self._thaw(now)
            return self._next_thaw(now)

    def statuses(self, now: float) -> list[Status]:
        """Every credential's standing, in file order. For people, not for the path of a request."""
        with self._lock:
            self._thaw(now)
            return [
                Status(
                    id=c.id,
                    state=c.state,
                    reason=c.reason,
                    seconds_left=c.until - now if c.state is State.COOLING else 0.0,
                    in_flight=c.in_flight,
                    picked=c.picked,
                    ok=c.ok,
                    failed=c.failed,
                    last_status=c.last_status,
                )
                for c in self._all.values()
            ]

    def outages_at(self, then: float) -> dict[str, Outage | None]:
        """What kept each credential, by id, from being picked at a time in the past."""
        with self._lock:
            return {
                c.id: next((o for o in reversed(c.outages) if o.covers(then)), None)
                for c in self._all.values()
            }

    def replace(self, members: Sequence[Credential], off: Collection[str] = ()) -> None:
        """Take in a new list of credentials, of which those in `off` start disabled.

        One whose secret is here already keeps its standing and its place in the queue; requests
        in flight may still report on those that are gone.
        """
        with self._lock:
            before = {c.secret: c for c in self._all.values()}
            order = {c.secret: n for n, c in enumerate(self._ready.values())}
            self._all = {new.id: _kept(new, before.get(new.secret)) for new in members}
            for id in off:
                self._all[id].state, self._all[id].reason = State.DISABLED, IN_FILE
            ready = [c for c in self._all.values() if c.state is State.READY]
            ready.sort(key=lambda c: order.get(c.secret, len(order)))
            self._ready = OrderedDict((c.id, c) for c in ready)
            self._rebuild_cooling()
        self.changed()

    def _named(self, ids: Iterable[str] | None) -> list[Credential]:
        return list(self._all.values()) if ids is None else [self._all[id] for id in ids]

    def _enter(self, credential: Credential) -> None:
        credential.state, credential.reason, credential.until = State.READY, "", 0.0
        self._ready.setdefault(credential.id, credential)

    def _leave(self, credential: Credential, outage: Outage) -> None:
        credential.state, credential.reason = outage.state, outage.reason
        self._end_outage(credential, outage.since)
        credential.outages = (*credential.outages[1 - _KEPT_OUTAGES :], outage)
        if self._ready.get(credential.id) is credential:
            del self._ready[credential.id]

    def _cool(self, credential: Credential, now: float, until: float, reason: str) -> None:
        running = credential.until if credential.state is State.COOLING else 0.0
        if credential.state is State.DISABLED or until <= running:
            return
        credential.until = until
        self._leave(credential, Outage(now, until, reason, State.COOLING))
        if self._all.get(credential.id) is not credential:
            return
        if len(self._cooling) > 2 * len(self._all):
            self._rebuild_cooling()
        else:
            self._push(credential)

    def _end_outage(self, credential: Credential, now: float) -> None:
        if credential.outages and credential.outages[-1].covers(now):
            *ended, last = credential.outages
            credential.outages = (*ended, replace(last, ended=now))

    def _push(self, credential: Credential) -> None:
        self._pushed += 1
        heapq.heappush(self._cooling, (credential.until, self._pushed, credential))

    def _rebuild_cooling(self) -> None:
        """Leave out the entries that are passed over anyway: they must not pile up."""
        self._cooling = []
        for credential in self._all.values():
            if credential.state is State.COOLING:
                self._push(credential)

    def _next_thaw(self, now: float) -> float | None:
        while self._cooling and not _is_current(self._cooling[0]):
            heapq.heappop(self._cooling)
        return self._cooling[0][0] - now if self._cooling else None

    def _thaw(self, now: float) -> None:
        """Bring back those whose time is up, the earliest first."""
        while self._cooling and self._cooling[0][0] <= now:
            entry = heapq.heappop(self._cooling)
            if _is_current(entry):
                self._enter(entry[2])


def _is_current(entry: tuple[float, int, Credential]) -> bool:
    until, _, credential = entry
    return credential.state is State.COOLING and credential.until == until


def _kept(new: Credential, old: Credential | None) -> Credential:
    """The old object under its new name: requests in flight hold it, and report on it."""
    if old is None:
        return new
    old.id, old.secret, old.value = new.id, new.secret, new.value
    if old.reason == IN_FILE:
        old.state, old.reason = State.READY, ""
    return old
