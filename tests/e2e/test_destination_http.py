"""G1 against HTTP/1 heads that name one destination to the proxy and another to a server."""

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from .test_destination import BARE, SEALED, STRAYED, Place, told
from .world import World, forms, pool, tunnel

# In a tunnel to the pool's host. OWN and EVIL are authorities, | ends a line, SMUG is a request of
# its own, LEN its length. What follows is what is answered, a probe that comes after it left out.

HTTP1_HEADS = [
    # Host
    ("GET /x HTTP/1.1|Host: OWN||", "200"),
    ("GET /x HTTP/1.1|Host: LOCALHOST.:PORT||", "200"),
    ("GET /x HTTP/1.1|Host:\x0bOWN\x0c||", "200"),
    ("GET /x HTTP/1.1|Host: OWN|X-Forwarded-Host: EVIL|Forwarded: host=EVIL||", "200"),
    ("GET /x HTTP/1.1|Host: OWN|Connection: Upgrade|Upgrade: h2c|HTTP2-Settings: A||", "200"),
    ("GET /x HTTP/1.1|Host: OWN|Host: EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: EVIL|Host: OWN||", "502"),
    ("GET /x HTTP/1.1|hOsT: OWN|HOST: EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN, EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN\tEVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN#EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN/EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN\\EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN?EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: EVIL#OWN||", "502"),
    ("GET /x HTTP/1.1|Host: EVIL@OWN||", "502"),
    ("GET /x HTTP/1.1|Host: OWN@EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN%00.EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: https://OWN||", "502"),
    ("GET /x HTTP/1.1|Host: localhost||", "502"),
    ("GET /x HTTP/1.1|Host: localhost:||", "502"),
    ("GET /x HTTP/1.1|Host: localhost:+PORT||", "502"),
    ("GET /x HTTP/1.1|Host: localhost: PORT||", "502"),
    ("GET /x HTTP/1.1|Host: localhost:0PORT||", "502"),
    ("GET /x HTTP/1.1|Host: localhost:PORT:443||", "502"),
    ("GET /x HTTP/1.1|Host: localhost..:PORT||", "502"),
    ("GET /x HTTP/1.1|Host: .localhost:PORT||", "502"),
    ("GET /x HTTP/1.1|Host: [localhost]:PORT||", "502"),
    ("GET /x HTTP/1.1|Host: 127.0.0.1:PORT||", "502"),
    ("GET /x HTTP/1.1|Host: [::1]:PORT||", "502"),
    ("GET /x HTTP/1.1|Host: xn--localhost-:PORT||", "502"),
    ("GET /x HTTP/1.1|Host:| OWN||", "502"),
    ("GET /x HTTP/1.1|Host: OWN| Host: EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN|X: 1\nHost: EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN|X: 1\rHost: EVIL||", "502"),
    ("GET /x HTTP/1.1|Host: OWN|Connection: close, Authorization||", "502"),
    ("GET /x HTTP/1.1|Host : EVIL|Host: OWN||", "400"),
    ("GET /x HTTP/1.1|Host\t: EVIL|Host: OWN||", "400"),
    ("GET /x HTTP/1.1|Host: OWN|Host\0: EVIL||", "400"),
    ("GET /x HTTP/1.1| Host: EVIL|Host: OWN||", "400"),
    ("GET /x HTTP/1.1|Host: OWN|: EVIL||", "400"),
    ("GET /x HTTP/1.1|Host: OWN|Host||", "400"),
    ("GET /x HTTP/1.1|Host: OWN|H\xf6st: EVIL||", "400"),
    # the request line
    ("GET /x HTTP/1.1\nHost: OWN|X: 1\n\n", "200"),
    ("GET  /x  HTTP/1.1|Host: OWN||", "200"),
    ("get /x HTTP/1.1|Host: OWN||", "200"),
    ("GET //EVIL/x HTTP/1.1|Host: OWN||", "200"),
    ("GET /\\EVIL/x HTTP/1.1|Host: OWN||", "200"),
    ("GET /@EVIL/x HTTP/1.1|Host: OWN||", "200"),
    ("OPTIONS * HTTP/1.1|Host: OWN||", "200"),
    ("GET /x HTTP/2.0|Host: OWN||", "200"),
    ("GET https://OWN/x HTTP/1.1|Host: OWN||", "200"),
    ("GET http://OWN/x HTTP/1.1|Host: OWN||", "200"),
    ("GET https://OWN/x HTTP/1.1|Host: EVIL||", "502"),
    ("GET https://EVIL/x HTTP/1.1|Host: OWN||", "502"),
    ("GET http://EVIL/x HTTP/1.1|Host: OWN||", "502"),
    ("GET https://localhost:0/x HTTP/1.1|Host: OWN||", "502"),
    ("GET * HTTP/1.1|Host: OWN||", "502"),
    ("TRACE /x HTTP/1.1|Host: OWN||", "502"),
    ("GET /x#@EVIL/ HTTP/1.1|Host: OWN||", "502"),
    ("GET https://OWN@EVIL/x HTTP/1.1|Host: OWN||", "400"),
    ("GET https://EVIL@OWN/x HTTP/1.1|Host: OWN||", "400"),
    ("GET https://OWN#@EVIL/x HTTP/1.1|Host: OWN||", "400"),
    ("GET https://OWN?@EVIL/x HTTP/1.1|Host: OWN||", "400"),
    ("GET https://OWN\\@EVIL/x HTTP/1.1|Host: OWN||", "400"),
    ("GET https://localhost:65536/x HTTP/1.1|Host: OWN||", "400"),
    ("GET https:///EVIL/x HTTP/1.1|Host: OWN||", "400"),
    ("GET https:EVIL/x HTTP/1.1|Host: OWN||", "400"),
    ("GET ftp://OWN/x HTTP/1.1|Host: OWN||", "400"),
    ("GET ://OWN/x HTTP/1.1|Host: OWN||", "400"),
    ("GET EVIL/x HTTP/1.1|Host: OWN||", "400"),
    ("GET @EVIL/x HTTP/1.1|Host: OWN||", "400"),
    ("GET EVIL HTTP/1.1|Host: OWN||", "400"),
    ("CONNECT EVIL HTTP/1.1|Host: OWN||", "400"),
    ("CONNECT OWN HTTP/1.1|Host: OWN||", "400"),
    ("CONNECT /x HTTP/1.1|Host: OWN||", "400"),
    ("GET /x y HTTP/1.1|Host: OWN||", "400"),
    ("GET\x0b/x\x0cHTTP/1.1|Host: OWN||", "400"),
    ("G@T /x HTTP/1.1|Host: OWN||", "400"),
    ("GET /x HTTP/11|Host: OWN||", "400"),
    ("GET /x||", "400"),
    ("|GET /x HTTP/1.1|Host: OWN||", "400"),
    ("PRI * HTTP/2.0||SM||", ""),
    # one request or two
    ("POST /x HTTP/1.1|Host: OWN|Content-Length: LEN||SMUG", "200"),
    ("GET /x HTTP/1.1|Host: OWN|Content-Length: LEN||SMUG", "200"),
    ("POST /x HTTP/1.1|Host: OWN|Expect: 100-continue|Content-Length: LEN||SMUG", "100 200"),
    ("POST /x HTTP/1.1|Host: OWN|Content-Length: 5||helloSMUG", "200 502"),
    ("POST /x HTTP/1.1|Host: OWN|Content_Length: LEN||SMUG", "200 502"),
    ("POST /x HTTP/1.1|Host: OWN|Transfer-Encoding: CHUNKED||0||SMUG", "200 502"),
    ("POST /x HTTP/1.1|Host: OWN|Transfer-Encoding:\x0bchunked||0||SMUG", "200 502"),
    ("POST /x HTTP/1.1|Host: OWN|Transfer_Encoding: chunked||SMUG", "200 502"),
    ("POST /x HTTP/1.1|Host: OWN|X: y\nTransfer-Encoding: chunked||0||SMUG", "200 502"),
    ('POST /x HTTP/1.1|Host: OWN|Transfer-Encoding: chunked||0;a="b"||SMUG', "200 502"),
    ("POST /x HTTP/1.1|Host: OWN|Transfer-Encoding: chunked||1 |x|0||SMUG", "200 502"),
    ("GET /x HTTP/1.1|Host: OWN|Transfer-Encoding: chunked||0||SMUG", "200 502"),
    ("GET /x HTTP/1.1|Host: OWN|X: 1\n|SMUG", "200 502"),
    ("POST /x HTTP/1.1|Host: OWN|X: y\rTransfer-Encoding: chunked||0||SMUG", "502 400"),
    ("POST /x HTTP/1.1|Host: OWN|Transfer-Encoding: chunked||0x1|x|0||SMUG", ""),
    ("POST /x HTTP/1.1|Host: OWN|Transfer-Encoding: chunked||-1||0||SMUG", ""),
    ("POST /x HTTP/1.1|Host: OWN|Transfer-Encoding: chunked||1;a=\nb|x|0||SMUG", ""),
    ("POST /x HTTP/1.1|Host: OWN|Transfer-Encoding: chunked||1\nx\n0\n\nSMUG", ""),
    ("POST /x HTTP/1.1|Host: OWN|Transfer-Encoding: chunked||1|xSMUG", ""),
]
# Framings that two parties read in two ways: mitmproxy refuses them all.
HTTP1_FRAMINGS = [
    "Content-Length: 4|Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked|Content-Length: 4",
    "Transfer-Encoding: identity|Content-Length: 0",
    "Content-Length: LEN|Content-Length: 0",
    "Content-Length: 0|Content-Length: 0",
    "Content-Length: 0, LEN",
    "Content-Length: +LEN",
    "Content-Length: -1",
    "Content-Length: 0x0",
    "Content-Length: 00",
    "Content-Length: 1 0",
    "Content-Length:",
    "Content-Length:| LEN",
    "Content-Length : LEN",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: \0chunked",
    "Transfer-Encoding:| chunked",
    'Transfer-Encoding: "chunked"',
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked|Transfer-Encoding: identity",
    "Transfer-Encoding: chunked|Transfer-Encoding: chunked",
    "Transfer-Encoding: chun\xe7ed",
]
HTTP1_HEADS += [
    (f"POST /x HTTP/1.1|Host: OWN|{framing}||0||SMUG", "400") for framing in HTTP1_FRAMINGS
]
HTTP1_HEADS.append(("POST /x HTTP/1.0|Host: OWN|Transfer-Encoding: chunked||0||SMUG", "400"))
SMUGGLED = "GET /smuggled HTTP/1.1|Host: EVIL||"
PROBE = "GET /probe HTTP/1.1|Host: OWN||"

