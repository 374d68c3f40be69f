"""Bytes through a tunnel: `rotate_passthrough` against mitmproxy's own `--ignore-hosts`."""

import http.client
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flowrotate.demo.certs import Authority, make_authority
from flowrotate.demo.proxy import Proxy
from tests.e2e.world import trusting

from .servers import REST_CORE, Burst, cpu_seconds, mitmdump, nginx, pin

NAME = "bytes through rotate_passthrough against --ignore-hosts"
SIZE = 10_000_000
GOAL = 0.95

Sums = tuple[list[Burst], list[Burst]]


def rounds(count: int, bursts: int, tick: Callable[[], None]) -> Iterator[Sums]:
    """For each round, fresh processes: what each side did; `requests` counts bytes."""
    pin(os.getpid(), REST_CORE)
    for n in range(count):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            authority = make_authority(folder, ["localhost"])
            (folder / "large.json").write_bytes(b"x" * SIZE)
            port = stack.enter_context(nginx(folder, authority))
            sides = [_passthrough(folder, authority), _ignoring(folder, authority)]
            running: dict[int, Proxy] = {}
            for which in (0, 1) if n % 2 else (1, 0):
                running[which] = stack.enter_context(sides[which])
            yield _in_turn(running[0], running[1], authority, port, bursts)
        tick()


@contextmanager
def _passthrough(folder: Path, authority: Authority) -> Iterator[Proxy]:
    """The pool's host is another than the one that is asked."""
    name = folder / "passthrough"
    with mitmdump(
        name, authority, 1, ["sk-one"], mode="regular", rotate_passthrough="true"
    ) as proxy:
        yield proxy


@contextmanager
def _ignoring(folder: Path, authority: Authority) -> Iterator[Proxy]:
    with mitmdump(
        folder / "ignoring", authority, 1, [], mode="regular", ignore_hosts=".*"
    ) as proxy:
        yield proxy


def _in_turn(first: Proxy, second: Proxy, authority: Authority, port: int, bursts: int) -> Sums:
    sums: Sums = ([], [])
    with ExitStack() as stack:
        asked = [stack.enter_context(_Asked(p, authority, port)) for p in (first, second)]
        for one in asked:
            one.burst(1)
        for n in range(bursts):
            for which in (0, 1) if n % 2 else (1, 0):
                sums[which].append(asked[which].burst(1))
    return sums


class _Asked:
    """A client's tunnel through one proxy: it meets the upstream's own certificate."""

    def __init__(self, proxy: Proxy, authority: Authority, port: int) -> None:
        self._proxy = proxy
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", proxy.port, context=trusting(authority.ca)
        )
        self._connection.set_tunnel("localhost", port)

    def __enter__(self) -> "_Asked":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def burst(self, seconds: float) -> Burst:
        began, cpu = time.perf_counter(), cpu_seconds(self._proxy.pid)
        got = failed = 0
        while time.perf_counter() - began < seconds:
            self._connection.request("GET", "/large.json")
            response = self._connection.getresponse()
            size = 0
            while piece := response.read(1 << 20):
                size += len(piece)
            got += size
            failed += (response.status, size) != (200, SIZE)
        spent = cpu_seconds(self._proxy.pid) - cpu
        return Burst(got, failed, time.perf_counter() - began, spent)
