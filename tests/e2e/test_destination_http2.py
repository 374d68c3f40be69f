"""G1 against HTTP/2 heads that name one destination to the proxy and another to a server."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import h2.config  # type: ignore[import-untyped, unused-ignore]  # h2 is typed since 4.2
import h2.connection  # type: ignore[import-untyped, unused-ignore]
import h2.events  # type: ignore[import-untyped, unused-ignore]
import pytest

from .raw_h2 import Headers
from .test_destination import Place, echo
from .test_destination_http import credentialed
from .world import World, forms, pool, trusting, tunnel

M, S, P, A = (":method", "GET"), (":scheme", "https"), (":path", "/x"), (":authority", "OWN")

# What follows a head is whether it may pass. Versions of h2 and mitmproxy refuse the others in
# different ways: by hanging up, with 400, or by leaving them to us.
HTTP2_HEADS: list[tuple[Headers, bool]] = [
    ((M, S, P, A), True),
    ((M, S, P, ("host", "OWN")), True),
    ((M, S, P, A, ("host", "OWN")), True),
    ((M, S, P, (":authority", "LOCALHOST.:PORT")), True),
    ((M, S, P, A, ("x-forwarded-host", "EVIL"), ("forwarded", "host=EVIL")), True),
    ((M, S, P, A, ("te", "trailers")), True),
    ((M, S, P, A, ("content-length", "0")), True),
    ((M, S, P, A, ("http2-settings", "AAMAAABk")), True),
    (((":method", "get"), S, P, A), True),
    (((":method", "OPTIONS"), S, (":path", "*"), A), True),
    ((M, (":scheme", "http"), P, A), True),
    ((M, S, (":path", "//EVIL/x"), A), True),
    # who is asked
    ((M, S, P), False),
    ((M, S, P, (":authority", "EVIL")), False),
    ((M, S, P, (":authority", "")), False),
    ((M, S, P, (":authority", ""), ("host", "OWN")), False),
    ((M, S, P, (":authority", ""), ("host", "EVIL")), False),
    ((M, S, P, (":authority", "EVIL"), ("host", "OWN")), False),
    ((M, S, P, A, (":authority", "EVIL")), False),
    ((M, S, P, (":authority", "EVIL"), A), False),
    ((M, S, P, A, (":Authority", "EVIL")), False),
    ((M, S, P, A, ("host", "EVIL")), False),
    ((M, S, P, A, ("Host", "EVIL")), False),
    ((M, S, P, A, ("host", "OWN"), ("host", "EVIL")), False),
    ((M, S, P, A, ("host", "")), False),
    ((M, S, P, A, ("host", " OWN")), False),
    ((M, S, P, ("host", "EVIL")), False),
    ((M, S, P, ("host", "OWN"), ("host", "EVIL")), False),
    ((M, S, P, ("host", "EVIL"), A), False),
    ((M, S, P, (":authority", "localhost")), False),
    ((M, S, P, (":authority", "EVIL@OWN")), False),
    ((M, S, P, (":authority", "OWN@EVIL")), False),
    ((M, S, P, (":authority", "OWN,EVIL")), False),
    ((M, S, P, (":authority", "OWN EVIL")), False),
    ((M, S, P, (":authority", " OWN")), False),
    ((M, S, P, (":authority", "OWN/x")), False),
    ((M, S, P, (":authority", "OWN\0EVIL")), False),
    ((M, S, P, (":authority", "OWN\nhost: EVIL")), False),
    ((M, S, P, (":authority", "OWN\r\nhost: EVIL")), False),
    ((M, S, P, (":authority", "\uff4cocalhost:PORT")), False),
    ((M, S, P, (":authority", "[localhost]:PORT")), False),
    # for what, and how
    ((M, S, A), False),
    ((M, P, A), False),
    ((S, P, A), False),
    ((M, S, P, (":path", "https://EVIL/"), A), False),
    ((M, (":method", "TRACE"), S, P, A), False),
    ((M, S, (":scheme", "http"), P, A), False),
    ((M, S, P, ("x", "y"), A), False),
    ((M, S, P, A, (":host", "EVIL")), False),
    ((M, S, P, A, (":status", "200")), False),
    ((M, S, P, A, (":protocol", "websocket")), False),
    (((":method", "CONNECT"), S, P, A, (":protocol", "websocket")), False),
    (((":method", "CONNECT"), ("x", "y"), (":authority", "EVIL")), False),
    (((":method", "CONNECT"), (":authority", "EVIL")), False),
    (((":method", ""), S, P, A), False),
    (((":method", "TRACE"), S, P, A), False),
    (((":method", "GET https://EVIL/"), S, P, A), False),
    (((":method", "GET / HTTP/1.1\r\nHost: EVIL\r\n\r\nGET"), S, P, A), False),
    ((M, S, (":path", ""), A), False),
    ((M, S, (":path", "*"), A), False),
    ((M, S, (":path", "x"), A), False),
    ((M, S, (":path", "@EVIL/x"), A), False),
    ((M, S, (":path", "https://EVIL/x"), A), False),
    ((M, S, (":path", "https://OWN/x"), A), False),
    ((M, S, (":path", "/x#@EVIL"), A), False),
    ((M, S, (":path", "/x\ty"), A), False),
    ((M, S, (":path", "/x HTTP/1.1"), A), False),
    ((M, S, (":path", "/ HTTP/1.1\r\nHost: EVIL\r\nX: y"), A), False),
    ((M, (":scheme", "ftp"), P, A), False),
    ((M, (":scheme", "HTTPS"), P, A), False),
    ((M, (":scheme", "https://EVIL/?"), P, A), False),
    ((M, (":scheme", "https://EVIL/ HTTP/1.1\r\nX: y"), P, A), False),
    # names and values
    ((M, S, P, A, ("", "EVIL")), False),
    ((M, S, P, A, ("X-Upper", "y")), False),
    ((M, S, P, A, ("host ", "EVIL")), False),
    ((M, S, P, A, ("host\0", "EVIL")), False),
    ((M, S, P, A, ("x:host", "EVIL")), False),
    ((M, S, P, A, ("x\r\nhost", "EVIL")), False),
    ((M, S, P, A, ("x", "y\nhost: EVIL")), False),
    ((M, S, P, A, ("x", "y\rhost: EVIL")), False),
    ((M, S, P, A, ("x", "y\0")), False),
    ((M, S, P, A, ("x", "y\r\n\r\nGET / HTTP/1.1\r\nHost: EVIL\r\n\r\n")), False),
    ((M, S, P, A, ("cookie", "a=b"), ("cookie", "c=d\r\nhost: EVIL")), False),
    # what belongs to a connection, or to HTTP/1
    ((M, S, P, A, ("connection", "authorization")), False),
    ((M, S, P, A, ("connection", "keep-alive")), False),
    ((M, S, P, A, ("proxy-connection", "keep-alive")), False),
    ((M, S, P, A, ("keep-alive", "1")), False),
    ((M, S, P, A, ("upgrade", "h2c")), False),
    ((M, S, P, A, ("te", "gzip")), False),
    ((M, S, P, A, ("transfer-encoding", "chunked")), False),
    ((M, S, P, A, ("content-length", "+0")), False),
    ((M, S, P, A, ("content-length", "0"), ("content-length", "5")), False),
]


HUNG_UP = "hung up"


class Http2Place(Place):
    """A place with another server of the pool, which speaks HTTP/2 to the proxy too."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        super().__init__(world, stack)
        self.both = world.upstream(echo)
        self.hosts = self.host, f"localhost:{self.both.port}"
        self.proxy = world.proxy(pool(self.hosts), options={"connection_strategy": "lazy"})
        self.tls = trusting(self.proxy.ca)
        self.tls.set_alpn_protocols(["h2"])

    def spelled(self, head: Headers, own: str) -> Headers:
        port = own.rpartition(":")[2]
        spelled = [(n, v.replace("OWN", own).replace("PORT", port)) for n, v in head]
        return [(name, self.written(value)) for name, value in spelled]

    def heads(self, head: Headers, own: str) -> list[Headers]:
        """A head of the table, and a good one to follow."""
        return [self.spelled(h, own) for h in (head, (M, S, (":path", "/probe"), A))]

    def sealed(self, since: tuple[int, int]) -> int:
        """How many credentials went out, each in a request that names its own server alone."""
        found = 0
        for request in self.both.requests[since[1] :]:
            if forms(repr(request).encode()):
                found += 1
                named = {name.lower() for name in (request.authority, *request.all("host")) if name}
                assert {name.replace(".:", ":") for name in named} == {self.hosts[1]}
        return found + sum(credentialed(raw, self.host) for raw in self.own.raw[since[0] :])

    @property
    def now(self) -> tuple[int, int]:
        return len(self.own.raw), len(self.both.requests)


