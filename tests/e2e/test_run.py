"""`flow-rotate run` and `env`: real tools of real stacks, through a pool and past it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream, json_reply
from flowrotate.machine.environment import BEFORE, EVERY

from .developer import CLI, SECONDS, Developer, node
from .world import World, bearers, forms, pool, secret

CURL = shutil.which("curl")
GIT = shutil.which("git")
REQUESTS = "import requests, sys; print(requests.get(sys.argv[1], timeout=20).json())"
URLLIB = "import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1]).read())"
HTTPX = "import httpx, sys; print(httpx.get(sys.argv[1]).json())"
AIOHTTP_LIKE = """\
import http.client, os, ssl, sys
from urllib.parse import urlsplit
proxy, url = urlsplit(os.environ['https_proxy']), urlsplit(sys.argv[1])
c = http.client.HTTPSConnection(proxy.hostname, proxy.port)
c.set_tunnel(url.hostname, url.port)
c.request('GET', '/')
print(c.getresponse().read())
"""
FETCH = "fetch(process.argv[1]).then(r => r.json()).then(j => console.log(j))"
HTTPS = """\
require('https').get(process.argv[1], r => r.pipe(process.stdout))
  .on('error', e => { console.error(e); process.exit(1) })
"""


def tools() -> dict[str, Sequence[str]]:
    """Commands that get a URL, with what they are here for."""
    python = [sys.executable, "-c"]
    return {
        "curl": [CURL or "", "--silent", "--show-error", "--fail"],
        "requests": [*python, REQUESTS],
        "urllib": [*python, URLLIB],
        "httpx": [*python, HTTPX],
        "http.client": [*python, AIOHTTP_LIKE],
        "undici": [node(), "-e", FETCH],
        "node:https": [node(), "-e", HTTPS],
    }


@pytest.fixture
def developer(world: World) -> Developer:
    return Developer(world.folder, world.authority.ca)


class Machine:
    """A pooled upstream and another, a secrets file, and the options for a private proxy."""

    def __init__(self, world: World, app: Callable[[Request], Any] | None = None) -> None:
        self.pooled = world.upstream(app) if app else world.upstream()
        self.other = world.upstream(app) if app else world.upstream()
        self.secrets = world.secrets(pool([f"localhost:{self.pooled.port}"]))
        trust = f"ssl_verify_upstream_trusted_ca={world.authority.ca}"
        self.options = ["--secrets", str(self.secrets), "--set", trust]

    def url(self, upstream: ThreadedUpstream) -> str:
        # Not "localhost": that one is exempt, where it is in no pool.
        host = "localhost" if upstream is self.pooled else "127.0.0.1"
        return upstream.url("/", host)


@pytest.fixture
def machine(world: World) -> Machine:
    return Machine(world)


@pytest.fixture(scope="module")
def served(shared: World) -> Iterator[tuple[Machine, Developer]]:
    """A machine on which a proxy runs, for tests that need none of their own."""
    machine, developer = Machine(shared), Developer(shared.folder, shared.authority.ca)
    with developer.serve(*machine.options):
        yield machine, developer


@pytest.mark.parametrize("tool", list(tools()))
def test_each_stack_goes_through_the_pool(served: tuple[Machine, Developer], tool: str) -> None:
    if tool == "curl" and not CURL:
        pytest.skip("curl is not installed")
    machine, developer = served
    before = len(machine.pooled.requests)
    ran = developer.run("run", "--", *tools()[tool], machine.url(machine.pooled))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "ok" in ran.stdout
    assert bearers(machine.pooled.requests)[before:] in (["a"], ["b"], ["c"])


def test_a_private_proxy_is_as_good(machine: Machine, developer: Developer) -> None:
    command = [sys.executable, "-c", REQUESTS, machine.url(machine.pooled)]
    for _ in range(2):
        ran = developer.run("run", *machine.options, "--", *command)
        assert (ran.returncode, ran.stderr) == (0, "")
    # Each run had one of its own.
    assert bearers(machine.pooled.requests) == ["a", "a"]


@pytest.mark.parametrize("tool", list(tools()))
def test_each_stack_meets_an_unpooled_servers_own_certificate(
    world: World, served: tuple[Machine, Developer], tool: str
) -> None:
    """By a proxy that everything goes to: no name is exempt."""
    if tool == "curl" and not CURL:
        pytest.skip("curl is not installed")
    _, developer = served
    other = world.upstream()
    every = ["sh", "-c", 'NO_PROXY= no_proxy= exec "$@"', "sh", *tools()[tool], other.url("/")]
    ran = developer.run("run", "--", *every)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "ok" in ran.stdout
    assert [r.header("authorization") for r in other.requests] == [None]


class Repository:
    """A git repository behind a web server that knows nothing of git."""

    def __init__(self, folder: Path) -> None:
        work, self.bare = folder / "work", folder / "repo.git"
        who = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@a.example"}
        env = os.environ | who | {k.replace("AUTHOR", "COMMITTER"): v for k, v in who.items()}
        git = [GIT or pytest.skip("git is not installed"), "-c", "init.defaultBranch=main"]
        quiet: dict[str, Any] = {"check": True, "capture_output": True, "env": env}
        subprocess.run([*git, "init", str(work)], **quiet)
        (work / "file").write_text("content\n")
        subprocess.run([*git, "-C", str(work), "add", "."], **quiet)
        subprocess.run([*git, "-C", str(work), "commit", "-m", "one"], **quiet)
        subprocess.run([*git, "clone", "--bare", str(work), str(self.bare)], **quiet)
        subprocess.run([*git, "-C", str(self.bare), "update-server-info"], **quiet)

    def __call__(self, request: Request) -> Reply:
        path = request.target.partition("?")[0].removeprefix("/repo.git/")
        file = self.bare / path
        if not file.is_file():
            return Reply(404, [], b"")
        return Reply(200, [("content-type", "application/octet-stream")], file.read_bytes())


@pytest.mark.parametrize("pooled", [True, False])
def test_git_clones(world: World, developer: Developer, pooled: bool) -> None:
    machine = Machine(world, Repository(world.folder))
    upstream = machine.pooled if pooled else machine.other
    target = developer.home / "cloned"
    url = f"{upstream.url('', 'localhost')}/repo.git"
    ran = developer.run(
        "run", *machine.options, "--", "sh", "-c", 'NO_PROXY= no_proxy= exec "$@"', "sh",
        GIT or "git", "clone", "--quiet", url, str(target),
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (target / "file").read_text() == "content\n"
    given = [r.header("authorization") for r in upstream.requests]
    if pooled:
        assert bearers(upstream.requests) == [*"abcabcabcabc"][: len(given)]
    else:
        assert set(given) == {None}


def test_an_unpooled_certificate_that_nobody_trusts_is_refused(
    world: World, developer: Developer
) -> None:
    """A tunnel takes nothing away from a tool's own checks."""
    from flowrotate.demo.certs import make_authority

    foreign = make_authority(world.folder / "foreign", ["localhost"])
    machine, other = Machine(world), world.upstream(leaf=foreign.leaf)
    command = [sys.executable, "-c", URLLIB, other.url("/")]
    ran = developer.run(
        *("run", *machine.options, "--"),
        *("sh", "-c", 'NO_PROXY= no_proxy= exec "$@"', "sh", *command),
    )
    assert ran.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in ran.stderr
    assert other.requests == []


