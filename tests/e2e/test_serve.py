"""`flow-rotate serve`: the real process, its line, its signals, and what it refuses."""

import asyncio
import fcntl
import json
import os
import pty
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from flowrotate.demo.upstream import Reply, Request, json_reply
from flowrotate.machine.proxies import answers

from .developer import CLI, Developer, Served
from .world import World, bearers, forms, pool, trusting


@pytest.fixture
def developer(world: World) -> Developer:
    return Developer(world.folder, world.authority.ca)


def through(served: Served, ca: Path | None = None) -> httpx.Client:
    transport = httpx.HTTPTransport(verify=trusting(ca or served.ca), proxy=httpx.Proxy(served.url))
    return httpx.Client(transport=transport, trust_env=False, timeout=20)


def trust(world: World) -> list[str]:
    return ["--set", f"ssl_verify_upstream_trusted_ca={world.authority.ca}"]


def test_pools_rotate_and_the_rest_passes(world: World, developer: Developer) -> None:
    pooled, other = world.upstream(), world.upstream()
    secrets = world.secrets(pool([f"localhost:{pooled.port}"]))
    with developer.serve("--secrets", str(secrets), *trust(world)) as served:
        with through(served) as client:
            for _ in range(4):
                assert client.get(pooled.url()).status_code == 200
        with through(served, world.authority.ca) as direct:
            assert direct.get(other.url()).status_code == 200
        assert served.said["pools"] == {"pool": 3}
        assert served.said["secrets"] == str(secrets)
        assert served.stop() == 0
    assert bearers(pooled.requests) == ["a", "b", "c", "a"]
    assert forms(served.log.encode()) == []


@pytest.mark.parametrize("default", [True, False])
def test_the_line(world: World, developer: Developer, default: bool) -> None:
    """Where it is, what it has, what to do next: one line, and nothing else on stdout."""
    secrets = world.secrets(pool(["a.example"]), {**pool(["b.example"], ["d"]), "name": "two"})
    args = ["--secrets", str(secrets)] + ["--listen", "127.0.0.1:8080"] * default
    try:
        with developer.serve(*args, as_json=False) as served:
            assert served.stop() == 0
    except AssertionError as e:
        if default and "in use" in str(e):
            return  # somebody else's, on this machine
        raise
    option = "" if default else f" --proxy {served.url}"
    (line,) = served.lines
    assert f" at {served.url}, pools pool (3), two (1); next, in your shell: " in line
    # Here the program is found by its name.
    assert line.endswith(f'eval "$(flow-rotate env{option})"\n')


def test_it_is_written_down_while_it_runs(world: World, developer: Developer) -> None:
    secrets = world.secrets(pool(["a.example"]))
    with developer.serve("--secrets", str(secrets)) as served:
        (file,) = (developer.state / "proxies").iterdir()
        written = json.loads(file.read_text())
        assert (written["url"], written["pid"]) == (served.url, served.pid)
        assert forms(file.read_bytes()) == []
        served.stop()
    assert not (developer.state / "proxies").exists()


def test_sighup_reloads(world: World, developer: Developer) -> None:
    upstream = world.upstream()
    secrets = world.secrets(pool([f"localhost:{upstream.port}"], ["a"]))
    args = ["--secrets", str(secrets), *trust(world)]
    with developer.serve(*args) as served, through(served) as client:
        client.get(upstream.url())
        served.process.send_signal(signal.SIGHUP)
        served.wait_for("reloaded: ")
        client.get(upstream.url())
        secrets.write_text("{")
        served.process.send_signal(signal.SIGHUP)
        served.wait_for("not reloaded: the pools stay as they were")
        client.get(upstream.url())
        assert served.stop() == 0
    assert bearers(upstream.requests) == ["a", "a", "a"]


async def slow(request: Request) -> Reply:
    """Answers after as many seconds as it is asked for."""
    await asyncio.sleep(float(request.target.partition("?")[2] or 0))
    return json_reply({"ok": True})