# Straight to the proxy's port in plain text; or through a tunnel, but without TLS in it.

REFUSED, MALFORMED = '"rotate_refused"', "400 Bad Request"
PLAIN_HEADS = [
    ("GET http://OWN/ HTTP/1.1|Host: OWN|", SEALED),
    ("GET http://LOCALHOST:PORT/ HTTP/1.1|Host: OWN|", SEALED),
    ("GET / HTTP/1.1|Host: OWN|", SEALED),
    ("GET http://EVIL/ HTTP/1.1|Host: OWN|", STRAYED),
    ("GET / HTTP/1.1|Host: EVIL|", STRAYED),
    ("GET http://EVIL/?http://OWN/ HTTP/1.1|Host: OWN|", STRAYED),
    ("GET http://EVIL/#@OWN/ HTTP/1.1|Host: OWN|", STRAYED),
    ("GET http://127.0.0.1:PORT/ HTTP/1.1|Host: OWN|", BARE),
    ("GET http://[::ffff:127.0.0.1]:PORT/ HTTP/1.1|Host: OWN|", BARE),
    ("GET http://127.1:PORT/ HTTP/1.1|Host: OWN|", BARE),
    ("GET http://2130706433:PORT/ HTTP/1.1|Host: OWN|", BARE),
    ("GET http://0x7f000001:PORT/ HTTP/1.1|Host: OWN|", BARE),
    ("GET http://0177.0.0.1:PORT/ HTTP/1.1|Host: OWN|", BARE),
    ("GET http://OWN/ HTTP/1.1|Host: EVIL|", REFUSED),
    ("GET http://OWN/ HTTP/1.1|Host: OWN|Host: EVIL|", REFUSED),
    ("GET http://OWN/ HTTP/1.1|", REFUSED),
    ("GET http://OWN HTTP/1.1|Host: EVIL|", REFUSED),
    ("GET http://OWN@EVIL/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http://EVIL@OWN/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http://OWN#@EVIL/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http://OWN?@EVIL/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http://OWN\\@EVIL/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http://EVIL%2f@OWN/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http://localhost:+PORT/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http://localhost:65536/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http://localhost:PORT:PORT/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http:///OWN/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http:/OWN/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http:\\\\OWN\\ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET OWN/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET ftp://OWN/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET http://*.localhost:PORT/ HTTP/1.1|Host: OWN|", MALFORMED),
    ("GET / HTTP/1.1|", MALFORMED),
    ("GET / HTTP/1.1|Host: OWN, EVIL|", MALFORMED),
    ("GET / HTTP/1.1|Host: OWN|Host: EVIL|", MALFORMED),
    ("GET / HTTP/1.1|Host: EVIL@OWN|", MALFORMED),
    ("CONNECT OWN@EVIL HTTP/1.1|Host: OWN|", MALFORMED),
    ("CONNECT EVIL@OWN HTTP/1.1|Host: OWN|", MALFORMED),
    ("CONNECT http://OWN HTTP/1.1|Host: OWN|", MALFORMED),
    ("CONNECT localhost HTTP/1.1|Host: OWN|", MALFORMED),
    ("CONNECT localhost:0 HTTP/1.1|Host: OWN|", MALFORMED),
    ("CONNECT localhost:+PORT HTTP/1.1|Host: OWN|", MALFORMED),
    ("CONNECT localhost:65536 HTTP/1.1|Host: OWN|", MALFORMED),
]
PLAIN_TUNNELS = [
    ("EVIL", "GET / HTTP/1.1|Host: OWN|", STRAYED),
    ("OWN", "GET / HTTP/1.1|Host: OWN|", SEALED),
    ("OWN", "GET / HTTP/1.1|Host: EVIL|", REFUSED),
    ("OWN", "GET http://EVIL/ HTTP/1.1|Host: OWN|", REFUSED),
    ("127.1:PORT", "GET / HTTP/1.1|Host: OWN|", BARE),
]


