"""Variables as each shell has them set, and unset; and how it is told to. Pure."""

import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

PROGRAM = "flow-rotate"
Write = Callable[[str, str | None], str]


def _posix(name: str, value: str | None) -> str:
    return f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"


def _fish(name: str, value: str | None) -> str:
    # fish(1), "Quotes": within single ones, \' and \\ alone are escapes.
    if value is None:
        return f"set -e {name}"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'"


def _powershell(name: str, value: str | None) -> str:
    # about_Quoting_Rules: a single quote within single quotes is doubled.
    if value is None:
        return f"Remove-Item Env:{name} -ErrorAction SilentlyContinue"
    quoted = value.replace("'", "''")
    return f"$env:{name} = '{quoted}'"


def _dotenv(name: str, value: str | None) -> str:
    # Docker's --env-file takes all behind the = as it is; the others need quotes round blanks only.
    if value is None:
        return f"{name}="
    if re.fullmatch(r"[\w@%+=:,./\\-]*", value):
        return f"{name}={value}"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'{name}="{quoted}"'


SHELLS: Mapping[str, Write] = {
    "bash": _posix,
    "sh": _posix,
    "zsh": _posix,
    "fish": _fish,
    "powershell": _powershell,
    "dotenv": _dotenv,
}


def written(shell: str, values: Mapping[str, str | None]) -> str:
    """Lines for `shell`, a key of SHELLS."""
    return "".join(f"{SHELLS[shell](name, value)}\n" for name, value in values.items())


def shell_of(env: Mapping[str, str], platform: str, asking: str = "") -> str:
    """The shell that asks, by its program's name, or else the user's own, as far as it is known."""
    own = re.split(r"[/\\]", env.get("SHELL", ""))[-1].removesuffix(".exe")
    name = asking if asking in (*SHELLS, "pwsh", "dash") else own
    if name in ("pwsh", "powershell") or (not name and platform == "win32"):
        return "powershell"
    return name if name in SHELLS else "bash"


def line_for(shell: str, command: str) -> str:
    """What to type so that the shell takes over what a command writes."""
    if shell == "fish":
        return f"{command} | source"
    if shell == "powershell":
        return f"{command} | Out-String | Invoke-Expression"
    return f'eval "$({command})"'


def own_name(which: Callable[[str], str | None], script: Path) -> str:
    """How this program is called from any folder: by its name, where that is found."""
    if which(PROGRAM):
        return PROGRAM
    if script.name == PROGRAM and script.is_file():
        return shlex.quote(str(script.absolute()))
    return f"{shlex.quote(sys.executable)} -m flowrotate"
