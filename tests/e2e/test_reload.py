"""mitmproxy runs the script again when it changes; the rotation must not notice."""

import os
import threading
from pathlib import Path

from flowrotate.demo.proxy import Proxy
from flowrotate.demo.upstream import Reply, Request, json_reply

from .world import World, bearers, pool


def touch(script: Path, proxy: Proxy) -> None:
    """Change the script's time, and wait until mitmproxy has loaded it again."""
    before = len(proxy.text)
    later = script.stat().st_mtime + 5
    os.utime(script, (later, later))
    proxy.wait_for("Loading script", after=before)


def test_the_rotation_goes_on_where_it_was(world: World) -> None:
    def app(request: Request) -> Reply:
        return json_reply({}, 429 if bearers([request]) == ["b"] else 200)

    upstream = world.upstream(app)
    script = world.copied_addon()
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], ids="abcd"), scripts=[script])
    client = world.client(proxy)
    url = f"https://localhost:{upstream.port}/"
    for _ in range(3):
        client.get(url)
    touch(script, proxy)
    for _ in range(4):
        client.get(url)
    touch(script, proxy)
    proxy.wait_for("(?s)(pools pool .*){3}")
    client.get(url)
    # b is cooling from its first answer on, over both reloads.
    assert bearers(upstream.requests) == list("abcdacdac")
    assert "Traceback" not in proxy.text


def test_no_request_is_lost_or_sent_with_a_placeholder_while_it_reloads(world: World) -> None:
    upstream = world.upstream()
    script = world.copied_addon()
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), scripts=[script])
    url = f"https://localhost:{upstream.port}/"
    stop = threading.Event()
    statuses: list[int] = []

    def ask(http2: bool) -> None:
        client = world.client(proxy, http2=http2)
        while not stop.is_set():
            statuses.append(client.get(url, headers={"Authorization": "Bearer x"}).status_code)

    threads = [threading.Thread(target=ask, args=(http2,)) for http2 in (False, True, False)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        touch(script, proxy)
    stop.set()
    for thread in threads:
        thread.join()
    seen = bearers(upstream.requests)
    assert set(statuses) == {200}
    assert len(seen) == len(statuses) > 30
    assert "?" not in seen
    # Requests are picked in turn but may arrive in any order: count, do not compare.
    counts = [seen.count(id) for id in "abc"]
    assert max(counts) - min(counts) <= 1


def test_a_script_that_does_not_load_again_leaves_no_proxy_that_forwards_placeholders(
    world: World,
) -> None:
    upstream = world.upstream()
    script = world.copied_addon()
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), scripts=[script])
    client = world.client(proxy)
    url = f"https://localhost:{upstream.port}/"
    good = script.read_text()
    script.write_text("this is no python")
    touch(script, proxy)
    proxy.wait_for("error in script")
    refused = client.get(url)
    assert (refused.status_code, refused.headers["x-rotate-error"]) == (502, "internal")
    elsewhere = client.get(url.replace("localhost", "127.0.0.1"))
    assert elsewhere.status_code == 200
    script.write_text(good)
    touch(script, proxy)
    proxy.wait_for("(?s)(pools pool .*){2}")
    assert client.get(url).status_code == 200
    assert bearers(upstream.requests) == ["?", "a"]


def test_a_secrets_file_that_broke_meanwhile_leaves_the_old_pools(world: World) -> None:
    upstream = world.upstream()
    script = world.copied_addon()
    file = world.secrets(pool([f"localhost:{upstream.port}"]))
    proxy = world.proxy(options={"rotate_secrets": str(file)}, scripts=[script])
    client = world.client(proxy)
    url = f"https://localhost:{upstream.port}/"
    client.get(url)
    file.write_text('{"pools": []')
    touch(script, proxy)
    proxy.wait_for(f"{file}: line 1, column ")
    client.get(url)
    assert bearers(upstream.requests) == ["a", "b"]


def test_a_package_that_changed_on_disk_asks_for_a_restart(world: World) -> None:
    script = world.copied_addon()
    proxy = world.proxy(pool(["a.test"]), scripts=[script])
    touch(script, proxy)
    assert "restart" not in proxy.text
    module = script.parent / "flowrotate" / "verdict.py"
    module.write_text(module.read_text() + "# changed\n")
    touch(script, proxy)
    proxy.wait_for("package changed on disk.*restart")


def test_two_addons_in_one_process_share_the_rotation(world: World) -> None:
    upstream = world.upstream()
    first = world.copied_addon()
    second = first.with_name("another_script.py")
    second.write_text(first.read_text())
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), scripts=[first, second])
    client = world.client(proxy)
    url = f"https://localhost:{upstream.port}/"
    for _ in range(3):
        client.get(url)
    second.unlink()
    proxy.wait_for("Removing script")
    for _ in range(3):
        client.get(url)
    assert bearers(upstream.requests) == list("abcabc")
    assert "Traceback" not in proxy.text


def test_a_script_that_is_removed_leaves_a_bare_mitmproxy(world: World) -> None:
    upstream = world.upstream()
    script = world.copied_addon()
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), scripts=[script])
    script.unlink()
    proxy.wait_for("Un-loading script|Removing script")
    url = f"https://localhost:{upstream.port}/"
    world.client(proxy).get(url, headers={"Authorization": "Bearer mine"})
    assert upstream.requests[0].header("authorization") == "Bearer mine"
