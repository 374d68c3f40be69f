"""The agent is composed and read back here; no launchd has seen it."""

import plistlib
from pathlib import Path

import pytest

from flowrotate.machine.commands import Said
from flowrotate.machine.places import places
from flowrotate.machine.service.keeper import MARKER, Keeper, Step
from flowrotate.machine.service.launchd import agent, command_in, keeper, read
from flowrotate.machine.service.order import Order

HOME = Path("/Users/o'b & <c>")
FILE = HOME / "Library" / "LaunchAgents" / "dev.flow-rotate.serve.plist"
LOG = HOME / "Library" / "Logs" / "flow-rotate.log"
TARGET = "gui/501/dev.flow-rotate.serve"
ORDER = Order("/v w/python", ("--set", "a=\"<é>\" & 'x' $HOME %h"), (), (("PATH", "/opt/bin"),))


@pytest.fixture
def made() -> Keeper:
    return keeper(places({}, HOME, "darwin"), 501)


def test_agent() -> None:
    text = agent(ORDER, LOG)
    assert MARKER in text
    assert plistlib.loads(text.encode()) == {
        "Label": "dev.flow-rotate.serve",
        "ProgramArguments": list(ORDER.command),
        "EnvironmentVariables": {"PATH": "/opt/bin"},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 30,
        "ExitTimeOut": 15,
        "ProcessType": "Interactive",
        "StandardOutPath": str(LOG),
        "StandardErrorPath": str(LOG),
        "Umask": 63,
    }


def test_places_and_commands(made: Keeper) -> None:
    bootstrap = ("launchctl", "bootstrap", "gui/501", str(FILE))
    bootout = ("launchctl", "bootout", TARGET)
    enable = Step(("launchctl", "enable", TARGET))
    assert (made.file, made.log, made.folders) == (FILE, str(LOG), (LOG.parent,))
    assert made.start == (enable, Step(bootstrap))
    assert made.restart == (enable, Step(bootout, lenient=True), Step(bootstrap, patient=True))
    assert (made.stop, made.forget) == ((Step(bootout),), ())
    assert made.asks == (("launchctl", "print", TARGET),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (agent(Order("/v w/py", ("x",), ()), LOG), "'/v w/py' -P -m flowrotate serve x"),
        ("", ""),
        ("<plist/>", ""),
        ("<plist version='1.0'><dict></dict></plist>", ""),
    ],
)
def test_the_command_is_read_back(text: str, expected: str) -> None:
    assert command_in(text) == expected


RUNNING = """\
gui/501/dev.flow-rotate.serve = {
\tactive count = 1
\tpath = /Users/x/Library/LaunchAgents/dev.flow-rotate.serve.plist
\tstate = running

\tprogram = /v/python
\tenvironment = {
\t\tstate = other
\t\tpid = 9
\t}
\tpid = 612
\tlast exit code = (never exited)
}
"""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Said(0, RUNNING), (True, True, 612, "running, last exit code (never exited)")),
        (
            Said(0, "\tstate = not running\n\tlast exit code = 1\n"),
            (True, False, 0, "not running, last exit code 1"),
        ),
        (Said(0, "words of a later release"), (True, None, 0, "")),
        (Said(113, "Could not find service in domain"), (False, False, 0, "")),
    ],
)
def test_read(said: Said, expected: tuple[object, ...]) -> None:
    state = read([said])
    assert (state.loaded, state.active, state.pid, state.result) == expected
