"""The service that the demo's upstream plays: four keys, one rate limited, one revoked."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from .upstream import Reply, Request, json_reply

HEALTHY = ("alpha", "beta")
LIMITED = "limited"
REVOKED = "revoked"
KEYS = (LIMITED, HEALTHY[0], REVOKED, HEALTHY[1])

STREAM = "/v1/stream"
EVENTS = 5
EVENT_SECONDS = 0.2


@dataclass
class Service:
    """`secrets` by key id. `seen` counts (key id or "other", status).

    `sent` are the times, of the monotonic clock, at which the events of a stream went out.
    """

    secrets: dict[str, str]
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    sent: list[float] = field(default_factory=list)

    def __call__(self, request: Request) -> Reply:
        key = self._key(request)
        reply = self._reply(key, request.target)
        self.seen[key, reply.status] += 1
        return reply

    def _key(self, request: Request) -> str:
        given = request.header("authorization")
        return next((id for id, s in self.secrets.items() if given == f"Bearer {s}"), "other")

    def _reply(self, key: str, target: str) -> Reply:
        if key == LIMITED:
            error = {"error": {"type": "rate_limit", "message": "Too many requests"}}
            return json_reply(error, 429, [("retry-after", "120")])
        if key in HEALTHY and target == STREAM:
            return Reply(200, [("content-type", "text/event-stream")], self._events())
        if key in HEALTHY:
            return json_reply({"object": "chat.completion", "choices": ["Hello!"]})
        return json_reply({"error": {"type": "auth", "message": "Unknown key"}}, 401)

    async def _events(self) -> AsyncIterator[bytes]:
        for n in range(EVENTS):
            if n:
                await asyncio.sleep(EVENT_SECONDS)
            self.sent.append(time.monotonic())
            yield f"data: {n}\n\n".encode()
