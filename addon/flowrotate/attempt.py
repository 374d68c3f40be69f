"""One attempt of a pooled request: with which credential, and what goes out.

A request has one attempt, and after a failover more, each with another credential. The passage
holds the credential of the attempt that runs, and lets it go when its answer is over. What the
answer says of it is in outcome.py.
"""

import weakref
from typing import TypeVar

from hpack import NeverIndexedHeaderTuple
from mitmproxy import http
from mitmproxy.connection import Address

from . import guard
from .display import annotate, show, tell
from .guard import Place, Refusal
from .mint.tokens import MintError
from .mint.wait import Minting
from .outcome import not_minted
from .passage import Passage, canonical_or_none, check_request, head_of, without_credentials
from .placement import Fields
from .rotator import ROTATOR
from .secret import Secret
from .selector.standing import Credential
from .waiting import Waiter
from .wishes import wish_of

T = TypeVar("T")

WAITING: weakref.WeakKeyDictionary[http.HTTPFlow, Waiter | Minting] = weakref.WeakKeyDictionary()
"""The last wait of each flow that had one: for the hook that awaits its end."""


def pick(flow: http.HTTPFlow, passage: Passage) -> Refusal | None:
    """Give the passage a credential, or something to wait for; else the answer to give.

    Raises whatever goes wrong meanwhile; the passage then holds nothing.
    """
    pool, now = passage.pool, ROTATOR.clock()
    if passage.wish is None:
        repeatable = not flow.request.stream and pool.retries(ROTATOR.settings) > 0
        taken = passage.taken[0] if passage.taken else ()
        passage.wish = wish_of(flow, pool, taken, repeatable=repeatable)
    if pool.room.queue:
        # Who waits comes first, also when a cooldown ended this very moment.
        pool.room.serve()
    credential = pool.selector.pick(now, passage.tried, passage.wish)
    if credential:
        _take(flow, passage, credential)
        return None
    if passage.deadline is None:
        passage.deadline = now + pool.hold(ROTATOR.settings)
    if passage.deadline > now:
        tell(flow, "waits for a credential")
        passage.waiter = pool.room.enter(passage.tried, passage.deadline - now, passage.wish)
        WAITING[flow] = passage.waiter
        return None
    return ROTATOR.exhausted(pool, passage.wish.scope)


def resume(flow: http.HTTPFlow, passage: Passage) -> Passage | Refusal | None:
    """After a wait: the passage with what it waited for, or with another wait, or our own answer.

    None when its pool has it no more: it has to be decided anew.
    """
    if not _follows(flow, passage):
        leave(passage)
        return None
    waiter, passage.waiter = passage.waiter, None
    minting, passage.minting = passage.minting, None
    if waiter:
        waiter.leave()
        if waiter.credential is None:
            return ROTATOR.exhausted(passage.pool, waiter.wish.scope)
        _take(flow, passage, waiter.credential)
    if minting:
        return _minted(flow, passage, minting)
    return passage


def _minted(flow: http.HTTPFlow, passage: Passage, minting: Minting) -> Passage | Refusal:
    """After the wait for a token: with it, or on with another credential."""
    if isinstance(minting.failure, MintError):
        not_minted(flow, passage, minting.failure)
        return pick(flow, passage) or passage
    if minting.failure:
        raise minting.failure
    if minting.token:
        passage.minted(minting.token)
        return passage
    # It left, and nothing awaits the answer.
    raise RuntimeError("a wait for a token ended without one")


def leave(passage: Passage) -> None:
    """Wait no more, and want nothing of what was picked meanwhile."""
    waiter, passage.waiter = passage.waiter, None
    minting, passage.minting = passage.minting, None
    if waiter:
        waiter.leave()
        if waiter.credential:
            passage.pool.selector.release(waiter.credential)
    if minting:
        minting.leave()
        passage.tried.pop()
        passage.release()


def again(flow: http.HTTPFlow, passage: Passage) -> Passage | Refusal:
    """The same passage with another credential than those tried, or our own answer.

    Or with the same one, when that is a minted one which is to be given a second chance.
    """
    if not _follows(flow, passage):
        return ROTATOR.exhausted(passage.pool)
    credential, passage.renewing = passage.renewing, None
    if credential and passage.pool.selector.pick_again(credential, ROTATOR.clock()):
        _take(flow, passage, credential)
        return passage
    return pick(flow, passage) or passage


def _follows(flow: http.HTTPFlow, passage: Passage) -> bool:
    """Go over to the pool as the latest reload has it, if that still takes this request."""
    before, pool = passage.pool, ROTATOR.pools.get(passage.pool.name)
    if pool is before:
        return True
    if pool is None or pool.room is not before.room or pool.placement != before.placement:
        return False
    passage.pool, passage.checked = pool, ()
    # Its hosts may have gone to another pool, though its name stayed.
    place, request = passage.place, flow.request
    return place is None or ROTATOR.find(place, request.method, request.path) is pool


def _take(flow: http.HTTPFlow, passage: Passage, credential: Credential) -> None:
    try:
        passage.take(credential, ROTATOR.clock())
        pool = passage.pool
        unchanged = head_of(flow.request, passage.place) == passage.checked
        show(flow, pool, credential.alias)
        if flow.request.trailers:
            flow.request.trailers = without_credentials(pool, flow.request.trailers)
        # What changed since it was checked (a wait is long) must not pass for what was.
        passage.checked = head_of(flow.request, passage.place) if unchanged else ()
        annotate(flow, pool, credential.id, passage.attempts)
        tell(flow, "; ".join((*passage.told, f"sent with {credential.id}")), passage.mark)
        if passage.minting:
            WAITING[flow] = passage.minting
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
    assert passage.credential
    passage.started = ROTATOR.clock()
    _note_sent(passage, passage.credential, passage.value)
    place_name = pool.placement.name_for(flow.request.is_http2)
    value = passage.value.reveal().encode("ascii")
    # Never indexed: no compression table of a connection may hold a secret (RFC 7541, 7.1.3).
    fields, path = pool.placement.put(
        data.headers.fields, data.path, NeverIndexedHeaderTuple(place_name, value)
    )
    if passage.credential.terms.headers:
        fields = _with_own(fields, passage.credential, http2=flow.request.is_http2)
    return _with_head(flow.request, fields, path)


def _note_sent(passage: Passage, credential: Credential, value: Secret) -> None:
    """From now on the upstream may echo it, in an answer to this request or to another one."""
    every = passage.pool.forms(credential, value, passage.token)
    passage.sent += [forms for forms in every if forms not in passage.sent]
    ROTATOR.note_sent(every, value)


def _with_own(fields: Fields, credential: Credential, *, http2: bool) -> Fields:
    """The headers that go out with a credential, in place of the client's of the same name."""
    own = [(n.lower() if http2 else n, v) for n, v in credential.terms.headers]
    gone = {name.lower().encode("ascii") for name, _ in own}
    return (
        *(f for f in fields if f[0].lower() not in gone),
        *(NeverIndexedHeaderTuple(n.encode("ascii"), v.encode("ascii")) for n, v in own),
    )


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
