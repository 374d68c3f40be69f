"""A credential in words: its standing, and why requests went out with others. Pure."""

from collections.abc import Mapping, Sequence

from .selector.standing import BY_HAND, IN_FILE, Outage, State, Status, show_scope

MOST = 20
"""Credentials that are listed; of more, only how many there are."""

Attempt = Mapping[str, object]


def explain(
    attempts: Sequence[Attempt],
    statuses: Sequence[Status],
    outages: Mapping[str, Outage | None],
    then: float,
) -> str:
    """One clause for each credential, in file order, and for those that are gone since.

    `then` is when the request was picked for, in seconds of the clock of `outages`.
    """
    tried: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        tried.setdefault(str(attempt["credential"]), []).append(attempt)
    known = {s.id: s for s in statuses}
    clauses: list[str] = []
    idle = left_out = 0
    for id in [*known, *(id for id in tried if id not in known)]:
        told = [_tried(attempt) for attempt in tried.get(id, ())]
        if not told and (skipped := _skipped(known[id], outages.get(id), then)):
            told = [skipped]
        if not told:
            idle += 1
        elif len(clauses) < MOST or id in tried:
            clauses.append(f"{id}: {', then '.join(told)}")
        else:
            left_out += 1
    if left_out:
        clauses.append(f"{left_out} more: skipped")
    if idle:
        clauses.append(f"{idle} more: ready, it was not their turn")
    return "; ".join(clauses)


def _tried(attempt: Attempt) -> str:
    status = attempt["status"]
    if attempt["verdict"] == "ok":
        return f"served {status}"
    if attempt.get("reason") == "mint":
        return "could not be minted"
    if status is None:
        return "tried, no answer"
    asked = f" Retry-After {attempt['retry_after']}" if "retry_after" in attempt else ""
    return f"tried, {status}{asked}"


def _skipped(status: Status, outage: Outage | None, then: float) -> str:
    if outage is None:
        in_file = status.state is State.DISABLED and status.reason == IN_FILE
        return f"skipped, disabled {IN_FILE}" if in_file else ""
    if outage.state is State.READY:
        return f"skipped, at its {outage.reason}"
    how = outage.reason if outage.reason in (BY_HAND, IN_FILE) else f"after {outage.reason}"
    left = f" {outage.until - then:.0f} s" if outage.state is State.COOLING else ""
    return f"skipped, {outage.state}{left} {how}"


def in_words(status: Status) -> str:
    """One credential's standing on one line."""
    seconds = f"{status.seconds_left:.0f} s" if status.seconds_left else ""
    words = [
        _standing(status, seconds),
        *(f"cooling {left:.0f} s for {show_scope(value)}" for value, left in status.scopes),
        f"in flight {status.in_flight}" if status.in_flight else "",
        f"picked {status.picked}, ok {status.ok}, failed {status.failed}",
    ]
    return ", ".join(filter(None, words))


def _standing(status: Status, seconds: str) -> str:
    if status.state is not State.READY:
        reason = f"({status.reason})" if status.reason else ""
        return " ".join(filter(None, (status.state, seconds, reason)))
    if not status.reason:
        return "ready"
    return f"ready, at its {status.reason}" + (f" for {seconds}" if seconds else "")
