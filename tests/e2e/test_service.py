"""`flow-rotate service …` as a process. `systemctl` and `systemd-run` on its PATH are fakes: one
writes down what it was told, the other runs its command without the shell's variables. What systemd
says of the unit is in tests/test_service_systemd.py."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is for Linux")

SERVICE = "from flowrotate.machine.service.cli import service; service(prog_name='service')"

# Knows of a unit when its file is there, and of one that runs when it was started.
SYSTEMCTL = """\
#!/bin/sh
unit="$HOME/.config/systemd/user/flow-rotate.service"
case "$*" in
*--value) echo 252.38 ;;
*show*)
    [ -e "$unit" ] && echo LoadState=loaded || echo LoadState=not-found
    [ -e "$FAKE/runs" ] && echo ActiveState=active && echo UnitFileState=enabled
    echo SubState=running ;;
*)
    echo "$*" >> "$FAKE/told"
    [ -e "$FAKE/broken" ] && { echo "no more of $4" >&2; exit 4; }
    case "$*" in *now*|*restart*) touch "$FAKE/runs" ;; esac
    case "$*" in *disable*) rm "$FAKE/runs" ;; esac ;;
esac
exit 0
"""

# With the environment of a manager that knows of no shell.
SYSTEMD_RUN = """\
#!/bin/sh
echo "$*" >> "$FAKE/tried"
set -- "$@" end
while [ "$1" != -- ]; do
    case "$1" in --setenv=*) set -- "$@" "${1#--setenv=}" ;; esac
    shift
done
shift
while [ "$1" != end ]; do set -- "$@" "$1"; shift; done
shift
exec env -i "HOME=$HOME" "$@"
"""


SECRETS = """\
pools:
  - name: one
    hosts: [a.example]
    credentials: [{file: key}]
