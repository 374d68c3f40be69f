"""Who is next among the credentials that can be picked: the strategies of a pool. Pure.

No pick looks at more credentials than a request has tried already, but for those on a ring that
cool for requests of its kind. All strategies but `sticky` are one queue whose members stand by a
number, least first; they differ in the number that a credential gets next:

    round-robin   the number it was picked at, plus 1/weight: earliest deadline first, which for
                  equal weights is a plain queue, and smooth for others
    random        the same with a random step of that mean: of clocks that tick at random, the
                  next to tick is any, by weight
    fill-first    its place in the file, always
    least-busy    its requests in flight, by weight; the one that waited longest of several

`sticky` adds a ring (ring.py), for the requests that have a session.
"""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from random import Random
from typing import Self

from flowrotate.config.spec import Strategy

from .ring import Ring
from .standing import Credential

Number = float
Step = Callable[[Credential, Number, int], Number]
"""From the queue's number at which a credential is picked, or enters, to its own next one; the
third is how much a turn of weight 1 is."""


class Queue:
    """Credentials by number; of those with the same, who came first."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._unit = 1
        """A turn of weight 1. Every weight divides it: no rounding ever adds up."""
        self._number: Number = 0
        """Of the last one whose turn it was."""
        self._tickets: dict[Credential, int] = {}
        """Each member's ticket. An entry of the heap with another ticket is passed over."""
        self._heap: list[tuple[Number, int, Credential]] = []
        self._next = count()

    def enter(self, credential: Credential) -> None:
        """Stand at the end, or with a new number where it belongs."""
        if self._unit % credential.terms.weight:
            self._refine(credential.terms.weight)
        heappush(self._heap, self._entry(credential, self._number))
        self._compact()

    def _refine(self, weight: int) -> None:
        factor = math.lcm(self._unit, weight) // self._unit
        self._unit *= factor
        self._number *= factor
        self._heap = [(number * factor, *rest) for number, *rest in self._heap]  # type: ignore[misc]

    def leave(self, credential: Credential) -> None:
        self._tickets.pop(credential, None)
        self._compact()

    def pick(self, tried: Collection[Credential]) -> Credential | None:
        """The first that is not among `tried`; those keep their turn."""
        heap, tickets = self._heap, self._tickets
        kept: list[tuple[Number, int, Credential]] = []
        found = None
        while found is None and heap:
            entry = heap[0]
            number, ticket, credential = entry
            if tickets.get(credential) != ticket:
                heappop(heap)
                continue
            if not kept and number > self._number:
                self._number = number
            if credential in tried:
                kept.append(heappop(heap))
            else:
                # From the queue's number, not from its own: who comes out of turn pays no more
                # than a turn for it.
                found = credential
                heapreplace(heap, self._entry(found, self._number))
        for passed_over in kept:
            heappush(heap, passed_over)
        return found

    def fork(self) -> "Queue":
        """Another queue with the same members in the same order."""
        other = Queue(self._step)
        other._unit, other._number, other._next = self._unit, self._number, count(next(self._next))
        other._tickets, other._heap = self._tickets.copy(), self._heap.copy()
        return other

    def has_other(self, tried: Collection[Credential]) -> bool:
        """Whether there is one that is not among `tried`."""
        # By number: a dictionary that most have left is slow to find its first one.
        return len(self._tickets) > sum(c in self._tickets for c in set(tried))

    def __iter__(self) -> Iterator[Credential]:
        return iter(self._tickets)

    def __contains__(self, credential: object) -> bool:
        return credential in self._tickets

    def _entry(self, credential: Credential, number: Number) -> tuple[Number, int, Credential]:
        self._tickets[credential] = ticket = next(self._next)
        return self._step(credential, number, self._unit), ticket, credential

    def _compact(self) -> None:
        """Leave out the entries that are passed over anyway: they must not pile up."""
        if len(self._heap) > 2 * len(self._tickets) + 16:
            self._heap = [e for e in self._heap if self._tickets.get(e[2]) == e[1]]
            heapify(self._heap)


def _evenly(credential: Credential, number: Number, unit: int) -> Number:
    return number + unit // credential.terms.weight


