"""Waiting for a credential: the order, what wakes, and that nothing stays behind."""

import asyncio
import time

from flowrotate.secret import Secret
from flowrotate.selector.selector import Selector
from flowrotate.selector.standing import Credential
from flowrotate.verdict import Action, Verdict
from flowrotate.waiting import WaitingRoom


def room_of(*ids: str, cooling: float) -> tuple[WaitingRoom, Selector]:
    """A room whose credentials all cool for so many seconds."""
    selector = Selector()
    members = [Credential(id, Secret(id, id), Secret(id, id)) for id in ids]
    selector.replace(members, 0.0)
    for member in members:
        verdict = Verdict(Action.COOLDOWN, cooling, "429")
        selector.report(member, verdict, 429, time.monotonic())
    room = WaitingRoom(selector, time.monotonic)
    selector.changed = room.wake
    return room, selector


def test_the_end_of_a_cooldown_serves_all_in_order() -> None:
    async def run() -> list[str]:
        room, _ = room_of("a", "b", cooling=0.05)
        waiters = [room.enter((), 10) for _ in range(4)]
        await asyncio.gather(*(w.wait() for w in waiters))
        assert not room.queue
        return [w.credential.id for w in waiters if w.credential]

    assert asyncio.run(run()) == ["a", "b", "a", "b"]


def test_an_enable_wakes_at_once_and_not_who_has_tried_it() -> None:
    async def run() -> None:
        room, selector = room_of("a", cooling=1000)
        (a,) = selector._roster.members.values()
        tried, fresh = room.enter((a,), 0.2), room.enter((), 2)
        await asyncio.sleep(0)
        selector.enable("a", 0)
        await fresh.wait()
        await tried.wait()
        assert (fresh.credential, tried.credential) == (a, None)
        assert not room.queue

    asyncio.run(run())


def test_time_up_leaving_and_a_pool_that_is_gone() -> None:
    async def run() -> None:
        room, _ = room_of("a", cooling=1000)
        late, left, gone = room.enter((), 0.01), room.enter((), 1000), room.enter((), 1000)
        await late.wait()
        left.leave()
        await left.wait()
        room.dismiss()
        await asyncio.sleep(0)
        await gone.wait()
        assert not room.queue
        assert room._alarm is None
        assert [w.credential for w in (late, left, gone)] == [None] * 3

    asyncio.run(run())


def test_whether_another_can_be_had() -> None:
    _, selector = room_of("a", "b", cooling=1000)
    a, b = selector._roster.members.values()
    now = time.monotonic()
    assert not selector.has_other(now, (a,), waiting=False)
    assert selector.has_other(now, (a,), waiting=True)
    assert not selector.has_other(now, (a, b), waiting=True)
    selector.enable("b", 0)
    assert selector.has_other(now, (a,), waiting=False)


def test_what_came_back_just_before_the_wait_is_not_missed() -> None:
    async def run() -> None:
        room, selector = room_of("a", cooling=1000)
        selector.enable("a", 0)
        waiter = room.enter((), 5)
        await waiter.wait()
        assert waiter.credential

    asyncio.run(run())


def test_a_new_list_of_credentials_wakes() -> None:
    async def run() -> None:
        room, selector = room_of("a", cooling=1000)
        waiter = room.enter((), 5)
        await asyncio.sleep(0)
        selector.replace([Credential("b", Secret("b", "b"), Secret("b", "b"))], 0.0)
        await waiter.wait()
        assert waiter.credential
        assert waiter.credential.id == "b"

    asyncio.run(run())


def test_a_loop_that_ended_at_a_bad_moment_stops_no_other() -> None:
    room, selector = room_of("a", cooling=1000)

    async def enter() -> None:
        room.enter((), 1000)

    async def wait() -> None:
        waiter = room.enter((), 2)
        selector.enable("a", 0)
        await waiter.wait()
        assert waiter.credential

    loop = asyncio.new_event_loop()
    loop.run_until_complete(enter())
    room._called = True
    loop.close()
    room.queue.clear()
    asyncio.run(wait())