"""


@dataclass
class User:
    home: Path
    fake: Path
    secrets: Path

    def service(
        self, *arguments: str, env: dict[str, str] | None = None, python: str = sys.executable
    ) -> subprocess.CompletedProcess[str]:
        base = {"HOME": str(self.home), "FAKE": str(self.fake), "PATH": f"{self.fake}:{os.defpath}"}
        return subprocess.run(
            [python, "-c", SERVICE, *arguments],
            env={**base, **(env or {})},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.service("install", "--secrets", str(self.secrets), *arguments)

    @property
    def unit(self) -> Path:
        return self.home / ".config" / "systemd" / "user" / "flow-rotate.service"

    def told(self) -> list[str]:
        file = self.fake / "told"
        return file.read_text().splitlines() if file.exists() else []

    def files(self) -> dict[str, tuple[int, bytes | None]]:
        found = sorted(self.home.rglob("*"))
        return {
            str(one): (one.stat().st_mode, one.read_bytes() if one.is_file() else None)
            for one in found
        }


@pytest.fixture
def user(tmp_path: Path) -> User:
    home, fake = tmp_path / "ho me%h", tmp_path / "fake"
    for each in (home, home / ".config", fake):
        each.mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("systemd-run", SYSTEMD_RUN)):
        (fake / name).write_text(text)
        (fake / name).chmod(0o755)
    secrets = home / "secrets.yaml"
    secrets.write_text(SECRETS)
    secrets.chmod(0o600)
    (home / "key").write_text("canary-key")
    return User(home, fake, secrets)


def test_install_and_uninstall(user: User) -> None:
    before = user.files()
    done = user.install("--listen", "127.0.0.1:8099", "--set", "rotate_retries=1")
    assert done.returncode == 0, done.stderr
    assert "Its log: journalctl --user --unit=flow-rotate.service" in done.stdout
    command = f"{sys.executable} -P -m flowrotate serve --listen 127.0.0.1:8099 --secrets"
    secrets = str(user.secrets).replace("%", "%%")
    assert f'\nExecStart=:{command} "{secrets}" --set rotate_retries=1\n' in user.unit.read_text()
    assert user.told() == ["--user daemon-reload", "--user enable --now flow-rotate.service"]
    done = user.service("status", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert (found["installed"], found["active"], found["enabled"]) == (True, True, True)
    done = user.service("uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    assert user.files() == before
    assert "--user disable --now flow-rotate.service" in user.told()
    assert user.service("uninstall").stdout == "already: uninstall: it is not installed\n"
    done = user.service("status")
    assert (done.returncode, done.stdout) == (
        1,
        "not installed (systemd): flow-rotate service install\n",
    )


def test_a_dry_run(user: User) -> None:
    before = user.files()
    done = user.install("--dry-run")
    assert done.returncode == 0
    assert "would: systemctl --user enable --now flow-rotate.service\n" in done.stdout
    assert "\n    NoNewPrivileges=yes\n" in done.stdout
    assert (user.files(), user.told()) == (before, [])


def test_as_json(user: User) -> None:
    said = json.loads(user.install("--json").stdout)
    assert (said["ok"], said["problems"]) == (True, [])
    assert [step["outcome"] for step in said["steps"]] == ["done"] * 5
    (user.fake / "broken").touch()
    done = user.service("uninstall", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert said["problems"][0] == (
        "systemctl --user disable --now flow-rotate.service: no more of flow-rotate.service"
    )
    assert not user.unit.exists()


def test_a_step_that_fails(user: User) -> None:
    (user.fake / "broken").touch()
    done = user.install()
    assert done.returncode == 1
    assert done.stderr == "failed: systemctl --user daemon-reload\n    no more of\n"
    assert "Its log" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--listen", "0.0.0.0:8080"], 2, "loopback"),
        (["--listen", "here"], 2, "write HOST:PORT"),
        (["--mode", "nonsense"], 2, "--mode nonsense"),
        (["--set", "x"], 2, "--set: write NAME=VALUE"),
        (["--set", "rotate_retry=3"], 1, "did you mean rotate_retries?"),
        (["--set", "rotate_retries=x"], 1, "rotate_retries: write a whole number"),
        (["--set", "ssl_verify_upstream_trusted_ca=x.pem"], 1, "%h/x.pem: no such file"),
        (["--set", "upstream_auth=user:canary-pw"], 1, ".mitmproxy/config.yaml instead"),
        (["--secrets", "key.yaml"], 1, "no such file"),
        (["--secrets", "/none.yaml"], 1, "--secrets: no such file: /none.yaml"),
        (["--confdir", "a\nb"], 1, "control character"),
    ],
)
def test_what_is_refused(user: User, arguments: list[str], status: int, message: str) -> None:
    before = user.files()
    done = user.install(*arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (user.files(), user.told()) == (before, [])


def test_a_secrets_file_that_is_wrong_is_refused(user: User) -> None:
    user.secrets.write_text(SECRETS + "    hots: []\n")
    before = user.files()
    done = user.install()
    assert done.returncode == 1
    assert "hots" in done.stderr
    assert "not installed: " in done.stderr
    assert (user.files(), user.told()) == (before, [])


def test_a_key_that_only_the_shell_has(user: User) -> None:
    """The service would not have it."""
    user.secrets.write_text(SECRETS.replace("file: key", "env: MY_KEY"))
    arguments = ("install", "--secrets", str(user.secrets))
    done = user.service(*arguments, env={"MY_KEY": "canary-key"})
    assert done.returncode == 1
    assert "credentials[0].env: " in done.stderr
    assert "none of your shell's variables" in done.stderr
    assert user.told() == []
    user.unit.with_name("flow-rotate.service.d").mkdir(parents=True)
    done = user.service(*arguments, env={"MY_KEY": "canary-key"})
    assert done.returncode == 0
    assert "warning: check the options, without the drop-in\n" in done.stdout
    assert "credentials[0].env: " in done.stdout
    assert "canary" not in done.stdout + done.stderr


def test_an_environment_that_would_add_lines(user: User) -> None:
    before = user.files()
    for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        arguments = ("install", "--secrets", str(user.secrets))
        done = user.service(*arguments, env={name: "/a\nExecStartPre=/evil"})
        assert (done.returncode, user.told()) == (1, [])
        assert "control character" in done.stderr
    assert user.files() == before


def test_the_environment_names_the_secrets_file(user: User) -> None:
    done = user.service("install", env={"FLOW_ROTATE_SECRETS": str(user.secrets)})
    assert done.returncode == 0
    assert f'--secrets "{user.secrets}"'.replace("%", "%%") in user.unit.read_text()


def test_no_systemd(user: User) -> None:
    (user.fake / "systemctl").unlink()
    done = user.service("status", env={"PATH": str(user.fake)})
    assert done.returncode == 1
    done = user.service(
        "install", "--secrets", str(user.secrets), "--json", env={"PATH": str(user.fake)}
    )
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["ok"], said["steps"]) == (False, [])
    (problem,) = said["problems"]
    assert problem.startswith("this machine has no systemd: run `flow-rotate serve` under")


def test_a_unit_that_is_not_ours(user: User) -> None:
    user.unit.parent.mkdir(parents=True)
    user.unit.write_text("[Service]\nExecStart=/bin/true\n")
    before = user.files()
    for arguments in (["install", "--secrets", str(user.secrets)], ["uninstall"]):
        done = user.service(*arguments)
        assert (done.returncode, done.stderr.endswith("first\n")) == (1, True)
    assert f"not ours: {user.unit}" in user.service("status").stdout
    assert (user.files(), user.told()) == (before, [])


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="no virtual environment here")
def test_a_python_that_has_it_by_pythonpath_alone(user: User) -> None:
    """The service would not have that path."""
    bare = f"{sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    path = os.pathsep.join(one for one in sys.path if one)
    before = user.files()
    done = user.service(
        "install", "--secrets", str(user.secrets), env={"PYTHONPATH": path}, python=bare
    )
    assert done.returncode == 1
    assert f"it is not installed for {bare}: {bare} -m pip install '" in done.stderr
    assert (user.files(), user.told()) == (before, [])
