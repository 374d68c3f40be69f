"""A mitmproxy that does not have our package, as from pipx or uv, loads the script as it is."""

import json
import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

from flowrotate.demo.proxy import clean_environment

from .world import World, bearers, pool


@pytest.fixture
def mitmdump(tmp_path: Path) -> str:
    """One in an environment of its own: MITMPROXY_BIN names its folder, or one is made.

    The one that is made sees this environment's packages but not its editable installs: a .pth
    file in a folder that a .pth file adds is not read.
    """
    if folder := os.environ.get("MITMPROXY_BIN"):
        return str(Path(folder) / "mitmdump")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "v")], check=True)
    (packages,) = (tmp_path / "v").glob("lib/python*/site-packages")
    (packages / "these.pth").write_text("\n".join(site.getsitepackages()))
    program = tmp_path / "v" / "bin" / "mitmdump"
    program.write_text(
        f"#!{program.parent}/python\nfrom mitmproxy.tools.main import mitmdump\nmitmdump()\n"
    )
    program.chmod(0o755)
    return str(program)


def test_a_check_with_what_mitmproxy_brings(world: World, mitmdump: str) -> None:
    secrets = world.folder / "secrets.json"
    secrets.touch(mode=0o600)
    secrets.write_text(json.dumps({"pools": [pool(["localhost"])]}))
    done = subprocess.run(
        [Path(mitmdump).parent / "python", "-m", "flowrotate", "check", secrets],
        env=clean_environment() | {"PYTHONPATH": str(world.copied_addon().parent)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{secrets} is good: pools 1, credentials 3" in done.stdout.replace("\n", "")


def test_the_script_alone(world: World, mitmdump: str) -> None:
    python = Path(mitmdump).parent / "python"
    missing = subprocess.run(
        [python, "-c", "import flowrotate"], capture_output=True, text=True, cwd=world.folder
    )
    assert "No module named 'flowrotate'" in missing.stderr
    upstream = world.upstream()
    script = world.copied_addon()
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]), scripts=[script], command=mitmdump)
    client = world.client(proxy)
    for _ in range(4):
        assert client.get(f"https://localhost:{upstream.port}/").status_code == 200
    assert bearers(upstream.requests) == list("abca")
    client.close()
    proxy.wait_for("client disconnect")
    assert proxy.stop() == 0
    assert "Traceback" not in proxy.text