@contextmanager
def at_work(
    world: World, developer: Developer, seconds: int
) -> Iterator[tuple[Served, httpx.Client, Future[httpx.Response]]]:
    """A server, with a request under way that takes so long."""
    upstream = world.upstream(slow)
    secrets = world.secrets(pool([f"localhost:{upstream.port}"], ["a"]))
    with (
        developer.serve("--secrets", str(secrets), *trust(world)) as served,
        through(served) as client,
        ThreadPoolExecutor() as threads,
    ):
        waiting = threads.submit(client.get, upstream.url(f"/?{seconds}"))
        _until(lambda: len(upstream.requests) == 1)
        yield served, client, waiting


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_finishes(world: World, developer: Developer, by: signal.Signals) -> None:
    """A request that waits for its upstream gets its answer; nobody new gets in."""
    with at_work(world, developer, 2) as (served, client, waiting):
        began = time.monotonic()
        served.process.send_signal(by)
        served.wait_for("ending: up to 10 s")
        _until(lambda: not answers(served.url))
        assert not waiting.done()
        assert waiting.result().status_code == 200
        assert waiting.result().headers["connection"] == "close"
        assert served.wait() == 0
        assert time.monotonic() - began < 8
        with pytest.raises(httpx.TransportError):
            client.get(waiting.result().url)


def test_a_second_signal_ends_it(world: World, developer: Developer) -> None:
    with at_work(world, developer, 9) as (served, _, waiting):
        began = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        served.wait_for("ending: ")
        assert served.stop() == 0
        assert time.monotonic() - began < 5
        with pytest.raises(httpx.TransportError):
            waiting.result()


def test_ten_seconds_are_the_end(world: World, developer: Developer) -> None:
    with at_work(world, developer, 19) as (served, _, waiting):
        began = time.monotonic()
        assert served.stop() == 0
        assert 9 < time.monotonic() - began < 15
        assert "ended, although requests were at work" in served.log
        with pytest.raises(httpx.TransportError):
            waiting.result()


def test_idle_connections_keep_nobody_waiting(world: World, developer: Developer) -> None:
    other = world.upstream(alpn=["http/1.1"])
    secrets = world.secrets(pool(["a.example"]))
    with developer.serve("--secrets", str(secrets)) as served:
        direct = through(served, world.authority.ca)
        direct.get(other.url())
        began = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - began < 5
        direct.close()


def _until(there: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["--listen", "0.0.0.0:0"], 2, "0.0.0.0 is not this machine's loopback"),
        (["--listen", "[::]:0"], 2, ":: is not this machine's loopback"),
        (["--listen", "x"], 2, "--listen: write HOST:PORT"),
        (["--listen", "http://127.0.0.1:0"], 2, "--listen: leave out http://"),
        (["--set", "foo"], 2, "--set: write NAME=VALUE"),
        (["--set", ""], 2, "--set: write NAME=VALUE"),
        (["--set", "=x"], 2, "--set: write NAME=VALUE"),
        (
            ["--set", "ssl_verify_upstream_trusted_ca=/nowhere.pem"],
            1,
            "ssl_verify_upstream_trusted_ca=/nowhere.pem: no such file or directory: name a PEM",
        ),
        (
            ["--set", f"ssl_verify_upstream_trusted_ca={__file__}"],
            1,
            f"ssl_verify_upstream_trusted_ca={__file__}: it is no PEM file of certificates: name",
        ),
        (["--listen", "127.0.0.1:99999"], 2, "--listen: write HOST:PORT"),
        (["--mode", "regular@0.0.0.0:0"], 2, "0.0.0.0 is not this machine's loopback"),
        (["--mode", "reverse"], 2, "--mode reverse: "),
        (["--mode", "nonsense"], 2, "--mode nonsense: "),
        (["--set", "listen_port=1"], 2, "--set listen_port: write --listen instead"),
        (["--set", "mode=socks5"], 2, "--set mode: write --mode instead"),
        (["--set", "hardump=x"], 1, "--set hardump: serve has no such option"),
        (["--set", "no_such=x"], 1, "--set no_such: serve has no such option"),
        (["--set", "rotate_holt=1"], 1, "rotate_holt: there is no such option: did you mean"),
        (["--set", "rotate_hold=x"], 1, "rotate_hold: write a whole number"),
        (["--set", "rotate_hold=-1"], 1, "rotate_hold: write 0 to 86400 seconds"),
        (["--set", "body_size_limit=x"], 1, "Invalid body_size_limit"),
        (["--secrets", "/nowhere/s.yaml"], 1, "/nowhere/s.yaml: there is no such file"),
        (["--confdir", f"{__file__}/x"], 1, f"{__file__}/x: "),
        (["--no-such"], 2, "No such option"),
    ],
)
def test_what_it_refuses(
    world: World, developer: Developer, args: list[str], status: int, said: str
) -> None:
    """And a check of it says the same."""
    secrets = world.secrets(pool(["a.example"]))
    given = ["serve", "--listen", "127.0.0.1:0", "--secrets", str(secrets), *args]
    for more in ([], ["--check"]):
        found = developer.run(*given, *more)
        assert (found.returncode, found.stdout) == (status, "")
        assert said in found.stderr
        assert "Traceback" not in found.stderr


