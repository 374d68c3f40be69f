"""G1 against who moves a request: other addons, another Host in reverse mode, a SOCKS client."""

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy

from .test_destination import BARE, OTHER, SEALED, STRAYED, Place, told
from .world import World, client, pool, trusting


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture(scope="module")
def https(shared: World, stack: ExitStack) -> Place:
    return Place(shared, stack)


# A script moves requests, each at a hook of its choice.

MOVING = """
from OpenSSL import SSL

MOVES = {moves!r}
OTHER, PORT = {other!r}, {port}
move, flow = ("", ""), None

def run(hook, data=None):
    if move[0] == hook:
        exec(move[1], globals() | {{"data": data}})

def requestheaders(given):
    global move, flow
    flow, move = given, MOVES[int(given.request.headers.pop("X-Move"))]
    run("requestheaders")

def request(flow): run("request")
def server_connect(data): run("server_connect", data)
def server_connected(data): run("server_connected", data)
def tls_start_server(data): run("tls_start_server", data)
def tls_established_server(data): run("tls_established_server", data)
"""
THERE = "data.server.address = (OTHER, PORT)"
TO_A_URL = "flow.request.path = 'https://evil.test/'"
TRUSTING = (
    "data.ssl_conn = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD));"
    "data.ssl_conn.set_connect_state()"
)
NO_HOST, NO_PATH, METHOD = "Host is no host of this pool", "no plain path", "with this method"
FOR_OTHERS, UNVERIFIED = "certificate is for no host", "certificate was not verified"
MISMATCH = "hostname mismatch"
MOVES = [
    ("requestheaders", "pass", SEALED),
    ("requestheaders", "flow.request.host = OTHER", STRAYED),
    ("requestheaders", "flow.request.url = f'https://{OTHER}:{PORT}/'", STRAYED),
    ("requestheaders", "flow.request.headers['Host'] = 'evil.test'", NO_HOST),
    ("request", "flow.request.host = OTHER", STRAYED),
    ("request", "flow.request.url = f'https://{OTHER}:{PORT}/'", STRAYED),
    ("request", "flow.request.data.host = OTHER", STRAYED),
    ("request", "flow.request.host_header = 'evil.test'", NO_HOST),
    ("request", "flow.request.headers['Host'] = 'evil.test'", NO_HOST),
    ("request", "flow.request.headers.add('Host', 'evil.test')", NO_HOST),
    ("request", "flow.request.authority = 'evil.test'", NO_HOST),
    ("request", "flow.request.scheme = 'http'", "502 Bad Gateway"),
    ("request", "flow.request.data.port = 1", "502 Bad Gateway"),
    ("request", TO_A_URL, NO_PATH),
    ("request", "flow.request.method = 'TRACE'", METHOD),
    ("request", "flow.request.headers['X'] = 'a\\r\\nHost: evil.test'", "a line end in it"),
    ("request", "flow.request.headers[b'X\\r\\nHost'] = b'evil.test'", "name is none"),
    ("request", "flow.server_conn.address = (OTHER, PORT)", SEALED),
]
# With eager connections, mitmproxy's default, these would come before the request is known.
LATE_MOVES = [
    ("request", "flow.server_conn.sni = 'evil.test'", MISMATCH),
    ("server_connect", THERE, MISMATCH),
    ("server_connect", f"{THERE}; data.server.sni = OTHER", FOR_OTHERS),
    ("server_connect", f"{THERE}; data.server.sni = 'evil.test'", FOR_OTHERS),
    ("server_connect", "data.server.sni = 'evil.test'", MISMATCH),
    ("server_connected", "flow.request.headers['Host'] = 'evil.test'", NO_HOST),
    ("server_connected", "flow.request.authority = 'evil.test'", NO_HOST),
    ("server_connected", TO_A_URL, NO_PATH),
    ("server_connected", "flow.request.scheme = 'http'", "plain http leads to no host"),
    ("server_connected", "flow.request.method = 'TRACE'", METHOD),
    ("server_connected", "flow.request.data.host = OTHER", SEALED),
    ("tls_start_server", "data.conn.sni = 'evil.test'", MISMATCH),
    ("tls_start_server", TRUSTING, UNVERIFIED),
    ("tls_start_server", f"{TRUSTING}; data.conn.sni = 'localhost'", UNVERIFIED),
    ("tls_established_server", "data.conn.sni = 'evil.test'", "the upstream's certificate"),
    ("tls_established_server", "data.conn.sni = None", "the upstream's certificate"),
]


