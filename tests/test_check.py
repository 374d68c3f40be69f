"""`flow-rotate check`: what it says of good and of bad files, and that it never says a secret."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flowrotate.check import examine, show_host, without_address
from flowrotate.cli import cli
from flowrotate.demo.proxy import clean_environment
from flowrotate.hosts import parse_host_rule

C = "sk-canary-5f2a"

GOOD = f"""
pools:
  - name: one
    hosts: [localhost, "*.claude.example", "[::1]:9443", "http://127.0.0.1:9080", "127.0.0.1:*"]
    strategy: fill-first
    credentials:
      - {C}-inline
      - {{id: from-env, env: CHECK_KEY, weight: 3, rpm: 60, max_in_flight: 4}}
      - {{id: from-file, file: key, priority: 7, disabled: true, headers: {{X-Org: {C}-header}}}}
      - {{id: from-command, command: "{sys.executable} -c 'print(\\"{C}-command\\")'"}}
      - id: signed
        jwt: {{algorithm: HS256, key: {{env: CHECK_SIGN}}, claims: {{iss: {C}-claim}}}}
      - id: fetched
        oauth2:
          token_url: https://localhost/{C}-path?{C}-query
          client_id: {C}-client
          client_secret: {{file: client}}
"""
ENV = {"CHECK_KEY": f"{C}-env", "CHECK_SIGN": f"{C}-signing-key-0123456789abcdef"}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(f"{C}-file\n")
    (tmp_path / "client").write_text(f"{C}-client-secret\n")
    return write(tmp_path, GOOD)


def write(folder: Path, text: str, name: str = "secrets.yaml") -> Path:
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def check(*args: str | Path, env: dict[str, str] | None = None) -> Result:
    """Run it, and see that no secret is in what it prints."""
    nowhere = {"FLOW_ROTATE_SECRETS": "", "HOME": "/nonexistent", "COLUMNS": "200"}
    result = CliRunner(env=nowhere | (env or {})).invoke(cli, ["check", *map(str, args)])
    assert "canary" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_a_good_file_is_shown(good: Path) -> None:
    result = check(good, env=ENV)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "one: localhost, *.claude.example, [::1]:9443, http://127.0.0.1:9080, 127.0.0.1:*" in (
        result.stdout
    )
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in result.stdout.splitlines()
        if line.startswith("│")
    ]
    program = Path(sys.executable).name
    assert rows == [
        ["one-1", "the secrets file", "1", "0", "", "ready"],
        ["from-env", "env CHECK_KEY", "3", "0", "60 a minute, 4 at once", "ready"],
        ["from-file", "file key", "1", "7", "", "disabled"],
        ["from-command", f"command {program}", "1", "0", "", "ready"],
        ["signed", "jwt HS256, key from env CHECK_SIGN", "1", "0", "", "ready"],
        ["fetched", "oauth2 client_credentials at localhost", "1", "0", "", "ready"],
    ]
    assert f"{good} is good: pools 1, credentials 6" in result.stdout


def test_for_programs(good: Path) -> None:
    result = check(good, "--json", env=ENV)
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    (pool,) = found.pop("pools")
    assert found == {"file": str(good), "ok": True, "problems": [], "warnings": []}
    credentials = pool.pop("credentials")
    assert pool == {
        "name": "one",
        "hosts": [
            "localhost",
            "*.claude.example",
            "[::1]:9443",
            "http://127.0.0.1:9080",
            "127.0.0.1:*",
        ],
        "strategy": "fill-first",
    }
    plain: dict[str, Any] = {
        "disabled": False,
        "weight": 1,
        "priority": 0,
        "rpm": None,
        "max_in_flight": None,
        "headers": [],
    }
    assert credentials[:3] == [
        plain | {"id": "one-1", "source": "the secrets file"},
        plain
        | {"id": "from-env", "source": "env CHECK_KEY"}
        | {"weight": 3, "rpm": 60, "max_in_flight": 4},
        plain
        | {"id": "from-file", "source": "file key"}
        | {"disabled": True, "priority": 7, "headers": ["X-Org"]},
    ]


BAD = f"""
hosts: [localhost]
strategy: fastest
credentials:
  - {{secret: {C}, wieght: 2}}
  - {{env: CHECK_KEY}}