def _at_random(random: Random) -> Step:
    return lambda credential, number, unit: (
        number + random.expovariate(credential.terms.weight) * unit
    )


def _in_file_order(credential: Credential, _: Number, unit: int) -> Number:
    return credential.terms.place * unit


def _by_load(credential: Credential, _: Number, unit: int) -> Number:
    return credential.in_flight * unit // credential.terms.weight


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request wants of a pick.

    `session` keeps it with one credential (sticky), `pinned` with the first in file order. `scope`
    is its value of `cooldown_by`. One that is not `repeatable`, or pinned, is used to try a
    disabled one only when there is no other.
    """

    session: str | None = field(default=None, repr=False)
    pinned: bool = False
    scope: str | None = None
    repeatable: bool = True


ANY = Wish()


@dataclass(slots=True)
class Tier:
    """The credentials of one priority. A forked one walks the ring of who it was forked from."""

    queue: Queue
    ring: Ring | None
    shared: bool = False

    def enter(self, credential: Credential) -> None:
        self.queue.enter(credential)
        if self.ring and not self.shared:
            self.ring.enter(credential)

    def leave(self, credential: Credential) -> None:
        self.queue.leave(credential)
        if self.ring and not self.shared:
            self.ring.leave(credential)

    def pick(self, wish: Wish, tried: Collection[Credential]) -> Credential | None:
        if self.ring is None or wish.session is None:
            return self.queue.pick(tried)
        # Else the whole ring would be walked, to find nobody.
        there = self.queue.has_other(tried)
        return self.ring.pick(wish.session, tried, self.queue) if there else None


class Order:
    """The credentials that can be picked, as a pool's strategy, priorities and pins want them.

    With several priorities, the lowest number goes first, and the next only while it has none.
    """

    def __init__(
        self, strategy: Strategy, random: Random, *, pins: bool = False, heaviest: int = 1
    ) -> None:
        self._strategy: Strategy = strategy
        self._heaviest = heaviest
        self._random = random
        self._tiers: dict[int, Tier] = {}
        self._pins = Queue(_in_file_order) if pins else None

    def enter(self, credential: Credential) -> None:
        priority = credential.terms.priority
        if priority not in self._tiers:
            self._tiers[priority] = self._tier()
            self._tiers = dict(sorted(self._tiers.items()))
        self._tiers[priority].enter(credential)
        if self._pins:
            self._pins.enter(credential)

    def leave(self, credential: Credential) -> None:
        self._tiers[credential.terms.priority].leave(credential)
        if self._pins:
            self._pins.leave(credential)

    def load_changed(self, credential: Credential) -> None:
        """One more request, or one less, is on its way with it: `least-busy` must be told."""
        tier = self._tiers.get(credential.terms.priority)
        if tier and credential in tier.queue:
            tier.queue.enter(credential)

    def refile(self) -> None:
        """Places in the file have changed."""
        queues = [self._pins] if self._pins else []
        if self._strategy == "fill-first":
            queues += [tier.queue for tier in self._tiers.values()]
        for queue in queues:
            for credential in list(queue):
                queue.enter(credential)

    def pick(self, wish: Wish, tried: Collection[Credential]) -> Credential | None:
        if wish.pinned and self._pins:
            return self._pins.pick(tried)
        for tier in self._tiers.values():
            if found := tier.pick(wish, tried):
                return found
        return None

    def has_other(self, tried: Collection[Credential]) -> bool:
        """Whether there is one that is not among `tried`."""
        return any(tier.queue.has_other(tried) for tier in self._tiers.values())

    def fork(self) -> Self:
        """An order of its own with the same credentials, as it is now."""
        other = type(self)(self._strategy, self._random, heaviest=self._heaviest)
        other._pins = self._pins.fork() if self._pins else None
        other._tiers = {
            priority: Tier(tier.queue.fork(), tier.ring, shared=True)
            for priority, tier in self._tiers.items()
        }
        return other

    def _tier(self) -> Tier:
        steps: dict[str, Step] = {
            "random": _at_random(self._random),
            "fill-first": _in_file_order,
            "least-busy": _by_load,
        }
        queue = Queue(steps.get(self._strategy, _evenly))
        return Tier(queue, Ring(self._heaviest) if self._strategy == "sticky" else None)
