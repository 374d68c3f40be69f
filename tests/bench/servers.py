"""What a benchmark runs against and with: nginx as TLS upstream, mitmdump in pairs, wrk."""

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from flowrotate.demo.certs import Authority
from flowrotate.demo.proxy import SCRIPT, Proxy

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
    fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
    keepalive_requests 1000000;
    map $http_authorization $limited {{ default 0; ~sk-bad 1; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {leaf}; ssl_certificate_key {leaf};
        default_type application/json;
        location / {{
            if ($limited) {{ add_header Retry-After $arg_after always; return 429 '{{}}'; }}
            return 200 '{json}';
        }}
        location = /large.json {{ root {folder}; }}
        location /events {{
            if ($limited) {{ return 429 '{{}}'; }}
            default_type text/event-stream;
            return 200 'data: 1\\n\\n';
        }}
    }}
}}
"""
PROXY_CORE, REST_CORE = 0, 1


@contextmanager
def nginx(folder: Path, authority: Authority) -> Iterator[int]:
    """Its port. A key that begins with `sk-bad` is answered 429, Retry-After as ?after= says."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    config = folder / "nginx.conf"
    body = json.dumps({"object": "chat.completion", "choices": ["Hello!"]})
    config.write_text(NGINX.format(folder=folder, port=port, leaf=authority.leaf, json=body))
    with subprocess.Popen(["nginx", "-c", config, "-p", folder], stderr=subprocess.PIPE) as server:
        pin(server.pid, REST_CORE)
        try:
            while server.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    pass
            yield port
        finally:
            server.terminate()


@contextmanager
def mitmdump(
    folder: Path,
    authority: Authority,
    port: int,
    keys: Sequence[str],
    script: Path | None = None,
    mode: str | None = None,
    **more: str,
) -> Iterator[Proxy]:
    """In reverse mode before nginx, if not in another; without keys bare, or with `script`."""
    folder.mkdir()
    options: dict[str, str] = {"flow_detail": "0", **more}
    if keys:
        file = folder / "secrets.json"
        file.touch(mode=0o600)
        pool = {"hosts": [f"localhost:{port}"], "credentials": list(keys)}
        file.write_text(json.dumps(pool))
        options["rotate_secrets"] = str(file)
    scripts = [SCRIPT] if keys else [script] if script else []
    mode = mode or f"reverse:https://localhost:{port}"
    with Proxy(folder, trust=authority.ca, options=options, scripts=scripts, mode=mode) as proxy:
        pin(proxy.pid, PROXY_CORE)
        yield proxy


def pin(pid: int, core: int) -> None:
    """Keep a process, all its threads, on one core, where there are several."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Burst:
    requests: int
    failed: int
    wall: float
    cpu: float


def burst(proxy: Proxy, seconds: int, path: str) -> Burst:
    """wrk for so long: 8 connections, one thread. `failed` counts what was not 2xx."""
    before = cpu_seconds(proxy.pid)
    command = ["wrk", "-t1", "-c8", f"-d{seconds}s", proxy.url + path]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: pin(os.getpid(), REST_CORE),
    ).stdout
    cpu = cpu_seconds(proxy.pid) - before
    counted = re.search(r"(\d+) requests in ([\d.]+)s", done)
    assert counted, done
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done)
    errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done
    )
    lost = sum(map(int, errors.groups())) if errors else 0
    return Burst(int(counted[1]), (int(bad[1]) if bad else 0) + lost, float(counted[2]), cpu)


def keys(good: int, bad: int = 0) -> list[str]:
    """A pool's secrets, good and bad ones in turn."""
    goods = [f"sk-good-{n:06}" for n in range(good)]
    bads = [f"sk-bad-{n:06}" for n in range(bad)]
    return [key for pair in zip_longest(goods, bads) for key in pair if key]
