"""Which credential is next: states, cooldowns and limits. Pure: `now` is an argument.

A credential's states and what moves it between them (everything not listed changes nothing):

    ready    --cooldown-->  cooling   --time is up, reset, enable-->          ready
    ready    --disable-->   disabled  --reset, enable, a trial succeeds-->    ready
    cooling  --disable-->   disabled
    cooling  --cooldown-->  cooling   (a later, shorter time never shortens a running one)

What was disabled by hand, or in the secrets file, only `enable` (or the file) brings back. Any
other is given to one request every 30 minutes, to see whether it works again (half-open).

Who of the ready ones is free, and in which order they stand, is in roster.py.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from flowrotate.config.spec import Strategy
from flowrotate.secret import Secret
from flowrotate.verdict import Action, Verdict

from .roster import Roster, wait_for
from .standing import BY_HAND, IN_FILE, Credential, Outage, State, Status
from .strategies import ANY, Wish


def _nothing() -> None:
    pass


@dataclass(slots=True, eq=False, repr=False)
class Selector:
    """The credentials of one pool. Every method is safe from any thread."""

    _roster: Roster = field(default_factory=lambda: Roster(Random()))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards the roster, and with it every credential's standing. Nothing under it does IO."""
    _released: deque[Credential] = field(default_factory=deque)
    """Of requests that are over. Not guarded: the garbage collector adds to it at any time."""
    changed: Callable[[], None] = _nothing
    """Told, without the lock, when something else than time may have made a credential ready."""

    def __repr__(self) -> str:
        with self._lock:
            shown = (f"{c.id}:{c.state}" for c in self._roster.members.values())
            return f"Selector({' '.join(shown)})"

    def pick(
        self, now: float, tried: Collection[Credential] = (), wish: Wish = ANY
    ) -> Credential | None:
        """The next free credential that is not among `tried`, or None when there is none."""
        with self._lock:
            roster = self._roster
            self._catch_up(now)
            picked = None
            if roster.due and wish.repeatable and not wish.pinned:
                picked = roster.try_disabled(now, tried)
            picked = picked or roster.order(wish.scope).pick(wish, tried)
            if picked is None and roster.due:
                picked = roster.try_disabled(now, tried)
            if picked:
                picked.note_pick(now)
                roster.load_changed(picked, now)
            return picked

    def pick_again(self, credential: Credential, now: float) -> bool:
        """The same one once more, for a new token of it; False when it is out, or gone."""
        with self._lock:
            self._catch_up(now)
            fit = credential.state is State.READY or credential.on_trial
            if not fit or not self._roster.has(credential):
                return False
            credential.note_pick(now)
            self._roster.load_changed(credential, now)
            return True

    def release(self, credential: Credential) -> None:
        """The request that it was picked for is over. Once for each pick.

        It counts from the next time on that anybody asks: the garbage collector, which ends
        requests that mitmproxy dropped, may call this while the lock is held.
        """
        self._released.append(credential)
        if credential.terms.max_in_flight is not None:
            self.changed()

    def has_other(
        self,
        now: float,
        tried: Collection[Credential],
        *,
        waiting: bool,
        scope: str | None = None,
    ) -> bool:
        """Whether `pick` would find a ready one; when `waiting`, one that cools counts too."""
        with self._lock:
            self._catch_up(now)
            if self._roster.order(scope).has_other(tried):
                return True
            if not waiting:
                return False
            out = self._roster.disabled
            mine = sum(1 for c in set(tried) if self._roster.has(c) and c not in out)
            return len(self._roster.members) - len(self._roster.disabled) > mine

    def report(
        self,
        credential: Credential,
        verdict: Verdict,
        status: int | None,
        now: float,
        scope: str | None = None,
    ) -> float:
        """Take in what an answer to a request with this credential said of it.

        A cooldown is for the requests of `scope` when there is one. Its seconds are returned, 0
        when none runs. No status: there was no answer.
        """
        with self._lock:
            self._catch_up(now)
            credential.last_status = status or credential.last_status
            on_trial, credential.on_trial = credential.on_trial, False
            seconds = 0.0
            if verdict.action is Action.OK:
                self._roster.succeeded(credential, now, scope, on_trial=on_trial)
            elif verdict.action is not Action.NOTHING:
                credential.failed += 1
            if verdict.action is Action.DISABLE and credential.state is not State.DISABLED:
                self._roster.disable(credential, now, verdict.reason)
            elif verdict.seconds:
                self._roster.cool(credential, verdict, now, scope)
                seconds = self._roster.cooldown(credential, now, scope)
        if on_trial and verdict.action is Action.OK:
            self.changed()
        return seconds

    def reset(self, now: float, ids: Iterable[str] | None = None) -> None:
        """Make these (all) ready again, but not what is disabled by hand or in the file.

        Raises KeyError for an id that is not here.
        """
        with self._lock:
            named = (
                self._roster.members.values()
                if ids is None
                else [self._roster.members[id] for id in ids]
            )
            for credential in named:
                if credential.reason not in (BY_HAND, IN_FILE):
                    self._roster.make_ready(credential, now)
        self.changed()

    def enable(self, id: str, now: float) -> None:
        """Make one ready again, whatever it was. Raises KeyError for an id that is not here."""
        with self._lock:
            self._roster.make_ready(self._roster.members[id], now)
        self.changed()

    def disable(self, id: str, now: float) -> None:
        """Take one out until `enable`. Raises KeyError for an id that is not here."""
        with self._lock:
            self._roster.disable(self._roster.members[id], now, BY_HAND)

    def ready_in(self, now: float, scope: str | None = None) -> float | None:
        """Seconds until the first one is free; 0 if any is free now, None if never.

        One that is at its `max_in_flight` counts as free in a second: nobody knows.
        """
        with self._lock:
            self._catch_up(now)
            here = self._roster.scopes.get(scope) if scope is not None else None
            waits = [
                wait_for(c, here, now)
                for c in self._roster.members.values()
                if c not in self._roster.disabled
            ]
            return min(waits, default=None)

    def thaws_in(self, now: float) -> float | None:
        """Seconds until time alone may make another one free; None if it never does."""
        with self._lock:
            self._catch_up(now)
            return self._roster.timers.first - now if self._roster.timers else None

    def statuses(self, now: float) -> list[Status]:
        """Every credential's standing, in file order. For people, not for the path of a request."""
        with self._lock:
            self._catch_up(now)
            return [self._roster.status(c, now) for c in self._roster.members.values()]

    def identities(self) -> dict[str, tuple[Secret, ...]]:
        """What each credential, by id, may be known by over a reload."""
        with self._lock:
            return {c.id: c.identities for c in self._roster.members.values()}

    def outages_at(self, then: float, scope: str | None = None) -> dict[str, Outage | None]:
        """What kept each credential, by id, from being picked at a time in the past."""
        with self._lock:
            return {c.id: c.outage_at(then, scope) for c in self._roster.members.values()}

    def replace(
        self,
        members: Sequence[Credential],
        now: float,
        *,
        off: Collection[str] = (),
        strategy: Strategy = "round-robin",
        pins: bool = False,
    ) -> None:
        """Take in a new list of credentials, of which those in `off` start disabled.

        One whose secret is here already keeps its standing and its place in the order; requests
        in flight may still report on those that are gone.
        """
        with self._lock:
            self._catch_up(now)
            self._roster.replace(members, off, strategy, pins)
            self._roster.take_stock(now)
        self.changed()

    def _catch_up(self, now: float) -> None:
        roster = self._roster
        while self._released:
            credential = self._released.popleft()
            credential.in_flight -= 1
            roster.load_changed(credential, now)
        if roster.timers.first <= now:
            roster.catch_up(now)
