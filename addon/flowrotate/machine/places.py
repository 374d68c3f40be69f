"""Where what belongs to a user's machine is kept. Pure: environment and home come in."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAME = "flow-rotate"


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of one user, which need not exist. `platform` is spelled as `sys.platform` is.

    `state` is ours: certificate bundles, proxies that run, what `system on` changed. `config` and
    `data` are where every program has a folder (XDG Base Directory Specification, 0.8).
    """

    platform: str
    home: Path
    state: Path
    config: Path
    data: Path
    logs: Path


def places(env: Mapping[str, str], home: Path, platform: str = sys.platform) -> Places:
    def folder(name: str, otherwise: Path) -> Path:
        named = Path(env.get(name, ""))
        # "If an implementation encounters a relative path [it] should […] ignore it."
        return named if named.is_absolute() else otherwise

    if platform == "darwin":
        support = home / "Library" / "Application Support"
        logs = home / "Library" / "Logs"
        return Places(platform, home, support / NAME, support, support, logs)
    if platform == "win32":
        local = folder("LOCALAPPDATA", home / "AppData" / "Local")
        roaming = folder("APPDATA", home / "AppData" / "Roaming")
        return Places(platform, home, local / NAME, roaming, local, local / NAME)
    state = folder("XDG_STATE_HOME", home / ".local" / "state") / NAME
    config = folder("XDG_CONFIG_HOME", home / ".config")
    data = folder("XDG_DATA_HOME", home / ".local" / "share")
    return Places(platform, home, state, config, data, state)
