"""Who keeps the proxy running on a platform, and how they are told. Pure."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowrotate.machine.commands import Run, Said

from .order import Order

MARKER = "flow-rotate service install"
"""In every file that is ours; one without it is somebody else's, and stays."""

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """`patient`: it is tried again while what ran before comes to its end. `lenient`: it may fail,
    because there may be nothing left to do."""

    command: Command
    patient: bool = False
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What the platform says of the service. `loaded`: it knows it; `foreign`: the place of another
    service of the same name; None is not known."""

    loaded: bool
    active: bool | None = None
    enabled: bool | None = None
    pid: int = 0
    since: str = ""
    result: str = ""
    foreign: str = ""
    lingers: bool | None = None


@dataclass(frozen=True, slots=True)
class Keeper:
    """A platform's own: the file that tells it of the service, and the commands around it.

    `text` composes the file, and may ask the platform first (raises KeeperError); `command_in`
    reads its command back. `start`, `restart`: once the file is there; `stop`, `forget`: before
    and after it is taken away. `read` understands the answers to `asks`. `folders` have to be
    there, `links` are what `start` makes; `show` writes a command as the platform's shell has it.
    `trial` asks the proxy whether it could start, as far as can be in the service's environment.
    """

    name: str
    file: Path
    log: str
    text: Callable[[Order, Run], str]
    command_in: Callable[[str], str]
    start: tuple[Step, ...]
    restart: tuple[Step, ...]
    stop: tuple[Step, ...]
    forget: tuple[Step, ...]
    asks: tuple[Command, ...]
    read: Callable[[Sequence[Said]], State]
    encoding: str = "utf-8"
    folders: tuple[Path, ...] = ()
    links: tuple[Path, ...] = ()
    show: Callable[[Command], str] = shlex.join
    trial: Callable[[Order], Command] = lambda order: order.trial


class KeeperError(ValueError):
    """Why the platform cannot keep a service, and the mend."""


INSTEAD = "run `flow-rotate serve` under a supervisor of your own"
