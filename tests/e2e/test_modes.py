"""Every way a request can come in: the upstream gets the next credential, the flow an alias."""

from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Request, ThreadedUpstream

from .world import World, bearers, client, forms, pool


def flows(file: Path) -> list[HTTPFlow]:
    with file.open("rb") as opened:
        return [f for f in FlowReader(opened).stream() if isinstance(f, HTTPFlow)]


def check(
    upstream: ThreadedUpstream, expected: Sequence[str], file: Path, proxy: Proxy
) -> list[Request]:
    """The credentials went out in turn, exactly once each, and the capture shows their aliases."""
    proxy.stop()
    requests = upstream.requests
    assert bearers(requests) == list(expected)
    assert all(len(r.all("authorization")) == 1 for r in requests)
    shown = [f.request.headers["authorization"] for f in flows(file)]
    assert shown == [f"Bearer [rotate:pool/{id}]" for id in expected]
    assert forms(file.read_bytes()) == forms(proxy.text.encode()) == []
    return requests


def capture(world: World) -> tuple[Path, list[str]]:
    file = world.folder / "flows.mitm"
    return file, ["-w", str(file)]


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("alpn", [["http/1.1"], ["h2", "http/1.1"]], ids=["up-1.1", "up-2"])
def test_regular_with_connect(world: World, http2: bool, alpn: list[str]) -> None:
    upstream = world.upstream(alpn=alpn)
    file, args = capture(world)
    # Lazy: the client's protocol is settled before the upstream's is known.
    options = {"connection_strategy": "lazy"}
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), options=options, args=args)
    curl = world.curl()
    urls = [f"https://localhost:{upstream.port}/"] * 4
    version = "--http2" if http2 else "--http1.1"
    shown = ["--write-out", "%{http_version},", "--output", "/dev/null"] * 4
    said = curl("--proxy", proxy.url, "--cacert", str(proxy.ca), version, *shown, *urls)
    assert said == ("2," if http2 else "1.1,") * 4
    requests = check(upstream, "abca", file, proxy)
    both = http2 and "h2" in alpn
    assert {r.http_version for r in requests} == {"2" if both else "1.1"}


def test_plain_proxying(world: World) -> None:
    upstream = world.upstream(tls=False)
    file, args = capture(world)
    proxy = world.proxy(pool([f"http://localhost:{upstream.port}"]), args=args)
    client = world.client(proxy)
    for _ in range(4):
        client.get(f"http://localhost:{upstream.port}/x", headers={"Authorization": "mine"})
    assert {r.target for r in check(upstream, "abca", file, proxy)} == {"/x"}


def test_https_asked_for_in_absolute_form(world: World) -> None:
    """A client that leaves TLS to the proxy: GET https://… in plain text, on loopback."""
    upstream = world.upstream()
    file, args = capture(world)
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), args=args)
    with httpx.Client(trust_env=False) as client:
        for _ in range(2):
            request = client.build_request(
                "GET", proxy.url, headers={"Host": f"localhost:{upstream.port}"}
            )
            request.extensions["target"] = f"https://localhost:{upstream.port}/".encode()
            assert client.send(request).status_code == 200
    check(upstream, "ab", file, proxy)


@pytest.mark.parametrize("alpn", [["http/1.1"], ["h2", "http/1.1"]], ids=["up-1.1", "up-2"])
def test_reverse(world: World, alpn: list[str]) -> None:
    upstream = world.upstream(alpn=alpn)
    file, args = capture(world)
    origin = f"localhost:{upstream.port}"
    proxy = world.proxy(pool([origin]), mode=f"reverse:https://{origin}", args=args)
    with httpx.Client(trust_env=False) as client:
        for _ in range(4):
            assert client.get(f"{proxy.url}/v1").status_code == 200
    assert {r.authority for r in check(upstream, "abca", file, proxy)} == {origin}


def test_reverse_to_plain_http(world: World) -> None:
    upstream = world.upstream(tls=False)
    file, args = capture(world)
    origin = f"http://localhost:{upstream.port}"
    proxy = world.proxy(pool([origin]), mode=f"reverse:{origin}", args=args)
    with httpx.Client(trust_env=False) as client:
        client.get(f"{proxy.url}/v1")
    check(upstream, "a", file, proxy)


