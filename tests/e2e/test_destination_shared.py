"""G1 on connections that more than one destination has to do with: pools by path, redirects."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import h2.config  # type: ignore[import-untyped, unused-ignore]  # h2 is typed since 4.2
import h2.connection  # type: ignore[import-untyped, unused-ignore]
import h2.events  # type: ignore[import-untyped, unused-ignore]
import pytest

from flowrotate.demo.upstream import Raw, Reply, Request

from .raw_h2 import request
from .test_destination import OTHER, Tap, echo, saying
from .world import World, bearers, client, forms, pool, secret, tunnel

PATHS = [
    ("/one/x", "one"),
    ("/two/x", "two"),
    ("/free", ""),
    ("/one/../two/x", ""),
    ("/two/%2e%2e/one/x", ""),
    ("/one/..;/two/x", ""),
    ("//two/x", ""),
    ("/ONE/x", ""),
    ("/two", "two"),
    ("/one/x?/two/x", "one"),
    ("/free?/one/x", ""),
    ("/one", "one"),
]


def moving(request: Request) -> Raw | Reply:
    """An app that sends on to where the query says, or switches protocols."""
    if request.header("upgrade"):
        return saying(b"HTTP/1.1 101 Fine\r\nUpgrade: own-protocol\r\nConnection: Upgrade\r\n\r\n")
    _, _, query = request.target.partition("?to=")
    status, _, place = query.partition(",")
    return Reply(int(status), [("Location", place)]) if query else echo(request)


class Paths:
    """Two pools of the same hosts: an HTTP/1.1 server, and one that speaks HTTP/2 too."""

    def __init__(self, world: World, tap: Tap, other: Tap) -> None:
        self.tap, self.other = tap, other
        self.both = world.upstream(moving)
        hosts = [f"localhost:{tap.port}", f"localhost:{self.both.port}"]
        two = {"name": "two", "paths": ["/two/**"], "inject": "X-Api-Key: {secret}"}
        self.proxy = world.proxy(pool(hosts, paths=["/one/**"]), pool(hosts, "def", **two))


@pytest.fixture(scope="module")
def paths(shared: World) -> Iterator[Paths]:
    with ExitStack() as stack:
        tap = stack.enter_context(Tap(moving, leaf=shared.authority.leaf))
        leaf = shared.authority.issue([OTHER])
        other = stack.enter_context(Tap(echo, leaf=leaf, host=OTHER, port=tap.port))
        yield Paths(shared, tap, other)


def carried(request: Request) -> str:
    """The pool whose credential came with a request; "" when it is as the client sent it."""
    given = request.header("authorization"), request.header("x-api-key")
    if given == ("mine", "mine"):
        return ""
    if bearers([request])[0] in "abc" and given[1] is None:
        return "one"
    assert given in [(None, secret(id)) for id in "def"]
    return "two"


def one_by_one(tls: ssl.SSLSocket, host: str) -> None:
    for path, _ in PATHS * 4:
        head = f"GET {path} HTTP/1.1|Host: {host}|Authorization: mine|X-Api-Key: mine||"
        tls.sendall(head.replace("|", "\r\n").encode())
        answer = b""
        while not answer.endswith(b"}") and (data := tls.recv(4096)):
            answer += data
        assert answer.startswith(b"HTTP/1.1 200 ")


def all_at_once(tls: ssl.SSLSocket, host: str) -> None:
    """What HTTP/2 can do."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration())
    connection.initiate_connection()
    mine = ("authorization", "mine"), ("x-api-key", "mine")
    for n, (path, _) in enumerate(PATHS * 4):
        head = list(request(host, *mine, path=path))
        connection.send_headers(2 * n + 1, head, end_stream=True)
    tls.sendall(connection.data_to_send())
    ended = 0
    while ended < len(PATHS * 4) and (data := tls.recv(65536)):
        events = connection.receive_data(data)
        ended += sum(isinstance(event, h2.events.StreamEnded) for event in events)


@pytest.mark.parametrize("ask", [one_by_one, all_at_once])
def test_g1_each_pool_keeps_to_itself_on_a_shared_connection(
    paths: Paths, ask: Callable[[ssl.SSLSocket, str], None]
) -> None:
    upstream, alpn = (paths.both, ["h2"]) if ask is all_at_once else (paths.tap, [])
    before, host = len(upstream.requests), f"localhost:{upstream.port}"
    with tunnel(paths.proxy, host, alpn) as tls:
        ask(tls, host)
    requests = upstream.requests[before:]
    assert sorted((r.target, carried(r)) for r in requests) == sorted(PATHS * 4)
    assert len({r.connection for r in requests}) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_g1_who_follows_a_redirect_takes_nothing_along(paths: Paths, status: int) -> None:
    before, seen = len(paths.tap.requests), len(paths.other.requests)
    there = f"https://{OTHER}:{paths.tap.port}/one/x"
    url = paths.tap.url(f"/one/x?to={status},{there}")
    with client(paths.proxy, headers={"X-Api-Key": "mine"}) as c:
        assert c.post(url, content=b"body").headers["location"] == there
        assert len(paths.other.requests) == seen
        assert c.post(url, content=b"body", follow_redirects=True).status_code == 200
    assert [carried(r) for r in paths.tap.requests[before:]] == ["one", "one"]
    (request,) = paths.other.requests[seen:]
    assert (request.header("authorization"), request.header("x-api-key")) == (None, "mine")
    assert paths.other.canaries == []


def test_g1_what_comes_after_a_switch_of_protocols_is_the_clients_own(paths: Paths) -> None:
    host = f"Host: localhost:{paths.tap.port}|"
    upgrade = "Connection: Upgrade|Upgrade: own-protocol|"
    late = f"GET /one/x HTTP/1.1|Host: {OTHER}|Authorization: Bearer placeholder||"
    with tunnel(paths.proxy, f"localhost:{paths.tap.port}") as tls:
        tls.sendall(f"GET /one/x HTTP/1.1|{host}{upgrade}|".replace("|", "\r\n").encode())
        assert b" 101 " in tls.recv(4096)
        tls.sendall(late.replace("|", "\r\n").encode())
        assert b" 200 " in tls.recv(4096)
    head, _, rest = paths.tap.raw[-1].partition(b"\r\n\r\n")
    assert len(set(forms(head))) == 1
    assert rest == late.replace("|", "\r\n").encode()
