"""Which hosts belong to a pool: names in one spelling, rules, and whether two overlap. Pure.

No message here quotes its input: somebody may have pasted a secret in the wrong line.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from publicsuffix2 import get_tld  # type: ignore[import-untyped]  # it ships no types

NO_HOST = "not a host: write api.example.com, api.example.com:8443 or [::1]:8443"
LONGEST_NAME = 253  # RFC 1035, 2.3.4, without the root's dot

_LABELS = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
# A resolver reads 127.1 or 0x7f.1 as an address: what ends in a number is IPv4 or nothing.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """The one spelling, ASCII, in which host names are compared. Raises ValueError for no name."""
    if len(name) > LONGEST_NAME + 1:
        raise ValueError(NO_HOST)
    if name.startswith("[") and name.endswith("]"):
        return _ipv6(name[1:-1])
    ascii_name = ".".join(map(_ascii_label, name.split("."))).lower().removesuffix(".")
    if ":" in ascii_name:
        return _ipv6(ascii_name)
    # After IDNA, which can make an ASCII sign (a slash, a dot, a digit) of one that was not.
    if len(ascii_name) > LONGEST_NAME or not _LABELS.fullmatch(ascii_name):
        raise ValueError(NO_HOST)
    if _is_address(ascii_name):
        try:
            return str(IPv4Address(ascii_name))
        except ValueError:
            raise ValueError(NO_HOST) from None
    return ascii_name


def _ascii_label(label: str) -> str:
    if label.isascii():
        return label
    try:
        return label.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(NO_HOST) from None


def _ipv6(text: str) -> str:
    # A zone (fe80::1%eth0) is this machine's business, not a server's name.
    if "%" in text:
        raise ValueError(NO_HOST)
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise ValueError(NO_HOST) from None


def _is_address(name: str) -> bool:
    """Whether a name that `canonical` made, or has yet to check, is an IP address."""
    return ":" in name or bool(_NUMBER.fullmatch(name.rpartition(".")[2]))


@lru_cache(maxsize=4096)
def split_authority(text: str) -> tuple[str, int | None]:
    """`host`, `host:port` or `[v6]:port` -> canonical name, port. Raises ValueError."""
    match = _AUTHORITY.fullmatch(text)
    if not match:
        raise ValueError(NO_HOST)
    port = int(match[2]) if match[2] else None
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("a port is a number from 1 to 65535")
    return canonical(match[1]), port


@dataclass(frozen=True, slots=True)
class HostRule:
    """One line of `hosts`. `name` is canonical, without the `*.` of a wildcard; no port is any."""

    tls: bool
    name: str
    wildcard: bool
    port: int | None

    def covers(self, tls: bool, name: str, port: int) -> bool:
        """Whether a server of this canonical name belongs to the rule."""
        if tls != self.tls or self.port not in (None, port):
            return False
        return name.endswith("." + self.name) if self.wildcard else name == self.name


def rules_overlap(a: HostRule, b: HostRule) -> bool:
    """Whether some server belongs to both rules."""
    if a.tls != b.tls or (a.port != b.port and None not in (a.port, b.port)):
        return False
    if a.name == b.name:
        return a.wildcard == b.wildcard
    return (a.wildcard and b.name.endswith("." + a.name)) or (
        b.wildcard and a.name.endswith("." + b.name)
    )


def parse_host_rule(text: str) -> HostRule:
    """One line of `hosts`. Raises ValueError with the mend."""
    tls, rest = _scheme(text)
    if "/" in rest:
        raise ValueError("a host has no path: write the path under 'paths'")
    if "@" in rest:
        raise ValueError("a host has no user name or password: leave out all up to the @")
    wildcard = rest.startswith("*.")
    authority = rest.removeprefix("*.").removesuffix(":*")
    if "*" in authority:
        raise ValueError("* may only be the whole first label, as in *.example.com, or the port")
    name, port = split_authority(authority)
    if port and rest.endswith(":*"):
        raise ValueError("write one port, or * for any")
    if wildcard:
        _check_suffix(name)
    any_port = rest.endswith(":*")
    return HostRule(tls, name, wildcard, None if any_port else port or (443 if tls else 80))


def _scheme(text: str) -> tuple[bool, str]:
    lower = text.lower()
    if lower.startswith("https://"):
        raise ValueError("leave out https://, it is the default")
    if lower.startswith("http://"):
        return False, text[len("http://") :]
    if "://" in text:
        raise ValueError("only http:// may stand before a host; without it, https is meant")
    return True, text


def _check_suffix(name: str) -> None:
    if _is_address(name):
        raise ValueError("an IP address has no subdomains: leave out the *.")
    if "." not in name:
        raise ValueError("too wide: write two labels or more after the *.")
    if get_tld(name) == name:
        raise ValueError(
            "too wide: a public suffix, where anybody may have a name; write one label more"
        )