class Heads(Place):
    """A place where everything is asked through one proxy."""

    def __init__(self, world: World, stack: ExitStack, *, tls: bool) -> None:
        super().__init__(world, stack, tls=tls)
        host = self.host if tls else f"http://{self.host}"
        self.proxy = world.proxy(pool([host]), options={"connection_strategy": "lazy"})

    def told(self, authority: str, head: str) -> tuple[list[str], str]:
        """Statuses and text of what is answered to a head and a probe, in a tunnel."""
        smuggled = self.written(SMUGGLED)
        length = str(len(smuggled) + smuggled.count("|"))
        sent = self.written(head).replace("SMUG", smuggled).replace("LEN", length)
        with tunnel(self.proxy, authority) as tls:
            return talk(tls, sent, self.written(PROBE))

    def credentials(self, first: int) -> int:
        """How many went out, in good order, on the connections from the first one on."""
        return sum(credentialed(raw, self.host) for raw in self.own.raw[first:])


def talk(sock: socket.socket, *sent: str) -> tuple[list[str], str]:
    """Up to the answer to the probe, or to the end of the connection."""
    answer = ""
    with suppress(ConnectionError, ssl.SSLError):  # closed before it has read them all
        for text in sent:
            sock.sendall(text.replace("|", "\r\n").encode("latin-1"))
    with suppress(ConnectionError):
        while '"/probe"' not in answer and (data := sock.recv(65536)):
            answer += data.decode("latin-1")
    return re.findall(r"HTTP/1\.1 (\d{3}) ", answer), answer


