"""One request's way: what it leaves behind when it ends early."""

import asyncio
from dataclasses import dataclass

import pytest

from flowrotate import attempt, outcome, passage
from flowrotate.guard import Refusal
from flowrotate.mint.tokens import MintError
from flowrotate.mint.wait import Minting
from flowrotate.passage import Passage
from flowrotate.rotator import ROTATOR
from flowrotate.secret import Secret
from flowrotate.wire import ScrubbingStream

from .test_passage import chosen_for, flow, on_its_way, rotator, use

__all__ = ["rotator"]

ONE = "{hosts: [a.test], hold: 9, credentials: [{id: a, secret: sk-canary, max_in_flight: 1}]}"


@dataclass
class NoToken:
    identities: tuple[Secret, ...]
    failure: MintError | None = None

    def token(self) -> None:
        if self.failure:
            raise self.failure


def in_flight() -> int:
    (pool,) = ROTATOR.pools.values()
    return pool.selector.statuses(ROTATOR.clock())[0].in_flight


@pytest.mark.parametrize("failure", [MintError("it cannot be signed"), None])
def test_a_token_that_does_not_come_leaves_nothing_in_flight(failure: MintError | None) -> None:
    use("{hosts: [a.test], credentials: [sk-canary]}")
    made = flow()
    assert passage.enter(made) is None
    chosen = passage.decide(made, ())
    assert isinstance(chosen, Passage)
    (credential,) = chosen.pool.selector._roster.members.values()
    credential.minter = NoToken((credential.secret,), failure)  # type: ignore[assignment]
    assert attempt.pick(made, chosen) is None
    assert isinstance(chosen.wait, Minting)
    assert in_flight() == 1
    if failure:
        asyncio.run(chosen.wait.wait())
        refusal = attempt.resume(made, chosen)
        assert isinstance(refusal, Refusal)
        assert refusal.status == 429
        assert "could not be minted (it cannot be signed)" in made.comment
    else:
        attempt.leave(chosen)
        # Who comes back from here to be decided anew may have it again.
        assert chosen.tried == []
    assert in_flight() == 0


def test_a_stream_that_is_dropped_when_its_turn_has_come_leaves_nothing_in_flight() -> None:
    async def run() -> None:
        use(ONE)
        first = on_its_way(flow())
        made = flow()
        assert passage.enter(made) is None
        stream = ScrubbingStream.__new__(ScrubbingStream)
        stream.flow = made
        steps = stream._letting_go(stream.make_server_connection())
        next(steps)
        assert stream.passage
        first.release()
        await asyncio.sleep(0.01)
        assert stream.passage.waiter
        assert stream.passage.waiter.credential
        steps.close()
        assert in_flight() == 0

    owner = object()
    ScrubbingStream.owners.add(owner)
    try:
        asyncio.run(run())
    finally:
        ScrubbingStream.owners.discard(owner)


def test_a_pool_that_went_and_came_back_is_another_one() -> None:
    async def run() -> None:
        use(ONE)
        on_its_way(flow())
        made = flow()
        assert passage.enter(made) is None
        chosen = chosen_for(made)
        assert chosen.waiter
        ROTATOR.swap(ROTATOR.settings, [])
        use(ONE)
        assert attempt.resume(made, chosen) is None

    asyncio.run(run())


@pytest.mark.parametrize(
    ("streamed", "retries", "fit"), [(False, 1, True), (True, 1, False), (False, 0, False)]
)
def test_who_may_be_the_trial_of_a_disabled_one(streamed: bool, retries: int, fit: bool) -> None:
    use(f"{{hosts: [a.test], retries: {retries}, credentials: [sk-canary]}}")
    made = flow()
    made.request.stream = streamed
    chosen = on_its_way(made)
    assert chosen.wish
    assert chosen.wish.repeatable is fit


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("30", "30"),
        (" 1.5 ", "1.5"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("Wed, 21 Oct 2026 09:28:00 +0200", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("Wed, 01 Jan 1000 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -0200", None),
        ("Bearer sk-canary", None),
        ("-1", None),
        ("", None),
    ],
)
def test_a_retry_after_is_shown_as_a_number_or_a_date(sent: str, shown: str | None) -> None:
    assert outcome.plain_retry_after(sent) == shown
