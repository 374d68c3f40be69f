"""A failing credential costs the client one round trip more, whatever the failure looks like."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import h2.config  # type: ignore[import-untyped, unused-ignore]  # h2 is typed since 4.2
import h2.connection  # type: ignore[import-untyped, unused-ignore]
import httpx
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Raw, Reply, Request, Reset, ThreadedUpstream, json_reply

from . import raw_h2
from .test_commands import CONTROL, run
from .world import World, bearers, client, pool, secret, trusting, tunnel

BOTH = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
UPSTREAMS = pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
SCRIPTS = [SCRIPT, CONTROL]


def served(request: Request) -> Reply:
    """Who served it, and what arrived."""
    digest = hashlib.sha256(request.body).hexdigest()
    return json_reply({"id": bearers([request])[0], "target": request.target, "sha256": digest})


def app(**answers: Any) -> Callable[[Request], Any]:
    """`answers` by credential: a status, or what is called with the request."""

    def answer(request: Request) -> Any:
        found = answers.get(bearers([request])[0], served)
        return json_reply({"failed": True}, found) if isinstance(found, int) else found(request)

    return answer


def start(
    world: World, upstream: ThreadedUpstream, ids: str = "abcd", **options: str
) -> tuple[Proxy, str]:
    # Else mitmproxy dials first, and offers HTTP/2 to clients only if the upstream has it.
    chosen = {"connection_strategy": "lazy", **options}
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], ids), options=chosen, scripts=SCRIPTS)
    return proxy, upstream.url("")


def is_quiet(proxy: Proxy) -> None:
    """Nothing is left behind: no credential in flight, no traceback."""
    assert "in flight" not in run(proxy, "rotate.status")[1]
    assert "Traceback" not in proxy.text, proxy.text
    assert "crashed" not in proxy.text, proxy.text


@BOTH
@UPSTREAMS
def test_two_hundred_requests_see_no_failure(world: World, http2: bool, alpn: str) -> None:
    upstream = world.upstream(app(a=429, c=401), alpn=[alpn])
    proxy, url = start(world, upstream)
    c = world.client(proxy, http2=http2)
    uploads = [n.to_bytes(4, "big") * 75_000 for n in range(20)]
    for n in range(200):
        body = uploads[n % 20]
        answer = c.post(f"{url}/{n}", content=body) if n % 2 else c.get(f"{url}/{n}")
        assert answer.status_code == 200
        said = answer.json()
        assert said["target"] == f"/{n}"
        assert said["sha256"] == hashlib.sha256(body if n % 2 else b"").hexdigest()
    counts = Counter(bearers(upstream.requests))
    assert counts == {"a": 1, "c": 1, "b": 100, "d": 100}
    is_quiet(proxy)


@UPSTREAMS
def test_sixty_streams_at_once_on_one_connection(world: World, alpn: str) -> None:
    """Half of the first picks fail, all at the same time."""
    upstream = world.upstream(app(a=429, c=401), alpn=[alpn])
    proxy, url = start(world, upstream)

    async def ask() -> list[httpx.Response]:
        transport = httpx.AsyncHTTPTransport(
            verify=trusting(proxy.ca, http2=True),
            http1=False,
            http2=True,
            proxy=httpx.Proxy(proxy.url),
        )
        async with httpx.AsyncClient(transport=transport, timeout=20) as c:
            await c.get(f"{url}/warm")
            run(proxy, "rotate.reset")
            return await asyncio.gather(
                *(c.post(f"{url}/{n}", content=b"%d" % n) for n in range(60))
            )

    answers = asyncio.run(ask())
    assert [a.status_code for a in answers] == [200] * 60
    assert [a.json()["target"] for a in answers] == [f"/{n}" for n in range(60)]
    digests = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(60)]
    assert [a.json()["sha256"] for a in answers] == digests
    is_quiet(proxy)


def test_what_a_flow_tells_of_it(world: World) -> None:
    limited = lambda _: json_reply({}, 429, [("Retry-After", "30")])  # noqa: E731
    upstream = world.upstream(app(a=limited, b=401))
    proxy, url = start(world, upstream, rotate_expose="true")
    answer = world.client(proxy).get(url)
    assert answer.headers["x-rotate-credential"] == "pool/c"
    assert answer.headers["x-rotate-attempts"] == "3"
    told = proxy.wait_for("<< 200") and proxy.text
    assert "pool pool: a answered 429, cooling for 30 s" in told
    assert "pool pool: b answered 401, disabled" in told


@BOTH
@pytest.mark.parametrize(("retries", "asked"), [("0", "a"), ("1", "ab"), ("3", "abcd")])
def test_at_most_so_many_more_and_the_last_answer_untouched(
    world: World, http2: bool, retries: str, asked: str
) -> None:
    def limited(request: Request) -> Reply:
        body = b'{"by": "%s"}' % bearers([request])[0].encode()
        return Reply(429, [("retry-after", "77"), ("x-own", "kept")], body)

    upstream = world.upstream(app(**dict.fromkeys("abcdef", limited)))
    proxy, url = start(world, upstream, "abcdef", rotate_retries=retries)
    answer = world.client(proxy, http2=http2).get(url)
    assert "".join(bearers(upstream.requests)) == asked
    assert (answer.status_code, answer.json()) == (429, {"by": asked[-1]})
    assert (answer.headers["retry-after"], answer.headers["x-own"]) == ("77", "kept")
    assert "x-rotate-error" not in answer.headers
    is_quiet(proxy)


@BOTH
def test_all_tried_and_all_failed(world: World, http2: bool) -> None:
    upstream = world.upstream(app(a=401, b=429))
    proxy, url = start(world, upstream, "ab")
    c = world.client(proxy, http2=http2)
    answer = c.get(url)
    assert (answer.status_code, answer.json()) == (429, {"failed": True})
    assert c.get(url).headers["x-rotate-error"] == "exhausted"
    assert len(upstream.requests) == 2


@BOTH
def test_other_failures_are_not_repeated(world: World, http2: bool) -> None:
    upstream = world.upstream(app(a=400, b=404, c=500, d=503))
    proxy, url = start(world, upstream)
    c = world.client(proxy, http2=http2)
    assert [c.get(url).status_code for _ in "abcd"] == [400, 404, 500, 503]
    assert len(upstream.requests) == 4


@BOTH
def test_connection_close_after_the_failing_answer(world: World, http2: bool) -> None:
    closing = lambda _: json_reply({}, 429, [("Connection", "close")])  # noqa: E731
    upstream = world.upstream(app(a=closing, b=closing), alpn=["http/1.1"])
    proxy, url = start(world, upstream)
    c = world.client(proxy, http2=http2)
    assert c.post(url, content=b"x" * 5000).json()["id"] == "c"
    assert upstream.connections == 3
    is_quiet(proxy)


@BOTH
def test_a_keep_alive_connection_that_is_closed_all_the_same(world: World, http2: bool) -> None:
    """The 429 promises keep-alive, and the upstream hangs up right behind it."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 429 Slow\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()

    upstream = world.upstream(app(a=lambda _: Raw(hang_up)), alpn=["http/1.1"])
    proxy, url = start(world, upstream)
    c = world.client(proxy, http2=http2)
    for _ in range(10):
        run(proxy, "rotate.reset")
        assert c.get(url).status_code == 200
        run(proxy, "rotate.reset")
        # A POST is sent again only where it cannot have been received before.
        assert c.post(url, content=b"x").status_code in (200, 429)
    is_quiet(proxy)


