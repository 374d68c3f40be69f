"""This machine: folders, proxies that run, which of them is meant, and lines for shells."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowrotate.machine import proxies
from flowrotate.machine.commands import run
from flowrotate.machine.files import write_private
from flowrotate.machine.launch import LaunchError, next_proxy
from flowrotate.machine.places import Places, places
from flowrotate.machine.proxies import Running
from flowrotate.machine.shells import line_for, own_name, shell_of, written
from flowrotate.machine.target import DEFAULT_URL, TargetError, find_target, parse_proxy

HOME = Path("/home/me")


SUPPORT = "/home/me/Library/Application Support"
STATE = "/home/me/.local/state/flow-rotate"


@pytest.mark.parametrize(
    ("platform", "env", "state", "config"),
    [
        ("linux", {}, STATE, "/home/me/.config"),
        ("linux", {"XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c"}, "/s/flow-rotate", "/c"),
        ("linux", {"XDG_STATE_HOME": "relative"}, STATE, "/home/me/.config"),
        ("darwin", {"XDG_STATE_HOME": "/s"}, f"{SUPPORT}/flow-rotate", SUPPORT),
    ],
)
def test_folders(platform: str, env: dict[str, str], state: str, config: str) -> None:
    found = places(env, HOME, platform)
    assert (str(found.state), str(found.config)) == (state, config)


@pytest.fixture
def here(tmp_path: Path) -> Places:
    return places({}, tmp_path, "linux")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def running(listener: socket.socket, pid: int = 0, **more: object) -> Running:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    given = {"confdir": "/conf", "secrets": "/s.yaml", "since": 1.0, **more}
    return Running(pid or os.getpid(), url, **given)  # type: ignore[arg-type]


def test_a_proxy_that_runs_is_found(here: Places, listener: socket.socket) -> None:
    one = running(listener)
    proxies.enter(here.state, one)
    assert proxies.find(here.state) == [one]
    (file,) = (here.state / "proxies").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    proxies.leave(here.state, one.pid)
    assert proxies.find(here.state) == []
    proxies.leave(here.state, one.pid)


NOTE = {"pid": 1, "url": "http://127.0.0.1:1", "confdir": "", "secrets": "", "since": 1.0}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"pid": 1}', '{"pid": 1, "url": 7, "x": 1}', "[" * 10_000, "7" * 20_000),
        *(
            json.dumps({**NOTE, **wrong})
            for wrong in (
                {"pid": 0},
                {"pid": -1},
                {"pid": 2**40},
                {"pid": "1"},
                {"url": 7},
                {"url": "http://me:pw@127.0.0.1:1"},
                {"url": "http://127.0.0.1:1\nProxyType=1"},
                {"url": "http://127.0.0.1:1/x"},
                {"since": "x"},
                {"secrets": None},
                {"private": 1},
            )
        ),
    ],
)
def test_what_is_no_note_is_taken_away(here: Places, text: str) -> None:
    write_private(here.state / "proxies" / "1.json", text.encode())
    assert proxies.find(here.state) == []
    assert list((here.state / "proxies").iterdir()) == []


def test_those_that_ended_are_taken_away(here: Places, listener: socket.socket) -> None:
    proxies.enter(here.state, running(listener, pid=2**22 + 1))  # above Linux's highest
    assert proxies.find(here.state) == []
    one = running(listener)
    listener.close()
    proxies.enter(here.state, one)
    assert proxies.find(here.state) == []
    assert list((here.state / "proxies").iterdir()) == []


def test_a_number_that_another_process_got_is_no_proxy(
    here: Places, listener: socket.socket
) -> None:
    """After a crash the note stays, and whoever has the port gets what tools send."""
    assert proxies.born(os.getpid()).isdecimal()
    one = running(listener, born=proxies.born(os.getpid()))
    proxies.enter(here.state, one)
    assert proxies.find(here.state) == [one]
    proxies.enter(here.state, running(listener, born="1"))
    assert proxies.find(here.state) == []


def test_a_process_of_another_user_is_no_proxy(here: Places, listener: socket.socket) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start one as another user")
    with subprocess.Popen(["sleep", "60"], user=65534) as other:
        try:
            assert proxies.born(other.pid) == ""
            proxies.enter(here.state, running(listener, pid=other.pid, born="1"))
            assert proxies.find(here.state) == []
        finally:
            other.kill()


def test_what_is_not_this_users_is_left(here: Places) -> None:
    elsewhere = here.home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "daemon.json").write_text("{}")
    here.state.mkdir(parents=True)
    (here.state / "proxies").symlink_to(elsewhere)
    assert proxies.find(here.state) == []
    assert (elsewhere / "daemon.json").exists()


def test_a_pipe_is_no_note(here: Places) -> None:
    folder = here.state / "proxies"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "1.json")
    assert proxies.find(here.state) == []


def test_the_proxy_that_this_shell_uses_is_meant(here: Places, listener: socket.socket) -> None:
    """Also a private one, for who runs within it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        old, mine = running(listener), running(other, pid=os.getppid(), since=2.0, private=True)
        for one in (old, mine):
            proxies.enter(here.state, one)
        assert find_target(here).url == old.url
        assert find_target(here, current=mine.url).url == mine.url
        assert find_target(here, current="http://127.0.0.1:1").url == old.url


