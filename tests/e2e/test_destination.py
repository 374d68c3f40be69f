"""G1 against places: spellings of names and addresses, and proxies that lie between."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from flowrotate.demo.certs import make_authority
from flowrotate.demo.message import App
from flowrotate.demo.proxy import SCRIPT
from flowrotate.demo.upstream import Raw, Reply, Request, ThreadedUpstream, Upstream, json_reply

from .world import World, bearers, forms, pool, trusting

OTHER = "127.0.0.2"
"""An address of this machine that is in no pool: strangers have the pool's own port there."""


class Tap(ThreadedUpstream):
    """An HTTP/1.1 upstream that keeps every byte it was sent, also what is no request."""

    def __init__(
        self, app: App, *, leaf: Path | None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        super().__init__(app, leaf=leaf, host=host, port=port)
        self._upstream = self._tapped = _Tapped(app, leaf=leaf, alpn=["http/1.1"])

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    @property
    def raw(self) -> list[bytes]:
        """What came in, by connection, without its TLS."""
        return [bytes(received) for received in self._tapped.received]

    @property
    def canaries(self) -> list[str]:
        return forms(b"".join(self.raw), "abcdef")


class _Tapped(Upstream):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.received: list[bytearray] = []

    async def _open(self, sock: socket.socket) -> tuple[Any, asyncio.StreamWriter]:
        reader, writer = await super()._open(sock)
        self.received.append(bytearray())
        return _Tee(reader, self.received[-1]), writer


class _Tee:
    def __init__(self, reader: asyncio.StreamReader, received: bytearray) -> None:
        self._reader = reader
        self._received = received

    async def read(self, n: int) -> bytes:
        data = await self._reader.read(n)
        self._received += data
        return data


def echo(request: Request) -> Reply:
    return json_reply({"target": request.target})


# What became of a request; anything else is a part of the answer.
SEALED, BARE, STRAYED = "<with a credential>", "<without one>", "<to the other server>"


class Place:
    """A server of the pool, and one of no pool on the same port; both have good certificates."""

    def __init__(self, world: World, stack: ExitStack, *, tls: bool = True) -> None:
        leaf = world.authority.leaf if tls else None
        self.own = stack.enter_context(Tap(echo, leaf=leaf))
        self.port = self.own.port
        foreign = world.authority.issue([OTHER, "evil.test"]) if tls else None
        self.other = stack.enter_context(Tap(echo, leaf=foreign, host=OTHER, port=self.port))
        self.host, self.foreign = f"localhost:{self.port}", f"{OTHER}:{self.port}"
        self._seen = 0, 0

    def written(self, text: str) -> str:
        """A line of a table, with the names of this place."""
        return (
            text.replace("OWN", self.host)
            .replace("EVIL", self.foreign)
            .replace("PORT", str(self.port))
        )

    def outcome(self, answer: str) -> str:
        """What became of the last request: how it went out, or else its answer."""
        seen, taps = self._seen, (self.own, self.other)
        own, other = (tap.requests[n:] for tap, n in zip(taps, seen, strict=True))
        self._seen = seen[0] + len(own), seen[1] + len(other)
        assert self.other.canaries == []
        assert len(own) + len(other) < 2
        if other:
            return STRAYED
        if not own:
            return answer
        if own[0].header("authorization") in (None, "mine"):
            return BARE
        assert bearers(own)[0] in "abc"
        return SEALED


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def told(sock: socket.socket, head: str) -> str:
    """All that is answered to a request; its lines end with |."""
    sock.sendall(f"{head}Connection: close||".replace("|", "\r\n").encode("latin-1"))
    with sock.makefile("rb") as answer:
        return answer.read().decode("latin-1")


# Spellings of names. What resolves them knows every name, and the certificate is good for each.

RESOLVER = """
import socket

known = socket.getaddrinfo
socket.getaddrinfo = lambda host, *args, **options: known("127.0.0.1", *args, **options)
"""
POOLED = ["*.pool.test", "exact.test", "bücher.test", "strasse.test"]
NAMES = [
    ("a.pool.test", "pool"),
    ("a.b.pool.test", "pool"),
    ("A.POOL.Test", "pool"),
    ("a.pool.test.", "pool"),
    ("_.pool.test", "pool"),
    ("exact.test", "pool"),
    ("EXACT.TEST.", "pool"),
    ("xn--bcher-kva.test", "pool"),
    ("XN--BCHER-KVA.TEST", "pool"),
    ("pool.test", "no pool"),
    ("apool.test", "no pool"),
    ("a.pool.test.evil.test", "no pool"),
    ("pool.test.evil.test", "no pool"),
    ("a-pool.test", "no pool"),
    ("a.exact.test", "no pool"),
    ("exact.tests", "no pool"),
    ("xexact.test", "no pool"),
    ("exact", "no pool"),
    ("bucher.test", "no pool"),
    ("xn--exct-83d.test", "no pool"),  # a Cyrillic letter in it
    (".pool.test", "400"),
    ("a..pool.test", "400"),
    ("*.pool.test", "400"),
    ("exact.test..", "400"),
    ("b\u00fccher.test", "400"),
    ("\uff45xact.test", "400"),
    ("exact\u3002test", "400"),
    ("ex\u0430ct.test", "400"),
    ("stra\u00dfe.test", "400"),
    ("xn--strae-oqa.test", "400"),  # the same, as IDNA 2008 has it
    ("exact.test%00.evil.test", "400"),
    ("exact.test\0.evil.test", "400"),
    ("evil.test@exact.test", "400"),
    ("exact.test@evil.test", "400"),
    ("exact.test#.evil.test", "400"),
    ("exact.test/.evil.test", "400"),
    ("exact.test?.evil.test", "400"),
    ("exact.test\\.evil.test", "400"),
    ("exact.test evil.test", "400"),
]
ADDRESSES = [
    # An address is looked up by the name that its certificate is verified for.
    ("127.0.0.1", "pool"),
    ("[::ffff:127.0.0.1]", "pool"),
    ("[::ffff:7f00:1]", "pool"),
    # To a resolver these are addresses, to the pools they are names, and none of theirs.
    ("127.1", "no pool"),
    ("2130706433", "no pool"),
    ("0x7f000001", "no pool"),
    ("0x7f.0.0.1", "no pool"),
    ("0177.0.0.1", "no pool"),
    ("017700000001", "no pool"),
    ("127.0.0.1%1", "400"),
    ("[::1%lo]", "no pool"),
    ("[127.0.0.1", "400"),
]


class Named:
    """A proxy whose resolver knows every name, and the server behind all of them."""

    def __init__(self, world: World, tap: Tap) -> None:
        resolver = world.folder / "resolver.py"
        resolver.write_text(RESOLVER)
        self.tap = tap
        self.proxy = world.proxy(
            pool([f"{name}:{tap.port}" for name in POOLED]), scripts=[resolver, SCRIPT]
        )
        self.tls = trusting(self.proxy.ca)

    def ask(self, dialled: str, name: str) -> str:
        """Whether the request went out with a credential of the pool, without, or not at all."""
        with socket.create_connection(("127.0.0.1", self.proxy.port), timeout=20) as raw:
            place = f"{dialled}:{self.tap.port}"
            raw.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
            if b" 200 " not in (said := raw.recv(4096)):
                return said.split(b" ")[1].decode()
            with self.tls.wrap_socket(raw, server_hostname=name.rstrip(".")) as tls:
                answer = told(tls, f"GET / HTTP/1.1|Host: {name}:{self.tap.port}|")
        assert " 200 " in answer
        if self.tap.requests[-1].header("authorization") is None:
            return "no pool"
        assert bearers(self.tap.requests)[-1] in "abc"
        return "pool"


@pytest.fixture(scope="module")
def named(shared: World) -> Iterator[Named]:
    names = {name.lower().rstrip(".") for name, outcome in NAMES if outcome != "400"}
    with Tap(echo, leaf=shared.authority.issue(sorted(names))) as tap:
        yield Named(shared, tap)


@pytest.mark.parametrize(("name", "outcome"), NAMES)
def test_g1_names(named: Named, name: str, outcome: str) -> None:
    assert named.ask(name, name) == outcome


@pytest.mark.parametrize(
    ("dialled", "outcome"), [n for n in NAMES if n[1] == "no pool"] + ADDRESSES
)
def test_g1_a_pools_name_in_the_handshake_alone(named: Named, dialled: str, outcome: str) -> None:
    assert named.ask(dialled, "exact.test") == outcome


# Proxies between.


def relayed(port: int) -> Raw:
    """The answer to a CONNECT that leads to a port of this machine, whatever was asked for."""

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            back.close()

    return Raw(run)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    if writer.can_write_eof():
        writer.write_eof()


def saying(first: bytes) -> Raw:
    """A server that speaks plain text, and takes what it gets."""

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while await reader.read(65536):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    return Raw(run)


OPEN = b"HTTP/1.1 200 OK\r\n\r\n"
# What they answer, or the server that they lead to; and what becomes of the request.
NEXT_PROXIES: list[tuple[Raw | Reply | str, str]] = [
    ("impostor", "Certificate verify failed"),  # it ends the TLS itself
    ("stranger", "hostname mismatch"),
    (saying(OPEN), "does not speak TLS"),
    (saying(OPEN + OPEN), "does not speak TLS"),
    (saying(b"HTTP/1.1 101 Fine\r\n\r\n"), "refused HTTP CONNECT"),
    (Reply(302, [("Location", f"http://{OTHER}/")]), "refused HTTP CONNECT"),
    (Reply(407, [("Proxy-Authenticate", "Basic")]), "refused HTTP CONNECT"),
]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_g1_a_next_proxy_that_lies_gets_nothing(
    world: World, stack: ExitStack, scheme: str
) -> None:
    """Told apart by the port that it is asked for; port 1 it serves honestly."""
    leaves = {
        "own": world.authority.leaf,
        "impostor": make_authority(world.folder / "impostor", ["localhost"]).leaf,
        "stranger": world.authority.issue(["evil.test"]),
    }
    taps = {who: stack.enter_context(Tap(echo, leaf=leaf)) for who, leaf in leaves.items()}

    def app(request: Request) -> Raw | Reply:
        n = int(request.target.partition(":")[2])
        answer = NEXT_PROXIES[n - 2][0] if n > 1 else "own"
        return relayed(taps[answer].port) if isinstance(answer, str) else answer

    leaf = leaves["own"] if scheme == "https" else None
    between = stack.enter_context(Tap(app, leaf=leaf))
    mode = f"upstream:{scheme}://localhost:{between.port}"
    proxy = world.proxy(pool(["localhost:*"]), mode=mode)
    for http2 in (False, True):
        for n, (_, failure) in enumerate(NEXT_PROXIES, 2):
            response = world.client(proxy, http2=http2).get(f"https://localhost:{n}/")
            assert (n, response.status_code, failure in response.text) == (n, 502, True)
    assert world.client(proxy).get("https://localhost:1/").status_code == 200
    assert bearers(taps["own"].requests)[0] in "abc"
    assert between.canaries == taps["impostor"].canaries == taps["stranger"].canaries == []
