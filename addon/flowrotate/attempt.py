"""One attempt of a pooled request: with which credential, what goes out, what the answer says.

A request has one attempt, and after a failover more, each with another credential. The passage
holds the credential of the attempt that runs, and lets it go when its answer is over.
"""

import logging
import weakref
from typing import TypeVar

from hpack import NeverIndexedHeaderTuple
from mitmproxy import http
from mitmproxy.connection import Address

from . import guard
from .display import annotate, show, tell
from .guard import Place, Refusal
from .passage import Passage, canonical_or_none, check_request, head_of, without_credentials
from .placement import Fields
from .rotator import ROTATOR
from .selector import Credential
from .verdict import Action, Verdict, judge
from .waiting import Waiter

T = TypeVar("T")

logger = logging.getLogger(__name__)


WAITING: weakref.WeakKeyDictionary[http.HTTPFlow, Waiter] = weakref.WeakKeyDictionary()
"""The last wait of each flow that had one: for the hook that awaits its end."""


def pick(flow: http.HTTPFlow, passage: Passage) -> Refusal | None:
    """Give the passage a credential, or a place in the waiting room; else the answer to give.

    Raises whatever goes wrong meanwhile; the passage then holds nothing.
    """
    pool, now = passage.pool, ROTATOR.clock()
    if pool.room.queue:
        # Who waits comes first, also when a cooldown ended this very moment.
        pool.room.serve()
    credential = pool.selector.pick(now, passage.tried)
    if credential:
        _take(flow, passage, credential)
        return None
    if passage.deadline is None:
        passage.deadline = now + pool.hold(ROTATOR.settings)
    if passage.deadline > now:
        tell(flow, "waits for a credential")
        passage.waiter = pool.room.enter(passage.tried, passage.deadline - now)
        WAITING[flow] = passage.waiter
        return None
    return ROTATOR.exhausted(pool)


def resume(flow: http.HTTPFlow, passage: Passage) -> Passage | Refusal | None:
    """After a wait: the passage with what was picked for it, or our own answer.

    None when its pool has it no more: it has to be decided anew.
    """
    assert passage.waiter
    if not _follows(flow, passage):
        leave(passage)
        return None
    passage.waiter.leave()
    credential, passage.waiter = passage.waiter.credential, None
    if credential is None:
        return ROTATOR.exhausted(passage.pool)
    _take(flow, passage, credential)
    return passage


def leave(passage: Passage) -> None:
    """Wait no more, and want nothing of what was picked meanwhile."""
    waiter, passage.waiter = passage.waiter, None
    if waiter:
        waiter.leave()
        if waiter.credential:
            passage.pool.selector.release(waiter.credential)


def again(flow: http.HTTPFlow, passage: Passage) -> Passage | Refusal:
    """The same passage with another credential than those tried, or our own answer."""
    if not _follows(flow, passage):
        return ROTATOR.exhausted(passage.pool)
    return pick(flow, passage) or passage


def _follows(flow: http.HTTPFlow, passage: Passage) -> bool:
    """Go over to the pool as the latest reload has it, if that still takes this request."""
    before, pool = passage.pool, ROTATOR.pools.get(passage.pool.name)
    if pool is before:
        return True
    if pool is None or pool.room is not before.room or pool.placement != before.placement:
        return False
    passage.pool, passage.checked = pool, ()
    return pool.serves(flow.request.method, flow.request.path)


def _take(flow: http.HTTPFlow, passage: Passage, credential: Credential) -> None:
    passage.take(credential, ROTATOR.clock())
    try:
        pool = passage.pool
        unchanged = head_of(flow.request, passage.place) == passage.checked
        show(flow, pool, credential.alias)
        if flow.request.trailers:
            flow.request.trailers = without_credentials(pool, flow.request.trailers)
        # What changed since it was checked (a wait is long) must not pass for what was.
        passage.checked = head_of(flow.request, passage.place) if unchanged else ()
        annotate(flow, pool, credential.id, passage.attempts)
        tell(flow, "; ".join((*passage.told, f"sent with {credential.id}")), passage.mark)
    except BaseException:
        passage.release()
        raise


