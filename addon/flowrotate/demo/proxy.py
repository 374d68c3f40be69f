"""A real mitmproxy process with the real script, for `flow-rotate demo` and the tests."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SCRIPT = Path(__file__).resolve().parents[2] / "flow_rotate.py"
START_SECONDS = 30.0
STOP_SECONDS = 10.0

_LISTENING = re.compile(r"proxy\b.* listening at .*:(\d+)\.$", re.MULTILINE)
# What would send the proxy's own connections, or a client's, somewhere else.
_SURROUNDINGS = re.compile(r".*_PROXY|SSL_CERT_.*|.*_CA_BUNDLE|FLOW_ROTATE_.*", re.IGNORECASE)


def clean_environment() -> dict[str, str]:
    """This process's environment without proxies, CAs and secrets files."""
    return {k: v for k, v in os.environ.items() if not _SURROUNDINGS.fullmatch(k)}


def tool(name: str) -> str:
    """mitmdump or mitmweb: the one of this interpreter, or the one on the PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is not installed")
    return found


class Proxy:
    """Runs from `with` to its end, on a free port of `host`.

    `trust` is a CA file for upstream certificates; `options` are given as `--set`. Raises
    ProxyError when the process ends, or says nothing for START_SECONDS, before it listens.
    """

    def __init__(
        self,
        folder: Path,
        *,
        trust: Path | None = None,
        options: Mapping[str, str | Sequence[str]] | None = None,
        mode: str = "regular",
        args: Sequence[str] = (),
        scripts: Sequence[Path] = (SCRIPT,),
        command: str = "mitmdump",
        env: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.port = 0
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._ended = False
        program = command if os.sep in command else tool(command)
        self.command = [program, "--set", f"confdir={folder}"]
        for script in scripts:
            self.command += ["-s", str(script)]
        self.command += ["--mode", mode, "--listen-host", host, "--listen-port", "0"]
        if trust:
            self.command += ["--set", f"ssl_verify_upstream_trusted_ca={trust}"]
        for name, value in (options or {}).items():
            for item in [value] if isinstance(value, str) else value:
                self.command += ["--set", f"{name}={item}"]
        self.command += args
        own = {"PYTHONUNBUFFERED": "1", "XDG_STATE_HOME": str(folder.absolute() / "state")}
        self._env = clean_environment() | own | dict(env or {})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.folder / "mitmproxy-ca-cert.pem"

    @property
    def text(self) -> str:
        """Everything that the process has printed so far."""
        with self._said:
            return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        self._spawn()
        try:
            self.port = int(self.wait_for(_LISTENING, START_SECONDS)[1])
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kill()

    def run_to_exit(self) -> int:
        """Start, wait for the end that a bad configuration brings, and return the exit status."""
        self._spawn()
        try:
            return self._process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            raise ProxyError("still running", self.text) from None
        finally:
            self._kill()

    def wait_for(
        self, pattern: str | re.Pattern[str], seconds: float = 10.0, *, after: int = 0
    ) -> re.Match[str]:
        """The first match in what is printed, from the character `after` on, when it is there."""
        found: re.Match[str] | None = None

        def there() -> bool:
            nonlocal found
            found = re.compile(pattern).search("".join(self._lines), after)
            return found is not None

        self._until(there, seconds)
        assert found
        return found

    def stop(self, by: signal.Signals = signal.SIGINT) -> int:
        """Ask it to end, as Ctrl-C does, and return the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(by)
        return self.wait()

    def wait(self) -> int:
        """Its exit status, when it has ended by itself or is about to."""
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise ProxyError("does not end", self.text) from None
        self._reader.join()
        return status

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            self.command,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._said:
                self._lines.append(line)
                self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    def _until(self, there: Callable[[], bool], seconds: float) -> None:
        with self._said:
            if not self._said.wait_for(lambda: there() or self._ended, seconds) or not there():
                why = "ended" if self._ended else f"not so within {seconds:.0f} s"
                raise ProxyError(why, "".join(self._lines))

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout
        self._process.stdout.close()


class ProxyError(RuntimeError):
    """The process did not do what was waited for; the message has all that it printed."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(f"mitmproxy: {why}\n{text}")