@pytest.fixture(scope="module")
def mover(shared: World, https: Place) -> Callable[[str], Proxy]:
    moves = [move[:2] for move in MOVES + LATE_MOVES]
    script = shared.folder / "moving.py"
    script.write_text(MOVING.format(moves=moves, other=OTHER, port=https.port))

    @cache
    def proxy(strategy: str) -> Proxy:
        options = {"connection_strategy": strategy}
        return shared.proxy(pool([https.host]), scripts=[SCRIPT, script], options=options)

    return proxy


@pytest.mark.parametrize(
    ("strategy", "http2", "n"),
    [("lazy", http2, n) for http2 in (0, 1) for n in range(len(MOVES + LATE_MOVES))]
    + [("eager", 0, n) for n in range(len(MOVES))],
)
def test_g1_a_script_that_moves_requests(
    https: Place, mover: Callable[[str], Proxy], strategy: str, http2: bool, n: int
) -> None:
    with client(mover(strategy), http2=http2) as c:
        answer = c.get(f"https://{https.host}/", headers={"X-Move": str(n)}).text
    assert (MOVES + LATE_MOVES)[n][2] in https.outcome(answer)


def test_g1_a_name_given_to_a_connection_that_is_there(world: World, stack: ExitStack) -> None:
    """What its certificate was verified for counts, not what a script calls it afterwards."""
    https = Place(world, stack)
    script = world.folder / "naming.py"
    script.write_text("def request(flow):\n    flow.server_conn.sni = 'localhost'\n")
    proxy = world.proxy(pool([https.host]), scripts=[SCRIPT, script])
    with client(proxy) as c:
        answer = c.get(https.other.url("/", OTHER), headers={"Host": https.host}).text
    assert "rotate_refused" in https.outcome(answer)


REMAPPED = [
    ("localhost", "/out", STRAYED),
    (OTHER, "/in", SEALED),
    ("localhost", "/named-other", NO_HOST),
    (OTHER, "/named-own", STRAYED),
    ("localhost", "/hop", "Connection names the credential"),
]


def test_g1_options_that_move_requests(shared: World, https: Place) -> None:
    own, other = https.host, https.foreign
    options = {
        "map_remote": [f"|{own}/out|{other}/", f"|{other}/in|{own}/"],
        "modify_headers": [
            f"|~q ~u /named-other|Host|{other}",
            f"|~q ~u /named-own|Host|{own}",
            "|~q ~u /hop|Connection|Authorization",
        ],
    }
    proxy = shared.proxy(pool([own]), options=options)
    for host, path, expected in REMAPPED:
        with client(proxy) as c:
            answer = c.get(https.own.url(path, host), headers={"Authorization": "mine"}).text
        assert expected in https.outcome(answer)


# Reverse mode: a web page whose name was rebound to this machine says so in Host.

REBINDING, MALFORMED = "DNS rebinding", "400 Bad Request"
REBOUND = [
    ("GET / HTTP/1.1|Host: localhost|", SEALED),
    ("GET / HTTP/1.1|Host: OWN|", SEALED),
    ("GET / HTTP/1.1|Host: localhost.:80|", SEALED),
    ("GET / HTTP/1.1|Host: [::ffff:127.0.0.1]|", SEALED),
    ("GET / HTTP/1.1|", SEALED),
    ("GET http://OWN/ HTTP/1.1|Host: OWN|", SEALED),
    ("GET / HTTP/1.1|Host: localhost|Origin: http://evil.test|", BARE),
    ("GET / HTTP/1.1|host:evil.test|", REBINDING),
    ("GET / HTTP/1.1|Host: localhost|Host: evil.test|", REBINDING),
    ("GET / HTTP/1.1|Host: evil.test|Host: localhost|", REBINDING),
    ("GET http://evil.test/ HTTP/1.1|Host: localhost|", REBINDING),
    ("GET http://localhost/ HTTP/1.1|Host: evil.test|", REBINDING),
    ("GET / HTTP/1.1|Host: |", REBINDING),
    ("GET / HTTP/1.1|Host: 127.1|", REBINDING),
    ("GET / HTTP/1.1|Host: 2130706433|", REBINDING),
    ("GET / HTTP/1.1|Host: 0.0.0.0|", REBINDING),
    ("GET / HTTP/1.1|Host: localhost, evil.test|", REBINDING),
    ("GET / HTTP/1.1|Host: localhost evil.test|", REBINDING),
    ("GET / HTTP/1.1|Host: evil.test#localhost|", REBINDING),
    ("GET / HTTP/1.1|Host: evil.test:80:localhost|", REBINDING),
    ("GET / HTTP/1.1|Host: localhost:99999|", REBINDING),
    ("GET / HTTP/1.1|Host: x.localhost|", REBINDING),
    ("GET / HTTP/1.1|Host: localhost.evil.test|", REBINDING),
    ("GET / HTTP/1.1|Host: evil.test|X-Forwarded-Host: localhost|", REBINDING),
    ("GET / HTTP/1.1|Host : evil.test|Host: localhost|", MALFORMED),
    ("CONNECT OWN HTTP/1.1|Host: evil.test|", MALFORMED),
]


