"""Which platform keeps the service here. Pure."""

from collections.abc import Mapping
from pathlib import Path

from flowrotate.machine.places import Places

from . import launchd, systemd, windows
from .keeper import INSTEAD, Keeper, KeeperError


def find_keeper(places: Places, env: Mapping[str, str], uid: int) -> Keeper:
    """Raises KeeperError."""
    match places.platform:
        case "linux":
            runtime = Path(env.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}")
            return systemd.keeper(places, runtime, uid)
        case "darwin":
            return launchd.keeper(places, uid)
        case "win32":
            return windows.keeper(places, env)
    raise KeeperError(f"no service on {places.platform}: {INSTEAD}")
