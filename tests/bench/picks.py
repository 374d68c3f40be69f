"""Microseconds of a pick, report and release, by strategy and size: `python -m tests.bench.picks`.

Best of some runs: what else this machine does only ever adds to it.
"""

import itertools
import sys
import timeit
from random import Random
from typing import get_args

from rich.console import Console
from rich.table import Table

from flowrotate.config.spec import Strategy
from flowrotate.secret import Secret
from flowrotate.selector.roster import Roster
from flowrotate.selector.selector import Selector
from flowrotate.selector.standing import Credential, Terms
from flowrotate.selector.strategies import Wish
from flowrotate.verdict import OK, Action, Verdict

LARGE = 100_000
COOLING = 0.99


def pool(size: int, cooling: float, strategy: Strategy) -> Selector:
    made = Selector(Roster(Random(1)))
    members = []
    for n in range(size):
        text = Secret(f"sk-{n}", "alias")
        members.append(Credential(str(n), text, text, Terms(place=n)))
    made.replace(members, 0.0, strategy=strategy)
    for member in members[: int(size * cooling)]:
        made.report(member, Verdict(Action.COOLDOWN, 1e6, "429"), 429, 0.0)
    return made


def microseconds(selector: Selector, runs: int = 300, times: int = 1_000) -> float:
    sessions = itertools.cycle([Wish(session=f"session-{n}") for n in range(997)])

    def once() -> None:
        picked = selector.pick(1.0, (), next(sessions))
        assert picked
        selector.report(picked, OK, 200, 1.0)
        selector.release(picked)

    return min(timeit.repeat(once, number=times, repeat=runs)) / times * 1e6


def main() -> None:
    table = Table(title="pick, report and release of one request, µs")
    for head in ("strategy", "4 credentials", f"{LARGE:,}, {COOLING:.0%} cooling"):
        table.add_column(head, justify="left" if head == "strategy" else "right")
    for strategy in get_args(Strategy):
        small = microseconds(pool(4, 0.0, strategy))
        large = microseconds(pool(LARGE, COOLING, strategy))
        table.add_row(strategy, f"{small:.2f}", f"{large:.2f}")
    Console(width=None if sys.stdout.isatty() else 80).print(table)


if __name__ == "__main__":
    main()
