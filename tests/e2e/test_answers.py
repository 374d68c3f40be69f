"""What providers answer, and what becomes of the credential: over real connections."""

import asyncio
import gzip
import json
import re
import time
from contextlib import suppress
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, Reset, ThreadedUpstream

from .test_commands import CONTROL, run
from .test_failover import BOTH, is_quiet
from .world import World, bearers, pool

Headers = list[tuple[str, str]]

GOOGLE = {
    "error": {
        "code": 429,
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}],
    }
}
QUOTA = {"error": {"code": "insufficient_quota", "type": "insufficient_quota", "message": "m"}}
BILLING = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "Your credit balance is too low to access the Anthropic API. Please go to Plans",
    },
}


def failing(
    world: World, status: int, body: bytes, headers: Headers, **options: Any
) -> tuple[Proxy, ThreadedUpstream]:
    """An upstream that answers so to `a`, and serves everybody else."""

    def app(request: Request) -> Reply:
        if bearers([request]) == ["a"]:
            return Reply(status, headers, body)
        return Reply(200, [("Content-Type", "application/json")], b"{}")

    upstream = world.upstream(app)
    spec = pool([f"localhost:{upstream.port}"], "ab", **options)
    return world.proxy(spec, scripts=[SCRIPT, CONTROL]), upstream


def standing(proxy: Proxy, id: str = "a") -> tuple[str, int, str]:
    """A credential's state, the seconds that are left of it, and the reason."""
    (line,) = re.findall(rf"^pool/{id}: (.*)$", run(proxy, "rotate.status")[1], re.MULTILINE)
    match = re.match(r"(\w+)(?: (\d+) s)?(?: \((.*?)\))?", line)
    assert match
    return match[1], int(match[2] or 0), match[3] or ""


ROWS: dict[str, tuple[int, object, Headers, str, int, str]] = {
    "nothing named": (429, {}, [], "cooling", 60, "429"),
    "milliseconds": (429, {}, [("Retry-After-Ms", "5500")], "cooling", 5, "429"),
    "a date": (429, {}, [("Retry-After", "DATE")], "cooling", 500, "429"),
    "google's body": (429, GOOGLE, [], "cooling", 37, "429"),
    "a quota": (429, QUOTA, [("Retry-After", "1")], "cooling", 3600, "quota"),
    "402": (402, {}, [], "cooling", 3600, "billing"),
    "a billing body": (400, BILLING, [], "cooling", 3600, "billing"),
}


@BOTH
@pytest.mark.parametrize("row", ROWS)
def test_an_answer_that_says_how_long(world: World, row: str, http2: bool) -> None:
    status, body, headers, state, seconds, reason = ROWS[row]
    date = formatdate(time.time() + 500, usegmt=True)
    headers = [(name, value.replace("DATE", date)) for name, value in headers]
    proxy, upstream = failing(world, status, json.dumps(body).encode(), headers)
    answer = world.client(proxy, http2=http2).post(upstream.url("/"), content=b"x")
    assert answer.status_code == 200
    assert bearers(upstream.requests) == ["a", "b"]
    found = standing(proxy)
    assert (found[0], found[2]) == (state, reason)
    assert seconds - 5 <= found[1] <= seconds
    is_quiet(proxy)


@BOTH
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_400_that_is_the_requests_fault_goes_through_as_it_is(
    world: World, http2: bool, encoding: str
) -> None:
    said = json.dumps({"error": {"type": "invalid_request_error", "message": "billing? no"}})
    body = gzip.compress(said.encode()) if encoding else said.encode()
    headers = [("Content-Encoding", "gzip")] if encoding else []
    proxy, upstream = failing(world, 400, body, headers)
    answer = world.client(proxy, http2=http2).get(upstream.url("/"))
    assert (answer.status_code, answer.text) == (400, said)
    assert bearers(upstream.requests) == ["a"]
    assert standing(proxy)[0] == "ready"
    is_quiet(proxy)


