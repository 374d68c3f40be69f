"""Programs of this machine, run one after the other. IO."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SECONDS = 120.0
"""Some ask the user, before they trust a certificate."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a program printed, both channels together, and its exit status (127: there is none)."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        return self.status == 0


Run = Callable[[Sequence[str]], Said]


def run(command: Sequence[str]) -> Said:
    """Without a shell and without input; one that hangs is ended after SECONDS."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        return Said(127, f"{command[0]}: no such program")
    except subprocess.TimeoutExpired:
        return Said(124, f"{command[0]}: said nothing for {SECONDS:.0f} s")
    except OSError as e:
        return Said(126, f"{command[0]}: {e.strerror}")
    return Said(done.returncode, done.stdout)
