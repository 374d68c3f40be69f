"""`just bench`: ratios of pairs, side by side on this machine. docs/performance.md says how."""

import argparse
import http.client
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from flowrotate.demo.certs import Authority, make_authority
from flowrotate.demo.proxy import Proxy

from . import tunnels as through
from .servers import Burst, burst, keys, mitmdump, nginx

NOTHING = "class Nothing:\n    pass\naddons = [Nothing()]\n"
STREAMING = "def responseheaders(flow):\n    flow.response.stream = True\n"


@dataclass(frozen=True)
class Pair:
    """Two set-ups by their keys (none: bare mitmdump), and the ratio that the first must reach.

    Failing keys are answered with Retry-After `after`; `warm` seconds lead to the steady state.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    goal: float | None
    after: int = 1
    warm: int = 2
    script: str = ""
    """A script for the first, where it has no keys."""


@dataclass(frozen=True)
class Outcome:
    """Ratios of requests (or bytes) per second of CPU and of wall time; `failed` is what clients
    saw of it."""

    name: str
    cpu: float
    lowest: float
    highest: float
    wall: float
    failed: int
    goal: float | None

    @property
    def met(self) -> bool:
        return self.failed == 0 and (self.goal is None or self.cpu >= self.goal)


PAIRS = (
    Pair("bare against bare: how steady this is", (), (), None),
    Pair("a script that does nothing against bare", (), (), None, script=NOTHING),
    Pair("4 credentials against bare", tuple(keys(4)), (), 0.97),
    Pair("10,000 credentials against bare", tuple(keys(10_000)), (), 0.97),
    Pair("2 of 4 failing against 4 healthy", tuple(keys(2, 2)), tuple(keys(4)), 0.95),
    Pair(
        "5,000 of 10,000 failing against 10,000 healthy",
        tuple(keys(5_000, 5_000)),
        tuple(keys(10_000)),
        0.95,
        after=3600,
        warm=20,
    ),
)


def compare(pair: Pair, rounds: int, bursts: int, tick: Callable[[], None]) -> Outcome:
    """Fresh processes in every round, whose order alternates, as that of the bursts does."""
    sides = []
    for n in range(rounds):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            authority = make_authority(folder, ["localhost"])
            port = stack.enter_context(nginx(folder, authority))
            script = folder / "script.py" if pair.script else None
            if script:
                script.write_text(pair.script)
            set_ups = [("first", pair.first, script), ("second", pair.second, None)]
            running = {
                name: stack.enter_context(mitmdump(folder / name, authority, port, given, own))
                for name, given, own in (set_ups if n % 2 else reversed(set_ups))
            }
            sums = _in_turn(pair, running["first"], running["second"], bursts)
        sides.append(sums)
        tick()
    return outcome(pair.name, sides, pair.goal)


def tunnels(rounds: int, bursts: int, tick: Callable[[], None]) -> Outcome:
    """Bytes, where the others count requests."""
    return outcome(through.NAME, list(through.rounds(rounds, bursts, tick)), through.GOAL)


def outcome(
    name: str, sides: Sequence[tuple[list[Burst], list[Burst]]], goal: float | None
) -> Outcome:
    totals = [(_total(first), _total(second)) for first, second in sides]
    cpu = [(a.requests / a.cpu) / (b.requests / b.cpu) for a, b in totals]
    wall = [(a.requests / a.wall) / (b.requests / b.wall) for a, b in totals]
    failed = sum(a.failed + b.failed for a, b in totals)
    return Outcome(name, _trimmed(cpu), min(cpu), max(cpu), _trimmed(wall), failed, goal)


def _in_turn(
    pair: Pair, first: Proxy, second: Proxy, bursts: int
) -> tuple[list[Burst], list[Burst]]:
    path = f"/?after={pair.after}"
    for proxy in (first, second):
        burst(proxy, pair.warm, path)
    sums: tuple[list[Burst], list[Burst]] = ([], [])
    for n in range(bursts):
        for which in (0, 1) if n % 2 else (1, 0):
            sums[which].append(burst((first, second)[which], 1, path))
    return sums


def _total(bursts: Sequence[Burst]) -> Burst:
    return Burst(
        sum(b.requests for b in bursts),
        sum(b.failed for b in bursts),
        sum(b.wall for b in bursts),
        sum(b.cpu for b in bursts),
    )


def _trimmed(ratios: Sequence[float]) -> float:
    """The geometric mean without the lowest and the highest fifth."""
    cut = len(ratios) // 5
    kept = sorted(ratios)[cut : len(ratios) - cut]
    return math.exp(statistics.fmean(map(math.log, kept)))


@dataclass(frozen=True)
class Event:
    """Medians in milliseconds until the first event of a stream is there."""

    direct: float
    bare: float
    addon: float
    failover: float


def first_event(samples: int) -> Event:
    """One after the other, in turn, each on a connection that is open already."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = make_authority(folder, ["localhost"])
        port = stack.enter_context(nginx(folder, authority))
        script = folder / "streaming.py"
        script.write_text(STREAMING)
        # For each sample one bad credential, then a good one: every request fails over once.
        failing = keys(samples + 50, samples + 50)
        set_ups = {"bare": (), "addon": tuple(keys(4)), "failover": tuple(failing[::-1])}
        asked = {"direct": _direct(port, authority)}
        for name, given in set_ups.items():
            proxy = stack.enter_context(mitmdump(folder / name, authority, port, given, script))
            asked[name] = http.client.HTTPConnection("127.0.0.1", proxy.port)
        times: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(samples):
            for name, connection in asked.items():
                times[name].append(_first_byte(connection))
        for connection in asked.values():
            connection.close()
    return Event(**{name: 1000 * statistics.median(seconds[5:]) for name, seconds in times.items()})


