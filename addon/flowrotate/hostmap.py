"""From (TLS or not, name, port) to what was filed under it, in time that no file can lengthen."""

from functools import lru_cache
from typing import Generic, TypeVar

from .hosts import HostRule

T = TypeVar("T")


class HostMap(Generic[T]):
    """Exact names and `*.suffix` rules, each with a port or any port. Names are canonical."""

    def __init__(self) -> None:
        self._filed: dict[tuple[bool, bool, str], list[tuple[int | None, T]]] = {}
        self._names: set[tuple[bool, str]] = set()

    def add(self, rule: HostRule, value: T) -> None:
        self._filed.setdefault((rule.tls, rule.wildcard, rule.name), []).append((rule.port, value))
        self._names.add((rule.wildcard, rule.name))

    def get(self, tls: bool, name: str, port: int) -> list[T]:
        """Everything filed under a rule that covers this place, exact names first."""
        return [
            value
            for wildcard, key in _keys(name)
            for filed, value in self._filed.get((tls, wildcard, key), ())
            if filed in (None, port)
        ]

    def has_name(self, name: str) -> bool:
        """Whether any rule has this name, whatever its scheme and port."""
        return any(key in self._names for key in _keys(name))


@lru_cache(1024)
def _keys(name: str) -> tuple[tuple[bool, str], ...]:
    """(wildcard, name) keys: a host name has at most 127 labels (RFC 1035, 2.3.4)."""
    labels = name.split(".")
    return (False, name), *((True, ".".join(labels[n:])) for n in range(1, len(labels)))
