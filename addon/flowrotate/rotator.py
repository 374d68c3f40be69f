"""The pools of this process. There is one ROTATOR, and it outlives every addon instance.

mitmproxy runs the script again, and makes a new addon, whenever the script's file changes; two
instances may live at once. The rotation must not start over with any of them.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .guard import Place, Refusal
from .hostmap import HostMap
from .mint.egress import Egress
from .mint.minter import Minter
from .mint.mints import JwtMint
from .mint.tokens import Token
from .placement import Placement
from .scrub.forms import Forms, Lately
from .secret import Secret
from .selector.selector import Selector
from .selector.standing import Credential, State, Terms
from .settings import Settings
from .sources.resolve import ResolvedPool
from .verdict import FailRules
from .waiting import WaitingRoom

LONG_LOGGED = 64
"""Values whose traces in the log are looked for."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool, ready for use: what requests need of its spec, made once."""

    resolved: ResolvedPool
    hosts: HostMap[None]
    placement: Placement
    selector: Selector
    room: WaitingRoom

    @property
    def name(self) -> str:
        return self.resolved.spec.name

    @property
    def browsers(self) -> bool:
        return self.resolved.spec.browsers

    def rules(self, settings: Settings) -> FailRules:
        own = self.resolved.spec.fail
        return settings.fail if own is None else own

    def cooldown(self, settings: Settings) -> float:
        """Seconds."""
        return float(self.resolved.spec.cooldown or settings.cooldown)

    def retries(self, settings: Settings) -> int:
        """Further credentials that one request may try."""
        own = self.resolved.spec.retries
        return settings.retries if own is None else own

    def hold(self, settings: Settings) -> int:
        """Seconds."""
        own = self.resolved.spec.hold
        return settings.hold if own is None else own

    def serves(self, method: str, path: str) -> bool:
        spec = self.resolved.spec
        if spec.methods and method not in spec.methods:
            return False
        return not spec.paths or any(rule.matches(path) for rule in spec.paths)

    def show(self, alias: str) -> bytes:
        return self.resolved.spec.inject.show(alias).encode("ascii")

    def dress(self, credential: Credential, secret: Secret) -> Secret:
        """What goes on the wire: a secret in the pool's template."""
        inject = self.resolved.spec.inject
        return Secret(inject.render(secret.reveal(), credential.terms.username), secret.alias)

    def forms(self, credential: Credential, value: Secret, token: Token | None) -> list[Forms]:
        """How what goes on the wire may come back: `value`, or what it was minted from."""
        inject = self.resolved.spec.inject
        blob = inject.bare(value.reveal()) if inject.needs_username else None
        forms = [Forms.of(token.secret if token else credential.secret, blob)]
        mint = credential.minter and credential.minter.mint
        if isinstance(mint, JwtMint):
            forms.append(Forms.of(mint.key))  # the older plugin's claims hold it
        return forms