@BOTH
def test_an_upstream_that_is_gone_between_attempts(world: World, http2: bool) -> None:
    """The client gets the last answer that there was."""
    stopping: list[ThreadedUpstream] = []

    async def last_words(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stopping[0]._upstream._listener.close()  # type: ignore[union-attr]
        writer.write(b'HTTP/1.1 429 Slow\r\nContent-Length: 12\r\nX-Own: kept\r\n\r\n{"last": 1}\n')
        await writer.drain()

    upstream = world.upstream(app(a=lambda _: Raw(last_words)), alpn=["http/1.1"])
    stopping.append(upstream)
    proxy, url = start(world, upstream)
    answer = world.client(proxy, http2=http2).get(url)
    assert (answer.status_code, answer.json()) == (429, {"last": 1})
    assert answer.headers["x-own"] == "kept"
    is_quiet(proxy)


@BOTH
@UPSTREAMS
def test_an_attempt_without_an_answer(world: World, http2: bool, alpn: str) -> None:
    """b breaks the connection: that is no failure of b, and a's answer is the last one."""
    upstream = world.upstream(app(a=429, b=lambda _: Reset()), alpn=[alpn])
    proxy, url = start(world, upstream, rotate_expose="true")
    c = world.client(proxy, http2=http2)
    answer = c.get(url)
    assert (answer.status_code, answer.json()) == (429, {"failed": True})
    assert answer.headers["x-rotate-credential"] == "pool/a"
    assert c.get(url).json()["id"] == "c"
    status = run(proxy, "rotate.status")[1].splitlines()
    assert status[1].startswith("pool/b: ready")
    is_quiet(proxy)


def test_http2_trailers_arrive_with_the_repeated_request(world: World) -> None:
    upstream = world.upstream(app(a=429, b=401), alpn=["h2"])
    proxy, url = start(world, upstream)
    authority = url.removeprefix("https://")
    head = raw_h2.request(authority, method="POST")
    trailers = (("checksum", "abc"),)
    assert raw_h2.ask(proxy, authority, head, body=b"x" * 100, trailers=trailers) == 200
    assert [r.trailers for r in upstream.requests] == [trailers] * 3
    assert [r.body for r in upstream.requests] == [b"x" * 100] * 3
    is_quiet(proxy)


@UPSTREAMS
def test_expect_100_continue(world: World, alpn: str) -> None:
    upstream = world.upstream(app(a=429), alpn=[alpn])
    proxy, url = start(world, upstream)
    file = world.folder / "body"
    file.write_bytes(b"x" * 2_000_000)
    said = world.curl()(
        *("--proxy", proxy.url, "--cacert", str(proxy.ca), "--http1.1"),
        *("-H", "Expect: 100-continue", "--data-binary", f"@{file}", url),
    )
    assert hashlib.sha256(file.read_bytes()).hexdigest() in said
    is_quiet(proxy)


@BOTH
@UPSTREAMS
def test_an_answer_before_the_body_was_read(world: World, http2: bool, alpn: str) -> None:
    """On HTTP/2 followed by RST_STREAM(NO_ERROR), which must not hit the next attempt."""

    def early(request: Request) -> Reply | None:
        return json_reply({}, 429) if bearers([request]) == ["a"] else None

    upstream = world.upstream(served, alpn=[alpn], early=early)
    proxy, url = start(world, upstream)
    c = world.client(proxy, http2=http2)
    for n in range(5):
        run(proxy, "rotate.reset")
        body = b"%d" % n * 1_000_000
        answer = c.post(url, content=body)
        assert answer.status_code == 200
        assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
    is_quiet(proxy)


@BOTH
@UPSTREAMS
def test_a_failing_answer_that_is_cut_short(world: World, http2: bool, alpn: str) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b"half of"
        raise Reset

    headers = [("content-length", "1000")]
    upstream = world.upstream(app(a=lambda _: Reply(429, headers, half())), alpn=[alpn])
    proxy, url = start(world, upstream)
    c = world.client(proxy, http2=http2)
    for _ in range(3):
        run(proxy, "rotate.reset")
        assert c.post(url, content=b"x" * 10_000).status_code == 200
    is_quiet(proxy)


async def _endless(chunk: bytes, seconds: float) -> AsyncIterator[bytes]:
    while True:
        yield chunk
        await asyncio.sleep(seconds)


@BOTH
@UPSTREAMS
@pytest.mark.parametrize("chunk", [b"x", b"x" * 10_000], ids=["slow", "fast"])
def test_a_failing_answer_without_an_end(
    world: World, http2: bool, alpn: str, chunk: bytes
) -> None:
    endless = lambda _: Reply(429, (), _endless(chunk, 0.01))  # noqa: E731
    upstream = world.upstream(app(a=endless), alpn=[alpn])
    proxy, url = start(world, upstream)
    c = world.client(proxy, http2=http2)
    began = time.monotonic()
    assert c.post(url, content=b"x" * 10_000).json()["id"] == "b"
    # Two seconds, and what a busy machine adds; 64 KiB are there in a tenth of a second.
    assert time.monotonic() - began < (2.8 if chunk == b"x" else 1.5)
    assert c.get(url).json()["id"] == "c"
    is_quiet(proxy)


@BOTH
def test_without_another_credential_an_endless_answer_is_passed_on(
    world: World, http2: bool
) -> None:
    upstream = world.upstream(app(a=lambda _: Reply(429, (), _endless(b"x" * 1000, 0.01))))
    proxy, url = start(world, upstream, "a")
    with world.client(proxy, http2=http2).stream("GET", url) as answer:
        assert answer.status_code == 429
        got = 0
        for chunk in answer.iter_raw():
            got += len(chunk)
            if got > 200_000:
                break


@BOTH
@pytest.mark.parametrize("status", [401, 429])
def test_a_streamed_request_is_not_repeated(world: World, http2: bool, status: int) -> None:
    upstream = world.upstream(app(a=status))
    proxy, url = start(world, upstream, stream_large_bodies="1k")
    c = world.client(proxy, http2=http2)
    answer = c.post(url, content=b"x" * 100_000)
    assert (answer.status_code, answer.json()) == (status, {"failed": True})
    assert c.post(url, content=b"x" * 100_000).json()["id"] == "b"
    assert c.post(url, content=b"x").json()["id"] == "c"  # a small one could be
    is_quiet(proxy)


@BOTH
def test_a_refusal_on_the_way_to_the_next_attempt(world: World, http2: bool) -> None:
    """The pool's new connection is to another server, whose certificate is for another name."""
    closing = lambda _: json_reply({}, 429, [("Connection", "close")])  # noqa: E731
    upstream = world.upstream(app(a=closing), alpn=["http/1.1"])
    proxy, url = start(world, upstream)
    c = world.client(proxy, http2=http2)
    assert c.get(url).status_code == 200
    port = upstream.port
    run(proxy, "rotate.reset")
    leaf = world.authority.issue(["other.test"])

    async def swap(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream._upstream._listener.close()  # type: ignore[union-attr]
        world.upstream(served, leaf=leaf, port=port)
        writer.write(b"HTTP/1.1 429 Slow\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    upstream._upstream._app = lambda _: Raw(swap)
    answer = c.get(url)
    # No connection, so the last answer of the upstream.
    assert answer.status_code == 429
    assert secret("b") not in proxy.text
    is_quiet(proxy)


def test_a_client_that_leaves_during_a_failover(world: World) -> None:
    """While a's endless answer is swallowed, and while b thinks."""

    async def think(_: Request) -> Reply:
        await asyncio.sleep(30)
        return Reply()

    endless = lambda _: Reply(429, (), _endless(b"x", 0.01))  # noqa: E731
    upstream = world.upstream(app(a=endless, b=think))
    proxy, url = start(world, upstream, "ab")
    for http2 in (False, True):
        for timeout in (1.0, 2.5):
            run(proxy, "rotate.reset")
            with (
                client(proxy, http2=http2, timeout=timeout) as c,
                pytest.raises(httpx.TimeoutException),
            ):
                c.get(url)
    deadline = time.monotonic() + 5
    while "in flight" in run(proxy, "rotate.status")[1] and time.monotonic() < deadline:
        time.sleep(0.05)
    is_quiet(proxy)


@pytest.mark.parametrize("status", [401, 429])
def test_a_stream_that_is_reset_during_a_failover_is_not_sent_again(
    world: World, status: int
) -> None:
    """Its connection stays, and with it the alarm that was to start the next attempt.

    A 401 is judged by its head, a 429 when the client leaves: its body might have said more.
    """
    endless = lambda _: Reply(status, (), _endless(b"x", 0.01))  # noqa: E731
    upstream = world.upstream(app(a=endless))
    proxy, url = start(world, upstream)
    authority = url.removeprefix("https://")
    with tunnel(proxy, authority, ["h2"]) as tls:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        connection.initiate_connection()
        connection.send_headers(1, list(raw_h2.request(authority)), end_stream=True)
        tls.sendall(connection.data_to_send())
        if status == 401:
            proxy.wait_for("a answered 401")
        else:
            while not upstream.requests:
                time.sleep(0.01)
            time.sleep(0.3)  # its head is on the way
        connection.reset_stream(1)
        tls.sendall(connection.data_to_send())
        proxy.wait_for(f"a answered {status}")
        time.sleep(2.5)
        assert bearers(upstream.requests) == ["a"]
        is_quiet(proxy)


def test_the_openai_sdk_does_not_notice(world: World) -> None:
    openai = pytest.importorskip("openai")
    reply = {"id": "x", "object": "model", "created": 1, "owned_by": "x"}
    upstream = world.upstream(app(a=429, b=lambda _: json_reply(reply)))
    proxy, url = start(world, upstream, "ab")
    c = openai.OpenAI(
        api_key="placeholder", base_url=f"{url}/v1", max_retries=0, http_client=world.client(proxy)
    )
    assert c.models.retrieve("x").id == "x"
