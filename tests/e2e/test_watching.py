"""The secrets file is read again when it changes: whole, or not at all, and nobody notices."""

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream, json_reply

from .test_commands import CONTROL, run
from .test_failover import is_quiet
from .world import World, bearers, client, forms, pool, secret


@pytest.fixture
def upstream(world: World) -> ThreadedUpstream:
    return world.upstream()


def start(world: World, file: Path, **more: Any) -> Proxy:
    return world.proxy(options={"rotate_secrets": str(file)}, scripts=[SCRIPT, CONTROL], **more)


def put(file: Path, text: str) -> None:
    """Whole at once, as careful editors do."""
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(file)


def pools(upstream: ThreadedUpstream, ids: str, **keys: Any) -> str:
    return json.dumps({"pools": [pool([f"localhost:{upstream.port}"], ids, **keys)]})


def asked(world: World, proxy: Proxy, upstream: ThreadedUpstream, n: int) -> list[str]:
    before = len(upstream.requests)
    c = world.client(proxy)
    for _ in range(n):
        assert c.get(upstream.url("/")).status_code == 200
    return bearers(upstream.requests[before:])


def test_what_changed_is_counted_and_the_rest_keeps_its_state(
    world: World, upstream: ThreadedUpstream
) -> None:
    file = world.secrets(pool([f"localhost:{upstream.port}"], "abcd"))
    proxy = start(world, file)
    assert asked(world, proxy, upstream, 2) == ["a", "b"]
    run(proxy, "rotate.disable pool/c")
    spec = json.loads(pools(upstream, "acde"))
    spec["pools"][0]["credentials"][2]["weight"] = 3
    spec["pools"][0]["hold"] = 5
    put(file, json.dumps(spec))
    proxy.wait_for("reloaded: \\+1 −1 ~1, pools changed: pool")
    status = run(proxy, "rotate.status")[1]
    assert "pool/a: ready, picked 1" in status
    assert "pool/c: disabled (by hand)" in status
    assert set(asked(world, proxy, upstream, 10)) == set("ade")
    # The same again, other bytes.
    put(file, json.dumps(spec, indent=1))
    proxy.wait_for("reloaded: nothing changed")
    assert forms(proxy.text.encode()) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1, column 2: not valid JSON"),
        ('{"pools": [{"name": "pool", "hosts": ["*.com"], "credentials": []}]}', "hosts"),
        ("", "the file is empty"),
        (None, "there is no such file"),
    ],
)
def test_a_file_that_is_wrong_changes_nothing_and_is_read_again_when_mended(
    world: World, upstream: ThreadedUpstream, text: str | None, told: str
) -> None:
    file = world.secrets(pool([f"localhost:{upstream.port}"], "ab"))
    proxy = start(world, file)
    if text is None:
        file.unlink()
    else:
        put(file, text)
    proxy.wait_for("not reloaded: the pools stay as they were")
    assert told in proxy.text
    assert asked(world, proxy, upstream, 3) == list("aba")
    time.sleep(1.5)
    assert proxy.text.count("not reloaded") == 1
    put(file, pools(upstream, "abc"))
    proxy.wait_for("reloaded: \\+1 −0 ~0")
    assert set(asked(world, proxy, upstream, 3)) == set("abc")


def test_a_file_that_appears_where_none_was(world: World, upstream: ThreadedUpstream) -> None:
    home = world.folder / "home"
    file = home / ".config" / "flow-rotate" / "secrets.yaml"
    file.parent.mkdir(parents=True)
    script = world.copied_addon()
    proxy = world.proxy(scripts=[script], env={"HOME": str(home)})
    proxy.wait_for("no secrets file, nothing is injected")
    put(file, pools(upstream, "a"))
    proxy.wait_for("reloaded: \\+1 −0 ~0")
    assert asked(world, proxy, upstream, 1) == ["a"]
    file.unlink()
    proxy.wait_for("not reloaded: the pools stay as they were")
    assert asked(world, proxy, upstream, 1) == ["a"]


def test_a_secret_in_a_file_of_its_own_and_a_symlink_swap(
    world: World, upstream: ThreadedUpstream
) -> None:
    """As Kubernetes mounts a Secret: ..data is a symlink that is exchanged."""
    mount = world.folder / "mount"
    for name, id in (("one", "a"), ("two", "b")):
        (mount / name).mkdir(parents=True)
        (mount / name / "key").write_text(secret(id) + "\n")
    (mount / "..data").symlink_to("one")
    (mount / "key").symlink_to("..data/key")
    spec = {
        "name": "pool",
        "hosts": [f"localhost:{upstream.port}"],
        "credentials": [{"id": "mounted", "file": str(mount / "key")}],
    }
    proxy = start(world, world.secrets(spec))
    assert asked(world, proxy, upstream, 1) == ["a"]
    (mount / "..new").symlink_to("two")
    (mount / "..new").replace(mount / "..data")
    proxy.wait_for("reloaded: \\+0 −0 ~1")
    assert asked(world, proxy, upstream, 1) == ["b"]


