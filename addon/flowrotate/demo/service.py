"""The service that the demo's upstream plays: four keys, one rate limited, one revoked."""

from collections import Counter
from dataclasses import dataclass, field

from .upstream import Reply, Request, json_reply

HEALTHY = ("alpha", "beta")
LIMITED = "limited"
REVOKED = "revoked"
KEYS = (HEALTHY[0], LIMITED, HEALTHY[1], REVOKED)


@dataclass
class Service:
    """`secrets` by key id. `seen` counts (key id or "other", status)."""

    secrets: dict[str, str]
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)

    def __call__(self, request: Request) -> Reply:
        key = self._key(request)
        reply = self._reply(key)
        self.seen[key, reply.status] += 1
        return reply

    def _key(self, request: Request) -> str:
        given = request.header("authorization")
        return next((id for id, s in self.secrets.items() if given == f"Bearer {s}"), "other")

    def _reply(self, key: str) -> Reply:
        if key == LIMITED:
            error = {"error": {"type": "rate_limit", "message": "Too many requests"}}
            return json_reply(error, 429, [("retry-after", "120")])
        if key in HEALTHY:
            return json_reply({"object": "chat.completion", "choices": ["Hello!"]})
        return json_reply({"error": {"type": "auth", "message": "Unknown key"}}, 401)