@pytest.mark.parametrize(("http2", "tls"), [(False, True), (True, True), (False, False)])
def test_upstream(world: World, http2: bool, tls: bool) -> None:
    upstream = world.upstream(tls=tls)
    file, args = capture(world)
    company = world.proxy(scripts=[], options={"ignore_hosts": ".*"} if tls else {})
    origin = f"{'' if tls else 'http://'}localhost:{upstream.port}"
    proxy = world.proxy(pool([origin]), mode=f"upstream:{company.url}", args=args)
    client = world.client(proxy, http2=http2)
    for _ in range(4):
        url = f"{'https' if tls else 'http'}://localhost:{upstream.port}/"
        assert client.get(url).status_code == 200
    check(upstream, "abca", file, proxy)


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("through", ["", "upstream"])
def test_replay(world: World, http2: bool, through: str) -> None:
    """What was captured with one credential goes out again with the next ones."""
    upstream = world.upstream()
    hosts = pool([f"localhost:{upstream.port}"])
    first, args = capture(world)
    mode = "regular"
    if through:
        company = world.proxy(scripts=[], options={"ignore_hosts": ".*"})
        mode = f"upstream:{company.url}"
    proxy = world.proxy(hosts, args=args, mode=mode)
    client = world.client(proxy, http2=http2)
    for _ in range(2):
        client.post(f"https://localhost:{upstream.port}/", content=b"body")
    proxy.stop()
    again = world.folder / "again.mitm"
    replaying = world.proxy(hosts, args=["-C", str(first), "-w", str(again)], mode=mode)
    replaying.wait_for("(?s)(<< .*){2}")
    replaying.stop()
    assert bearers(upstream.requests) == ["a", "b", "a", "b"]
    assert {r.body for r in upstream.requests} == {b"body"}
    replayed = flows(again)
    assert [f.request.headers["authorization"] for f in replayed] == [
        "Bearer [rotate:pool/a]",
        "Bearer [rotate:pool/b]",
    ]
    assert forms(again.read_bytes()) == []


def test_a_login_for_the_next_proxy_is_left_to_it(world: World) -> None:
    """On plain http, Proxy-Authorization may be upstream_auth's, or the client's for that proxy."""
    upstream = world.upstream(tls=False)
    company = world.proxy(scripts=[], args=["--proxyauth", "user:pass"])
    login = {"Proxy-Authorization": "Basic dXNlcjpwYXNz"}
    for options, headers in (({"upstream_auth": "user:pass"}, {}), ({}, login)):
        proxy = world.proxy(
            pool([f"http://localhost:{upstream.port}"]),
            mode=f"upstream:{company.url}",
            options=options,
        )
        url = f"http://localhost:{upstream.port}/"
        assert world.client(proxy).get(url, headers=headers).status_code == 200
    assert bearers(upstream.requests) == ["a", "a"]
    assert [r.header("proxy-authorization") for r in upstream.requests] == [None, None]


def test_a_replay_is_decided_anew(world: World) -> None:
    """Refused for want of the token; the replay comes from who sits before mitmproxy."""
    upstream = world.upstream()
    again = world.folder / "again.py"
    again.write_text(
        "from mitmproxy import ctx\n"
        "def response(flow):\n"
        "    if flow.is_replay is None:\n"
        "        kept.append(flow)\n"
        "def client_disconnected(client):\n"
        "    ctx.master.commands.call('replay.client', kept)\n"
        "kept = []\n"
    )
    proxy = world.proxy(
        pool([f"localhost:{upstream.port}"]),
        scripts=[SCRIPT, again],
        options={"rotate_client_token": "env:TOKEN"},
        env={"TOKEN": "token"},
    )
    with client(proxy) as c:
        assert c.get(f"https://localhost:{upstream.port}/").status_code == 401
    proxy.wait_for("<< 200")
    assert bearers(upstream.requests) == ["a"]


def test_socks(world: World) -> None:
    curl = world.curl()
    upstream = world.upstream()
    file, args = capture(world)
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), mode="socks5", args=args)
    for scheme in ("socks5h", "socks5"):  # the name is resolved by the proxy, by the client
        curl(
            "--proxy",
            f"{scheme}://127.0.0.1:{proxy.port}",
            "--cacert",
            str(proxy.ca),
            f"https://localhost:{upstream.port}/",
        )
    check(upstream, "ab", file, proxy)


def test_streamed_requests(world: World) -> None:
    """`stream_large_bodies`: the head goes out before the body is there."""
    upstream = world.upstream()
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), options={"stream_large_bodies": "1k"})
    body = b"x" * 100_000
    for http2 in (False, True):
        client = world.client(proxy, http2=http2)
        url = f"https://localhost:{upstream.port}/"
        client.post(url, content=body)
        client.post(url, content=iter([body[:100], body[100:]]))
    assert bearers(upstream.requests) == ["a", "b", "c", "a"]
    assert {r.body for r in upstream.requests} == {body}