def test_which_proxy_is_meant(here: Places, listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        old = running(listener, since=1.0, token="env:T", upstream_ca="/up.pem")
        new = running(other, pid=os.getppid(), since=2.0, secrets="/two.yaml")
        for one in (new, old):
            proxies.enter(here.state, one)
        found = find_target(here)
        assert (found.url, str(found.confdir), str(found.secrets)) == (old.url, "/conf", "/s.yaml")
        assert (found.runs, found.token, str(found.upstream_ca)) == (True, "env:T", "/up.pem")
        assert found.ca == Path("/conf/mitmproxy-ca-cert.pem")
        assert found.pac == f"{old.url}/proxy.pac"
        assert find_target(here, proxy=new.url).url == new.url
        assert find_target(here, proxy=new.url.removeprefix("http://")).url == new.url
        assert find_target(here, secrets="/two.yaml").url == new.url
        assert str(find_target(here, confdir="/other").confdir) == "/other"


def test_a_private_proxy_is_nobody_elses(here: Places, listener: socket.socket) -> None:
    one = running(listener, private=True)
    proxies.enter(here.state, one)
    assert find_target(here).url == DEFAULT_URL
    # But for who names it.
    assert find_target(here, proxy=one.url).runs


def test_without_any(here: Places) -> None:
    found = find_target(here, proxy="http://127.0.0.1:1")
    assert (found.url, found.runs, found.secrets) == ("http://127.0.0.1:1", False, None)
    assert found.confdir == here.home / ".mitmproxy"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_proxys_url(text: str, expected: str) -> None:
    assert parse_proxy(text) == expected


@pytest.mark.parametrize(
    "text",
    ["x", "https://a:1", "socks5://a:1", "http://a", "http://a:0x1", "http://a:1/x", "a:9e9"],
)
def test_no_proxys_url(text: str) -> None:
    with pytest.raises(TargetError, match="--proxy: write http://HOST:PORT"):
        parse_proxy(text)


def test_a_login_is_not_for_here() -> None:
    with pytest.raises(TargetError, match="leave out user and password") as e:
        parse_proxy("http://me:canary@a:1")
    assert "canary" not in str(e.value)


@pytest.mark.parametrize(
    ("shell", "value", "line"),
    [
        ("bash", "plain", "export N=plain\n"),
        ("bash", "it's $HOME", "export N='it'\"'\"'s $HOME'\n"),
        ("bash", None, "unset N\n"),
        ("zsh", "a b", "export N='a b'\n"),
        ("fish", "it's \\ $HOME", "set -gx N 'it\\'s \\\\ $HOME'\n"),
        ("fish", None, "set -e N\n"),
        ("powershell", "it's $HOME", "$env:N = 'it''s $HOME'\n"),
        ("powershell", None, "Remove-Item Env:N -ErrorAction SilentlyContinue\n"),
        ("dotenv", "http://127.0.0.1:8080", "N=http://127.0.0.1:8080\n"),
        ("dotenv", 'a "b" $c', 'N="a \\"b\\" \\$c"\n'),
        ("dotenv", None, "N=\n"),
    ],
)
def test_lines_for_shells(shell: str, value: str | None, line: str) -> None:
    assert written(shell, {"N": value}) == line


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ("bash", 'eval "$(x env)"'),
        ("zsh", 'eval "$(x env)"'),
        ("fish", "x env | source"),
        ("powershell", "x env | Out-String | Invoke-Expression"),
    ],
)
def test_how_a_shell_takes_it_over(shell: str, expected: str) -> None:
    assert line_for(shell, "x env") == expected


