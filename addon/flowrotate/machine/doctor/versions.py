"""Whether the parts fit together."""

import sys
from importlib.metadata import PackageNotFoundError, version

from flowrotate import __version__
from flowrotate.versions import MENDED, NEWEST, OLDEST, numbers

from .finding import Finding, Findings, failure, ok, warning

PYTHON_OLDEST, PYTHON_NEWEST = (3, 11), (3, 14)


def versions(mitmproxy: str, python: tuple[int, ...] = sys.version_info[:3]) -> Findings:
    """`mitmproxy` is its version, "" when it is not installed beside this."""
    shown = ".".join(map(str, python))
    if not PYTHON_OLDEST <= python < PYTHON_NEWEST:
        yield failure("versions", f"Python {shown}", "use Python 3.11 to 3.13")
    yield _mitmproxy(mitmproxy, shown)


def _mitmproxy(found: str, python: str) -> Finding:
    line = f"Flow Rotate {__version__}, mitmproxy {found or 'none'}, Python {python}"
    if not found:
        return failure("versions", line, "install mitmproxy 11.0.2 to 12.x beside flow-rotate")
    if not OLDEST <= numbers(found) < NEWEST:
        return failure("versions", line, "install mitmproxy 11.0.2 to 12.x")
    if numbers(found) < MENDED:
        return warning(
            "versions",
            f"{line}: below 11.1.2, mitmweb's API asks for no password (CVE-2025-23217)",
            "no request reaches it through this proxy; to use mitmweb, take Python 3.12 or later, "
            "which gets a newer one",
        )
    return ok("versions", line)


def installed() -> str:
    """mitmproxy's version, or ""."""
    try:
        return version("mitmproxy")
    except PackageNotFoundError:
        return ""