def test_what_goes_where(machine: Machine, developer: Developer) -> None:
    said = developer.run("run", *machine.options, "--", "env")
    values = dict(line.partition("=")[::2] for line in said.stdout.splitlines())
    proxies = {values[n] for n in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
    assert len(proxies) == 1
    assert proxies.pop().startswith("http://127.0.0.1:")
    # localhost is a pool's host here, so that it is not exempt.
    assert values["NO_PROXY"] == values["no_proxy"] == "127.0.0.1,::1"
    assert forms(said.stdout.encode()) == []


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM, ""),
        (["no-such-program"], 127, "flow-rotate run: no such program: no-such-program\n"),
        (["/etc/passwd"], 126, "flow-rotate run: /etc/passwd: Permission denied\n"),
        (["./bare"], 126, "flow-rotate run: ./bare: Exec format error: a script's first line says"),
        ([], 2, "Usage: "),
    ],
)
def test_exit_status(
    served: tuple[Machine, Developer], command: list[str], status: int, said: str
) -> None:
    _, developer = served
    bare = developer.home / "bare"
    bare.touch(mode=0o700)
    bare.write_text("exit 3\n")
    ran = developer.run("run", "--", *command, cwd=developer.home)
    assert (ran.returncode, ran.stdout) == (status, "")
    assert ran.stderr.startswith(said)
    assert not said or ran.stderr