_HEAD = re.compile(
    rb"[A-Za-z]+ (?:https?://)?(\S*?)[/*]\S* HTTP/\d\.\d\r\n"
    rb"(?:[\w!#$%&'*+.^`|~-]+:[^\r\n\0]*\r\n)*\r\n"
)


def credentialed(raw: bytes, host: str) -> int:
    """How many heads with a credential came in on a connection.

    Each is one that everybody reads in the same way, and it names the host alone.
    """
    found = 0
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        head += b"\r\n\r\n"
        framing = re.findall(rb"(?im)^(content-length|transfer-encoding): *(.*)\r$", head)
        assert len(framing) < 2, head
        for name, value in framing:
            length = name.lower() == b"content-length"
            raw = raw[int(value) :] if length else raw.partition(b"0\r\n\r\n")[2]
        if forms(head):
            found += 1
            well_formed = _HEAD.fullmatch(head)
            assert well_formed, head
            named = {*re.findall(rb"(?im)^host: *(.*)\r$", head), well_formed[1] or host.encode()}
            assert {n.lower().replace(b".:", b":") for n in named} == {host.encode()}, head
    return found


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture(scope="module")
def https(shared: World, stack: ExitStack) -> Heads:
    return Heads(shared, stack, tls=True)


@pytest.fixture(scope="module")
def http(shared: World, stack: ExitStack) -> Heads:
    return Heads(shared, stack, tls=False)


