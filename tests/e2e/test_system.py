"""`flow-rotate system` in real sessions: dbus, dconf, gsettings, certutil, Chromium."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowrotate.demo.certs import Authority
from flowrotate.demo.proxy import SCRIPT, clean_environment

from .world import World, bearers, pool

PAC = "http://127.0.0.1:8080/proxy.pac"
ROOT = Path(__file__).resolve().parents[2]
CLI = "from flowrotate.machine.system.cli import system; system()"
REBIND = Path(__file__).with_name("rebind.py")
KILLER = Path(__file__).with_name("system_killer.py")
SHOW = "import os, sys; print(os.environ['DBUS_SESSION_BUS_ADDRESS'], flush=True); sys.stdin.read()"
FIREFOX = ".mozilla/firefox/x1.default"
# What a session of somebody who logs in has, besides what his home says.
FOREIGN = ("XDG_", "DBUS_", "GSETTINGS_", "DCONF_", "SUDO_", "DISPLAY", "WAYLAND_DISPLAY")


class Desktop:
    """A session of its own, with a home of its own."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        for program in ("dbus-run-session", "gsettings", "dconf", "certutil"):
            if not shutil.which(program):
                pytest.skip(f"{program} is not installed")
        self.home = folder / "home"
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        (folder / "profile").write_text("user-db:user\n")
        kept = {k: v for k, v in clean_environment().items() if not k.startswith(FOREIGN)}
        self.env = kept | {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(runtime),
            "DCONF_PROFILE": str(folder / "profile"),
            "GSETTINGS_BACKEND": "dconf",
            "XDG_CURRENT_DESKTOP": "GNOME",
            "PYTHONPATH": str(ROOT / "addon"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        (self.home / ".mitmproxy").mkdir(parents=True)
        shutil.copy(authority.ca, self.home / ".mitmproxy" / "mitmproxy-ca-cert.pem")
        command = ["dbus-run-session", "--", sys.executable, "-c", SHOW]
        pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
        self._session = subprocess.Popen(
            command, env=self.env, stdin=pipe, stdout=pipe, stderr=quiet, text=True
        )
        if not self._session.stdout:
            raise RuntimeError("no pipe")
        self.env["DBUS_SESSION_BUS_ADDRESS"] = self._session.stdout.readline().strip()
        if not self.env["DBUS_SESSION_BUS_ADDRESS"]:
            pytest.skip("no session bus can be started here")

    def close(self) -> None:
        self._session.communicate()

    def tell(self, *command: str | Path) -> str:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=True)
        return done.stdout

    def system(self, *arguments: str, status: int = 0, **env: str) -> str:
        """What the command printed, both channels together."""
        done = subprocess.run(
            [sys.executable, "-c", CLI, *arguments],
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.system(*arguments, "--json"))

    def store(self, place: str) -> Path:
        store = self.home / place
        store.mkdir(parents=True)
        self.tell("certutil", "-N", "-d", f"sql:{store}", "--empty-password")
        return store

    def setting(self, key: str, value: str = "") -> str:
        schema = "org.gnome.system.proxy"
        if value:
            self.tell("gsettings", "set", schema, key, value)
        return self.tell("gsettings", "get", schema, key).strip()

    def state(self) -> dict[str, bytes | None]:
        """All settings, and every file's bytes and every folder of the home."""
        found = {
            str(path.relative_to(self.home)): path.read_bytes() if path.is_file() else None
            for path in self.home.rglob("*")
        }
        return found | {"settings": self.tell("dconf", "dump", "/").encode()}


@pytest.fixture
def desktop(tmp_path: Path, authority: Authority) -> Iterator[Desktop]:
    made = Desktop(tmp_path, authority)
    try:
        yield made
    finally:
        made.close()


def statuses(told: str) -> list[str]:
    return [line.split()[0] for line in told.splitlines() if not line.startswith(" ")]


def test_a_fresh_session_is_as_before(desktop: Desktop) -> None:
    """Not even dconf's database was there; nor is it afterwards."""
    before = desktop.state()
    told = desktop.system("on")
    assert "done     GNOME: mode: 'auto'" in told
    assert (desktop.setting("mode"), desktop.setting("autoconfig-url")) == ("'auto'", f"'{PAC}'")
    assert desktop.state() != before
    assert set(statuses(desktop.system("off"))) == {"done"}
    assert desktop.state() == before


def test_a_session_with_settings_is_as_before(desktop: Desktop) -> None:
    """Set to the default and not set are two things, and both come back."""
    desktop.setting("mode", "'none'")
    desktop.setting("autoconfig-url", "'http://intranet.test/old.pac'")
    desktop.tell("gsettings", "set", "org.gnome.desktop.interface", "clock-format", "24h")
    desktop.store(FIREFOX)
    desktop.store(".pki/nssdb")
    config = desktop.home / ".config" / "kioslaverc"
    config.write_bytes(b"# mine\r\n[Other]\r\na=b")
    before = desktop.state()
    database = before[".config/dconf/user"]
    assert set(statuses(desktop.system("on"))) == {"warning", "done"}
    assert set(statuses(desktop.system("on"))) == {"warning", "already"}
    moved = desktop.json("on", "--proxy", "127.0.0.1:9")
    assert moved["proxy"] == "http://127.0.0.1:9"
    assert [one["status"] for one in moved["steps"]].count("done") == 2
    assert desktop.setting("autoconfig-url") == "'http://127.0.0.1:9/proxy.pac'"
    stands = desktop.json("status")
    assert stands["on"]
    assert not stands["answers"]
    assert {one["status"] for one in stands["changes"]} == {"on"}
    assert set(statuses(desktop.system("off"))) == {"done"}
    assert desktop.state() == before
    assert desktop.state()[".config/dconf/user"] == database
    assert desktop.system("off").split() == ["warning", "nothing", "is", "on"]
    assert desktop.system("status") == "nothing is on\n"


def test_off_needs_no_proxy_and_no_ca(desktop: Desktop) -> None:
    desktop.store(FIREFOX)
    before = desktop.state()
    desktop.system("on")
    shutil.rmtree(desktop.home / ".mitmproxy")
    desktop.system("off")
    assert {k: v for k, v in before.items() if ".mitmproxy" not in k} == desktop.state()


def test_what_the_user_changed_meanwhile_is_left(desktop: Desktop) -> None:
    desktop.system("on")
    desktop.setting("mode", "'manual'")
    assert "changed  GNOME: mode (it is 'manual' now)" in desktop.system("status")
    told = desktop.system("off")
    assert "left     GNOME: mode (somebody has set it to 'manual': left as it is)" in told
    assert (desktop.setting("mode"), desktop.setting("autoconfig-url")) == ("'manual'", "''")
    assert desktop.system("status") == "nothing is on\n"


def test_a_proxy_of_somebody_elses_is_replaced_by_force_alone(desktop: Desktop) -> None:
    desktop.setting("mode", "'manual'")
    before = desktop.state()
    refused = desktop.system("on", status=1)
    assert refused == (
        "GNOME's settings name a proxy (mode manual): --force replaces it, and `off` puts it back\n"
    )
    assert desktop.state() == before
    told = desktop.system("on", "--force")
    assert "start the proxy with --mode upstream:" in told
    assert desktop.setting("mode") == "'auto'"
    assert set(statuses(desktop.system("on"))) == {"warning", "already"}  # ours needs no force
    desktop.system("off")
    assert desktop.state() == before


def test_a_dry_run_changes_nothing(desktop: Desktop) -> None:
    desktop.store(FIREFOX)
    before = desktop.state()
    told = desktop.system("on", "--dry-run")
    assert """gsettings set org.gnome.system.proxy mode "'auto'"\n""" in told
    assert "certutil -A -d sql:" in told
    assert desktop.state() == before
    desktop.system("on")
    between = desktop.state()
    assert "gsettings reset org.gnome.system.proxy mode" in desktop.system("off", "--dry-run")
    assert desktop.state() == between


def test_without_the_session_it_is_told_and_off_waits_for_it(desktop: Desktop) -> None:
    before = desktop.state()
    desktop.system("on")
    away = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere", "XDG_RUNTIME_DIR": "/nowhere"}
    told = desktop.system("off", status=1, **away)
    assert "run it in a terminal of your desktop" in told
    desktop.system("off")
    assert desktop.state() == before


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: a kill loses nothing, and each `fsync` takes long."""
    shared = Path("/dev/shm")
    place = shared if os.access(shared, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


@pytest.mark.parametrize("killed", ["on", "off"])
def test_killed_at_every_step(memory: Path, authority: Authority, killed: str) -> None:
    desktop = Desktop(memory, authority)
    try:
        desktop.store(FIREFOX)
        desktop.setting("mode", "'none'")
        (desktop.home / ".config" / "kioslaverc").write_bytes(b"[Other]\na=b")
        template = memory / "template"
        desktop.home.rename(template)
        told = desktop.tell(sys.executable, KILLER, template, desktop.home, killed)
    finally:
        desktop.close()
    *wrong, steps = told.splitlines()
    assert wrong == []
    assert int(steps) > 50


def test_a_browser_with_no_setting_of_its_own(desktop: Desktop, world: World) -> None:
    """A real Chromium: the PAC from GNOME's settings, the CA from the store that was made."""
    programs = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, programs)), None)
    if not chromium:
        pytest.skip("chromium is not installed")
    name = "api.example.test"
    upstream = world.upstream()
    url = upstream.url("", name)
    proxy = world.proxy(
        pool([url.removeprefix("https://")], ["a"]),
        scripts=[SCRIPT, REBIND],
        env={"REBIND": name},
    )

    def visit(number: int) -> list[str]:
        command = [
            chromium,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--timeout=10000"),
            *(f"--user-data-dir={desktop.home / 'profile'}", "--dump-dom", f"{url}/{number}"),
        ]
        subprocess.run(command, env=desktop.env, capture_output=True, timeout=60, check=False)
        return bearers([r for r in upstream.requests if r.target == f"/{number}"])

    desktop.system("on", "--proxy", proxy.url, "--confdir", str(proxy.folder))
    assert visit(1) == ["a"]
    desktop.system("off")
    assert not (desktop.home / ".pki").exists()
    assert visit(2) == []