def test_a_packed_billing_body_is_read(world: World) -> None:
    body = gzip.compress(json.dumps(BILLING).encode())
    proxy, upstream = failing(world, 400, body, [("Content-Encoding", "gzip")])
    assert world.client(proxy).get(upstream.url("/")).status_code == 200
    assert standing(proxy)[2] == "billing"


@BOTH
@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("size", [0, 1000, 65_536, 1_000_000])
def test_whatever_its_size_the_last_answer_comes_through_whole(
    world: World, http2: bool, size: int, status: int
) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    proxy, upstream = failing(world, status, body, [], retries=0)
    answer = world.client(proxy, http2=http2).get(upstream.url("/"))
    assert (answer.status_code, answer.content) == (status, body)
    is_quiet(proxy)


@BOTH
def test_a_slow_403_is_passed_on_after_two_seconds(world: World, http2: bool) -> None:
    async def slowly() -> Any:
        for n in range(10):
            yield str(n).encode()
            await asyncio.sleep(0.4)

    def app(_: Request) -> Reply:
        return Reply(403, [("Content-Type", "text/event-stream")], slowly())

    upstream = world.upstream(app)
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], "ab"), scripts=[SCRIPT, CONTROL])
    began = time.monotonic()
    with world.client(proxy, http2=http2).stream("GET", upstream.url("/")) as answer:
        chunks = answer.iter_raw()
        first = next(chunks)
        assert 1.5 < time.monotonic() - began < 3.5
        assert first + b"".join(chunks) == b"0123456789"
    is_quiet(proxy)


@BOTH
def test_a_403_that_breaks_off_breaks_off_for_the_client_too(world: World, http2: bool) -> None:
    async def broken() -> Any:
        yield b"half"
        raise Reset

    upstream = world.upstream(lambda _: Reply(403, [("Content-Length", "100")], broken()))
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], "ab"), scripts=[SCRIPT, CONTROL])
    with suppress(httpx.RemoteProtocolError):  # how 12.x passes a reset stream on
        answer = world.client(proxy, http2=http2).get(upstream.url("/"))
        assert answer.status_code in (499, 502)
    assert len(upstream.requests) == 1
    is_quiet(proxy)


@BOTH
def test_the_patience_with_one_answer_is_not_that_with_the_next(world: World, http2: bool) -> None:
    """a's answer ends at once, b's takes 1.5 s and is whole when its own two seconds are not over,
    but those since a's are."""

    async def slowly(seconds: float) -> Any:
        yield b'{"error": '
        await asyncio.sleep(seconds)
        yield b'{"code": "insufficient_quota"}}'

    async def app(request: Request) -> Reply:
        (id,) = bearers([request])
        if id == "c":
            return Reply(200, [], b"{}")
        if id == "b":
            await asyncio.sleep(1)
        return Reply(429, [("Content-Type", "application/json")], slowly(1.5 * (id == "b")))

    upstream = world.upstream(app)
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], "abc"), scripts=[SCRIPT, CONTROL])
    assert world.client(proxy, http2=http2).get(upstream.url("/")).status_code == 200
    assert [standing(proxy, id)[2] for id in "ab"] == ["quota", "quota"]
    assert bearers(upstream.requests) == list("abc")
    is_quiet(proxy)


def test_the_last_request_of_a_window_parks_before_the_429(world: World) -> None:
    headers = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1m30s")]
    proxy, upstream = failing(world, 200, b"{}", headers)
    c = world.client(proxy)
    for _ in range(3):
        assert c.get(upstream.url("/")).status_code == 200
    assert bearers(upstream.requests) == ["a", "b", "b"]
    state, seconds, reason = standing(proxy)
    assert (state, reason) == ("cooling", "remaining")
    assert 87 <= seconds <= 90


def test_a_failure_in_a_row_doubles_and_says_so(world: World) -> None:
    proxy, upstream = failing(world, 429, b"", [], cooldown=1)
    c = world.client(proxy)
    for number, seconds in enumerate((1, 2, 4), 1):
        while standing(proxy)[0] == "cooling":
            time.sleep(0.05)
        while bearers(upstream.requests).count("a") < number:
            c.get(upstream.url("/"))
        proxy.wait_for(f"a answered 429, cooling for {seconds} s")