def test_how_this_program_is_called(tmp_path: Path) -> None:
    script = tmp_path / "a clone" / ".venv" / "bin" / "flow-rotate"
    script.parent.mkdir(parents=True)
    script.touch()

    def nowhere(_: str) -> None:
        return None

    assert own_name(lambda _: "/usr/bin/flow-rotate", script) == "flow-rotate"
    assert own_name(nowhere, script) == f"'{script}'"
    module = own_name(nowhere, tmp_path / "__main__.py")
    assert module == f"{sys.executable} -m flowrotate"


@pytest.mark.parametrize(
    ("env", "platform", "expected"),
    [
        ({"SHELL": "/bin/bash"}, "linux", "bash"),
        ({"SHELL": "/usr/local/bin/fish"}, "linux", "fish"),
        ({"SHELL": "/bin/zsh"}, "darwin", "zsh"),
        ({"SHELL": "/bin/dash"}, "linux", "bash"),
        ({"SHELL": "/usr/bin/pwsh"}, "linux", "powershell"),
        ({"SHELL": "C:\\Git\\bash.exe"}, "win32", "bash"),
        ({}, "linux", "bash"),
        ({}, "win32", "powershell"),
    ],
)
def test_which_shell(env: dict[str, str], platform: str, expected: str) -> None:
    assert shell_of(env, platform) == expected


@pytest.mark.parametrize(
    ("asking", "expected"),
    [("fish", "fish"), ("bash", "bash"), ("dash", "bash"), ("pwsh", "powershell"), ("make", "zsh")],
)
def test_the_shell_that_asks_counts_more(asking: str, expected: str) -> None:
    assert shell_of({"SHELL": "/bin/zsh"}, "linux", asking) == expected


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, []),
        ({"https_proxy": None}, []),
        ({"HTTPS_PROXY": "http://corp.example:3128"}, ["--mode", "upstream:http://corp.example:3128"]),
        ({"HTTPS_PROXY": "corp.example:3128/"}, ["--mode", "upstream:http://corp.example:3128"]),
        (
            {"https_proxy": "https://lower.example:1", "HTTPS_PROXY": "http://corp.example:3128"},
            ["--mode", "upstream:https://lower.example:1"],
        ),
    ],
)  # fmt: skip
def test_a_private_proxy_goes_on_through_the_companys(
    env: dict[str, str | None], expected: list[str]
) -> None:
    assert next_proxy(env) == expected


@pytest.mark.parametrize(
    "written",
    [
        "http://me:canary@corp.example:1",
        "http://:canary@corp.example:1",
        "http://me%3Acanary%40corp.example:1@x",
        "socks5://a:1",
        "http://",
        "http://a:canary",
    ],
)
def test_a_proxy_that_it_cannot_go_through(written: str) -> None:
    with pytest.raises(LaunchError, match="start the proxy yourself") as e:
        next_proxy({"HTTPS_PROXY": written})
    assert "canary" not in str(e.value)


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    write_private(file, b"one")
    write_private(file, b"two", 0o644)
    assert file.read_bytes() == b"two"
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.parent.stat().st_mode & 0o777 == 0o700
    before = os.umask(0)
    try:
        write_private(tmp_path / "a" / "b" / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "new", b"x")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "file", "file", "new"]


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (["sh", "-c", "echo out; echo err >&2; exit 3"], 3, "out\nerr\n"),
        (["no-such-program"], 127, "no-such-program: no such program"),
        (["/etc/passwd"], 126, "/etc/passwd: Permission denied"),
    ],
)
def test_programs(command: list[str], status: int, text: str) -> None:
    said = run(command)
    assert (said.status, said.text, said.ok) == (status, text, False)


def test_notes_are_json(here: Places, listener: socket.socket) -> None:
    proxies.enter(here.state, running(listener))
    (file,) = (here.state / "proxies").iterdir()
    assert json.loads(file.read_text())["url"].startswith("http://127.0.0.1:")
