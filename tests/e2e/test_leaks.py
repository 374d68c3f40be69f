"""A canary secret is nowhere that somebody may look, save or share."""

import asyncio
import json
import re
import threading
from pathlib import Path

import httpx
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, json_reply

from .world import World, bearers, forms, pool

LOUD = {"termlog_verbosity": "debug", "flow_detail": "4"}
IDS = "abcde"


def answers(request: Request) -> Reply:
    return json_reply({}, {"b": 429, "d": 401}.get(bearers([request])[0], 200))


@pytest.mark.parametrize("http2", [False, True])
def test_captures_logs_and_errors(world: World, http2: bool) -> None:
    """Everything that goes well, and everything that goes wrong, then all files and the log."""
    upstream = world.upstream(answers)
    capture, har = world.folder / "flows.mitm", world.folder / "flows.har"
    host = f"localhost:{upstream.port}"
    proxy = world.proxy(
        pool([host], IDS, paths=["/header/**"]),
        pool([host], IDS, name="query", paths=["/query/**"], inject="?key={secret}"),
        pool(
            [host],
            IDS,
            name="basic",
            paths=["/basic/**"],
            inject="Authorization: Basic {basic}",
            username="user",
        ),
        options=LOUD | {"hardump": str(har), "rotate_expose": "true"},
        args=["-w", str(capture)],
    )
    client = world.client(proxy, http2=http2)
    base = f"https://{host}"
    for path in ("/header/", "/query/?a=1", "/basic/"):
        for _ in range(7):
            client.post(base + path, content=b"x" * 1000)
        client.get(base + path, headers={"Host": "evil.test"})
    upstream.stop()
    assert client.get(base + "/header/").status_code == 502
    client.close()
    proxy.stop()
    assert len(upstream.requests) == 3 * 7 + 2  # two were repeated
    flows, exported, log = capture.read_bytes(), har.read_bytes(), proxy.text
    assert len(json.loads(exported)["log"]["entries"]) == 25
    assert flows.count(b"rotate:pool/a") > 0
    assert "answered 429" in log
    assert forms(flows, IDS) == forms(exported, IDS) == forms(log.encode(), IDS) == []
    # And in none of the process's own words: its command line, its working files.
    assert forms(b"".join(str(arg).encode() for arg in proxy.command), IDS) == []


def ask_api(proxy: Proxy, path: str) -> bytes:
    """What mitmweb's own interface tells, without going through the proxy."""
    url, token = re.search(
        r"Web server listening at (\S+?/)(?:\?token=(\S+))?\s", proxy.text
    ).groups()  # type: ignore[union-attr]
    with httpx.Client(trust_env=False) as c:
        if token:
            c.get(url, params={"token": token})
        return c.get(url + path).raise_for_status().content


def test_mitmweb_while_a_request_is_in_flight_and_after(world: World, free_port: int) -> None:
    arrived, leave = threading.Event(), threading.Event()

    async def app(_: Request) -> Reply:
        arrived.set()
        await asyncio.to_thread(leave.wait, 10)
        return json_reply({})

    upstream = world.upstream(app)
    args = ["--no-web-open-browser", "--web-port", str(free_port)]
    proxy = world.proxy(
        pool([f"localhost:{upstream.port}"]), command="mitmweb", args=args, options=LOUD
    )
    client = world.client(proxy)
    url = f"https://localhost:{upstream.port}/"
    mine = {"Authorization": "Bearer mine-canary"}
    request = threading.Thread(target=lambda: client.get(url, headers=mine))
    request.start()
    assert arrived.wait(10)
    for moment in ("in flight", "after"):
        for path in ("flows", "events", "state", "options", "commands"):
            shown = ask_api(proxy, path)
            assert (moment, path, forms(shown)) == (moment, path, [])
            assert b"mine-canary" not in shown
        (flow,) = json.loads(ask_api(proxy, "flows"))
        assert ["Authorization", "Bearer [rotate:pool/a]"] in flow["request"]["headers"]
        assert flow["marked"] in (":key:", "🔑")  # as written, as drawn
        leave.set()
        request.join()
    assert bearers(upstream.requests) == ["a"]
    assert json.loads(ask_api(proxy, "flows"))[0]["comment"] == "Flow Rotate: a answered 200"


def test_an_intercepted_flow_shows_no_credential(world: World) -> None:
    upstream = world.upstream()
    resume = world.folder / "resume.py"
    resume.write_text(
        "from mitmproxy import ctx\n"
        "class Late:\n"
        "    def request(self, flow):\n"
        "        flow.intercept()\n"
        "        held.append(flow)\n"
        "    def requestheaders(self, flow):\n"
        "        if flow.request.host == 'control.test':\n"
        "            print('HELD', [f.request.headers.fields for f in held], flush=True)\n"
        "            [f.resume() for f in held]\n"
        "            flow.kill()\n"
        "held = []\n"
        "addons = [Late()]\n"
    )
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), scripts=[SCRIPT, resume])
    url = f"https://localhost:{upstream.port}/"
    mine = {"Authorization": "Bearer mine-canary"}
    request = threading.Thread(target=lambda: world.client(proxy).get(url, headers=mine))
    request.start()
    before = proxy.wait_for("server connect").end()
    while "Bearer [rotate:pool]" not in proxy.text[before:]:
        with httpx.Client(proxy=proxy.url, trust_env=False) as c, pytest.raises(httpx.HTTPError):
            c.get("http://control.test/")
        proxy.wait_for("HELD", after=before)
    request.join()
    assert bearers(upstream.requests) == ["a"]
    assert "mine-canary" not in proxy.text


def test_the_secrets_are_in_no_option(world: World) -> None:
    """What `options.save` writes, and what mitmproxy shows of a flow that it exports."""
    upstream = world.upstream()
    control = Path(__file__).parent / "control.py"
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), scripts=[SCRIPT, control])
    world.client(proxy).get(f"https://localhost:{upstream.port}/")
    saved = world.folder / "options.yaml"
    with httpx.Client(proxy=proxy.url, trust_env=False) as c:
        said = c.get(f"http://control.test/run?options.save {saved}")
        assert said.status_code == 200, said.text
        status = c.get("http://control.test/run?rotate.status").text
    assert "pool/a: ready, picked 1, ok 1, failed 0" in status
    assert forms(saved.read_bytes() + status.encode()) == []
