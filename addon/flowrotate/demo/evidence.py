"""What the demo saw, from both ends and from the proxy's own records, and what that proves."""

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader

from .service import EVENTS, HEALTHY, LIMITED, REVOKED, Service


@dataclass(frozen=True)
class Row:
    """One credential: `served` is what the upstream answered 2xx, `state` what the proxy says."""

    credential: str
    served: int
    limited: int
    unauthorized: int
    state: str


@dataclass(frozen=True)
class Proof:
    ok: bool
    claim: str
    seen: str


@dataclass(frozen=True)
class Evidence:
    """`client` counts statuses as the client got them, `searched` is in bytes."""

    rows: tuple[Row, ...]
    client: dict[int, int]
    proofs: tuple[Proof, ...]

    @property
    def ok(self) -> bool:
        return all(proof.ok for proof in self.proofs)

    def as_json(self) -> dict[str, object]:
        return {"ok": self.ok, **asdict(self)}


def gather(
    service: Service,
    client: Sequence[int],
    arrived: Sequence[float],
    capture: Path,
    artefacts: Mapping[str, bytes],
) -> Evidence:
    """`client` are the statuses that the client got; `capture` is what mitmdump -w wrote.

    `arrived` are the times at which the client had the events of its stream, and `artefacts` the
    files that somebody may share, by name, the capture among them.
    """
    states = dict(_states(capture))
    rows = tuple(_row(id, service.seen, states) for id in service.secrets)
    counts = Counter(client)
    proofs = (
        _no_failure_seen(counts),
        _live(service.sent, arrived),
        _even(rows),
        _left_alone(rows),
        _no_placeholder(service),
        _no_secret(service.secrets.values(), artefacts),
    )
    return Evidence(rows, dict(sorted(counts.items())), proofs)


def _states(capture: Path) -> Iterator[tuple[str, str]]:
    """The last verdict on each credential, as the flows tell it."""
    verdicts = {"cooldown": "cooling", "disable": "disabled"}
    with capture.open("rb") as file:
        for flow in FlowReader(file).stream():
            assert isinstance(flow, HTTPFlow)
            for attempt in flow.metadata["rotate"]["attempts"]:
                yield attempt["credential"], verdicts.get(attempt["verdict"], "ready")


def _row(id: str, seen: Counter[tuple[str, int]], states: Mapping[str, str]) -> Row:
    return Row(id, seen[id, 200], seen[id, 429], seen[id, 401], states.get(id, "never used"))


def _no_failure_seen(client: Counter[int]) -> Proof:
    return Proof(
        set(client) == {200},
        "the client saw no failure",
        ", ".join(f"{n} × {status}" for status, n in sorted(client.items())),
    )


def _live(sent: Sequence[float], arrived: Sequence[float]) -> Proof:
    """Each event was at the client before the upstream sent the next one."""
    in_time = all(here < following for here, following in zip(arrived, sent[1:], strict=False))
    return Proof(
        len(sent) == len(arrived) == EVENTS and in_time,
        "a live stream came through a failover, event by event",
        f"{len(arrived)} of {EVENTS} events",
    )


def _even(rows: Sequence[Row]) -> Proof:
    served = [row.served for row in rows if row.credential in HEALTHY]
    return Proof(
        min(served) > 0 and max(served) - min(served) <= 1,
        "the healthy credentials shared the work evenly",
        " and ".join(map(str, served)),
    )


def _left_alone(rows: Sequence[Row]) -> Proof:
    by_id = {row.credential: row for row in rows}
    limited, revoked = by_id[LIMITED], by_id[REVOKED]
    return Proof(
        (limited.limited, limited.state) == (1, "cooling")
        and (revoked.unauthorized, revoked.state) == (1, "disabled"),
        "the failing ones were asked once, then left alone",
        f"{LIMITED}: {limited.limited}, {REVOKED}: {revoked.unauthorized}",
    )


def _no_placeholder(service: Service) -> Proof:
    with_key = sum(n for (id, _), n in service.seen.items() if id != "other")
    return Proof(
        0 < with_key == service.seen.total(),
        "whatever reached the upstream had a key of the pool",
        f"{with_key} of {service.seen.total()}",
    )


def _no_secret(secrets: Iterable[str], artefacts: Mapping[str, bytes]) -> Proof:
    forms = [form for secret in secrets for form in forms_of(secret)]
    found = [name for name, data in artefacts.items() if any(form in data for form in forms)]
    size = sum(map(len, artefacts.values()))
    return Proof(
        not found and all(artefacts.values()),
        f"no secret in {', '.join(artefacts)}",
        f"found in {', '.join(found)}" if found else f"{size:,} bytes searched",
    )


def forms_of(secret: str) -> list[bytes]:
    """A secret as it may be written: plain, URL-escaped, hex, base64 in its three alignments."""
    plain = secret.encode()
    # What surrounds the secret changes the first and last characters of its base64.
    shifted = [base64.b64encode(b"\0" * n + plain)[4 * (n > 0) : -4] for n in range(3)]
    return [plain, quote(secret, safe="").encode(), plain.hex().encode(), *shifted]
