"""What the upstream is asked, and the kinds of answer an app may give."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole; header names in lower case, `connection` counts from 1.

    `never_indexed` names the HTTP/2 headers that came with that mark (RFC 7541, 7.1.3).
    """

    method: str
    target: str
    authority: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    http_version: str
    connection: int
    trailers: tuple[tuple[str, str], ...] = ()
    never_indexed: tuple[str, ...] = ()

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key == name.lower()]


@dataclass(frozen=True, slots=True)
class Reply:
    """A response; an iterator as body is sent chunk by chunk, each as soon as it is there."""

    status: int = 200
    headers: Headers = ()
    body: bytes | AsyncIterator[bytes] = b""
    trailers: Headers = ()


@dataclass(frozen=True, slots=True)
class Raw:
    """Takes over an HTTP/1 connection until `run` returns; what the client sent ahead is lost."""

    run: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Reset(Exception):  # noqa: N818  # also a kind of answer, not only an error
    """RST_STREAM with an HTTP/2 code, an aborted connection in HTTP/1.

    An app returns it, or raises it; a streamed body raises it to break off in the middle.
    """

    def __init__(self, code: int = 8) -> None:
        super().__init__(code)
        self.code = code


Answer = Reply | Raw | Reset
App = Callable[[Request], Awaitable[Answer] | Answer]
Early = Callable[[Request], Answer | None]


def json_reply(value: object, status: int = 200, headers: Headers = ()) -> Reply:
    """A JSON response."""
    body = json.dumps(value).encode()
    return Reply(status, [("content-type", "application/json"), *headers], body)


def bodiless(method: str, status: int) -> bool:
    """Whether HTTP forbids this response a body (RFC 9110, 6.4.1)."""
    return method == "HEAD" or status in (204, 304)


def reply_headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    """The reply's headers, with a content-length where the body is known and HTTP allows one."""
    headers = list(reply.headers)
    names = {name.lower() for name, _ in headers}
    framed = not names.isdisjoint({"content-length", "transfer-encoding"})
    # Trailers need the chunked coding in HTTP/1.1, so a length must not be given.
    lengthless = framed or reply.trailers or reply.status in (204, 304)
    if isinstance(reply.body, bytes) and not lengthless:
        headers.append(("content-length", str(len(reply.body))))
    return encode(headers)


async def chunks(body: bytes | AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The body's chunks; an iterator that is left early is closed."""
    if isinstance(body, bytes):
        yield body
        return
    try:
        async for chunk in body:
            yield chunk
    finally:
        if close := getattr(body, "aclose", None):
            await close()


def encode(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Latin-1 both ways: every byte that a client sent survives."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def decode(headers: Iterable[Any]) -> tuple[tuple[str, str], ...]:
    """The reverse of `encode`, with names in lower case."""
    return tuple(
        (bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1"))
        for name, value in headers
    )
