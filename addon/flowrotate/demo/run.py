"""`flow-rotate demo`: the main job on this machine, with real processes, and the proof of it."""

import http.client
import json
import secrets
import signal
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from .certs import Authority, make_authority
from .evidence import Evidence, gather
from .proxy import Proxy
from .service import KEYS, STREAM, Service
from .upstream import ThreadedUpstream

REQUESTS = 60
PLACEHOLDER = "sk-any-placeholder"
PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]})
STATE_COLOURS = {"ready": "green", "cooling": "yellow", "disabled": "red"}


def run(*, keep: bool, as_json: bool) -> int:
    """Exit status: 0 when everything is proved, 1 when anything is not."""
    console = Console(stderr=as_json, highlight=False)
    with tempfile.TemporaryDirectory(prefix="flow-rotate-demo-") as name:
        folder = Path(name)
        service = Service({id: f"sk-{id}-{secrets.token_hex(16)}" for id in KEYS})
        authority = make_authority(folder, ["localhost"])
        with ThreadedUpstream(service, leaf=authority.leaf) as server:
            evidence = _prove(folder, service, server, authority, console)
            if as_json:
                print(json.dumps(evidence.as_json(), indent=2), flush=True)
            else:
                _show(console, evidence)
            if keep:
                with _proxy(folder, service, server, authority, {}) as proxy:
                    _wait(console, proxy, server)
    return 0 if evidence.ok else 1


def _prove(
    folder: Path,
    service: Service,
    server: ThreadedUpstream,
    authority: Authority,
    console: Console,
) -> Evidence:
    """Send the requests, end the proxy, and look at what everybody has of it."""
    capture, har = folder / "flows.mitm", folder / "flows.har"
    options = {
        "hardump": str(har),
        "save_stream_file": str(capture),
        "flow_detail": "3",
        "termlog_verbosity": "debug",
    }
    with _proxy(folder, service, server, authority, options) as proxy:
        console.print(f"mitmproxy at {proxy.url}, upstream at {server.url('')}")
        arrived = _stream(proxy, server)
        statuses = list(_send(proxy, server, console))
        proxy.stop()
    artefacts = {
        "the captured flows": capture.read_bytes(),
        "the HAR export": har.read_bytes(),
        "the proxy's log": proxy.text.encode(),
    }
    return gather(service, statuses, arrived, capture, artefacts)


def _proxy(
    folder: Path,
    service: Service,
    server: ThreadedUpstream,
    authority: Authority,
    options: Mapping[str, str],
) -> Proxy:
    """The real mitmdump with the real script and the service's keys."""
    config = {
        "name": "demo",
        "hosts": [f"localhost:{server.port}"],
        "credentials": [{"id": id, "secret": s} for id, s in service.secrets.items()],
    }
    file = folder / "secrets.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"pools": [config]}))
    return Proxy(
        folder / "mitmproxy",
        trust=authority.ca,
        options={"rotate_secrets": str(file), **options},
    )


def _connect(proxy: Proxy, server: ThreadedUpstream) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(proxy.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=context, timeout=10)
    connection.set_tunnel("localhost", server.port)
    return connection


def _stream(proxy: Proxy, server: ThreadedUpstream) -> list[float]:
    """When the events of a live stream were here, by the monotonic clock."""
    connection = _connect(proxy, server)
    connection.request("GET", STREAM, headers={"Authorization": f"Bearer {PLACEHOLDER}"})
    with connection.getresponse() as response:
        arrived = [time.monotonic() for line in response if line.startswith(b"data: ")]
    connection.close()
    return arrived


def _send(proxy: Proxy, server: ThreadedUpstream, console: Console) -> Iterator[int]:
    """The status of each request, as any client that knows one key would get it."""
    connection = _connect(proxy, server)
    headers = {"Authorization": f"Bearer {PLACEHOLDER}", "Content-Type": "application/json"}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        for _ in progress.track(range(REQUESTS), description="requests with a placeholder"):
            connection.request("POST", PATH, BODY, headers)
            response = connection.getresponse()
            response.read()
            yield response.status
    connection.close()


def _wait(console: Console, proxy: Proxy, server: ThreadedUpstream) -> None:
    """Until Ctrl-C or SIGTERM."""
    curl = f"curl --proxy {proxy.url} --cacert {proxy.ca} {server.url(PATH)} -d '{BODY}'"
    console.print("\nStill running; try it as often as you like, and end it with Ctrl-C:\n")
    console.print(f"  {escape(curl)}\n", soft_wrap=True)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        stop.wait()
    except KeyboardInterrupt:
        print(file=sys.stderr)


def _show(console: Console, evidence: Evidence) -> None:
    table = Table(title="What the upstream saw, and what the proxy made of it")
    table.add_column("credential")
    for header in ("requests served", "401", "429"):
        table.add_column(header, justify="right")
    table.add_column("state")
    for row in evidence.rows:
        colour = STATE_COLOURS.get(row.state, "default")
        counts: Sequence[int] = (row.served, row.unauthorized, row.limited)
        table.add_row(row.credential, *map(str, counts), f"[{colour}]{row.state}[/]")
    console.print(table)
    for proof in evidence.proofs:
        mark = "[green]proved[/]" if proof.ok else "[red]NOT SO[/]"
        console.print(f"{mark}  {escape(proof.claim)}: {escape(proof.seen)}", soft_wrap=True)
