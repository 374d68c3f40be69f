"""Reading the secrets file anew, where no traffic could get the timing right."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowrotate import reload as reloading
from flowrotate.changes import describe
from flowrotate.reload import Reloader
from flowrotate.rotator import ROTATOR, Rotator
from flowrotate.settings import Settings, SettingsError
from flowrotate.sources import resolve

from .parsing import resolved

GOOD = "hosts: [a.test]\ncredentials: [sk-canary-1]\n"


@pytest.fixture(autouse=True)
def rotator() -> Iterator[None]:
    before = ROTATOR.settings, ROTATOR.pools, ROTATOR.broken
    yield
    ROTATOR.swap(before[0], [pool.resolved for pool in before[1].values()])
    ROTATOR.broken = before[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "s.yaml"
    made.touch(mode=0o600)
    made.write_text(GOOD)
    return made


async def until(text: str, caplog: pytest.LogCaptureFixture) -> None:
    deadline = time.monotonic() + 10
    while text not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        await asyncio.sleep(0.01)


def test_good_pools_do_not_make_up_for_bad_options(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a proxy whose client token is wrong would serve everybody after the next edit."""
    settings: list[Settings] = []

    def current() -> Settings:
        if not settings:
            raise SettingsError("rotate_client_token: mend it")
        return settings[0]

    async def run() -> None:
        made = Reloader()
        made.read(lambda: (file, ()), dict, current)
        ROTATOR.broken = "options"
        made.start(made)
        made.ask()
        await until("not reloaded", caplog)
        assert ROTATOR.broken == "options"
        settings.append(Settings(cooldown=7))
        made.ask()
        await until("reloaded: +1 −0 ~0", caplog)
        assert (ROTATOR.broken, ROTATOR.settings.cooldown) == ("", 7)
        made.stop(made)

    caplog.set_level(logging.INFO)
    asyncio.run(run())
    assert "rotate_client_token: mend it" in caplog.text


def test_the_watch_goes_on_while_there_is_an_owner(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        made = Reloader()
        ROTATOR.swap(Settings(), made.read(lambda: (file, ()), dict, Settings))
        made.start("one")
        made.start("two")
        made.stop("one")
        await asyncio.to_thread(file.write_text, GOOD.replace("-1", "-1, sk-canary-2"))
        await until("reloaded: +1 −0 ~0", caplog)
        made.stop("two")
        assert not made.ask()

    caplog.set_level(logging.INFO)
    asyncio.run(run())


def test_a_load_that_was_overtaken_is_made_again(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, begun, loads = threading.Event(), threading.Event(), []
    real = resolve.load

    def slow(*args: object) -> object:
        loads.append(args)
        if len(loads) == 1:
            begun.set()
            gate.wait(10)
        return real(*args)  # type: ignore[arg-type]

    async def run() -> None:
        made = Reloader()
        ROTATOR.swap(Settings(), made.read(lambda: (file, ()), dict, Settings))
        monkeypatch.setattr(reloading, "load", slow)
        made.start(made)
        made.ask()
        await asyncio.to_thread(begun.wait, 10)
        ROTATOR.swap(Settings(), made.read(lambda: (file, ()), dict, Settings))
        gate.set()
        await until(" reloaded: nothing changed", caplog)
        made.stop(made)

    caplog.set_level(logging.INFO)
    asyncio.run(run())
    assert len(loads) == 3


def test_a_fault_ends_no_watch_and_tells_nothing(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [RuntimeError("sk-canary-1")]

    def locate() -> tuple[Path, tuple[Path, ...]]:
        if faults:
            raise faults.pop()
        return file, ()

    async def run() -> None:
        made = Reloader(locate=locate)
        made.start(made)
        made.ask()
        await until("not reloaded: RuntimeError at locate", caplog)
        made.ask()
        await until("reloaded: +1 −0 ~0", caplog)
        made.stop(made)

    caplog.set_level(logging.INFO)
    asyncio.run(run())
    assert "canary" not in caplog.text


BEFORE = "{hosts: [a.test], credentials: [{id: a, secret: sk-1}, {id: b, secret: sk-2}]}"


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (BEFORE, "nothing changed"),
        (BEFORE.replace("sk-1", "sk-9"), "+0 −0 ~1"),
        (BEFORE.replace("sk-1}", "sk-1, weight: 2}"), "+0 −0 ~1"),
        (BEFORE.replace("id: a", "id: z"), "+1 −1 ~0"),
        (BEFORE.replace("a.test", "b.test"), "pools changed: default"),
        (BEFORE.replace("}]", "}, sk-3]"), "+1 −0 ~0"),
        (
            "{hosts: [b.test], hold: 3, credentials: [{id: b, secret: sk-7}, sk-3]}",
            "+1 −1 ~1, pools changed: default",
        ),
        (
            "{hosts: [a.test], credentials: [{id: b, secret: sk-2}, {id: a, secret: sk-1}]}",
            "nothing changed",
        ),
        (
            "pools: [{name: other, hosts: [a.test], credentials: [sk-1]}]",
            "+1 −2 ~0",
        ),
    ],
)
def test_what_changed(after: str, said: str) -> None:
    made = Rotator(clock=lambda: 0.0, wall=lambda: 0.0)
    made.swap(Settings(), resolved(BEFORE))
    assert describe(made.pools, resolved(after)) == said