@dataclass(slots=True)
class Rotator:
    """`clock` in seconds of a clock that nobody sets, `wall` in seconds since the epoch."""

    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    settings: Settings = field(default_factory=Settings)
    egress: Egress = field(
        default_factory=lambda: Egress(lambda: (), lambda: None, {}, lambda: None)
    )
    """How token requests leave this machine."""
    sent: Lately[Forms] = field(default_factory=Lately)
    """What went out lately, and upstreams may echo."""
    logged: Lately[Forms] = field(default_factory=lambda: Lately(LONG_LOGGED))
    """What went out in the last while, and logs may quote."""
    on_wire: Lately[Secret] = field(default_factory=lambda: Lately(LONG_LOGGED))
    """The same with its pool's template, as it is sent."""
    pools: dict[str, Pool] = field(default_factory=dict)
    broken: str = "Flow Rotate is not configured yet"
    """Why it is not known what belongs to a pool. While there is a reason, nothing is forwarded."""
    _hosts: HostMap[Pool] = field(default_factory=HostMap)
    _swapping: threading.Lock = field(default_factory=threading.Lock)
    """One swap at a time. Readers need no lock: each attribute is replaced whole."""

    def swap(self, settings: Settings, resolved: Sequence[ResolvedPool]) -> None:
        """Use these pools from now on. A pool of a known name keeps its selector's state."""
        with self._swapping:
            pools = {r.spec.name: self._pool(r) for r in resolved}
            hosts: HostMap[Pool] = HostMap()
            for pool in pools.values():
                for rule in pool.resolved.spec.hosts:
                    hosts.add(rule, pool)
            gone = [pool for name, pool in self.pools.items() if name not in pools]
            self.settings, self.pools, self._hosts, self.broken = settings, pools, hosts, ""
        for pool in gone:
            pool.room.dismiss()

    def find(self, place: Place, method: str, path: str) -> Pool | None:
        """The pool that a request belongs to, in time that does not grow with the pools."""
        for name in place.names:
            for pool in self._hosts.get(place.tls, name, place.port):
                if pool.serves(method, path):
                    return pool
        return None

    def is_pooled(self, place: Place) -> bool:
        """Whether some request to there, with this TLS name, may belong to a pool."""
        return any(self._hosts.get(place.tls, name, place.port) for name in place.names)

    def target(self, text: str) -> tuple[Pool, str]:
        """The pool and credential id that `pool/id` names. Raises KeyError."""
        name, _, id = text.partition("/")
        pool = self.pools[name]
        if id not in (s.id for s in pool.selector.statuses(self.clock())):
            raise KeyError(text)
        return pool, id

    def note_sent(self, forms: Iterable[Forms], value: Secret) -> None:
        """It goes out now: from here on it may come back, or be quoted."""
        for form in forms:
            self.sent.note(form)
            self.logged.note(form)
        self.on_wire.note(value)

    def exhausted(self, pool: Pool, scope: str | None = None) -> Refusal:
        """The answer when no credential is ready: 429 if waiting helps, 503 if not."""
        now = self.clock()
        wait = pool.selector.ready_in(now, scope)
        headers = {"X-Rotate-Error": "exhausted"}
        if wait is not None:
            # Rounded up: who comes back after so many whole seconds must not be early.
            headers["Retry-After"] = str(int(wait) + 1)
        credentials = [
            {
                "id": s.id,
                "state": s.state.value,
                "reason": s.reason,
                "seconds_left": round(s.seconds_left, 3),
            }
            for s in (status.within(scope) for status in pool.selector.statuses(now))
        ]
        message = f"no credential of pool {pool.name} is ready"
        if any(listed["state"] == State.READY for listed in credentials):
            message += ", or they are at limits of their own"
        return Refusal(
            429 if wait is not None else 503,
            "rotate_exhausted",
            message,
            headers,
            {
                "pool": pool.name,
                "retry_after": None if wait is None else int(wait) + 1,
                "credentials": credentials,
            },
        )

    def _pool(self, resolved: ResolvedPool) -> Pool:
        known = self.pools.get(resolved.spec.name)
        if known and known.resolved == resolved:
            return known
        hosts: HostMap[None] = HostMap()
        for rule in resolved.spec.hosts:
            hosts.add(rule, None)
        room = known.room if known else self._room()
        spec = resolved.spec
        pool = Pool(resolved, hosts, Placement.of(spec), room.selector, room)
        room.selector.replace(
            self._members(pool),
            self.clock(),
            off=[c.id for c in spec.credentials if c.disabled],
            strategy=spec.strategy,
            pins=bool(spec.pin),
        )
        return pool

    def _members(self, pool: Pool) -> list[Credential]:
        members = []
        entries = zip(pool.resolved.spec.credentials, pool.resolved.secrets, strict=True)
        for place, (c, source) in enumerate(entries):
            terms = Terms(
                place, c.weight, c.priority, c.rpm, c.max_in_flight, c.headers, c.username
            )
            if isinstance(source, Secret):
                credential = Credential(c.id, source, None, terms)
                credential.value = pool.dress(credential, source)
            else:
                minter = Minter(source, self.clock, self.wall, self.egress)
                credential = Credential(c.id, source.identity, None, terms, minter)
            members.append(credential)
        return members

    def _room(self) -> WaitingRoom:
        selector = Selector()
        room = WaitingRoom(selector, lambda: self.clock())
        selector.changed = room.wake
        return room


ROTATOR = Rotator()