@pytest.mark.parametrize(("option", "place"), [("--log", "/proc/x/y"), ("--confdir", "/proc/x")])
def test_what_cannot_be_written(
    world: World, developer: Developer, option: str, place: str
) -> None:
    secrets = world.secrets(pool(["a.example"]))
    given = ["serve", "--listen", "127.0.0.1:0", "--secrets", str(secrets), option, place]
    found = developer.run(*given)
    assert (found.returncode, found.stdout) == (1, "")
    assert f"{place}: " in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("confdir", ["", "new/er", "old"])
def test_a_check_leaves_no_trace(world: World, developer: Developer, confdir: str) -> None:
    """It takes no port, either: one is taken here."""
    secrets = world.secrets(pool(["a.example"]))
    old = developer.home / "old"
    old.mkdir()
    shutil.copy(world.authority.ca, old / "mitmproxy-ca.pem")  # without its key it is no CA
    args = ["--secrets", str(secrets), "--log", str(developer.home / "log")]
    args += ["--confdir", str(developer.home / confdir)] if confdir else []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        found = developer.run("serve", "--check", "--listen", listen, *args)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    left = {file.name for file in developer.home.rglob("*")}
    assert left == {"old", "mitmproxy-ca.pem"}


def test_what_is_wrong_is_said_last(world: World, developer: Developer) -> None:
    secrets = world.secrets(pool(["a.example"]))
    given = ["serve", "--listen", "127.0.0.1:0", "--secrets", str(secrets)]
    found = developer.run(*given, "--set", "rotate_retries=x")
    assert found.stderr.splitlines()[-2].endswith("rotate_retries: write a whole number")
    found = developer.run(*given, "--set", "rotate_retries=x", "--check")
    assert found.stderr == "rotate_retries: write a whole number\n"


@pytest.mark.parametrize(
    ("mode", "hint"),
    [
        (
            "reverse:https://a.example",
            "; next: give your tool http://{at} as the service's address",
        ),
        ("reverse:tcp://a.example:1", ""),
        ("socks5", ""),
    ],
)
def test_its_line_in_other_modes(world: World, developer: Developer, mode: str, hint: str) -> None:
    secrets = world.secrets(pool(["a.example"]))
    args = ["--secrets", str(secrets), "--mode", mode]
    with developer.serve(*args, as_json=False) as served:
        served.stop()
    (line,) = served.lines
    at = line.partition(" at ")[2].partition(",")[0]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", at)
    assert line.endswith(f", pools pool (3){hint.format(at=at)}\n")


