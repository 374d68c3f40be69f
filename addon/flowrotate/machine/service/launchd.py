"""A launchd agent of the user's: launchd.plist(5), launchctl(1). Composed, never run by us. Pure.

    launchctl enable service-target
    launchctl bootstrap domain-target service-path
    launchctl bootout service-target
    launchctl print service-target

`gui/UID` is the domain of the user's login at the screen, `gui/UID/LABEL` a service in it. Of
`print` the page says that its output is no API, so nothing here depends on it but the status.
"""

import plistlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from flowrotate.machine.commands import Said
from flowrotate.machine.places import Places

from .keeper import MARKER, Keeper, State, Step
from .order import Order

LABEL = "dev.flow-rotate.serve"
COMMENT = f"<!-- Made by `{MARKER}`, and taken away by `flow-rotate service uninstall`. -->\n"


def keeper(places: Places, uid: int) -> Keeper:
    file = places.home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    log = places.logs / "flow-rotate.log"
    domain = f"gui/{uid}"
    target = f"{domain}/{LABEL}"
    # `enable`: what was disabled once stays so, whatever its file says.
    enable = Step(("launchctl", "enable", target))
    return Keeper(
        name="launchd",
        file=file,
        log=str(log),
        text=lambda order, _: agent(order, log),
        command_in=command_in,
        start=(enable, Step(("launchctl", "bootstrap", domain, str(file)))),
        # The old one may take ten seconds to end, and the new cannot come before.
        restart=(
            enable,
            Step(("launchctl", "bootout", target), lenient=True),
            Step(("launchctl", "bootstrap", domain, str(file)), patient=True),
        ),
        stop=(Step(("launchctl", "bootout", target)),),
        forget=(),
        asks=(("launchctl", "print", target),),
        read=read,
        folders=(log.parent,),
    )


def agent(order: Order, log: Path) -> str:
    plist = plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(order.command),
            "EnvironmentVariables": dict(order.environment),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            # Seconds. One that fails at once is started at most this often.
            "ThrottleInterval": 30,
            # Seconds. The proxy ends what is in flight within 10.
            "ExitTimeOut": 15,
            # Without it launchd throttles CPU and IO, and people wait for this one.
            "ProcessType": "Interactive",
            "StandardOutPath": str(log),
            "StandardErrorPath": str(log),
            # "This value is in decimal"
            "Umask": 0o077,
        },
        sort_keys=False,
    ).decode()
    return plist.replace("<plist ", f"{COMMENT}<plist ", 1)


def command_in(text: str) -> str:
    try:
        return shlex.join(plistlib.loads(text.encode())["ProgramArguments"])
    except (ValueError, KeyError, TypeError, plistlib.InvalidFileException):
        return ""


def read(said: Sequence[Said]) -> State:
    """`launchctl print` fails for what is not loaded. What its own lines say has one tab before."""
    (show,) = said
    values = dict(re.findall(r"^\t([\w ]+) = (.*)$", show.text, re.MULTILINE))
    state = values.get("state", "")
    left = values.get("last exit code", "")
    return State(
        loaded=show.ok,
        active=(state == "running" if state else None) if show.ok else False,
        enabled=show.ok,
        pid=int(values["pid"]) if values.get("pid", "").isdigit() else 0,
        result=f"{state}, last exit code {left}" if left else state,
    )
