"""Answers that go to the client as they come: which ones, and what a flow keeps of them. Pure."""

from collections.abc import Callable, Iterable

KEPT = 1 << 20
"""Bytes of a streamed body that a flow shows; of a longer one it shows none, as mitmproxy does."""

INCREMENTAL = frozenset(
    (
        b"text/event-stream",  # WHATWG HTML, 9.2
        b"application/x-ndjson",
        b"application/ndjson",
        b"application/jsonl",
        b"application/x-jsonlines",
        b"application/json-seq",  # RFC 7464
        b"application/stream+json",
        b"application/vnd.amazon.eventstream",
        b"multipart/x-mixed-replace",
        b"application/grpc",
    )
)


def is_incremental(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether an answer that has a body may come piece by piece: by its type, or length unknown."""
    kind, length = b"", False
    for name, value in fields:
        match name.lower():
            case b"content-length":
                length = True
            case b"content-type":
                kind = value.partition(b";")[0].strip().lower()
    return not length or kind in INCREMENTAL or kind.startswith(b"application/grpc+")


class Tee:
    """Passes chunks on as they are; at the end, tells `keep` the body, if it is not too long.

    mitmproxy calls it with every chunk, and at the end with none.
    """

    def __init__(self, keep: Callable[[bytes], None], most: int = KEPT) -> None:
        self._keep = keep
        self._most = most
        self._chunks: list[bytes] = []
        self._size = 0

    def __call__(self, chunk: bytes) -> list[bytes]:
        if not chunk:
            if self._size <= self._most:
                self._keep(b"".join(self._chunks))
            return []
        self._size += len(chunk)
        if self._size <= self._most:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()
        return [chunk]