def ask(tls: ssl.SSLSocket, heads: Sequence[Headers]) -> list[str]:
    """The answers to requests that are sent one after the other, until the proxy hangs up."""
    config = h2.config.H2Configuration(
        header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    answers: list[str] = []
    for n, head in enumerate(heads):
        connection.send_headers(2 * n + 1, list(head), end_stream=True)
        answers.append(_answer(tls, connection))
        if answers[-1] == HUNG_UP:
            break
    return answers


def _answer(tls: ssl.SSLSocket, connection: h2.connection.H2Connection) -> str:
    answer = ""
    tls.sendall(connection.data_to_send())
    while data := tls.recv(65536):
        for event in connection.receive_data(data):
            match event:
                case h2.events.ConnectionTerminated() | h2.events.StreamReset():
                    return HUNG_UP
                case h2.events.ResponseReceived():
                    answer = dict(event.headers)[b":status"].decode()
                case h2.events.DataReceived():
                    answer += event.data.decode("latin-1")
                case h2.events.StreamEnded():
                    return answer
        tls.sendall(connection.data_to_send())
    return HUNG_UP


@pytest.fixture(scope="module")
def place(shared: World) -> Iterator[Http2Place]:
    with ExitStack() as stack:
        yield Http2Place(shared, stack)


@pytest.mark.parametrize(("head", "passes"), HTTP2_HEADS)
@pytest.mark.parametrize("n", [0, 1], ids=["up-1.1", "up-2"])
def test_g1_http2_heads(place: Http2Place, head: Headers, passes: bool, n: int) -> None:
    since, host = place.now, place.hosts[n]
    with tunnel(place.proxy, host, ["h2"]) as tls:
        answer, *probe = ask(tls, place.heads(head, host))
    good = [a.startswith("200") for a in (answer, *probe)]
    if passes:
        assert good == [True, True]
    else:
        assert answer == HUNG_UP or answer.startswith("400") or '"rotate_refused"' in answer
        assert good[1:] == ([] if answer == HUNG_UP else [True])
    assert place.sealed(since) == sum(good)
    assert place.other.canaries == []


@pytest.mark.parametrize("head", [head for head, _ in HTTP2_HEADS])
def test_g1_http2_heads_to_another_place(place: Http2Place, head: Headers) -> None:
    """In a tunnel to a server of no pool; and without one, where a head tells the destination."""
    since = place.now
    with tunnel(place.proxy, place.foreign, ["h2"]) as tls:
        answers = ask(tls, place.heads(head, place.host))
    assert answers[-1] == HUNG_UP or answers[-1].startswith("200")
    assert not any("rotate_refused" in answer for answer in answers)
    assert place.now == since
    sock = socket.create_connection(("127.0.0.1", place.proxy.port), timeout=20)
    with sock, place.tls.wrap_socket(sock, server_hostname="localhost") as tls:
        answers = ask(tls, place.heads(head, place.host))
    assert answers[-1] == HUNG_UP or place.sealed(since) > 0
    assert place.other.canaries == []
