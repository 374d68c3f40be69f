"""On, off, and how things stand: decided for each place by what is there now.

The rules. What is ours is written down before it is done. What is ours is never written down as
what was there before. `off` puts back what is still ours, and leaves what is not.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from .kinds import ChangeError, Kind, Outcome
from .ledger import Book, Entry, Ledger

Kinds = Mapping[str, Kind]


def switch_on(
    kinds: Kinds, book: Book, ledger: Ledger, wishes: Iterable[Entry | Outcome], *, dry: bool
) -> Iterator[Outcome]:
    """One outcome for each wish; none stops the others. The ledger has been saved once."""
    for wish in wishes:
        if isinstance(wish, Outcome):
            yield wish
            continue
        kind = kinds[wish.kind]
        try:
            entry, outcome = _decide(kind, ledger.find(wish), wish)
            former = ledger.find(wish)
            if dry or entry is None:
                if former and not dry:
                    kind.settle(former)
                yield outcome
                continue
            if former and former.notes is not entry.notes:
                kind.tidy(former)
            if former is None or former.notes is not entry.notes:
                entry = replace(entry, notes=kind.keep(entry))
            ledger = ledger.put(entry)
            book.save(ledger)
            _put(kind, entry, entry.goal)
        except (ChangeError, OSError) as e:
            yield Outcome("failed", kind.title(wish), _words(e))
        else:
            yield replace(outcome, status="done", steps=())


def switch_off(kinds: Kinds, book: Book, ledger: Ledger, *, dry: bool = False) -> Iterator[Outcome]:
    """The last first. What could not be put back stays in the ledger."""
    for entry in reversed(ledger.entries):
        kind = kinds[entry.kind]
        try:
            outcome = _put_back(kind, entry, dry=dry)
            if not dry:
                if outcome.status != "done":
                    kind.settle(entry)
                kind.tidy(entry)
                ledger = ledger.drop(entry)
                book.save(ledger)
        except (ChangeError, OSError) as e:
            outcome = Outcome("failed", kind.title(entry), _words(e))
        yield outcome
    if not dry and not ledger.entries:
        book.close(ledger)


def standing(kinds: Kinds, ledger: Ledger) -> Iterator[tuple[Entry, Outcome]]:
    for entry in ledger.entries:
        kind = kinds[entry.kind]
        try:
            now = kind.look(entry)
        except (ChangeError, OSError) as e:
            yield entry, Outcome("failed", kind.title(entry), _words(e))
            continue
        if now == entry.goal:
            yield entry, Outcome("on", _says(kind, entry, now))
        else:
            yield entry, Outcome("changed", kind.title(entry), f"it is {_value(now)} now")


def _decide(kind: Kind, former: Entry | None, wish: Entry) -> tuple[Entry | None, Outcome]:
    """The entry to write down, and to do; None where there is nothing to do."""
    now, goal = kind.look(wish), wish.goal
    says = _says(kind, wish, goal)
    if former and goal in former.ours and now == goal:
        return None, Outcome("already", says)
    if not former and now == goal:
        return None, Outcome("already", says, "it was so before")
    would = Outcome("would", says, steps=tuple(kind.words(wish, goal)))
    if former and (former.owns(now) or now == goal):
        others = (one for one in former.ours if one not in wish.ours)
        return replace(former, ours=(*others, *wish.ours)), would
    if former and now == former.before:
        return replace(former, ours=wish.ours, notes={}), would
    return replace(wish, before=None if wish.owns(now) else now), would


def _put_back(kind: Kind, entry: Entry, *, dry: bool) -> Outcome:
    now = kind.look(entry)
    says = _says(kind, entry, entry.before)
    if now == entry.before:
        return Outcome("already", kind.title(entry), "it is as it was before")
    if not entry.owns(now):
        gone = "it is gone" if now is None else f"somebody has set it to {now}"
        return Outcome("left", kind.title(entry), f"{gone}: left as it is")
    why = "" if now in entry.ours else f"ours all the same: somebody has made it {now}"
    if dry:
        return Outcome("would", says, why, steps=tuple(kind.words(entry, entry.before)))
    _put(kind, entry, entry.before)
    return Outcome("done", says, why)


def _put(kind: Kind, entry: Entry, value: str | None) -> None:
    kind.put(entry, value)
    now = kind.look(entry)
    if now != value:
        raise ChangeError(f"it is {_value(now)} after all")


def _says(kind: Kind, entry: Entry, value: str | None) -> str:
    if entry.cert:
        return f"{kind.title(entry)}{'' if value else ': taken out'}"
    return f"{kind.title(entry)}: {_value(value)}"


def _value(value: str | None) -> str:
    return "not set" if value is None else value


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
