"""The task is composed and read back here; no Windows has seen it."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from flowrotate.machine.commands import Said
from flowrotate.machine.places import places
from flowrotate.machine.service.keeper import MARKER, Keeper, KeeperError, Step
from flowrotate.machine.service.order import Order
from flowrotate.machine.service.windows import (
    NAMESPACE,
    command_in,
    keeper,
    read,
    task,
    user,
    windowless,
)

PYTHON = r"C:\v & w\Scripts\python.exe"
ORDER = Order(PYTHON, ("--secrets", 'C:\\a "b" <é>\\', "--set", "x=50%"), ())
LOG = Path(r"C:\Local\flow-rotate.log")


@pytest.fixture
def made() -> Keeper:
    env = {"USERNAME": "me", "USERDOMAIN": "BOX"}
    return keeper(places({"LOCALAPPDATA": "/L"}, Path("/home"), "win32"), env)


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.encode("utf-16"))


def at(root: ElementTree.Element, *names: str) -> str | None:
    return root.findtext("/".join(f"{{{NAMESPACE}}}{name}" for name in names))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (("RegistrationInfo", "Source"), MARKER),
        (("Triggers", "LogonTrigger", "UserId"), r"BOX\m&e"),
        (("Triggers", "LogonTrigger", "Repetition", "Interval"), "PT1M"),
        (("Principals", "Principal", "UserId"), r"BOX\m&e"),
        (("Principals", "Principal", "LogonType"), "InteractiveToken"),
        (("Principals", "Principal", "RunLevel"), "LeastPrivilege"),
        (("Settings", "MultipleInstancesPolicy"), "IgnoreNew"),
        (("Settings", "DisallowStartIfOnBatteries"), "false"),
        (("Settings", "StopIfGoingOnBatteries"), "false"),
        (("Settings", "Hidden"), "true"),
        (("Settings", "ExecutionTimeLimit"), "PT0S"),
        (("Settings", "RestartOnFailure", "Interval"), "PT1M"),
        (("Settings", "RestartOnFailure", "Count"), "10"),
        (("Actions", "Exec", "Command"), r"C:\v & w\Scripts\pythonw.exe"),
        (
            ("Actions", "Exec", "Arguments"),
            r'-P -m flowrotate serve --secrets "C:\a \"b\" <é>\\" --set x=50% --log '
            r"C:\Local\flow-rotate.log",
        ),
    ],
)
def test_task(place: tuple[str, ...], expected: str) -> None:
    assert at(parse(task(ORDER, r"BOX\m&e", LOG)), *place) == expected


def test_the_triggers_elements_stand_in_the_schemas_order() -> None:
    """[MS-TSCH] 2.5.3.1: a sequence, and then what the kind of trigger adds."""
    (trigger,) = parse(task(ORDER, "me", LOG)).iter(f"{{{NAMESPACE}}}LogonTrigger")
    assert [child.tag.rpartition("}")[2] for child in trigger] == [
        "Enabled",
        "Repetition",
        "UserId",
    ]


def test_the_file_says_how_it_is_encoded(made: Keeper) -> None:
    data = task(ORDER, "é", LOG).encode(made.encoding)
    assert data[:2] in (b"\xff\xfe", b"\xfe\xff")
    assert at(ElementTree.fromstring(data), "Principals", "Principal", "UserId") == "é"


@pytest.mark.parametrize("word", ["%TEMP%", "a%b c%d", "$(Arg0)"])
def test_what_the_scheduler_would_replace_is_refused(word: str) -> None:
    with pytest.raises(KeeperError, match="rename"):
        task(Order(PYTHON, ("--secrets", word), ()), "me", LOG)


def test_places_and_commands(made: Keeper) -> None:
    create = Step(("schtasks", "/Create", "/TN", "Flow Rotate", "/XML", str(made.file), "/F"))
    start = Step(("schtasks", "/Run", "/TN", "Flow Rotate"))
    end = Step(("schtasks", "/End", "/TN", "Flow Rotate"), lenient=True)
    delete = Step(("schtasks", "/Delete", "/TN", "Flow Rotate", "/F"))
    assert made.file == Path("/L/flow-rotate/task.xml")
    assert (made.start, made.restart) == ((create, start), (end, create, start))
    assert (made.stop, made.forget) == ((end, delete), ())
    assert made.asks[0] == ("schtasks", "/Query", "/TN", "Flow Rotate", "/XML")
    assert made.asks[1][:4] == ("powershell", "-NoProfile", "-NonInteractive", "-Command")
    assert made.show(start.command) == 'schtasks /Run /TN "Flow Rotate"'


@pytest.mark.parametrize(
    ("env", "expected"),
    [({"USERNAME": "me", "USERDOMAIN": "BOX"}, r"BOX\me"), ({"USERNAME": "me"}, "me")],
)
def test_user(env: dict[str, str], expected: str) -> None:
    assert user(env) == expected


def test_nobody() -> None:
    with pytest.raises(KeeperError, match="USERNAME"):
        user({"USERDOMAIN": "BOX"})


@pytest.mark.parametrize(
    ("python", "expected"),
    [
        (r"C:\v\python.exe", r"C:\v\pythonw.exe"),
        (r"C:\v\Python.EXE", r"C:\v\pythonw.exe"),
        (r"C:\v\pythonw.exe", r"C:\v\pythonw.exe"),
        (r"C:\v\pypy.exe", r"C:\v\pypy.exe"),
    ],
)
def test_windowless(python: str, expected: str) -> None:
    assert windowless(python) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            task(Order(r"C:\p.exe", (), ()), "me", LOG),
            rf"C:\p.exe -P -m flowrotate serve --log {LOG}",
        ),
        ("", ""),
        ("<?xml?><Task/>", ""),
    ],
)
def test_the_command_is_read_back(text: str, expected: str) -> None:
    assert command_in(text) == expected


OURS = Said(0, task(ORDER, "me", LOG))


@pytest.mark.parametrize(
    ("xml", "state", "expected"),
    [
        (
            OURS,
            Said(0, "Running\r\n2026-11-28T14:00:00\r\n267009\r\n"),
            (True, True, True, "2026-11-28T14:00:00", "Running, last result 267009", ""),
        ),
        (OURS, Said(0, "Ready\n\n1\n"), (True, False, True, "", "Ready, last result 1", "")),
        (OURS, Said(0, "Disabled\n\n1\n"), (True, False, False, "", "Disabled, last result 1", "")),
        (OURS, Said(127, "no such program"), (True, None, True, "", "", "")),
        (Said(1, "ERROR: …"), Said(1, ""), (False, False, False, "", "", "")),
        (Said(0, "<Task/>"), Said(127, ""), (True, None, True, "", "", "the task Flow Rotate")),
        (Said(0, "\0".join(OURS.text)), Said(127, ""), (True, None, True, "", "", "")),
    ],
)
def test_read(xml: Said, state: Said, expected: tuple[object, ...]) -> None:
    s = read([xml, state])
    assert (s.loaded, s.active, s.enabled, s.since, s.result, s.foreign) == expected
