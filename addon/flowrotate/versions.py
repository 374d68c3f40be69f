"""Which mitmproxy this runs on. Pure."""

OLDEST, NEWEST = (11, 0, 2), (13,)
"""From the one, and below the other."""
MENDED = (11, 1, 2)
"""From here on mitmweb's API asks who calls (CVE-2025-23217)."""


def numbers(version: str) -> tuple[int, ...]:
    """11.0.2 as (11, 0, 2); what is no number ends it."""
    return tuple(int(n) for n in version.split(".")[:3] if n.isdecimal())
