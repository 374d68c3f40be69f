"""Where a credential goes in a request, and what the client sent there that must go. Pure.

Works on a request's raw header fields and target, as bytes: the same few lines put the real
credential on the wire, its alias into the flow, and take the client's own credential out of both.
"""

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote_to_bytes

from .config.spec import PoolSpec

Field = tuple[bytes, bytes]
Fields = tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Exactly one of `header` and `param` names the place; the sets hold what is removed."""

    header: bytes | None
    param: bytes | None
    headers: frozenset[bytes]
    params: frozenset[bytes]

    @classmethod
    def of(cls, spec: PoolSpec) -> Self:
        name = spec.inject.name.encode("ascii")
        header, param = (name, None) if spec.inject.where == "header" else (None, name)
        headers = {s.encode("ascii") for s in spec.strip if not s.startswith("?")}
        params = {s[1:].encode("ascii") for s in spec.strip if s.startswith("?")}
        return cls(
            header,
            param,
            frozenset(headers | ({name.lower()} if header else set())),
            frozenset(params | ({name} if param else set())),
        )

    def put(self, fields: Fields, target: bytes, value: Field) -> tuple[Fields, bytes]:
        """Fields and target with `value` (name, content) in place of every credential in them."""
        name, content = value
        if self.header is None:
            return self._without(fields), _joined(self._bare(target), name + b"=" + content)
        kept: list[Field] = []
        placed = False
        for field in fields:
            lower = field[0].lower()
            if lower == self.header.lower() and not placed:
                kept.append(value)
                placed = True
            elif lower not in self.headers:
                kept.append(field)
        if not placed:
            kept.append(value)
        return tuple(kept), self._bare(target)

    def name_for(self, http2: bool) -> bytes:
        """The header's or parameter's name as it is written: HTTP/2 has lower-case headers only."""
        if self.header is not None:
            return self.header.lower() if http2 else self.header
        assert self.param is not None
        return self.param

    def taken(self, fields: Fields, target: bytes) -> tuple[Fields, tuple[bytes, ...]]:
        """The header fields and query parts of a request that `put` removes."""
        gone = tuple(f for f in fields if f[0].lower() in self.headers)
        parts = target.partition(b"?")[2].split(b"&") if self.params else []
        return gone, tuple(p for p in parts if _param_name(p) in self.params)

    def restore(
        self, fields: Fields, target: bytes, taken: tuple[Fields, tuple[bytes, ...]]
    ) -> tuple[Fields, bytes]:
        """Undo a `put`: what was `taken` from the client's request instead of what was put."""
        bare = self._bare(target)
        parts = b"&".join(taken[1])
        return (*self._without(fields), *taken[0]), _joined(bare, parts) if parts else bare

    def but_for(
        self, taken: tuple[Fields, tuple[bytes, ...]], unwanted: Callable[[Iterable[str]], bool]
    ) -> tuple[Fields, tuple[bytes, ...]]:
        """What was `taken`, without the fields and parts whose credentials are `unwanted`."""
        fields, parts = taken
        return (
            tuple(f for f in fields if not unwanted(_given(f[1]))),
            tuple(p for p in parts if not unwanted(_given(p.partition(b"=")[2]))),
        )

    def _without(self, fields: Fields) -> Fields:
        return tuple(f for f in fields if f[0].lower() not in self.headers)

    def _bare(self, target: bytes) -> bytes:
        if not self.params or b"?" not in target:
            return target
        path, _, query = target.partition(b"?")
        kept = [part for part in query.split(b"&") if _param_name(part) not in self.params]
        return path + b"?" + b"&".join(kept) if kept else path


def _param_name(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" "))


def _joined(target: bytes, part: bytes) -> bytes:
    path, _, query = target.partition(b"?")
    return path + b"?" + (query + b"&" if query else b"") + part


def credentials_in(placement: Placement, fields: Fields, target: bytes) -> Iterator[str]:
    """What a client gives as its credential: in Authorization, or where the pool's goes."""
    names = {b"authorization", *([placement.header.lower()] if placement.header else ())}
    for name, value in fields:
        if name.lower() in names:
            yield from _given(value)
    for part in placement.taken((), target)[1]:
        yield from _given(part.partition(b"=")[2])


def _given(value: bytes) -> Iterator[str]:
    """A value as a credential: whole, unescaped, after its scheme, as basic password."""
    text = value.decode("utf-8", "surrogateescape")
    scheme, _, rest = text.strip().partition(" ")
    yield text
    yield unquote_to_bytes(value).decode("utf-8", "surrogateescape")
    yield _basic_password(rest.strip()) if scheme.lower() == "basic" else rest.strip()


def _basic_password(value: str) -> str:
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8", "surrogateescape")
    except ValueError:
        return ""
    return text.partition(":")[2]


def header_values(fields: Iterable[Field], name: bytes) -> list[str]:
    """Every value of one header, as text: bytes that are not ASCII become surrogates."""
    return [v.decode("utf-8", "surrogateescape") for n, v in fields if n.lower() == name]
