"""`/proxy.pac` on the proxy's own port, and a real Chromium that lives by it."""

import subprocess
import time
from collections.abc import Callable

import httpx
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request

from .chromium import chromium
from .developer import Developer
from .test_web_port import REBIND
from .world import World, forms, pool

SECONDS = 60.0


def get(proxy: Proxy, path: str = "/proxy.pac", **headers: str) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.get(f"{proxy.url}{path}", headers=given)


def test_it_is_the_pools(world: World) -> None:
    proxy = world.proxy(pool(["api.example", "http://localhost:1"]))
    answer = get(proxy)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ns-proxy-autoconfig"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert '"s=api.example": [443]' in answer.text
    assert f'"PROXY 127.0.0.1:{proxy.port}; DIRECT"' in answer.text
    assert forms(answer.content) == []
    with httpx.Client(trust_env=False) as client:
        head = client.head(f"{proxy.url}/proxy.pac")
        assert (head.status_code, head.content) == (200, b"")
        assert (
            f"localhost:{proxy.port}" in client.get(f"http://localhost:{proxy.port}/proxy.pac").text
        )
    world.secrets(pool(["new.example"]), name="proxy-1.json")
    proxy.wait_for("reloaded: ")
    assert "new.example" in get(proxy).text


def test_it_is_the_same_as_the_commands(world: World) -> None:
    developer = Developer(world.folder, world.authority.ca)
    secrets = world.secrets(pool(["api.example"]))
    with developer.serve("--secrets", str(secrets)) as served:
        text = httpx.get(f"{served.url}/proxy.pac", trust_env=False).text
        assert developer.run("pac").stdout == text
    named = developer.run("pac", "--secrets", str(secrets), "--proxy", served.url)
    assert named.stdout == text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Referer": "https://evil.example/"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 403),
        ({"Host": "evil.example:{port}"}, 502),
    ],
)
def test_a_web_page_does_not_get_it(world: World, headers: dict[str, str], status: int) -> None:
    """It tells which services somebody has keys for."""
    proxy = world.proxy(pool(["api.example"]))
    given = {name: value.format(port=proxy.port) for name, value in headers.items()}
    answer = get(proxy, **given)
    assert answer.status_code == status
    assert "api.example" not in answer.text


def test_reverse_mode_has_none(world: World) -> None:
    """There it is a path of the upstream's."""
    upstream = world.upstream(lambda r: Reply(404, [], r.target.encode()))
    proxy = world.proxy(pool(["api.example"]), mode=f"reverse:{upstream.url('')}")
    assert get(proxy).status_code == 404
    assert [r.target for r in upstream.requests] == ["/proxy.pac"]


@pytest.mark.parametrize("strategy", ["eager", "lazy"])
def test_a_socks_proxy_has_none(world: World, strategy: str) -> None:
    """What it would say, that an HTTP proxy is here, is not so."""
    options = {"connection_strategy": strategy}
    proxy = world.proxy(pool(["api.example"]), mode="socks5", options=options)
    with pytest.raises(httpx.TransportError):
        get(proxy)
    curl, url = world.curl(), f"http://127.0.0.1:{proxy.port}/proxy.pac"
    try:
        said = curl("--proxy", f"socks5://127.0.0.1:{proxy.port}", url)
    except subprocess.CalledProcessError:
        return
    assert "FindProxyForURL" not in said


def test_other_paths_are_not_answered(world: World) -> None:
    proxy = world.proxy(pool(["api.example"]))
    for path in ("/", "/proxy.pac/x", "/proxy.pac?x", "/PROXY.PAC"):
        assert get(proxy, path).status_code == 502


def test_a_pool_of_that_name_is_not_taken_for_it(world: World) -> None:
    """The file of somebody else's server goes through as it is."""
    upstream = world.upstream(tls=False)
    proxy = world.proxy(pool(["api.example"]))
    client = world.client(proxy)
    assert client.get(upstream.url("/proxy.pac")).json() == {"ok": True}


class Pages:
    """Counts who came, and by whom: the proxy, or the browser itself."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def __call__(self, request: Request) -> Reply:
        if "favicon" not in request.target:
            self.seen.append((request.target, bool(request.header("x-rotate-test"))))
        return Reply(200, [("content-type", "text/html")], b"<p>here")


MARK = """\
def request(flow):
    flow.request.headers["X-Rotate-Test"] = "through the proxy"
"""


def until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("tls", [True, False])
def test_a_browser(world: World, tls: bool) -> None:
    """Pooled through the proxy, unpooled direct; and both direct when the proxy is gone."""
    pages = Pages()
    scheme = "https" if tls else "http"
    names = ["pooled.example", "other.example"]
    upstream = world.upstream(pages, tls=tls, leaf=world.authority.issue(names))
    urls = [f"{scheme}://{name}:{upstream.port}" for name in names]
    marking = world.folder / "mark.py"
    marking.write_text(MARK)
    hosts = [urls[0].removeprefix("https://")]
    proxy = world.proxy(
        pool(hosts, browsers="allow"),
        scripts=[SCRIPT, REBIND, marking],
        env={"REBIND": " ".join(names)},
    )
    # With the network as it is, but for some names, which lead here.
    options = (
        f"--proxy-pac-url={proxy.url}/proxy.pac",
        "--ignore-certificate-errors",
        "--host-resolver-rules=MAP *.example 127.0.0.1",
    )
    for n, url in enumerate(urls):
        with chromium(world.folder / f"profile-{n}", f"{url}/{n}", *options):
            until(lambda n=n: len(pages.seen) > n)  # type: ignore[misc]
    assert pages.seen == [("/0", True), ("/1", False)]
    proxy.stop()
    for n, url in enumerate(urls, 2):
        with chromium(world.folder / f"profile-{n}", f"{url}/{n}", *options):
            until(lambda n=n: len(pages.seen) > n)  # type: ignore[misc]
    assert pages.seen[2:] == [("/2", False), ("/3", False)]
