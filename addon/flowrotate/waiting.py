"""Requests that wait for a credential: first come first served, woken when one is ready.

A room belongs to one selector. It picks on behalf of who waits, in the order in which they came,
when a cooldown ends and when the selector says that it changed. Nothing in it polls.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from .selector.selector import Selector
from .selector.standing import Credential
from .selector.strategies import ANY, Wish


@dataclass(slots=True, eq=False)
class Waiter:
    """One request's wait, of `seconds` at most. `credential` is what was picked for it."""

    room: "WaitingRoom" = field(repr=False)
    tried: Collection[Credential]
    seconds: float
    wish: Wish = ANY
    credential: Credential | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        """Return when a credential is there, the time is up, or `leave` was called."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.seconds):
                    await self.over.wait()
        finally:
            self.leave()

    def leave(self) -> None:
        """Wait no longer. What was picked meanwhile stays in `credential`."""
        self.room.forget(self)
        self.over.set()


@dataclass(slots=True, eq=False)
class WaitingRoom:
    """`enter` and `serve` belong to the event loop; `wake` and `dismiss` to any thread."""

    selector: Selector
    clock: Callable[[], float]
    queue: dict[Waiter, None] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _alarm: asyncio.TimerHandle | None = None
    _called: bool = False
    """Whether `serve` is going to run anyway."""

    def enter(self, tried: Collection[Credential], seconds: float, wish: Wish = ANY) -> Waiter:
        """Stand at the end of the queue."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # What was called in another loop may never run.
            self._loop, self._called = loop, False
        waiter = Waiter(self, tried, seconds, wish)
        self.queue[waiter] = None
        # Not only the alarm: a credential may have come back since the pick that found none.
        if not self._called:
            self._called = True
            loop.call_soon(self.serve)
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Take one out of the queue; with the last, the alarm goes."""
        self.queue.pop(waiter, None)
        if not self.queue:
            self._set_alarm()

    def wake(self) -> None:
        """See whether somebody can be served now."""
        if self.queue and self._loop and not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self.serve)

    def serve(self) -> None:
        """Pick for everybody who waits, the first first, as long as there is something to pick."""
        self._called = False
        now = self.clock()
        without: set[tuple[str | None, bool]] = set()
        for waiter in list(self.queue):
            kind = (waiter.wish.scope, waiter.wish.pinned)
            if kind in without:
                continue
            waiter.credential = self.selector.pick(now, waiter.tried, waiter.wish)
            if waiter.credential:
                waiter.leave()
            elif not waiter.tried:
                without.add(kind)  # nor is there one for the others of this kind
        self._set_alarm()

    def dismiss(self) -> None:
        """Send everybody away: the pool is no more. From any thread."""
        if self.queue and self._loop:
            self._loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        for waiter in list(self.queue):
            waiter.leave()

    def _set_alarm(self) -> None:
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        wait = self.selector.thaws_in(self.clock()) if self.queue else None
        if wait is not None and self._loop:
            self._alarm = self._loop.call_later(wait, self.serve)
