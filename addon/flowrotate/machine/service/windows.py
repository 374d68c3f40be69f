"""A task of the Task Scheduler, at the user's logon. Composed, never run by us. Pure.

learn.microsoft.com, "Schtasks.exe" (windows/win32/taskschd/schtasks):

    schtasks /Create /TN taskname /XML xmlfile /F
    schtasks /Run /TN taskname        schtasks /End /TN taskname
    schtasks /Query /TN taskname /XML schtasks /Delete /TN taskname /F

The XML is of "Task Scheduler Schema" there, and [MS-TSCH] 2.5. What `/Query` prints for people is
translated, so `Get-ScheduledTask` and `Get-ScheduledTaskInfo` (powershell/module/scheduledtasks)
say whether it runs.
"""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from flowrotate.machine.commands import Said
from flowrotate.machine.places import Places

from .keeper import MARKER, Keeper, KeeperError, State, Step
from .order import Order

NAME = "Flow Rotate"
NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
ASK_STATE = (
    f"$t = Get-ScheduledTask -TaskPath '\\' -TaskName '{NAME}' -ErrorAction Stop; "
    "$i = $t | Get-ScheduledTaskInfo; "
    "[string]$t.State; $i.LastRunTime.ToString('s'); $i.LastTaskResult"
)

# A restart on failure is for what cannot be started. What ends by itself is started again by the
# logon's repetition, which does nothing while one runs.
TASK = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="{namespace}">
  <RegistrationInfo>
    <Source>{marker}</Source>
    <Description>Flow Rotate, a proxy that rotates credentials. \
Taken away by: flow-rotate service uninstall</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <Repetition>
        <Interval>PT1M</Interval>
      </Repetition>
      <UserId>{user}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <Hidden>true</Hidden>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>10</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{program}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


def keeper(places: Places, env: Mapping[str, str]) -> Keeper:
    file = places.state / "task.xml"
    log = places.logs / "flow-rotate.log"
    create = Step(("schtasks", "/Create", "/TN", NAME, "/XML", str(file), "/F"))
    start = Step(("schtasks", "/Run", "/TN", NAME))
    end = Step(("schtasks", "/End", "/TN", NAME), lenient=True)
    return Keeper(
        name="Task Scheduler",
        file=file,
        log=str(log),
        text=lambda order, _: task(order, user(env), log),
        command_in=command_in,
        start=(create, start),
        restart=(end, create, start),
        stop=(end, Step(("schtasks", "/Delete", "/TN", NAME, "/F"))),
        forget=(),
        asks=(
            ("schtasks", "/Query", "/TN", NAME, "/XML"),
            ("powershell", "-NoProfile", "-NonInteractive", "-Command", ASK_STATE),
        ),
        read=read,
        # With the mark that says which of the two orders of bytes it is.
        encoding="utf-16",
        folders=(log.parent,),
        show=subprocess.list2cmdline,
    )


def user(env: Mapping[str, str]) -> str:
    name, domain = env.get("USERNAME", ""), env.get("USERDOMAIN", "")
    if not name:
        raise KeeperError("who this is does not show: set USERNAME, and USERDOMAIN")
    return f"{domain}\\{name}" if domain else name


def task(order: Order, user: str, log: Path) -> str:
    """pythonw opens no window and has nowhere to print to: the proxy writes its log itself."""
    program, arguments = order.command[0], [*order.command[1:], "--log", str(log)]
    for text in (program, *arguments):
        # The scheduler puts values in their place, and has no way to write them as they are.
        if re.search(r"%[^%]+%|\$\(", text):
            raise KeeperError(f"a task can have no %NAME% and no $(…) in it: rename {text}")
    return TASK.format(
        namespace=NAMESPACE,
        marker=MARKER,
        user=escape(user),
        program=escape(windowless(program)),
        arguments=escape(subprocess.list2cmdline(arguments)),
    )


def windowless(python: str) -> str:
    path = PureWindowsPath(python)
    return str(path.with_name("pythonw.exe")) if path.name.lower() == "python.exe" else python


def command_in(text: str) -> str:
    try:
        # What the text was encoded as counts no more.
        root = ElementTree.fromstring(text.partition("?>")[2])
    except ElementTree.ParseError:
        return ""
    found = (root.findtext(f".//{{{NAMESPACE}}}{name}", "") for name in ("Command", "Arguments"))
    return " ".join(filter(None, found))


def read(said: Sequence[Said]) -> State:
    xml, state = said
    lines = [line.strip() for line in state.text.splitlines()] if state.ok else []
    running, since, result = (*lines, "", "", "")[:3]
    ours = MARKER in xml.text.replace("\0", "")
    return State(
        loaded=xml.ok,
        active=running == "Running" if running else (None if xml.ok else False),
        enabled=running != "Disabled" if running else xml.ok,
        since=since,
        result=f"{running}, last result {result}" if running else "",
        foreign="" if ours or not xml.ok else f"the task {NAME}",
    )
