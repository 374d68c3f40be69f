"""Records are scrubbed where they are made, whoever makes them and whoever writes them."""

import logging
from collections.abc import Iterator

import pytest
from hpack import Encoder, NeverIndexedHeaderTuple

from flowrotate import logs
from flowrotate.rotator import ROTATOR
from flowrotate.scrub.forms import Forms, Lately
from flowrotate.secret import Secret
from flowrotate.settings import Settings

SECRET = "sk-canary-a-7f3a9c"
ALIAS = "[rotate:pool/a]"


class Kept(logging.Handler):
    """What mitmproxy's own handlers would write."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A logger's lines, while SECRET is known to have gone out."""
    monkeypatch.setattr(ROTATOR, "logged", Lately())
    monkeypatch.setattr(ROTATOR, "on_wire", Lately())
    monkeypatch.setattr(ROTATOR, "settings", Settings(client_token=Secret("token-7f3a9c", "TOKEN")))
    ROTATOR.note_sent([Forms.of(Secret(SECRET, ALIAS))], Secret(f"Bearer {SECRET}", ALIAS))
    handler = Kept()
    logger = logging.getLogger("someone.else")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    owner = object()
    logs.install(owner)
    yield handler.lines
    logs.uninstall(owner)
    logger.removeHandler(handler)


logger = logging.getLogger("someone.else")


def test_messages_and_arguments(kept: list[str]) -> None:
    logger.info(f"got {SECRET}")
    logger.info("got %s and %r", SECRET, SECRET.encode())
    logger.debug("hex %s, token %s", SECRET.encode().hex(), "token-7f3a9c")
    logger.debug("nothing %d", 7)
    assert kept == [
        f"got {ALIAS}",
        f"got {ALIAS} and b'{ALIAS}'",
        f"hex {ALIAS}, token TOKEN",
        "nothing 7",
    ]


def test_half_of_one_in_a_message_that_was_cut(kept: list[str]) -> None:
    logger.info(f"SendData(b'x: {SECRET[:14]}…")
    assert kept == [f"SendData(b'x: {ALIAS}…"]


def test_exceptions_and_stacks(kept: list[str]) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("it failed")
    logger.info("here", stack_info=True)
    assert SECRET not in "".join(kept)
    assert f"ValueError: {ALIAS}" in kept[0]
    assert kept[0].startswith("it failed\nTraceback")


def test_an_exception_without_one_stays_for_the_formatter(kept: list[str]) -> None:
    try:
        raise ValueError("plain")
    except ValueError:
        logger.exception("it failed")
    assert kept[0].endswith("ValueError: plain")


def test_as_http2_packs_it(kept: list[str]) -> None:
    field = NeverIndexedHeaderTuple(b"authorization", f"Bearer {SECRET}".encode())
    frame = Encoder().encode([(b":method", b"POST"), field])
    assert SECRET.encode() not in frame
    logger.debug(f"SendData({frame!r})")
    assert ALIAS in kept[0]


@pytest.mark.parametrize(
    ("quoted", "expected"),
    [
        (
            b"GET / HTTP/1.1\r\nProxy-Authorization: Basic bWluZQ==\r\nHost: a.test\r\n",
            "b'GET / HTTP/1.1\\r\\nProxy-Authorization: [rotate:removed]\\r\\nHost: a.test\\r\\n'",
        ),
        (
            [(b"proxy-authorization", b"Basic bWluZQ=="), (b"accept", b"*/*")],
            "[(b'proxy-authorization', b'[rotate:removed]'), (b'accept', b'*/*')]",
        ),
        (b"proxy-authorization: Basic [rotate:a/b]", "b'proxy-authorization: Basic [rotate:a/b]'"),
        (b"X-Other: mine\r\n", "b'X-Other: mine\\r\\n'"),
    ],
)
def test_g5_what_a_client_sent_as_its_own(kept: list[str], quoted: object, expected: str) -> None:
    logger.info("Client closed connection: %r", quoted)
    assert kept == [f"Client closed connection: {expected}"]


def test_what_cannot_be_scrubbed_is_not_shown(
    kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger.info("%d " + SECRET, "no number")
    monkeypatch.setattr(logs, "scrubbed", lambda _: 1 / 0)
    logger.info(SECRET)
    assert kept == [
        "a log message that cannot be scrubbed (TypeError)",
        "a log message that cannot be scrubbed (ZeroDivisionError)",
    ]


def test_with_its_last_owner_it_goes() -> None:
    before = logging.getLogRecordFactory()
    one, other = object(), object()
    logs.install(one)
    logs.install(other)
    logs.uninstall(one)
    assert logging.getLogRecordFactory() is not before
    logs.uninstall(other)
    assert logging.getLogRecordFactory() is before
