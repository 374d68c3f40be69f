"""Computers for the tests of `flow-rotate system`: folders, programs that are fakes, a CA."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowrotate.demo.certs import make_authority
from flowrotate.machine.commands import Run, Said, run
from flowrotate.machine.places import places
from flowrotate.machine.system.certificate import Certificate, read_certificate
from flowrotate.machine.system.kinds import Computer
from flowrotate.machine.system.ledger import Book

PAC = "http://127.0.0.1:8080/proxy.pac"
Fake = Callable[[Sequence[str]], Said]


@dataclass
class Programs:
    """Fakes by name, and what they were told. A program without one is not installed."""

    fakes: dict[str, Fake] = field(default_factory=dict)
    told: list[list[str]] = field(default_factory=list)

    def __call__(self, command: Sequence[str]) -> Said:
        self.told.append(list(command))
        fake = self.fakes.get(command[0])
        return fake(command) if fake else Said(127, f"{command[0]}: no such program")

    def which(self, name: str) -> str | None:
        return f"/fake/{name}" if name in self.fakes else None

    def changes(self, *reading: str) -> list[list[str]]:
        """What was told, without the commands that only look."""
        return [c for c in self.told if not set(reading) & set(c)]


def computer(
    folder: Path,
    programs: Programs | None = None,
    *,
    platform: str = "linux",
    env: Mapping[str, str] | None = None,
    which: Callable[[str], str | None] | None = None,
    real: bool = False,
    user: str = "",
) -> Computer:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    programs = programs or Programs()
    runner: Run = run if real else programs
    found = places({}, home, platform)
    return Computer(
        found,
        env or {},
        runner,
        which or programs.which,
        Book(found.state),
        root=folder,
        user=user,
    )


def certificate(folder: Path, name: str = "ca") -> Certificate:
    made = make_authority(folder / name, ["localhost"])
    return read_certificate(made.ca)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file's bytes, and every folder (None)."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
