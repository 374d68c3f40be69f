"""A unit of the user's own systemd: systemd.service(5), systemd.exec(5), systemctl(1).

What of the sandbox holds in a *user's* manager was tried with systemd 252: `PrivateDevices`,
`ProtectClock`, `ProtectKernelLogs`, `ProtectKernelModules` and `CapabilityBoundingSet` keep a unit
from starting there (218/CAPABILITIES), so they are not used. What is about files and mounts needs a
user namespace. Systemd 254 and later makes one where the machine has them and does without where it
has none. Before, only `PrivateUsers=yes` makes one, and keeps the unit from starting where there is
none (217/USER); without it such settings are left out silently. So it is written only for a
manager before 254, on a machine that was seen to have them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from flowrotate.machine.commands import Run, Said
from flowrotate.machine.places import Places

from .keeper import INSTEAD, MARKER, Command, Keeper, KeeperError, State, Step
from .order import Order

UNIT = "flow-rotate.service"
SYSTEMCTL = ("systemctl", "--user")
VERSION = (*SYSTEMCTL, "show", "--property=Version", "--value")
TRANSIENT = ("systemd-run", "--user", "--quiet", "--wait", "--collect", "--pipe")
NAMESPACES = ("unshare", "--user", "--map-root-user", "--mount", "true")
PROPERTIES = (
    "LoadState,UnitFileState,ActiveState,SubState,Result,MainPID,ActiveEnterTimestamp,FragmentPath"
)

UNIT_TEXT = Template("""\
# Made by `$marker`, and taken away by `flow-rotate service uninstall`.
# Settings of your own belong in a drop-in, which both leave alone: systemctl --user edit $unit
[Unit]
Description=Flow Rotate, a proxy that rotates credentials
StartLimitIntervalSec=10min
StartLimitBurst=10

[Service]
Type=exec
${environment}ExecStart=$command
ExecReload=kill -HUP $$MAINPID
KillMode=mixed
# The proxy ends what is in flight within 10 s.
TimeoutStopSec=15s
Restart=on-failure
${backoff}# Wrong options do not mend themselves.
RestartPreventExitStatus=2
UMask=0077

# A secret that only this service gets, from a file, or from a socket that another program answers:
#   LoadCredential=openai:/path/of/openai.key
# and in the secrets file, as the credential's source:
#   file: $credentials/openai

NoNewPrivileges=yes
${users}ProtectSystem=strict
ProtectHome=read-only
# What the proxy writes. A `command` that writes elsewhere (say ~/.config/op), and the folder of a
# file with a `refresh_token`, need a ReadWritePaths= of their own in a drop-in.
ReadWritePaths=$writes
PrivateMounts=yes
${tmp}ProtectProc=invisible
ProtectControlGroups=yes
ProtectKernelTunables=yes
ProtectHostname=yes
DevicePolicy=closed
KeyringMode=private
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
# Unix sockets lead to the agents of pass, gpg and op; netlink sorts what a name resolves to.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=default.target
""")

# RestartSteps= is from systemd 254 on, and a warning before.
BACKOFF = "RestartSec=1s\nRestartSteps=6\nRestartMaxDelaySec=60s\n"
CONSTANT = "RestartSec=5s\n"
SHARED = ("/tmp/", "/var/tmp/")


def keeper(places: Places, runtime: Path, uid: int) -> Keeper:
    """`runtime` is XDG_RUNTIME_DIR."""
    folder = places.config / "systemd" / "user"

    def text(order: Order, run: Run) -> str:
        version = ask_version(run)
        sandbox = version < 254 and run(NAMESPACES).ok
        return unit(order, version, runtime, users=sandbox)

    return Keeper(
        name="systemd",
        file=folder / UNIT,
        log=f"journalctl --user --unit={UNIT}",
        text=text,
        command_in=command_in,
        start=(
            Step((*SYSTEMCTL, "daemon-reload")),
            Step((*SYSTEMCTL, "enable", "--now", UNIT)),
        ),
        restart=(
            Step((*SYSTEMCTL, "daemon-reload")),
            # One that has failed too often is not started by hand either.
            Step((*SYSTEMCTL, "reset-failed", UNIT), lenient=True),
            Step((*SYSTEMCTL, "enable", UNIT)),
            Step((*SYSTEMCTL, "restart", UNIT)),
        ),
        stop=(
            Step((*SYSTEMCTL, "disable", "--now", UNIT)),
            Step((*SYSTEMCTL, "reset-failed", UNIT), lenient=True),
        ),
        forget=(Step((*SYSTEMCTL, "daemon-reload")),),
        asks=(
            (*SYSTEMCTL, "show", UNIT, f"--property={PROPERTIES}"),
            ("loginctl", "show-user", str(uid), "--property=Linger", "--value"),
        ),
        read=lambda said: read(said, folder / UNIT),
        links=(folder / "default.target.wants" / UNIT,),
        trial=trial,
    )


def trial(order: Order) -> Command:
    """In the manager's own environment: systemd-run(1). There, too, $ is a variable."""
    variables = (f"--setenv={name}={value}" for name, value in order.environment)
    command = (word.replace("$", "$$") for word in order.trial)
    return (*TRANSIENT, *variables, "--", *command)


