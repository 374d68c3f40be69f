"""A real Chromium without a window, for as long as a test needs it."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowrotate.demo.proxy import clean_environment

from .developer import installed


@contextmanager
def chromium(
    profile: Path, url: str, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """At `url`, with a profile of its own; what it does for itself on the network is off."""
    command = [
        installed("chromium", "chromium-browser", "google-chrome")
        or pytest.skip("chromium is not installed"),
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        "--disable-features=HttpsUpgrades,LocalNetworkAccessChecks",
        *(f"--user-data-dir={profile}", *options, url),
    ]
    quiet = subprocess.DEVNULL
    own = dict(env) if env is not None else clean_environment() | {"HOME": str(profile)}
    running = subprocess.Popen(command, env=own, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
