"""What `flow-rotate system on` has set, and whether it is still so."""

from collections.abc import Iterator

from flowrotate.machine.system.kinds import Computer
from flowrotate.machine.system.ledger import Ledger, LedgerError
from flowrotate.machine.system.plan import kinds
from flowrotate.machine.system.switch import standing
from flowrotate.machine.target import Target

from .finding import Findings, failure, note, ok, warning


def desktop(computer: Computer, target: Target) -> Findings:
    try:
        ledger = computer.book.load()
    except LedgerError as e:
        yield failure("desktop", str(e), "put the settings back by hand")
        return
    if not ledger or not ledger.entries:
        said = "desktop and browsers do not use the proxy: flow-rotate system is off"
        yield note("desktop", said, "flow-rotate system on")
        return
    if ledger.proxy != target.url:
        mend = "flow-rotate system on moves it to this one, flow-rotate system off ends it"
        yield warning("desktop", f"desktop and browsers use another proxy, {ledger.proxy}", mend)
    found = list(standing(kinds(computer), ledger))
    for _, outcome in found:
        if outcome.status != "on":
            said = f"{outcome.what}: {outcome.why}"
            yield warning("desktop", said, "flow-rotate system on sets it again")
    if all(outcome.status == "on" for _, outcome in found):
        said = f"desktop and browsers use {ledger.proxy} for pooled hosts, as it was set"
        yield ok("desktop", said)


def stores(ledger: Ledger | None) -> Iterator[str]:
    """Where the CA was put."""
    for entry in ledger.entries if ledger else ():
        if entry.cert:
            yield entry.place
