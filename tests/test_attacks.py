"""SECURITY.md's table of attacks has the numbers of the tables that the tests try."""

import importlib
import re
from pathlib import Path

import pytest

SECURITY = Path(__file__).parents[1] / "SECURITY.md"

ATTACKS = {
    "HTTP/1.1 heads and framings, over TLS, in the clear and in tunnels": (
        "test_destination_http.HTTP1_HEADS",
        "test_destination_http.PLAIN_HEADS",
        "test_destination_http.PLAIN_TUNNELS",
    ),
    "HTTP/2 heads": ("test_destination_http2.HTTP2_HEADS",),
    "names and addresses that are nearly a pool's": (
        "test_destination.NAMES",
        "test_destination.ADDRESSES",
    ),
    "certificates, and next proxies that lie": (
        "test_destination_tls.BAD_CERTIFICATES",
        "test_destination.NEXT_PROXIES",
    ),
    "requests that are moved elsewhere, by scripts, options, SOCKS and rebound names": (
        "test_destination_moved.MOVES",
        "test_destination_moved.LATE_MOVES",
        "test_destination_moved.REMAPPED",
        "test_destination_moved.REBOUND",
        "test_destination_moved.SOCKS",
    ),
    "requests of several pools, and of none, on one connection": ("test_destination_shared.PATHS",),
    "ways of a page in Chromium": (
        "test_browser.ATTACKS",
        "test_browser.TOP",
        "test_browser.SERVICE_WORKER",
    ),
    "names for mitmweb's own port, and ways to it": (
        "test_web_port.HOSTS",
        "test_web_port.WAYS",
    ),
    "forms, codings and charsets of an echo, and places for it": (
        "test_scrubbing.FORMS",
        "test_scrubbing.CODINGS",
        "test_scrubbing.TOLD",
        "test_scrubbing.PLACES",
    ),
    "echoes and broken messages whose every trace is searched": (
        "audit_upstreams.ECHOES",
        "audit_upstreams.ONLY_HTTP2",
        "audit_upstreams.BROKEN",
    ),
    "broken answers": (
        "test_broken_upstreams.FAULTS",
        "test_broken_upstreams.FAULTS_H2",
    ),
}


def counted(kind: str) -> int:
    """How many there are of a kind, in the tables that its tests go through."""
    names = (name.split(".") for name in ATTACKS[kind])
    return sum(len(getattr(importlib.import_module(f"tests.e2e.{m}"), n)) for m, n in names)


def rows() -> dict[str, tuple[int, int]]:
    found = re.findall(r"^\| ([^|]+) \| (\d+) \| (\d+) \|$", SECURITY.read_text(), re.MULTILINE)
    return {kind: (int(tried), int(out)) for kind, tried, out in found}


@pytest.mark.parametrize("kind", ATTACKS)
def test_the_table_counts_what_is_tried(kind: str) -> None:
    assert rows()[kind] == (counted(kind), 0)


def test_the_table_adds_up() -> None:
    *kinds, total = rows().items()
    assert [kind for kind, _ in kinds] == list(ATTACKS)
    assert total == ("in all", (sum(tried for _, (tried, _) in kinds), 0))