@pytest.mark.parametrize("kept", [False, True])
def test_g4_a_rebound_name_says_so_somewhere(shared: World, https: Place, kept: bool) -> None:
    """With `keep_host_header` the client's Host goes upstream, and has to be the pool's."""
    options = {"keep_host_header": str(kept).lower()}
    proxy = shared.proxy(pool([https.host]), mode=f"reverse:https://{https.host}", options=options)
    for head, expected in REBOUND:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
            answer = told(sock, https.written(head))
        if kept and expected == SEALED and "OWN" not in head:
            expected = "rotate_refused"
        found = https.outcome(answer)
        assert (head, found, expected in found) == (head, found, True)


# SOCKS: where the client connects to, the name in its handshake, and what it says as Host.

SOCKS = [
    ("localhost", None, "/", "OWN", SEALED),
    ("LOCALHOST", None, "/", "OWN", SEALED),
    ("localhost", None, "http://OWN/", "OWN", SEALED),
    ("localhost", None, "/", "evil.test", NO_HOST),
    ("localhost", None, "http://evil.test/", "OWN", NO_HOST),
    ("127.0.0.1", None, "/", "OWN", BARE),
    ("127.1", None, "/", "OWN", BARE),
    (OTHER, None, "/", "OWN", STRAYED),
    (OTHER, None, "http://OWN/", "OWN", STRAYED),
    ("localhost", "localhost", "/", "OWN", SEALED),
    ("127.0.0.1", "localhost", "/", "OWN", SEALED),
    ("localhost", "localhost", "/", "evil.test", NO_HOST),
    ("localhost", "localhost", "https://evil.test/", "OWN", NO_HOST),
    ("localhost", "evil.test", "/", "OWN", MISMATCH),
    (OTHER, "localhost", "/", "OWN", MISMATCH),
    (OTHER, "evil.test", "/", "OWN", STRAYED),
    (OTHER, "evil.test", "https://OWN/", "OWN", STRAYED),
]


def test_g1_socks(shared: World, https: Place, stack: ExitStack) -> None:
    plain = Place(shared, stack, tls=False)
    proxy = shared.proxy(pool([https.host, f"http://{plain.host}"]), mode="socks5")
    trusted = trusting(proxy.ca)
    for dialled, name, target, host, expected in SOCKS:
        place = https if name else plain
        with socks(proxy, dialled, place.port) as sock:
            head = place.written(f"GET {target} HTTP/1.1|Host: {host}|")
            if name:
                with trusted.wrap_socket(sock, server_hostname=name) as tls:
                    answer = told(tls, head)
            else:
                answer = told(sock, head)
        found = place.outcome(answer)
        assert (dialled, name, found, expected in found) == (dialled, name, found, True)


def socks(proxy: Proxy, host: str, port: int) -> socket.socket:
    """A connection through a SOCKS5 proxy (RFC 1928)."""
    sock = socket.create_connection(("127.0.0.1", proxy.port), timeout=20)
    sock.sendall(b"\5\1\0")
    assert sock.recv(2) == b"\5\0"
    try:
        place = b"\1" + ipaddress.IPv4Address(host).packed
    except ValueError:
        place = b"\3" + bytes([len(host)]) + host.encode()
    sock.sendall(b"\5\1\0" + place + struct.pack("!H", port))
    assert sock.recv(100).startswith(b"\5\0")
    return sock
