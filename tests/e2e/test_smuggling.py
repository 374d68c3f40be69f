"""G1 against heads that say one thing to a check and another to a server."""

import socket

import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy

from . import raw_h2
from .test_guarantees import assert_nothing
from .world import World, bearers, pool, tunnel

SPLIT = (
    "b\r\nHost: x\r\n\r\nPOST /collect HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 99\r\n\r\nx"
)


@pytest.mark.parametrize("alpn", [["http/1.1"], ["h2"]], ids=["up-1.1", "up-2"])
@pytest.mark.parametrize(
    ("path", "extra"),
    [
        ("/", ("a", SPLIT)),
        ("/", ("a", "b\nHost: evil.test")),
        ("/", ("a", "b\rHost: evil.test")),
        ("/ HTTP/1.1\r\nHost: evil.test\r\nX: y", ("a", "b")),
        ("https://evil.test/x", ("a", "b")),
        ("evil.test/x", ("a", "b")),
        ("/a HTTP/1.1 b", ("a", "b")),
        ("/", ("host", "evil.test")),
    ],
)
def test_g1_http2_heads(world: World, alpn: list[str], path: str, extra: tuple[str, str]) -> None:
    upstream = world.upstream(alpn=alpn)
    own = f"localhost:{upstream.port}"
    proxy = world.proxy(pool([own]), options={"connection_strategy": "lazy"})
    # 400 or a hung up connection is mitmproxy's own answer, where its h2 sees through it.
    assert raw_h2.ask(proxy, own, raw_h2.request(own, extra, path=path)) in (400, 502, None)
    assert_nothing(upstream)
    # And no turn was used up.
    assert raw_h2.ask(proxy, own, raw_h2.request(own)) == 200
    assert bearers(upstream.requests) == ["a"]
    assert "has crashed" not in proxy.text


def sent(proxy: Proxy, own: str, head: str) -> bytes:
    with tunnel(proxy, own) as tls:
        tls.sendall(head.encode("utf-8"))
        return tls.recv(4096)


def test_g1_http1_heads(world: World) -> None:
    upstream = world.upstream()
    own = f"localhost:{upstream.port}"
    proxy = world.proxy(pool([own]))
    host = f"Host: {own}\r\n"
    for head in (
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}X-A: 1\r\n Host: evil.test\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}X-A: 1\rHost: evil.test\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}X-A: 1\0\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: \uff4cocalhost:{upstream.port}\r\n\r\n",
        f"GET /x#fragment HTTP/1.1\r\n{host}\r\n",
        f"TRACE / HTTP/1.1\r\n{host}\r\n",
        f"GET / HTTP/1.1\r\n{host}Connection: authorization\r\n\r\n",
        f"GET https://evil.test/ HTTP/1.1\r\n{host}\r\n",
    ):
        assert sent(proxy, own, head).split(b" ")[1] in (b"502", b"400"), head
    assert_nothing(upstream)
    assert sent(proxy, own, f"GET / HTTP/1.1\r\n{host}\r\n").split(b" ")[1] == b"200"


def test_g5_trailers(world: World) -> None:
    upstream = world.upstream()
    own = f"localhost:{upstream.port}"
    capture = world.folder / "flows"
    for options in ({}, {"stream_large_bodies": "1"}):
        proxy = world.proxy(pool([own]), options=options, args=["-w", str(capture)])
        trailers = [
            ("authorization", "Bearer mine-canary"),
            ("x-api-key", "mine-canary"),
            ("host", "evil.test"),
            ("x-checksum", "kept"),
        ]
        head = raw_h2.request(own, method="POST")
        assert raw_h2.ask(proxy, own, head, body=b"x" * 100, trailers=trailers) == 200
        proxy.stop()
        assert upstream.requests[-1].trailers == (("x-checksum", "kept"),)
        assert b"mine-canary" not in capture.read_bytes()


def test_g5_requests_that_mitmproxy_itself_answers(world: World) -> None:
    """Broken ones, and those of a client that did not log in, are stored too."""
    upstream = world.upstream(tls=False)
    own = f"localhost:{upstream.port}"
    capture = world.folder / "flows"
    proxy = world.proxy(
        pool([f"http://{own}"]), args=["-w", str(capture), "--proxyauth", "user:pass"]
    )
    for extra in ("", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "B@d: x\r\n"):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as raw:
            head = f"POST http://{own}/ HTTP/1.1\r\nHost: {own}\r\nContent-Length: 0\r\n"
            mine = "Authorization: Bearer mine-canary\r\n"
            raw.sendall(f"{head}{mine}{extra}\r\n".encode())
            assert raw.recv(4096).split(b" ")[1] in (b"407", b"400")
    proxy.stop()
    assert capture.stat().st_size > 500
    assert b"mine-canary" not in capture.read_bytes()
    assert "mine-canary" not in proxy.text
    assert_nothing(upstream)


def test_g1_plain_http_goes_where_was_dialled(world: World) -> None:
    """Another addon may send the connection elsewhere after everything was decided."""
    upstream, evil = world.upstream(tls=False), world.upstream(tls=False)
    moving = world.folder / "moving.py"
    moving.write_text(
        f"def server_connect(data):\n    data.server.address = ('localhost', {evil.port})\n"
    )
    proxy = world.proxy(pool([f"http://localhost:{upstream.port}"]), scripts=[SCRIPT, moving])
    response = world.client(proxy).get(f"http://localhost:{upstream.port}/")
    assert (response.status_code, response.headers["x-rotate-error"]) == (502, "refused")
    assert_nothing(evil)
