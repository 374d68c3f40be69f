"""What cools for which requests: for all, or for those of one value of `cooldown_by`. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field
from math import inf

from flowrotate.verdict import Action, Verdict

from .standing import Credential
from .strategies import Order

LONGEST_BACKOFF = 1800.0
"""Seconds, unless the cooldown itself is longer."""


@dataclass(slots=True)
class Streak:
    """Failures in a row, and the last cooldown that they led to."""

    failures: int = 0
    since: float = -inf
    until: float = -inf


@dataclass(slots=True, eq=False)
class Scope:
    """The cooldowns of some requests, and the order of who is left for them.

    `order` is None while nothing cools here: then the pool's own order holds.
    """

    order: Order | None
    value: str | None = None
    until: dict[Credential, float] = field(default_factory=dict)
    _streaks: dict[Credential, Streak] = field(default_factory=dict)
    _limited_at: float = -inf
    """When nobody was left for the last time, and several were cooling."""

    def cool(self, credential: Credential, verdict: Verdict, now: float) -> float:
        """Count a failure; when its cooldown ends. What a verdict asks for is not doubled.

        A limit on the address fails every credential, one after the other. Their backoff does not
        grow then, so that the pool is back as soon as that limit ends.
        """
        streak = self._streaks.setdefault(credential, Streak())
        # Answers to requests that went out before the cooldown began are the same failure; a
        # success that was the last one for a while is none.
        failed = verdict.action is Action.COOLDOWN and now >= streak.until
        if failed and not streak.since <= self._limited_at < streak.until:
            streak.failures += 1
        seconds = verdict.seconds
        if verdict.backoff:
            doubled = seconds * 2 ** min(max(streak.failures - 1, 0), 30)
            seconds = min(doubled, max(seconds, LONGEST_BACKOFF))
        until = now + seconds
        if until > self.until.get(credential, now):
            self.until[credential] = until
            streak.since, streak.until = now, until
        return until

    def notice_limit(self, now: float) -> None:
        """Whether nobody is left, after one more has begun to cool."""
        if self.order and len(self.until) > 1 and not self.order.has_other(()):
            self._limited_at = now

    def succeeded(self, credential: Credential) -> None:
        """The row of its failures ends."""
        self._streaks.pop(credential, None)

    def forget(self, credential: Credential) -> None:
        self.until.pop(credential, None)
        self._streaks.pop(credential, None)

    def keep_only(self, members: Collection[Credential]) -> None:
        for credential in {*self.until, *self._streaks} - set(members):
            self.forget(credential)
        if self.value is not None and not self.until:
            self.order = None
