"""Hosts that mean the doctor no good: real sockets, whose answers come to no end or no sense."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flowrotate.config.spec import PoolSpec
from flowrotate.demo.certs import make_authority
from flowrotate.hosts import HostRule, parse_host_rule
from flowrotate.machine.doctor import deadline, network
from flowrotate.machine.doctor.finding import Finding, ok
from flowrotate.machine.doctor.network import Looked, clock, look, skew
from flowrotate.machine.doctor.through import through

LONG = 6.0
"""Seconds for which a host goes on; without a deadline a look takes as long."""
NOW = datetime(2024, 1, 1, 0, 0, 30, tzinfo=UTC)

Talk = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "WHOLE", 0.5)


@contextmanager
def host(talk: Talk) -> Iterator[int]:
    """Its port. It talks to each client, until one of them leaves."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                client, _ = server.accept()
                with client:
                    talk(client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with suppress(OSError):  # where nobody has come
                socket.create_connection(server.getsockname(), 1).close()
            thread.join()


def on_and_on(head: bytes, piece: bytes, pause: float = 0.0) -> Talk:
    def talk(client: socket.socket) -> None:
        ends = time.monotonic() + LONG
        client.recv(65536)
        client.sendall(head)
        while time.monotonic() < ends:
            client.sendall(piece)
            time.sleep(pause)  # the pace is what is tested

    return talk


CONTINUE = on_and_on(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
DRIP = on_and_on(b"HTTP/1.1 200 OK\r\nX: ", b"a", 0.05)
HANDSHAKE = on_and_on(b"\x16\x03\x03\x40\x00", b"\x02", 0.05)


def answer(head: bytes) -> Talk:
    def talk(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(head)

    return talk


def looked_at(port: int, scheme: str = "http://") -> Looked:
    rule = parse_host_rule(f"{scheme}127.0.0.1:{port}")
    return look(("pool", rule), ssl.create_default_context(), lambda: NOW)


def tried(url: str, rule: HostRule, *pools: PoolSpec) -> Finding:
    looked = [Looked(ok("hosts", ""), rule, answers=True)]
    (found,) = through(url, pools, looked, ssl.create_default_context())
    return found


@pytest.mark.parametrize("talk", [CONTINUE, DRIP], ids=["continue", "drip"])
def test_an_answer_without_end(talk: Talk) -> None:
    begun = time.monotonic()
    with host(talk) as port:
        looked = looked_at(port)
        assert time.monotonic() - begun < LONG / 2
    assert looked.finding.level == "ok"
    assert looked.finding.said.endswith("is reached, but answers no HEAD")
    assert not looked.answers


def test_a_handshake_without_end() -> None:
    begun = time.monotonic()
    with host(HANDSHAKE) as port:
        looked = looked_at(port, "")
        assert time.monotonic() - begun < LONG / 2
    assert looked.finding.level == "failure"
    assert "it came to no end within" in looked.finding.said


@pytest.mark.parametrize(
    ("talk", "rule"),
    [
        (CONTINUE, "http://a.example"),
        (DRIP, "http://a.example"),
        (DRIP, "a.example"),
    ],
    ids=["continue", "drip", "tunnel"],
)
def test_a_proxy_without_end(talk: Talk, rule: str) -> None:
    begun = time.monotonic()
    with host(talk) as port:
        found = tried(f"http://127.0.0.1:{port}", parse_host_rule(rule))
        assert time.monotonic() - begun < LONG / 2
    assert found.level == "failure"
    assert "it came to no end within" in found.said


def test_a_proxys_words() -> None:
    with host(answer(b"HTTP/1.1 403 no\x1b[2J\x07way\r\n\r\n")) as port:
        found = tried(f"http://127.0.0.1:{port}", parse_host_rule("a.example"))
    assert "403" in found.said
    assert found.said.isprintable()


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Mon, 01 Jan 2024 00:00:00 GMT", 30.0),
        ("Mon, 01 Jan 2024 00:00:00 -0000", 30.0),
        ("Mon, 01 Jan 2024 01:00:00 +0100", 30.0),
        ("Mon, 01 Jan 99999999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", None),
        ("Mon, 99 Jan 2024 00:00:00 GMT", None),
        ("(" * 60000, None),
        ("1 , : + " * 8000, None),
        ("soon", None),
        ("", None),
    ],
    ids=lambda value: str(value)[:50],
)
def test_dates(date: str, expected: float | None) -> None:
    assert skew(date, NOW) == expected
    head = f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n"
    with host(answer(head.encode())) as port:
        assert looked_at(port).skew == expected


def test_the_middle_of_the_clocks() -> None:
    rule = parse_host_rule("a.example")
    looked = [Looked(ok("hosts", ""), rule, skew=s) for s in (None, 1e9, 2.0, 2.0, None)]
    assert [f.level for f in clock(looked)] == ["ok"]
    assert [f.level for f in clock(looked[:1])] == ["note"]


@pytest.mark.parametrize("rule", ["a.example", "*.example.org", "a.example:*"])
def test_places_of_web_pages(rule: str) -> None:
    """Another pool with the same hosts is enough: its paths may be those of the request."""
    pages = PoolSpec("pages", (parse_host_rule(rule),), browsers=True)
    place = parse_host_rule("b.example.org" if "*." in rule else "a.example")
    others = PoolSpec("others", (place,))
    found = tried("http://127.0.0.1:1", place, others, pages)
    assert found.level == "note"
    assert "browsers: allow" in found.said
    # Nobody is at port 1: that it fails says that it was tried.
    assert tried("http://127.0.0.1:1", place, others).level == "failure"


def test_a_certificate_is_still_verified(tmp_path: Path) -> None:
    leaf = make_authority(tmp_path, ["localhost"]).leaf
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)

    def talk(client: socket.socket) -> None:
        with suppress(OSError):
            context.wrap_socket(client, server_side=True).close()

    with host(talk) as port:
        looked = looked_at(port, "")
    assert looked.finding.level == "failure"
    assert "certificate: " in looked.finding.said


def test_hosts_that_cannot_be_tried() -> None:
    pools = [PoolSpec("wild", (parse_host_rule("*.a.example"), parse_host_rule("a.example:*")))]
    looked: list[Looked] = []
    found = list(network.hosts(pools, ssl.create_default_context(), lambda: NOW, looked))
    assert [f.level for f in found] == ["note"]
    assert looked == []
