"""One request's way through a pool, as far as the pick of a credential.

`enter`, in the `requestheaders` hook, decides who may use the pool and takes the client's own
credential out of the flow before anybody has seen it. `decide`, right before mitmproxy dials, looks
at the destination anew, because other addons and the user may have changed it since. What follows
is in attempt.py: `pick`, then `seal`, which checks where the connection leads and makes the request
that goes on the wire; then in outcome.py: `learn`. The flow itself only ever holds an alias.
"""

import logging
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mitmproxy import http
from mitmproxy.proxy.mode_specs import LocalMode, UpstreamMode, WireGuardMode

from . import guard
from .config.spec import DEFAULT_STRIP
from .display import annotate, show, tell
from .guard import Place, Refusal
from .hosts import canonical
from .mint.tokens import Token
from .mint.wait import PATIENCE, Minting
from .placement import Fields, credentials_in, header_values
from .rotator import ROTATOR, Pool
from .scrub.forms import Forms
from .secret import Secret
from .selector.standing import Credential
from .selector.strategies import Wish
from .waiting import Waiter

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Passage:
    """`taken` is what the client sent as its credential, None when it was left in the request."""

    pool: Pool
    taken: tuple[Fields, tuple[bytes, ...]] | None = field(default=None, repr=False)
    refusal: Refusal | None = None
    credential: Credential | None = None
    value: Secret | None = None
    """What `credential` had to send when it was picked: a reload may give it another."""
    token: Token | None = field(default=None, repr=False)
    """What `value` was made from, when the credential is a minted one."""
    checked: tuple[object, ...] = field(default=(), repr=False)
    """The head and place that `check_request` found right, with the alias once there is one."""
    place: Place | None = None
    holds: bool = False
    """Whether `credential` counts as in flight for this passage."""
    wish: Wish | None = field(default=None, repr=False)
    """What the request wants of a pick; None before the first one."""
    waiter: Waiter | None = None
    minting: Minting | None = None
    mints_until: float | None = None
    """When it awaits no token any more, if another credential is ready."""
    deadline: float | None = None
    """When the patience of this request is at its end; None before it had to wait at all."""
    started: float = 0.0
    tried: list[Credential] = field(default_factory=list)
    spent: int = 0
    """Attempts that went upstream, but for those that a new token takes back."""
    renewing: Credential | None = None
    """A minted credential that was refused, and is to be tried once more with a new token."""
    renewed: list[Credential] = field(default_factory=list)
    sent: list[Forms] = field(default_factory=list)
    """What went out with its attempts."""
    attempts: list[dict[str, object]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """The attempts in words."""

    @property
    def mark(self) -> str:
        return ":repeat:" if len(self.tried) > 1 else ":key:"

    @property
    def wait(self) -> Waiter | Minting | None:
        """What has to end before it can go on."""
        return self.waiter or self.minting

    def take(self, credential: Credential, now: float) -> None:
        """Make this the attempt's credential; the selector counts it as in flight already."""
        self.release()
        self.started = now
        self.credential, self.holds = credential, True
        self.value, self.token = credential.value, None
        self.tried.append(credential)
        if credential.minter:
            if self.mints_until is None:
                self.mints_until = now + PATIENCE
            patience = max(0.0, self.mints_until - now)
            self.minting = Minting.of(credential.minter, self._has_another, patience)
            if self.minting.token:
                self.minted(self.minting.token)
                self.minting = None

    def _has_another(self) -> bool:
        scope = self.wish.scope if self.wish else None
        selector, now = self.pool.selector, ROTATOR.clock()
        return selector.has_other(now, self.tried, waiting=False, scope=scope)

    def minted(self, token: Token) -> None:
        """The credential's token is here."""
        assert self.credential
        self.token, self.value = token, self.pool.dress(self.credential, token.secret)

    def release(self) -> None:
        """The credential is in flight no more, if it was."""
        if self.holds:
            self.holds = False
            assert self.credential
            self.pool.selector.release(self.credential)


PASSAGES: weakref.WeakKeyDictionary[http.HTTPFlow, Passage] = weakref.WeakKeyDictionary()
"""What `enter` decided, until `decide` takes it up. Not in flow.metadata: that is saved."""


def guarded(step: Callable[[], T]) -> T | Refusal:
    """G6: a fault of ours becomes an answer of ours; nothing half done goes upstream."""
    try:
        return step()
    except Exception as fault:
        return own_fault(fault)


def bare(flow: http.HTTPFlow) -> None:
    """Leave nothing in a flow that may be a client's credential, when it is not known whose.

    G5, for a flow that was not admitted because of a fault.
    """
    places = [pool.placement for pool in ROTATOR.pools.values()]
    known = frozenset(name.encode() for name in (*DEFAULT_STRIP, "proxy-authorization"))
    names = known.union(*(place.headers for place in places))
    data = flow.request.data
    data.headers.fields = tuple(f for f in data.headers.fields if f[0].lower() not in names)
    if any(place.params for place in places):
        data.path = data.path.partition(b"?")[0]


def own_fault(fault: Exception) -> Refusal:
    """Log where it was; not its text, for nobody knows what is in there."""
    where = traceback.extract_tb(fault.__traceback__)[-1]
    kind = type(fault).__name__
    logger.error("internal fault: %s at %s:%s", kind, Path(where.filename).name, where.lineno)
    return guard.internal(f"Flow Rotate failed on this request ({kind})")


def enter(flow: http.HTTPFlow) -> Refusal | None:
    """First sight of a request: admit it, if it belongs to a pool.

    One that is answered already, as broken or for want of a login, is stored all the same: only
    the client's credential is taken out.
    """
    if flow in PASSAGES:
        return None
    place = place_of(flow)
    pool = ROTATOR.find(place, flow.request.method, flow.request.path)
    if pool is None:
        return None
    if flow.response or flow.error or not flow.live:
        _drop_proxy_login(flow)
        show(flow, pool, f"[rotate:{pool.name}]")
        return None
    passage = PASSAGES[flow] = admit(flow, pool, place)
    return passage.refusal


def admit(flow: http.HTTPFlow, pool: Pool, place: Place) -> Passage:
    """G3, G4 and G5. Replays are made inside mitmproxy, by who sits before it."""
    settings = ROTATOR.settings
    request = flow.request
    refusal = None
    if flow.is_replay != "request":
        refusal = guard.check_client(
            flow.client_conn.peername[0], _is_known(flow), settings.allow_clients
        )
        token = settings.client_token
        shown = token is not None and guard.presents(
            token, credentials_in(pool.placement, request.headers.fields, request.data.path)
        )
        page = (
            not pool.browsers
            and not shown
            and guard.is_foreign_page(request.headers.fields, place, flow.client_conn.tls)
        )
        if page and refusal is None:
            annotate(flow, pool, None)
            tell(flow, "forwarded as it came: a web page of another site sent it")
            return Passage(pool)
        if token and not shown:
            refusal = refusal or guard.NO_TOKEN
    taken = pool.placement.taken(request.headers.fields, request.data.path)
    _drop_proxy_login(flow)
    show(flow, pool, f"[rotate:{pool.name}]")
    annotate(flow, pool, None)
    return Passage(pool, taken, refusal)


def _is_known(flow: http.HTTPFlow) -> bool:
    """Whether the client logged in (mitmproxy's proxyauth), or can only be on this machine."""
    mode = flow.client_conn.proxy_mode
    return "proxyauth" in flow.metadata or isinstance(mode, LocalMode | WireGuardMode)


def _drop_proxy_login(flow: http.HTTPFlow) -> None:
    """It is for this proxy alone (RFC 9110, 11.7.2), where bare mitmproxy would forward it.

    In upstream mode and plain http it is for the next proxy: mitmproxy's upstream_auth sets it.
    """
    next_proxy = isinstance(flow.client_conn.proxy_mode, UpstreamMode)
    if not (next_proxy and flow.request.scheme == "http"):
        flow.request.headers.pop("proxy-authorization", None)


def decide(flow: http.HTTPFlow, said: tuple[str, ...]) -> Passage | Refusal | None:
    """The passage that is to get a credential, our own answer, or None: forward it as it is.

    `said` is what the client itself gave as Host in reverse mode, where mitmproxy rewrites it.
    """
    passage = PASSAGES.pop(flow, None)
    if ROTATOR.broken:
        return guard.internal(ROTATOR.broken)
    place = place_of(flow)
    pool = ROTATOR.find(place, flow.request.method, flow.request.path)
    if passage and pool is not passage.pool:
        _undo(flow, passage, leaves=pool is None)
        passage = None
    if pool is None:
        return None
    passage = passage or admit(flow, pool, place)
    passage.pool = pool
    listening = flow.client_conn.sockname[0]
    refusal = passage.refusal or guard.check_rebinding(said, listening, pool.name, pool.hosts)
    if refusal:
        return refusal
    if passage.taken is None:
        return None
    # Before the pick: who is refused must not use up a turn.
    if refusal := check_request(flow, pool, place):
        return refusal
    passage.place, passage.checked = place, head_of(flow.request, place)
    return passage


def head_of(request: http.Request, place: Place | None) -> tuple[object, ...]:
    """All that `check_request` looks at."""
    data = request.data
    return data.method, data.path, data.headers.fields, data.authority, place


def check_request(flow: http.HTTPFlow, pool: Pool, place: Place) -> Refusal | None:
    data = flow.request.data
    return guard.check_head(
        data.method, data.path, data.headers.fields, pool.name, pool.placement.headers
    ) or guard.check_authorities(authorities_of(flow.request), place, pool.name, pool.hosts)


def without_credentials(pool: Pool, trailers: http.Headers) -> http.Headers:
    """G5 holds for HTTP/2 trailers too; and no Host may come after the one that was checked."""
    gone = pool.placement.headers | {b"host"}
    kept = http.Headers()
    kept.fields = tuple(f for f in trailers.fields if f[0].lower() not in gone)
    return kept


def _undo(flow: http.HTTPFlow, passage: Passage, *, leaves: bool) -> None:
    """The request was sent elsewhere meanwhile (map_remote, an edit): it is as it came.

    But when it `leaves` the pools, it does not take the client token along: that is nobody's
    business outside this proxy.
    """
    if passage.taken is None:
        return
    data, placement, token = (
        flow.request.data,
        passage.pool.placement,
        ROTATOR.settings.client_token,
    )
    taken = passage.taken
    if token and leaves:
        taken = placement.but_for(taken, lambda given: guard.presents(token, given))
    data.headers.fields, data.path = placement.restore(data.headers.fields, data.path, taken)


def authorities_of(request: http.Request) -> tuple[str, ...]:
    """Every Host, an empty one too, and the :authority if there is one."""
    data = request.data
    authority = (request.authority,) if data.authority else ()
    return (*header_values(data.headers.fields, b"host"), *authority)


def place_of(flow: http.HTTPFlow) -> Place:
    """Where mitmproxy dials for this request, and for which name it will verify a certificate."""
    request, server = flow.request, flow.server_conn
    if not request.host and server.address:
        # A broken request in a tunnel: mitmproxy gives it up before it knows the destination.
        host = canonical_or_none(server.address[0])
        tls = server.tls or flow.client_conn.tls
        return Place(tls, host, server.address[1], canonical_or_none(flow.client_conn.sni or host))
    host = canonical_or_none(request.host)
    name = None
    if server.address == (request.host, request.port):
        name = server.sni or flow.client_conn.sni
    return Place(
        request.scheme == "https", host, request.port, canonical_or_none(name) if name else host
    )


def canonical_or_none(host: str) -> str:
    """A name that is none is in no pool."""
    try:
        return canonical(host)
    except ValueError:
        return ""