def test_arguments_and_input_are_the_programs(served: tuple[Machine, Developer]) -> None:
    _, developer = served
    show = "import sys; print(sys.argv[1:], sys.stdin.read())"
    args = ["--proxy", "x y", "--json", "", "*", "--"]
    ran = subprocess.run(
        [*CLI, "run", "--", sys.executable, "-c", show, *args],
        env=developer.env,
        input="typed",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.stdout == f"{args} typed\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_program(
    machine: Machine, developer: Developer, number: signal.Signals
) -> None:
    wait = (
        "import signal, sys\n"
        "signal.signal(int(sys.argv[1]), lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\nsignal.pause()\n"
    )
    command = [*CLI, "run", *machine.options, "--", sys.executable, "-c", wait, str(number.value)]
    with subprocess.Popen(command, env=developer.env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(SECONDS) == 42


def test_a_private_proxy_ends_with_the_program(machine: Machine, developer: Developer) -> None:
    """Even when it is killed: nothing of it stays."""
    show = "import os, time; print(os.environ['https_proxy'], flush=True); time.sleep(60)"
    command = [*CLI, "run", *machine.options, "--", sys.executable, "-c", show]
    with subprocess.Popen(command, env=developer.env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        (file,) = (developer.state / "proxies").iterdir()
        pid = json.loads(file.read_text())["pid"]
        # What is private is not offered to others.
        found = developer.run("env")
        assert found.returncode == 1
        assert url not in found.stdout
        process.kill()
    _ends(pid)
    assert not (developer.state / "proxies").exists()


def _ends(pid: int) -> None:
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_running_proxy_is_used(machine: Machine, developer: Developer) -> None:
    with developer.serve(*machine.options) as served:
        command = [sys.executable, "-c", REQUESTS, machine.url(machine.pooled)]
        for _ in range(3):
            assert developer.run("run", "--", *command).returncode == 0
        (_only,) = (developer.state / "proxies").iterdir()
        assert developer.run("run", "--", "sh", "-c", "echo $https_proxy").stdout.strip() == (
            served.url
        )
        private = developer.run("run", "--private", *machine.options, "--", *command)
        assert private.returncode == 0
    # One rotation for all; the private one began its own.
    assert bearers(machine.pooled.requests) == ["a", "b", "c", "a"]


@pytest.mark.parametrize("token", [False, True])
def test_placeholders(machine: Machine, developer: Developer, token: bool) -> None:
    options, expected = machine.options, "placeholder"
    if token:
        file = developer.home / "token"
        file.write_text("canary-token\n")
        options, expected = [*options, "--set", f"rotate_client_token=@{file}"], "canary-token"
    show = ["sh", "-c", 'echo "$OPENAI_API_KEY $ANTHROPIC_API_KEY"']
    names = ["--placeholder", "OPENAI_API_KEY", "--placeholder", "ANTHROPIC_API_KEY"]
    ran = developer.run("run", *options, *names, "--", *show, env={"OPENAI_API_KEY": "sk-mine"})
    assert ran.stdout == f"{expected} {expected}\n"
    with developer.serve(*options):
        assert developer.run("run", *names, "--", *show).stdout == f"{expected} {expected}\n"


def test_the_pools_keys_are_not_the_programs(world: World, developer: Developer) -> None:
    """What the secrets file takes from the environment, a sandboxed program must not find there."""
    credentials = [{"id": id, "env": f"KEY_{id.upper()}"} for id in "ab"]
    secrets = world.secrets({"name": "p", "hosts": ["a.example"], "credentials": credentials})
    keys = {"KEY_A": secret("a"), "KEY_B": secret("b"), "OTHER": "mine"}
    show = ["sh", "-c", "env | grep -E '^(KEY_|OTHER)' | sort"]
    expected = "KEY_A=placeholder\nKEY_B=placeholder\nOTHER=mine\n"
    ran = developer.run("run", "--secrets", str(secrets), "--", *show, env=keys)
    assert (ran.stdout, ran.stderr) == (expected, "")
    with developer.serve("--secrets", str(secrets), env=keys):
        assert developer.run("run", "--", *show, env=keys).stdout == expected


def test_nothing_is_run_from_the_working_folder(machine: Machine, developer: Developer) -> None:
    """A cloned repository may have a click.py."""
    folder = developer.home / "repository"
    folder.mkdir()
    for name in ("click", "flowrotate", "json", "mitmproxy"):
        (folder / f"{name}.py").write_text(f"open({str(folder / 'seen')!r}, 'w')\n")
    ran = developer.run("run", *machine.options, "--", "echo", "x", cwd=folder)
    assert (ran.returncode, ran.stdout) == (0, "x\n")
    assert not (folder / "seen").exists()


def test_signals_are_as_they_were(machine: Machine, developer: Developer) -> None:
    """Python ignores some, and a shell could not undo that."""
    ran = developer.run("run", *machine.options, "--", "grep", "SigIgn", "/proc/self/status")
    plain = subprocess.run(
        ["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True
    )
    # The classic ones: what the C library does with those behind is its own.
    masks = [int(text.split()[1], 16) & 0x7FFF_FFFF for text in (ran.stdout, plain.stdout)]
    assert masks[0] == masks[1]


def test_its_log_is_in_a_file(world: World, developer: Developer) -> None:
    """The terminal is the program's."""
    machine = Machine(world, lambda _: Reply(429, [], b"{}"))
    command = [sys.executable, "-c", REQUESTS, machine.url(machine.pooled)]
    ran = developer.run("run", *machine.options, "--", *command)
    assert "cooling" not in ran.stderr
    log = developer.state / "run.log"
    assert "a answered 429" in log.read_text()
    assert forms(log.read_bytes()) == []


def test_within_a_private_proxy_the_others_know_it(machine: Machine, developer: Developer) -> None:
    again = "import os, subprocess, sys; subprocess.run(sys.argv[1:])"
    ran = developer.run(
        "run", *machine.options, "--", sys.executable, "-c", again, *CLI, "env", "--json"
    )
    assert json.loads(ran.stdout)["HTTPS_PROXY"].startswith("http://127.0.0.1:")


def test_behind_a_companys_proxy(world: World, machine: Machine, developer: Developer) -> None:
    """A private proxy goes on through it; one that runs and does not is told of."""
    company = world.proxy(scripts=[], options={"ignore_hosts": ".*", "flow_detail": "1"})
    before = {"HTTPS_PROXY": company.url}
    command = [sys.executable, "-c", REQUESTS, machine.url(machine.pooled)]
    ran = developer.run("run", *machine.options, "--", *command, env=before)
    assert (ran.returncode, ran.stderr) == (0, "")
    company.wait_for(f"server connect localhost:{machine.pooled.port}")
    with developer.serve(*machine.options):
        for args in (["env"], ["run", "--", "true"]):
            told = developer.run(*args, env=before)
            assert told.returncode == 0
            assert f"--mode upstream:{company.url} does" in told.stderr
    with developer.serve(*machine.options, "--mode", f"upstream:{company.url}"):
        assert developer.run("env", env=before).stderr == ""


def test_an_sdk_with_a_placeholder(world: World, developer: Developer) -> None:
    def complete(_: Request) -> Any:
        choice = {"index": 0, "finish_reason": "stop"}
        message = {"role": "assistant", "content": "Hello!"}
        made = {"object": "chat.completion", "id": "x", "created": 1, "model": "m"}
        return json_reply({**made, "choices": [{**choice, "message": message}]})

    machine = Machine(world, complete)
    script = (
        "import openai, sys\n"
        "client = openai.OpenAI(base_url=sys.argv[1])\n"
        "said = client.chat.completions.create(model='m', messages=[])\n"
        "print(said.choices[0].message.content)\n"
    )
    ran = developer.run(
        *("run", *machine.options, "--placeholder", "OPENAI_API_KEY", "--"),
        *(sys.executable, "-c", script, f"{machine.pooled.url('/v1')}"),
    )
    assert (ran.stdout, ran.stderr) == ("Hello!\n", "")
    assert bearers(machine.pooled.requests) == ["a"]


def test_what_is_wrong_with_the_secrets_is_told(world: World, developer: Developer) -> None:
    secrets = world.secrets({"name": "p", "hosts": ["a.example"], "credentials": []})
    ran = developer.run("run", "--secrets", str(secrets), "--", "echo", "x")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "pools[0].credentials" in ran.stderr
    assert ran.stderr.endswith("flow-rotate run: the private proxy does not start\n")


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["run", "--proxy", "http://127.0.0.1:1", "--", "true"], 1, "no proxy answers at"),
        (["run", "--proxy", "nonsense", "--", "true"], 2, "--proxy: write http://HOST:PORT"),
        (["run", "--placholder", "X", "--", "true"], 2, "No such option"),
        (["run", "--placeholder", "K=x", "--", "true"], 2, "K=x is no variable's name"),
        (["run", "--placeholder", "--", "true"], 2, "-- is no variable's name"),
        (["run", "--secrets", "/nowhere", "--", "true"], 1, "--secrets /nowhere: no such file"),
        (["env"], 1, "no proxy answers at http://127.0.0.1:8080: start one"),
        (["env", "--secrets", "/dev/null"], 1, "/dev/null: no such file"),
        (["env", "--proxy", "https://a:1"], 2, "--proxy: write http://HOST:PORT"),
        (["env", "--shell", "tcsh"], 2, "'tcsh' is not one of"),
        (["pac"], 1, "no secrets file: name one with --secrets"),
    ],
)
def test_what_they_refuse(developer: Developer, args: list[str], status: int, said: str) -> None:
    ran = developer.run(*args)
    assert (ran.returncode, ran.stdout) == (status, "")
    assert said in ran.stderr