"""
NOT_SET = "this environment variable is not set, or empty: set it"


def test_all_problems_are_told(tmp_path: Path) -> None:
    bad = write(tmp_path, BAD)
    result = check(bad)
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{bad}: ") for line in lines)
    assert f"{bad}: credentials[1].env: {NOT_SET}" in lines
    assert any(": strategy: " in line for line in lines)
    assert any("did you mean 'weight'?" in line for line in lines)


def test_all_problems_are_told_to_programs(tmp_path: Path) -> None:
    bad = write(tmp_path, BAD)
    result = check(bad, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    found = json.loads(result.stdout)
    assert (found["ok"], found["file"], found["pools"], found["warnings"]) == (
        False,
        str(bad),
        [],
        [],
    )
    assert {"place": "credentials[1].env", "message": NOT_SET} in found["problems"]
    assert len(found["problems"]) == 3


UNKNOWN = "nowhere.invalid has no address: mend the name, or look at this machine's network"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"hosts: [localhost, nowhere.invalid]\ncredentials: [{C}]", "hosts[1]"),
        (
            f"pools: [{{name: a, hosts: [nowhere.invalid], credentials: [{C}]}}]",
            "pools[0].hosts[0]",
        ),
    ],
)
def test_a_host_that_does_not_resolve(tmp_path: Path, text: str, place: str) -> None:
    path = write(tmp_path, text)
    result = check(path)
    assert (result.exit_code, result.stderr) == (1, f"{path}: {place}: {UNKNOWN}\n")
    assert "the secrets file" in result.stdout
    assert "is good" not in result.stdout
    found = json.loads(check(path, "--json").stdout)
    assert found["problems"] == [{"place": place, "message": UNKNOWN}]
    assert [pool["name"] for pool in found["pools"]] != []

    result = check(path, "--offline")
    assert (result.exit_code, result.stderr) == (0, f"{path}: {place}: warning: {UNKNOWN}\n")
    assert "is good" in result.stdout
    found = json.loads(check(path, "--offline", "--json").stdout)
    assert (found["ok"], found["problems"]) == (True, [])
    assert found["warnings"] == [{"place": place, "message": UNKNOWN}]


def test_only_names_are_looked_up(good: Path) -> None:
    asked: list[str] = []

    def lookup(names: Any) -> Sequence[str]:
        asked.extend(names)
        return ()

    assert examine(good, ENV, offline=False, lookup=lookup).problems == ()
    assert asked == ["localhost"]


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def getaddrinfo(name: str, *_: object, **__: object) -> list[object]:
        if name.startswith("slow"):
            answer.wait()
        return [name]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    before = set(threading.enumerate())
    names = [f"slow-{n}" for n in range(3)] + [f"quick-{n}" for n in range(100)]
    assert without_address(names, 0.5) == {"slow-0", "slow-1", "slow-2"}
    # Nor at the interpreter's end.
    assert all(thread.daemon for thread in set(threading.enumerate()) - before)
    answer.set()
    assert without_address(names, 60) == set()
    assert without_address([]) == set()


@pytest.mark.parametrize(
    "text",
    [
        "api.example.com",
        "api.example.com:8443",
        "api.example.com:*",
        "*.example.com",
        "*.example.com:*",
        "http://localhost",
        "http://*.example.com:8080",
        "http://[::1]:9080",
        "[2001:db8::1]",
        "[2001:db8::1]:*",
    ],
)
def test_hosts_are_shown_as_they_are_written(text: str) -> None:
    assert show_host(parse_host_rule(text)) == text


def test_the_file_that_the_environment_names(good: Path) -> None:
    named = good.rename(good.with_name("[bold] :key:.yaml"))
    result = check(env=ENV | {"FLOW_ROTATE_SECRETS": str(named)})
    assert result.exit_code == 0
    assert f"{named} is good" in result.stdout


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "missing [x] :key:.yaml"
    expected = f"{path}: there is no such file: create it, or mend its name\n"
    for result in (check(path), check(env={"FLOW_ROTATE_SECRETS": str(path)})):
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", expected)


def test_no_file_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The project's own folder may have a file.
    monkeypatch.setattr("flowrotate.cli.PACKAGE", tmp_path / "addon" / "flowrotate")
    result = check()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("no secrets file: ")
    found = json.loads(check("--json").stdout)
    assert (found["ok"], found["file"]) == (False, None)
    assert found["problems"][0]["message"].startswith("no secrets file: ")


@pytest.mark.parametrize("args", [["--nothing"], ["one.yaml", "two.yaml"]])
def test_misuse(args: list[str]) -> None:
    assert check(*args).exit_code == 2


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_as_it_is_installed(good: Path, args: list[str]) -> None:
    """The real command, in a folder of its own, with its output in a pipe."""
    program = Path(sys.executable).with_name("flow-rotate")
    done = subprocess.run(
        [program, "check", good.name, *args],
        cwd=good.parent,
        env=clean_environment() | ENV,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "from-command" in done.stdout
    assert "canary" not in done.stdout
    assert "\x1b" not in done.stdout