def test_many_connections_may_be_open(world: World, developer: Developer) -> None:
    secrets = world.secrets(pool(["a.example"]))
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, most), most))
    try:
        with developer.serve("--secrets", str(secrets)) as served:
            assert limit_of(served.pid) == most
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def limit_of(pid: int) -> int:
    """The soft one, as Linux tells it."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("no prlimit here (Linux has it)")
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def test_a_port_that_is_taken(world: World, developer: Developer) -> None:
    secrets = world.secrets(pool(["a.example"]))
    with developer.serve("--secrets", str(secrets)) as served:
        listen = f"127.0.0.1:{served.port}"
        found = developer.run("serve", "--listen", listen, "--secrets", str(secrets))
    assert found.returncode == 1
    assert f"--listen {listen}: " in found.stderr
    assert "in use" in found.stderr


def test_config_yaml_counts_and_flags_count_more(world: World, developer: Developer) -> None:
    secrets = world.secrets(pool(["a.example"]))
    confdir = developer.home / ".mitmproxy"
    confdir.mkdir()
    (confdir / "config.yaml").write_text(
        f"rotate_secrets: {secrets}\nrotate_passthrough: false\nrotate_hold: 5\n"
        "web_port: 1234\n"  # of another tool: it may stay
    )
    other = world.upstream()
    with developer.serve("--set", "rotate_hold=7") as served:
        assert served.said["pools"] == {"pool": 3}
        with pytest.raises((httpx.ConnectError, ssl.SSLError)):
            through(served, world.authority.ca).get(other.url())
    with (
        developer.serve("--set", "rotate_passthrough=true") as served,
        through(served, world.authority.ca) as direct,
    ):
        assert direct.get(other.url()).status_code == 200


def test_the_log_goes_where_it_is_sent(world: World, developer: Developer) -> None:
    secrets = world.secrets(pool(["a.example"]))
    log = developer.home / "logs" / "rotate.log"
    for _ in range(2):
        with developer.serve("--secrets", str(secrets), "--log", str(log)) as served:
            served.stop()
        assert served.log == ""
    assert log.read_text().count("Flow Rotate: pools pool (3)") == 2


@pytest.fixture
def quiet(world: World, developer: Developer) -> Iterator[Served]:
    secrets = world.secrets(pool(["a.example"]))
    with developer.serve("--secrets", str(secrets), "--quiet") as served:
        yield served


def test_quiet_says_nothing_of_what_is_well(quiet: Served) -> None:
    quiet.stop()
    assert quiet.log == ""


def test_it_ends_with_its_terminal(world: World, developer: Developer) -> None:
    """SIGHUP reloads; but when the window is closed, nobody would ever find it again."""
    secrets = world.secrets(pool(["a.example"]))
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*CLI, "serve", "--listen", "127.0.0.1:0", "--secrets", str(secrets)],
        env=developer.env,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(terminal)
        said = b""
        while b"next, in your shell" not in said:
            said += os.read(controller, 4096)
        process.send_signal(signal.SIGHUP)
        while b"reloaded: " not in said:
            said += os.read(controller, 4096)
        assert process.poll() is None
        os.close(controller)
        assert process.wait(20) == 0


def test_the_pac_needs_no_login(world: World, developer: Developer) -> None:
    """Who fetches it has none to give."""
    secrets = world.secrets(pool(["a.example"]))
    with developer.serve("--secrets", str(secrets), "--set", "proxyauth=me:canary-pw") as served:
        with httpx.Client(trust_env=False) as client:
            assert "a.example" in client.get(f"{served.url}/proxy.pac").text
        with httpx.Client(trust_env=False, proxy=served.url) as client:
            assert client.get("http://b.example/").status_code == 407


def test_a_private_one_ends_with_its_process(world: World, developer: Developer) -> None:
    secrets = world.secrets(pool(["a.example"]))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        args = ["--secrets", str(secrets), "--private-to", str(owner.pid)]
        with developer.serve(*args) as served:
            (file,) = (developer.state / "proxies").iterdir()
            assert json.loads(file.read_text())["private"] is True
            assert served.process.poll() is None
            owner.communicate(b"\n")
            assert served.wait(20) == 0
