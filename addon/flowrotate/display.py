"""What a flow shows of it: the alias in the request, metadata, comment, mark, our own answers."""

import logging
from collections.abc import Mapping, Sequence

from mitmproxy import http

from .guard import Refusal
from .rotator import Pool

logger = logging.getLogger(__name__)

MARKS = ("", ":key:", ":repeat:", ":no_entry:")
PREFIX = "Flow Rotate: "


def show(flow: http.HTTPFlow, pool: Pool, alias: str) -> None:
    """Put the alias where the credential goes, and nothing of the client's beside it."""
    data = flow.request.data
    name = pool.placement.name_for(flow.request.is_http2)
    fields, data.path = pool.placement.put(data.headers.fields, data.path, (name, pool.show(alias)))
    data.headers.fields = fields


def annotate(
    flow: http.HTTPFlow,
    pool: Pool,
    credential: str | None,
    attempts: Sequence[Mapping[str, object]] = (),
) -> None:
    """What scripts find in `flow.metadata`, and what is saved with the flow: plain data only."""
    flow.metadata["rotate"] = {
        "pool": pool.name,
        "credential": credential,
        "attempts": [dict(attempt) for attempt in attempts],
    }


def tell(flow: http.HTTPFlow, said: str, mark: str = "") -> None:
    """Comment and mark. What the user wrote there stays."""
    if not flow.comment or flow.comment.startswith(PREFIX):
        flow.comment = PREFIX + said
    if flow.marked in MARKS:
        flow.marked = mark


def answer(flow: http.HTTPFlow, refusal: Refusal) -> http.Response:
    """A refusal as the response that the client gets; a HEAD has no body (RFC 9110, 9.3.2)."""
    tell(flow, refusal.message, ":no_entry:")
    logger.info("answered %s: %s", refusal.status, refusal.message)
    body = "" if flow.request.method == "HEAD" else refusal.body()
    headers = {"Content-Type": "application/json", **refusal.headers}
    return http.Response.make(refusal.status, body, headers)
