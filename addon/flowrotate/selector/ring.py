"""Sessions on a ring: each goes to the next credential, or the one after if that is out. Pure.

A credential has many points, so that its sessions spread over all others when it leaves, and come
back with it.
"""

from collections.abc import Collection, Container
from functools import lru_cache
from hashlib import blake2b

from sortedcontainers import SortedDict  # type: ignore[import-untyped]  # it ships no types

from .standing import Credential

POINTS = 128
"""Of the heaviest credential on the ring; lighter ones have fewer."""


class Ring:
    """Consistent hashing (Karger et al., STOC 1997): only who leaves loses its sessions."""

    def __init__(self, heaviest: int) -> None:
        self._heaviest = heaviest
        self._points: SortedDict = SortedDict()

    def enter(self, credential: Credential) -> None:
        for point in self._points_of(credential):
            self._points.setdefault(point, credential)

    def leave(self, credential: Credential) -> None:
        for point in self._points_of(credential):
            if self._points.get(point) is credential:
                del self._points[point]

    def pick(
        self, session: str, tried: Collection[Credential], among: Container[Credential]
    ) -> Credential | None:
        """The next on the ring that is `among` those who can be picked."""
        size = len(self._points)
        start = self._points.bisect_right(_hash(session))
        for n in range(start, start + size):
            credential: Credential = self._points.peekitem(n % size)[1]
            if credential not in tried and credential in among:
                return credential
        return None

    def _points_of(self, credential: Credential) -> tuple[int, ...]:
        count = max(1, POINTS * credential.terms.weight // self._heaviest)
        # Of the id, not of the secret: a restart, or a new secret, moves no session.
        return _points(credential.id, count)


@lru_cache(maxsize=4096)
def _points(id: str, count: int) -> tuple[int, ...]:
    return tuple(_hash(f"{id}/{n}") for n in range(count))


def _hash(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