def test_commands_are_run_anew_by_the_command_alone(
    world: World, upstream: ThreadedUpstream
) -> None:
    said = world.folder / "said"
    said.write_text(secret("a"))
    spec = {
        "name": "pool",
        "hosts": [f"localhost:{upstream.port}"],
        "credentials": [{"id": "vault", "command": f"cat {said}"}],
    }
    file = world.secrets(spec)
    proxy = start(world, file)
    said.write_text(secret("b"))
    put(file, json.dumps({"pools": [{**spec, "hold": 1}]}))
    proxy.wait_for("reloaded: pools changed: pool")
    assert asked(world, proxy, upstream, 1) == ["a"]
    assert run(proxy, "rotate.reload")[0] == 200
    proxy.wait_for("reloaded: \\+0 −0 ~1")
    assert asked(world, proxy, upstream, 1) == ["b"]
    said.unlink()
    run(proxy, "rotate.reload")
    proxy.wait_for("not reloaded")
    assert asked(world, proxy, upstream, 1) == ["b"]
    assert forms(proxy.text.encode()) == []


def test_two_instances_read_it_once(world: World, upstream: ThreadedUpstream) -> None:
    second = world.folder / "second.py"
    second.write_text("from flowrotate.addon import FlowRotate\naddons = [FlowRotate()]\n")
    file = world.secrets(pool([f"localhost:{upstream.port}"], "ab"))
    proxy = world.proxy(options={"rotate_secrets": str(file)}, scripts=[SCRIPT, second])
    put(file, pools(upstream, "abc"))
    proxy.wait_for("reloaded: ")
    time.sleep(1.5)
    assert proxy.text.count("reloaded: ") == 1


@contextmanager
def traffic(proxy: Proxy, url: str, a_second: int) -> Iterator[list[int]]:
    """So many requests a second, by four clients; the statuses of their answers."""
    statuses: list[int] = []
    stop = threading.Event()

    def ask(http2: bool) -> None:
        with client(proxy, http2=http2) as c:
            due = time.monotonic()
            while not stop.is_set():
                try:
                    statuses.append(c.get(url).status_code)
                except Exception:
                    statuses.append(0)
                due += 4 / a_second
                time.sleep(max(0.0, due - time.monotonic()))

    threads = [threading.Thread(target=ask, args=(n == 0,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def memory_of(proxy: Proxy) -> int:
    """Resident bytes."""
    status = Path(f"/proc/{proxy.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_120_reloads_every_other_one_broken_under_traffic(world: World) -> None:
    def app(request: Request) -> Reply:
        return json_reply({}, 429 if bearers([request]) == ["b"] else 200)

    upstream = world.upstream(app)
    file = world.secrets(pool([f"localhost:{upstream.port}"], "abcd", cooldown=600))
    proxy = start(world, file)
    asked(world, proxy, upstream, 4)
    run(proxy, "rotate.disable pool/d")
    with traffic(proxy, upstream.url("/"), 200) as statuses:
        sizes = [reload(proxy, file, upstream, n) for n in range(120)]
        # 200 a second are asked for; how many a busy machine makes of it is no matter.
        assert wait(lambda: len(statuses) >= 1000)
    assert set(statuses) == {200}
    status = run(proxy, "rotate.status")[1]
    assert "pool/b: cooling " in status
    assert "pool/d: disabled (by hand)" in status
    counts = {id: int(n) for id, n in re.findall(r"pool/(\w+): .*picked (\d+)", status)}
    seen = bearers(upstream.requests)
    assert {id: seen.count(id) for id in "abcd"} == {id: counts[id] for id in "abcd"}
    assert counts["b"] == 1
    assert max(sizes[90:]) - max(sizes[30:60]) < 16 * 1024 * 1024
    is_quiet(proxy)


def reload(proxy: Proxy, file: Path, upstream: ThreadedUpstream, n: int) -> int:
    """One more, of which every other is broken; the memory afterwards."""
    broken = n % 2 == 1
    put(file, "{" if broken else pools(upstream, "abcde"[: 4 + n // 2 % 2], cooldown=600 + n))
    before = len(proxy.text)
    run(proxy, "rotate.reload")
    proxy.wait_for("not reloaded" if broken else "reloaded: ", after=before)
    return memory_of(proxy)


def wait(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
    return done()


def test_a_world_readable_file_with_secrets_is_refused(
    world: World, upstream: ThreadedUpstream
) -> None:
    file = world.secrets(pool([f"localhost:{upstream.port}"], "ab"))
    proxy = start(world, file)
    os.chmod(file, 0o644)  # noqa: PTH101
    file.write_text(pools(upstream, "abc"))
    proxy.wait_for(f"others may read this file, and it holds secrets: chmod 600 {file}")
    assert asked(world, proxy, upstream, 2) == ["a", "b"]
