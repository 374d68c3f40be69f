"""The main job: a real client, a real mitmproxy, a real TLS upstream, the next credential each."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from flowrotate.demo.proxy import Proxy
from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream, json_reply

from .world import World, bearers, pool


@dataclass
class Setup:
    upstream: ThreadedUpstream
    proxy: Proxy
    url: str

    def seen(self, before: int) -> list[str]:
        return bearers(self.upstream.requests[before:])


@pytest.fixture(scope="module")
def three(shared: World) -> Setup:
    upstream = shared.upstream()
    proxy = shared.proxy(pool([f"localhost:{upstream.port}"]))
    return Setup(upstream, proxy, f"https://localhost:{upstream.port}/v1/models")


def test_thirty_over_each_http_version_in_file_order(world: World) -> None:
    upstream = world.upstream()
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]))
    url = f"https://localhost:{upstream.port}/v1/models"
    for http2 in (False, True):
        before = len(upstream.requests)
        client = world.client(proxy, http2=http2)
        for _ in range(30):
            assert client.get(url, headers={"Authorization": "Bearer x"}).json() == {"ok": True}
        requests = upstream.requests[before:]
        assert bearers(requests) == ["a", "b", "c"] * 10
        assert {r.http_version for r in requests} == {"2" if http2 else "1.1"}


def test_twenty_clients_at_once_come_out_even_within_one(world: World) -> None:
    upstream = world.upstream()
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], ids="abcdefg"))
    url = f"https://localhost:{upstream.port}/"

    def work(n: int) -> set[int]:
        client = world.client(proxy, http2=bool(n % 2))
        return {client.get(url).status_code for _ in range(14)}

    with ThreadPoolExecutor(20) as threads:
        assert set().union(*threads.map(work, range(20))) == {200}
    counts = Counter(bearers(upstream.requests))
    assert counts == dict.fromkeys("abcdefg", 40)


@pytest.mark.parametrize("http2", [False, True])
def test_the_clients_own_credentials_go_nowhere(three: Setup, shared: World, http2: bool) -> None:
    before = len(three.upstream.requests)
    sent = [
        ("Authorization", "Bearer mine-1"),
        ("authorization", "Bearer mine-2"),
        ("X-Api-Key", "mine-3"),
        ("Api-Key", "mine-4"),
        ("X-Goog-Api-Key", "mine-5"),
        ("Proxy-Authorization", "Basic bWluZS02"),
        ("X-Other", "kept"),
    ]
    shared.client(three.proxy, http2=http2).get(three.url, headers=sent)
    (request,) = three.upstream.requests[before:]
    assert "mine" not in str(request)
    assert "bWluZS02" not in str(request)
    assert request.header("x-other") == "kept"
    assert len(request.all("authorization")) == 1
    assert bearers([request]) != ["?"]


def test_no_compression_table_holds_a_secret(three: Setup, shared: World) -> None:
    before = len(three.upstream.requests)
    shared.client(three.proxy, http2=True).get(three.url)
    assert three.upstream.requests[before].never_indexed == ("authorization",)


def test_hosts_in_no_pool_are_forwarded_as_they_came(three: Setup, shared: World) -> None:
    before = len(three.upstream.requests)
    url = three.url.replace("localhost", "127.0.0.1")
    shared.client(three.proxy).get(url, headers={"Authorization": "Bearer mine"})
    assert three.upstream.requests[before].header("authorization") == "Bearer mine"


@pytest.mark.parametrize("http2", [False, True])
def test_bodies_arrive_whole(three: Setup, shared: World, http2: bool) -> None:
    before = len(three.upstream.requests)
    body = bytes(range(256)) * 4096
    client = shared.client(three.proxy, http2=http2)
    client.post(three.url, content=body)
    client.post(three.url, content=iter([body[:1000], body[1000:]]))
    assert [r.body == body for r in three.upstream.requests[before:]] == [True, True]
    assert "?" not in three.seen(before)


def test_without_retries_the_client_gets_the_answer_that_marks_the_credential(world: World) -> None:

    answers = {"a": (401, []), "b": (429, [("Retry-After", "30")]), "c": (200, []), "d": (500, [])}

    def app(request: Request) -> Reply:
        (id,) = bearers([request])
        status, headers = answers[id]
        return json_reply({"id": id}, status, headers)

    upstream = world.upstream(app)
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], ids="abcd", retries=0))
    client = world.client(proxy)
    url = f"https://localhost:{upstream.port}/"
    responses = [client.get(url) for _ in range(8)]
    assert [r.status_code for r in responses] == [401, 429, 200, 500, 200, 500, 200, 500]
    assert responses[1].json() == {"id": "b"}
    assert responses[1].headers["retry-after"] == "30"
    proxy.wait_for("pool pool: a answered 401, disabled")
    proxy.wait_for("pool pool: b answered 429, cooling for 30 s")


@pytest.mark.parametrize(
    ("status", "expected"), [(429, 429), (401, 503)], ids=["all cooling", "all disabled"]
)
def test_none_ready_is_answered_without_the_upstream(
    world: World, status: int, expected: int
) -> None:

    upstream = world.upstream(lambda _: json_reply({}, status, [("Retry-After", "50")]))
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], ids="ab"))
    for http2 in (False, True):
        client = world.client(proxy, http2=http2)
        for _ in range(2):
            last = client.post(f"https://localhost:{upstream.port}/", content=b"x" * 100_000)
    assert len(upstream.requests) == 2
    assert last.status_code == expected
    assert last.headers["x-rotate-error"] == "exhausted"
    error = last.json()["error"]
    assert error["type"] == "rotate_exhausted"
    assert error["pool"] == "pool"
    assert [c["id"] for c in error["credentials"]] == ["a", "b"]
    if status == 429:
        assert 1 <= int(last.headers["retry-after"]) == error["retry_after"] <= 50
        assert {c["state"] for c in error["credentials"]} == {"cooling"}
        assert all(0 < c["seconds_left"] <= 50 for c in error["credentials"])
    else:
        assert "retry-after" not in last.headers
        assert {(c["state"], c["reason"]) for c in error["credentials"]} == {("disabled", "401")}


def test_a_head_request_gets_a_refusal_without_a_body(world: World) -> None:

    upstream = world.upstream(lambda _: json_reply({}, 429))
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], ids="a"))
    client = world.client(proxy)
    url = f"https://localhost:{upstream.port}/"
    client.get(url)
    assert [client.head(url).status_code, client.get(url).status_code] == [429, 429]


def test_the_answer_tells_which_credential_only_when_asked_to(
    three: Setup, shared: World, world: World
) -> None:
    exposing = world.proxy(
        pool([f"localhost:{three.upstream.port}"]), options={"rotate_expose": "true"}
    )
    for http2 in (False, True):
        response = world.client(exposing, http2=http2).get(three.url)
        assert response.headers["x-rotate-credential"].startswith("pool/")
        assert response.headers["x-rotate-attempts"] == "1"
    assert "x-rotate-credential" not in shared.client(three.proxy).get(three.url).headers


def test_where_the_credential_goes(world: World) -> None:
    upstream = world.upstream()
    host = [f"localhost:{upstream.port}"]
    proxy = world.proxy(
        pool(host, "a", name="header", paths=["/header/**"], inject="x-api-key: {secret}"),
        pool(host, "a", name="query", paths=["/query/**"], inject="?key={secret}"),
        pool(
            host,
            "a",
            name="basic",
            paths=["/basic/**"],
            methods=["GET"],
            inject="Authorization: Basic {basic}",
            username="user",
        ),
    )
    base = f"https://localhost:{upstream.port}"
    for http2 in (False, True):
        client = world.client(proxy, http2=http2)
        before = len(upstream.requests)
        for path in ("/header/", "/query/?a=1&key=mine", "/basic/", "/other/", "/header/../x"):
            client.send(httpx.Request("GET", base + path, headers={"X-Api-Key": "mine"}))
        client.post(base + "/basic/")
        header, query, basic, other, tricky, post = upstream.requests[before:]
        assert header.all("x-api-key") == ["sk-canary-a-7f3a9c"]
        assert query.target == "/query/?a=1&key=sk-canary-a-7f3a9c"
        assert query.header("x-api-key") is None
        assert basic.header("authorization") == "Basic dXNlcjpzay1jYW5hcnktYS03ZjNhOWM="
        assert [r.header("x-api-key") for r in (other, tricky)] == ["mine", "mine"]
        assert post.header("authorization") is None