def test_somebody_elses_server_is_no_proxy(machine: Machine, developer: Developer) -> None:
    """Port 8080 is a popular one."""
    try:
        other = socket.create_server(("127.0.0.1", 8080))
    except OSError:
        return  # it is taken, by somebody who is somebody else indeed
    with other:
        ran = developer.run("run", *machine.options, "--", "sh", "-c", "echo $https_proxy")
        assert ran.stdout.startswith("http://127.0.0.1:")
        assert ran.stdout != "http://127.0.0.1:8080\n"
        assert developer.run("env").returncode == 1


SHELLS = {"bash": ["bash", "-c"], "zsh": ["zsh", "-c"], "fish": ["fish", "-c"]}
EVAL = {
    "bash": 'eval "$({env})"; {then}',
    "zsh": 'eval "$({env})"; {then}',
    "fish": "{env} | source; {then}",
}


@pytest.mark.parametrize("shell", list(SHELLS))
def test_a_shell_evaluates_it(
    world: World, machine: Machine, developer: Developer, shell: str
) -> None:
    """Paths with blanks and quotes; twice; and taken back again."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    odd = developer.home / "it's a \\ $HOME folder"
    odd.mkdir()
    corporate = shutil.copy(world.authority.ca, odd / "corporate.pem")
    before = {
        "GIT_SSL_CAINFO": str(corporate),
        "NODE_EXTRA_CA_CERTS": str(corporate),
        "NO_PROXY": "intranet.example,localhost",
        "SHELL": f"/bin/{shell}",
        "XDG_STATE_HOME": str(odd),
    }
    flow_rotate = f"'{sys.executable}' -m flowrotate env"
    with developer.serve(*machine.options, env={"XDG_STATE_HOME": str(odd)}):
        on = EVAL[shell].format(env=flow_rotate, then="env -0; printf '=--=';")
        off = EVAL[shell].format(env=f"{flow_rotate} --unset", then="env -0")
        ran = subprocess.run(
            [*SHELLS[shell], f"{on} {on} {off}"],
            env={**developer.env, **before},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ran.stderr == ""
        once, twice, back = (_variables(text) for text in ran.stdout.split("=--="))
        assert once == twice
        assert once["NO_PROXY"] == "127.0.0.1,::1,intranet.example"
        for name in ("GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"):
            assert Path(once[name]).read_text().count("BEGIN CERTIFICATE") == 2
        assert once["SSL_CERT_FILE"] != once["GIT_SSL_CAINFO"]
        kept = {**developer.env, **before}
        assert {n: back.get(n) for n in EVERY} == {n: kept.get(n) for n in EVERY}


def _variables(text: str) -> dict[str, str]:
    pairs = dict(line.partition("=")[::2] for line in text.split("\0") if "=" in line)
    return {k: v for k, v in pairs.items() if k in (*EVERY, BEFORE)}


def test_dotenv_is_what_docker_reads(machine: Machine, developer: Developer) -> None:
    with developer.serve(*machine.options) as served:
        lines = developer.run("env", "--shell", "dotenv").stdout.splitlines()
        values = dict(line.split("=", 1) for line in lines)
        assert values["HTTPS_PROXY"] == served.url
        assert "FLOW_ROTATE_BEFORE" not in values
        assert developer.json("env")["HTTPS_PROXY"] == served.url


def test_a_bundle_is_renewed_when_the_systems_roots_change(
    world: World, machine: Machine, developer: Developer
) -> None:
    roots = developer.home / "roots.pem"
    roots.write_bytes(world.authority.ca.read_bytes())
    with developer.serve(*machine.options) as served:
        env = {"SSL_CERT_FILE": str(roots)}
        bundle = Path(developer.json("env", env=env)["SSL_CERT_FILE"])
        assert bundle.read_bytes().endswith(roots.read_bytes())
        assert served.ca.read_bytes() in bundle.read_bytes()
        roots.write_bytes(served.ca.read_bytes())
        assert Path(developer.json("env", env=env)["SSL_CERT_FILE"]) == bundle
        assert bundle.read_bytes().count(served.ca.read_bytes()) == 2
