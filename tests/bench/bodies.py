"""What scrubbing adds to the time of a 10 MB JSON body: `python -m tests.bench.bodies`.

Two proxies with the addon run at once, one of them with `rotate_scrub=false`, and are asked in
turn for the same body, over TLS. Fresh processes in every round; before that, two that are the
same, to see how steady this is.
"""

import argparse
import http.client
import json
import math
import random
import statistics
import string
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from flowrotate.demo.certs import make_authority
from flowrotate.demo.proxy import Proxy
from tests.e2e.world import trusting

from .servers import mitmdump, nginx

SIZE = 10_000_000
PAIRS = (("off against off: how steady this is", "false"), ("on against off", "true"))


def keys(number: int) -> list[str]:
    """As long as those of a provider."""
    letters = string.ascii_letters + string.digits
    return ["sk-proj-" + "".join(random.Random(n).choices(letters, k=43)) for n in range(number)]


def large_body() -> bytes:
    """What a chat service answers, over and over, with ids and numbers in it."""
    chance = random.Random(1)
    words = [
        "the",
        "quick",
        "brown",
        "fox",
        "answers",
        "what",
        "some",
        "user",
        "asked",
        "it",
        "and",
        "more",
    ]
    rows, size = [], 0
    while size < SIZE:
        id = "chatcmpl-" + "".join(chance.choices(string.ascii_letters + string.digits, k=29))
        text = " ".join(chance.choices(words, k=40))
        row = {"id": id, "created": chance.randrange(10**9), "score": chance.random(), "text": text}
        rows.append(row)
        size += len(json.dumps(row)) + 2
    return json.dumps(rows).encode()


def ratios(scrub: str, rounds: int, samples: int, body: bytes) -> list[float]:
    """Of the medians, one for each round."""
    found = []
    for n in range(rounds):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            authority = make_authority(folder, ["localhost"])
            (folder / "large.json").write_bytes(body)
            port = stack.enter_context(nginx(folder, authority))
            sides = [("first", scrub), ("second", "false")]
            asked = {}
            for name, value in sides if n % 2 else reversed(sides):
                proxy = stack.enter_context(
                    mitmdump(
                        folder / name, authority, port, keys(4), mode="regular", rotate_scrub=value
                    )
                )
                asked[name] = stack.enter_context(_Asked(proxy, port))
            found.append(_in_turn(asked["first"], asked["second"], samples))
    return found


def _in_turn(first: "_Asked", second: "_Asked", samples: int) -> float:
    times: tuple[list[float], list[float]] = ([], [])
    for n in range(samples + 5):
        for which in (0, 1) if n % 2 else (1, 0):
            times[which].append((first, second)[which].seconds())
    medians = [statistics.median(side[5:]) for side in times]
    return medians[0] / medians[1]


class _Asked:
    """A client's tunnel through one proxy, TLS on both sides of it."""

    def __init__(self, proxy: Proxy, port: int) -> None:
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", proxy.port, context=trusting(proxy.ca)
        )
        self._connection.set_tunnel("localhost", port)

    def __enter__(self) -> "_Asked":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def seconds(self) -> float:
        began = time.perf_counter()
        self._connection.request("GET", "/large.json")
        response = self._connection.getresponse()
        size = len(response.read())
        assert response.status == 200, response.status
        assert size >= SIZE, size
        return time.perf_counter() - began


def mean(found: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, found)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bodies", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--samples", type=int, default=60)
    options = parser.parse_args()
    body = large_body()
    for name, scrub in PAIRS:
        found = ratios(scrub, options.rounds, options.samples, body)
        print(f"{name}: {mean(found):.3f} ({min(found):.3f} to {max(found):.3f})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