@pytest.mark.parametrize(("head", "expected"), HTTP1_HEADS)
def test_g1_http1_heads(https: Heads, head: str, expected: str) -> None:
    first = len(https.own.raw)
    statuses, answer = https.told(https.host, head)
    probed = ["200"] if '"/probe"' in answer else []
    assert statuses == expected.split() + probed
    assert answer.count('"type": "rotate_refused"') == statuses.count("502")
    # As many credentials went out as there are good answers.
    assert https.credentials(first) == statuses.count("200")
    assert https.other.canaries == []


@pytest.mark.parametrize("head", [head for head, _ in HTTP1_HEADS])
def test_g1_http1_heads_ahead_of_a_good_request(https: Heads, head: str) -> None:
    """As a web page's they go out as they came, on the connection that the next one uses too."""
    first = len(https.own.raw)
    statuses, answer = https.told(https.host, head.replace("|", "|Origin: null|", 1))
    assert statuses[-1:] in ([], ["200"], ["400"])
    assert https.credentials(first) == ('"/probe"' in answer)


@pytest.mark.parametrize("head", [head for head, _ in HTTP1_HEADS])
def test_g1_http1_heads_in_a_tunnel_to_another_place(https: Heads, head: str) -> None:
    own, other = len(https.own.raw), len(https.other.raw)
    statuses, _ = https.told(https.foreign, head)
    assert statuses[-1:] in ([], ["200"], ["400"])
    assert "200" not in statuses or len(https.other.raw) > other
    assert len(https.own.raw) == own
    assert https.other.canaries == []


@pytest.mark.parametrize(
    ("place", "head", "expected"), [("", *row) for row in PLAIN_HEADS] + PLAIN_TUNNELS
)
def test_g1_plain_heads(http: Heads, place: str, head: str, expected: str) -> None:
    with socket.create_connection(("127.0.0.1", http.proxy.port), timeout=20) as sock:
        if place:
            sock.sendall(http.written(f"CONNECT {place} HTTP/1.1\r\n\r\n").encode())
            assert b" 200 " in sock.recv(4096)
        answer = told(sock, http.written(head))
    assert expected in http.outcome(answer)