def seal(
    flow: http.HTTPFlow, passage: Passage, address: Address, verified: str | None
) -> http.Request | Refusal:
    """G1 on the very connection, then the request with the real credential, for the wire only.

    `address` is what was dialled, whatever the request says; `verified` is the name for which the
    connection's certificate was verified, if it was.
    """
    pool, data = passage.pool, flow.request.data
    host = canonical_or_none(address[0])
    server_name = canonical_or_none(verified or host)
    place = Place(flow.request.scheme == "https", host, address[1], server_name)
    name = place.server_name if verified else None
    refusal = guard.check_server(place, name, pool.name, pool.hosts)
    if refusal is None and head_of(flow.request, place) != passage.checked:
        refusal = check_request(flow, pool, place)
    if refusal:
        return refusal
    assert passage.value
    passage.started = ROTATOR.clock()
    place_name = pool.placement.name_for(flow.request.is_http2)
    value = passage.value.reveal().encode("ascii")
    # Never indexed: no compression table of a connection may hold a secret (RFC 7541, 7.1.3).
    fields, path = pool.placement.put(
        data.headers.fields, data.path, NeverIndexedHeaderTuple(place_name, value)
    )
    return _with_head(flow.request, fields, path)


def _with_head(request: http.Request, fields: Fields, path: bytes) -> http.Request:
    """The request with another head and no body, by shallow copies.

    http.Request(…) checks the type of every field again, which is most of what this costs.
    """
    head, data, headers = (
        _blank(http.Request),
        _blank(http.RequestData),
        _blank(http.Headers),
    )
    headers.fields = fields
    data.__dict__ |= request.data.__dict__
    data.headers, data.path, data.content, data.trailers = headers, path, None, None
    head.data = data
    return head


def _blank(kind: type[T]) -> T:
    """An object whose attributes come from elsewhere."""
    return kind.__new__(kind)


def learn(flow: http.HTTPFlow, passage: Passage, response: http.Response) -> bool:
    """Take in what the answer says of the credential, and whether another could do better."""
    pool, credential, settings = passage.pool, passage.credential, ROTATOR.settings
    assert credential
    now, status = ROTATOR.clock(), response.status_code
    verdict = judge(
        status, response.headers, pool.rules(settings), pool.cooldown(settings), ROTATOR.wall()
    )
    failed = verdict.action in (Action.COOLDOWN, Action.DISABLE)
    pool.selector.report(credential, verdict, status, now)
    if failed or status == 101:
        # Nothing more of it is awaited; the socket that a 101 leads to is left alone.
        passage.release()
    asked = response.headers.get("retry-after") if failed else None
    _record(flow, passage, status, verdict, asked)
    if not failed:
        return False
    logger.warning("pool %s: %s", pool.name, passage.told[-1])
    may_wait = now < passage.deadline if passage.deadline else pool.hold(settings) > 0
    return len(passage.attempts) <= pool.retries(settings) and pool.selector.has_other(
        now, passage.tried, waiting=may_wait
    )


def unanswered(flow: http.HTTPFlow, passage: Passage) -> None:
    """The attempt broke off before there was an answer: that says nothing of the credential."""
    _record(flow, passage, None, Verdict(Action.NOTHING), None)


def _record(
    flow: http.HTTPFlow,
    passage: Passage,
    status: int | None,
    verdict: Verdict,
    retry_after: str | None,
) -> None:
    assert passage.credential
    id, seconds = passage.credential.id, ROTATOR.clock() - passage.started
    attempt: dict[str, object] = {
        "credential": id,
        "status": status,
        "verdict": verdict.action.value,
        "seconds": round(seconds, 6),
        "at": round(ROTATOR.wall() - seconds, 3),
    }
    if retry_after is not None:
        attempt["retry_after"] = retry_after
    passage.attempts.append(attempt)
    said = f"{id} answered {status}" if status else f"{id} got no answer"
    if verdict.action is Action.COOLDOWN:
        said += f", cooling for {verdict.seconds:.0f} s"
    elif verdict.action is Action.DISABLE:
        said += ", disabled"
    passage.told.append(said)
    annotate(flow, passage.pool, id, passage.attempts)
    tell(flow, "; ".join(passage.told), passage.mark)


def expose(passage: Passage, response: http.Response, served: int = -1) -> None:
    """With `rotate_expose`, say in the response itself whose it is: that of attempt `served`."""
    if not (ROTATOR.settings.expose and passage.attempts):
        return
    exposed = {
        "X-Rotate-Credential": f"{passage.pool.name}/{passage.attempts[served]['credential']}",
        "X-Rotate-Attempts": str(len(passage.attempts)),
    }
    for name, value in exposed.items():
        response.headers[name.lower() if response.is_http2 else name] = value
