"""The older plugin's concurrency cases: many threads on one selector."""

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from flowrotate.selector.standing import State
from flowrotate.verdict import OK

from .test_selector import DISABLE, cooldown, picks, selector, states, take


def in_threads(n: int, work: Callable[[int], object]) -> None:
    """All at once: they wait for each other before they begin."""
    barrier = threading.Barrier(n)
    failures: list[BaseException] = []

    def run(i: int) -> None:
        barrier.wait()
        try:
            work(i)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


@pytest.mark.parametrize(("threads", "each"), [(10, 1), (10, 10), (100, 10)])
def test_threads_picking_come_out_even_within_one(threads: int, each: int) -> None:
    s = selector(*"abcdefg")
    counts = [Counter[str]() for _ in range(threads)]
    in_threads(threads, lambda i: counts[i].update(picks(s, each)))
    total = sum(counts, Counter[str]())
    assert total.total() == threads * each
    assert max(total.values()) - min(total[id] for id in "abcdefg") <= 1


def test_five_threads_marking_the_same_one_failed() -> None:
    s = selector("a", "b")
    a = take(s, "a")
    in_threads(5, lambda _: s.report(a, DISABLE, 401, 0.0))
    assert states(s) == {"a": "disabled", "b": "ready"}
    assert picks(s, 3) == list("bbb")
    assert s.statuses(0.0)[0].failed == 5


def test_five_threads_resetting() -> None:
    s = selector(*"abc")
    for id in "abc":
        s.report(take(s, id), DISABLE, 401, 0.0)
    in_threads(5, lambda _: s.reset(0))
    assert sorted(picks(s, 3)) == list("abc")
    assert len(list(s._roster.own()._tiers[0].queue)) == 3


def test_twenty_threads_doing_everything() -> None:
    s = selector(*"abcdef")

    def work(i: int) -> None:
        for n in range(200):
            picked = s.pick(float(n))
            match i % 4:
                case 0 if picked:
                    s.report(picked, cooldown(1 + n % 3), 429, float(n))
                case 1 if picked:
                    s.report(picked, DISABLE, 401, float(n))
                case 2:
                    s.reset(0)
                case _ if picked:
                    s.report(picked, OK, 200, float(n))

    in_threads(20, work)
    s.reset(0)
    assert s.statuses(1e6)[0].state is State.READY
    assert sorted(picks(s, 6, 1e6)) == list("abcdef")
