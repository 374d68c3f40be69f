"""`flow-rotate demo`, as a user runs it, and that it would not prove what is not so."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from flowrotate.demo.evidence import (
    Row,
    _even,
    _left_alone,
    _live,
    _no_failure_seen,
    _no_placeholder,
    _no_secret,
    forms_of,
)
from flowrotate.demo.proxy import clean_environment
from flowrotate.demo.service import Service

ROOT = Path(__file__).resolve().parents[2]


def flow_rotate(*args: str) -> subprocess.CompletedProcess[str]:
    env = clean_environment() | {"PYTHONPATH": str(ROOT / "addon"), "COLUMNS": "100"}
    command = [sys.executable, "-m", "flowrotate", *args]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def shape(text: str) -> str:
    """Without what differs from run to run: ports, sizes, blanks at line ends."""
    return re.sub(r"[\d,]+ bytes|:\d+", "N", "\n".join(map(str.rstrip, text.strip().splitlines())))


def test_the_demo_proves_the_main_job_and_the_readme_shows_it() -> None:
    done = flow_rotate("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.search(
        r"^```text\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert shown
    assert shape(done.stdout) == shape(shown[1])


def test_the_demo_for_programs() -> None:
    done = flow_rotate("demo", "--json")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["ok"] is True
    assert {row["credential"]: row["state"] for row in outcome["rows"]} == {
        "alpha": "ready",
        "beta": "ready",
        "limited": "cooling",
        "revoked": "disabled",
    }
    assert outcome["client"] == {"200": 60}


def test_keep_leaves_it_running_for_the_curl_line_that_it_prints() -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    env = clean_environment() | {"PYTHONPATH": str(ROOT / "addon"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "flowrotate", "demo", "--keep"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        curl = next(line for line in running.stdout if line.startswith("  curl "))
        answers = [
            subprocess.run(shlex.split(curl), env=env, capture_output=True, text=True).stdout
            for _ in range(4)
        ]
        running.send_signal(signal.SIGINT)
        assert "NOT SO" not in running.stdout.read()
    assert ["Hello!" in answer for answer in answers] == [True] * 4
    assert running.returncode == 0


def rows(alpha: int, beta: int, limited: int = 1, revoked: int = 1) -> list[Row]:
    return [
        Row("alpha", alpha, 0, 0, "ready"),
        Row("beta", beta, 0, 0, "ready"),
        Row("limited", 0, limited, 0, "cooling"),
        Row("revoked", 0, 0, revoked, "disabled"),
    ]


def test_it_would_not_prove_what_is_not_so() -> None:
    assert _even(rows(29, 29)).ok
    assert not _even(rows(28, 30)).ok
    assert not _even(rows(0, 0)).ok
    assert _left_alone(rows(1, 1)).ok
    assert not _left_alone(rows(1, 1, limited=2)).ok
    assert not _left_alone(rows(1, 1, revoked=0)).ok
    assert _no_placeholder(Service({}, Counter({("alpha", 200): 60}))).ok
    assert not _no_placeholder(Service({}, Counter({("alpha", 200): 59, ("other", 401): 1}))).ok
    assert not _no_placeholder(Service({})).ok
    assert _no_failure_seen(Counter({200: 60})).ok
    assert not _no_failure_seen(Counter({200: 59, 429: 1})).ok
    assert not _no_failure_seen(Counter()).ok
    assert _live([0, 2, 4, 6, 8], [1, 3, 5, 7, 9]).ok
    assert not _live([0, 2, 4, 6, 8], [9, 9, 9, 9, 9]).ok
    assert not _live([0, 2, 4, 6, 8], [1, 3, 5, 7]).ok
    assert not _live([], []).ok


@pytest.mark.parametrize("form", range(6))
def test_a_secret_in_any_form_is_found(form: int) -> None:
    secret = "sk-/alpha+0123456789"
    leaked = b"before " + forms_of(secret)[form] + b" after"
    assert _no_secret([secret], {"log": b"nothing here"}).ok
    assert not _no_secret([secret], {"log": leaked}).ok
    assert not _no_secret([secret], {"log": b""}).ok  # an empty artefact proves nothing


def test_the_command_line() -> None:
    assert Path(flow_rotate("path").stdout.strip()) == ROOT / "addon" / "flow_rotate.py"
    assert flow_rotate("nothing").returncode == 2
    assert "demo" in flow_rotate("--help").stdout
    assert flow_rotate("--version").stdout.startswith("flow-rotate, version ")
