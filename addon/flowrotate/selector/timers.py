"""When to look at a credential again. Pure."""

from collections.abc import Iterable
from heapq import heappop, heappush
from math import inf

from .standing import Credential


class Timers:
    """Times and credentials, the earliest first. To look once too often does no harm."""

    def __init__(self) -> None:
        self.first = inf
        """The earliest time."""
        self._heap: list[tuple[float, int, Credential]] = []
        self._pushed = 0
        self._most = 64

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def too_many(self) -> bool:
        """Whether most of them must be of no use any more: then `replace` them all."""
        return len(self._heap) > self._most

    def add(self, when: float, credential: Credential) -> None:
        self._pushed += 1
        heappush(self._heap, (when, self._pushed, credential))
        self.first = self._heap[0][0]

    def pop(self) -> tuple[float, Credential]:
        """The earliest. There must be one."""
        when, _, credential = heappop(self._heap)
        self.first = self._heap[0][0] if self._heap else inf
        return when, credential

    def replace(self, times: Iterable[tuple[float, Credential]]) -> None:
        ordered = sorted(set(times), key=lambda entry: entry[0])
        self._heap = [(when, number, c) for number, (when, c) in enumerate(ordered)]
        self.first = self._heap[0][0] if self._heap else inf
        self._pushed = len(self._heap)
        self._most = 2 * len(self._heap) + 64
