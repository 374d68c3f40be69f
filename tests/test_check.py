"""`flow-rotate check`: what it says of good and of bad files, and that it never says a secret."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flowrotate.check import examine, without_address
from flowrotate.cli import cli
from flowrotate.demo.proxy import clean_environment
from flowrotate.hosts import parse_host_rule
from flowrotate.report import show_host

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
        "paths": [],
        "methods": [],
        "inject": "Authorization: Bearer {secret}",
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
    sources = [(c.pop("source"), c.pop("id")) for c in credentials]
    assert credentials[:3] == [
        plain,
        plain | {"weight": 3, "rpm": 60, "max_in_flight": 4},
        plain | {"disabled": True, "priority": 7, "headers": ["X-Org"]},
    ]
    assert sources == [
        ({"kind": "secret", "name": None}, "one-1"),
        ({"kind": "env", "name": "CHECK_KEY"}, "from-env"),
        ({"kind": "file", "name": "key"}, "from-file"),
        ({"kind": "command", "name": Path(sys.executable).name}, "from-command"),
        ({"kind": "jwt", "name": "HS256"}, "signed"),
        ({"kind": "oauth2", "name": "localhost"}, "fetched"),
    ]


@pytest.mark.parametrize(
    "inject",
    ["Authorization: Bearer {secret}", "x-api-key: {secret}", "?key={secret}", "A: {basic}"],
)
def test_what_belongs_to_a_pool_is_told_as_it_is_written(tmp_path: Path, inject: str) -> None:
    rest = f"paths: [/v1/**, /x/*/y]\nmethods: [GET, POST]\nusername: me\ninject: '{inject}'"
    path = write(tmp_path, f"hosts: [localhost]\ncredentials: [{C}]\n{rest}")
    (pool,) = json.loads(check(path, "--json").stdout)["pools"]
    told = (pool["paths"], pool["methods"], pool["inject"])
    assert told == (["/v1/**", "/x/*/y"], ["GET", "POST"], inject)


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
        (
            "hosts: [localhost]\ncredentials: [{oauth2: {token_url: https://nowhere.invalid/t, "
            f"client_id: a, client_secret: {C}}}}}]",
            "credentials[0].oauth2.token_url",
        ),
    ],
)
def test_a_host_that_does_not_resolve(tmp_path: Path, text: str, place: str) -> None:
    path = write(tmp_path, text)
    result = check(path)
    assert (result.exit_code, result.stderr) == (1, f"{path}: {place}: {UNKNOWN}\n")
    assert "credential" in result.stdout
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


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://localhost", ["localhost"]),
        ("https://Login.Example:8443", ["localhost", "login.example"]),
        ("https://192.0.2.1", ["localhost"]),
        ("http://[::1]:8080", ["localhost"]),
    ],
)
def test_only_names_are_looked_up(good: Path, endpoint: str, expected: list[str]) -> None:
    asked: list[str] = []

    def lookup(names: Any) -> Sequence[str]:
        asked.extend(names)
        return ()

    good.write_text(GOOD.replace("https://localhost", endpoint))
    assert examine(good, ENV, offline=False, lookup=lookup).problems == ()
    assert sorted(asked) == expected


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


def test_the_home_folder_in_quotes(good: Path) -> None:
    result = check(f"~/{good.name}", env=ENV | {"HOME": str(good.parent)})
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{good} is good" in result.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no sh here")
@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("http://127.0.0.1:8080", "none"),
        ("localhost:8080", "none"),
        ("http://127.0.0.1:3128", "http://127.0.0.1:3128"),
    ],
)
def test_a_command_does_not_go_through_a_proxy_with_the_addon(
    tmp_path: Path, proxy: str, expected: str
) -> None:
    command = f"sh -c 'test \"${{HTTPS_PROXY-none}}\" = {expected} && echo {C}'"
    path = write(tmp_path, f"hosts: [localhost]\ncredentials: [{{command: {json.dumps(command)}}}]")
    result = check(path, env={"HTTPS_PROXY": proxy})
    assert (result.exit_code, result.stderr) == (0, "")


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


def without(packages: Sequence[str], *args: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in an environment that does not have some packages."""
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in packages)
    program = f"import sys; {blocked}from flowrotate.__main__ import main; main()"
    command = [sys.executable, "-c", program, *map(str, args)]
    env = clean_environment() | ENV | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_a_check_without_rich(good: Path) -> None:
    done = without(["rich"], "check", good)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [re.split("  +", line) for line in done.stdout.splitlines()]
    assert lines[1:4] == [
        ["credential", "source", "weight", "priority", "limits", "state"],
        ["one-1", "the secrets file", "1", "0", "ready"],
        ["from-env", "env CHECK_KEY", "3", "0", "60 a minute, 4 at once", "ready"],
    ]
    assert len({line.rindex("ready") for line in done.stdout.splitlines()[2:4]}) == 1
    assert done.stdout.startswith("one: localhost, *.claude.example, ")
    assert done.stdout.endswith(f"\n{good} is good: pools 1, credentials 6\n")


def test_problems_without_rich(tmp_path: Path) -> None:
    bad = write(tmp_path, BAD)
    done = without(["rich"], "check", bad)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == check(bad, env=ENV).stderr

    path = write(tmp_path, f"hosts: [nowhere.invalid]\ncredentials: [{C}]")
    done = without(["rich"], "check", path, "--offline")
    assert (done.returncode, done.stderr) == (0, f"{path}: hosts[0]: warning: {UNKNOWN}\n")


@pytest.mark.parametrize(
    ("packages", "args"), [(["rich"], ["demo"]), (["click"], ["check"]), (["click"], [])]
)
def test_what_is_missing_is_named(packages: list[str], args: list[str]) -> None:
    done = without(packages, *args)
    expected = "flow-rotate: needs the extra 'cli': install click and rich beside mitmproxy\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_another_module_that_is_missing_is_a_fault_of_ours() -> None:
    done = without(["flowrotate.check"], "check")
    assert (done.returncode, "Traceback" in done.stderr) == (1, True)