def _direct(port: int, authority: Authority) -> http.client.HTTPConnection:
    import ssl

    context = ssl.create_default_context(cafile=str(authority.ca))
    return http.client.HTTPSConnection("localhost", port, context=context)


def _first_byte(connection: http.client.HTTPConnection) -> float:
    began = time.perf_counter()
    connection.request("GET", "/events")
    response = connection.getresponse()
    response.read(1)
    seconds = time.perf_counter() - began
    response.read()
    assert response.status == 200, response.status
    return seconds


def main() -> int:
    """Exit status: 0 when every goal is met, 1 when one is not, 2 when a program is missing."""
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="fresh processes per row")
    parser.add_argument("--bursts", type=int, default=6, help="seconds per side and round")
    parser.add_argument("--only", action="append", help="rows whose name has this text")
    parser.add_argument("--events", type=int, default=200, help="samples of a first event")
    parser.add_argument("--json", action="store_true", help="print the outcome for programs")
    options = parser.parse_args()
    if missing := [name for name in ("nginx", "wrk") if not shutil.which(name)]:
        print(f"just bench needs {' and '.join(missing)}: apt-get install nginx-light wrk")
        return 2
    only = options.only or [""]
    pairs = [pair for pair in PAIRS if any(text in pair.name for text in only)]
    with_tunnels = any(text in through.NAME for text in only)
    rows = len(pairs) + with_tunnels
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("measuring", total=rows * options.rounds + 1)
        outcomes = [
            compare(pair, options.rounds, options.bursts, lambda: progress.advance(task))
            for pair in pairs
        ]
        if with_tunnels:
            step = partial(progress.advance, task)
            outcomes.append(tunnels(options.rounds, options.bursts, step))
        event = first_event(options.events)
        progress.advance(task)
    if options.json:
        print(json.dumps({"pairs": [asdict(o) for o in outcomes], "event_ms": asdict(event)}))
    else:
        _show(outcomes, event)
    return 0 if all(o.met for o in outcomes) else 1


def _show(outcomes: Sequence[Outcome], event: Event) -> None:
    table = Table(title="Requests, or bytes, per second, as ratios")
    for header in ("pair", "CPU", "lowest to highest", "wall", "goal", "failures seen"):
        table.add_column(header, justify="left" if header == "pair" else "right")
    for o in outcomes:
        colour = "green" if o.met else "red"
        goal = f"≥ {o.goal}" if o.goal else ""
        spread = f"{o.lowest:.3f} to {o.highest:.3f}"
        table.add_row(
            o.name, f"[{colour}]{o.cpu:.3f}[/]", spread, f"{o.wall:.3f}", goal, str(o.failed)
        )
    console = Console(width=120)
    console.print(table)
    console.print(
        f"first SSE event, median: {event.direct:.2f} ms unproxied, {event.bare:.2f} ms bare "
        f"mitmdump, {event.addon:.2f} ms with the addon, {event.failover:.2f} ms after a failover"
    )


if __name__ == "__main__":
    sys.exit(main())