def ask_version(run: Run) -> int:
    """The manager's own, which may be older than what is installed. Raises KeeperError."""
    said = run(VERSION)
    if said.status == 127:
        raise KeeperError(f"this machine has no systemd: {INSTEAD}")
    found = re.match(r"v?(\d+)", said.text)
    if not said.ok or not found:
        raise KeeperError(
            "systemd does not run for this user here: log in as the user (not by su or sudo; by "
            f"root, `loginctl enable-linger USER` starts it), or {INSTEAD}"
        )
    return int(found[1])


def unit(order: Order, version: int, runtime: Path, *, users: bool) -> str:
    """`users`: its sandbox needs to be told to make a user namespace, and can."""
    # It cannot have a /tmp of its own and see what is in the other.
    tmp = SHARED if any(word.startswith(SHARED) for word in order.command) else ()
    if not str(runtime).isprintable():
        raise KeeperError("XDG_RUNTIME_DIR: take out the line end or other control character")
    writes = (*order.folders, runtime, *tmp)
    return UNIT_TEXT.substitute(
        marker=MARKER,
        unit=UNIT,
        environment="".join(
            f"Environment={quote(f'{name}={value}')}\n" for name, value in order.environment
        ),
        command=command_line(order.command),
        backoff=BACKOFF if version >= 254 else CONSTANT,
        credentials=str(runtime / "credentials" / UNIT),
        users="PrivateUsers=yes\n" if users else "",
        # One that is not there is left out: the proxy may be told to write elsewhere.
        writes=" ".join(quote(f"-{folder}") for folder in writes),
        tmp="" if tmp else "PrivateTmp=yes\n",
    )


def command_line(command: Sequence[str]) -> str:
    """The colon keeps $ as it is. A program's own path may have no quotes or backslashes."""
    program, *arguments = command
    if re.search(r"[\"'\\]", program):
        program, arguments = "/usr/bin/env", list(command)
    return " ".join((quote(f":{program}"), *map(quote, arguments)))


def quote(text: str) -> str:
    """One word, as systemd.syntax(7) and "Command lines" in systemd.service(5) have it."""
    text = text.replace("%", "%%")
    if re.fullmatch(r"[\w@%+=:,./~\[\]-]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def command_in(text: str) -> str:
    found = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def read(said: Sequence[Said], file: Path) -> State:
    """`systemctl show`: NAME=VALUE, one a line, for units that are not there too."""
    show, linger = said
    values = dict(line.split("=", 1) for line in show.text.splitlines() if "=" in line)
    place = values.get("FragmentPath", "")
    known = show.ok and "LoadState" in values
    return State(
        loaded=known and values["LoadState"] not in ("not-found", ""),
        active=values.get("ActiveState") == "active" if known else None,
        enabled=values.get("UnitFileState") == "enabled" if known else None,
        pid=int(values.get("MainPID") or 0),
        since=values.get("ActiveEnterTimestamp", ""),
        result=_result(values),
        foreign="" if Path(place or file).resolve() == file.resolve() else place,
        lingers={"yes": True, "no": False}.get(linger.text.strip()) if linger.ok else None,
    )


def _result(values: dict[str, str]) -> str:
    """In the words that `systemctl status` has."""
    state = values.get("ActiveState", "")
    said = values.get("Result", "success")
    detail = values.get("SubState", "") if said == "success" else said
    return f"{state} ({detail})" if state else ""
