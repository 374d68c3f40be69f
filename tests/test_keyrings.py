"""Entries of a real keyring, whose backend is in memory here."""

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import KeyringLocked

from flowrotate.sources.keyrings import read_entries

C = "sk-canary-5f2a"


class Memory(KeyringBackend):
    """A service's name may make it fail."""

    priority = 1

    def __init__(self, entries: Mapping[tuple[str, str], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring's own
        self.entries = entries
        self.released = Event()

    def get_password(self, service: str, username: str) -> str | None:
        if service == "locked":
            raise KeyringLocked(C)
        if service == "broken":
            raise RuntimeError(C)
        if service == "stuck":
            self.released.wait(10)
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError


@contextmanager
def use(backend: KeyringBackend) -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    try:
        yield
    finally:
        keyring.set_keyring(before)


@pytest.fixture
def memory() -> Iterator[Memory]:
    backend = Memory({("a/b", "me"): C, ("empty", "me"): ""})
    with use(backend):
        yield backend
    backend.released.set()


NONE = "the keyring has no such entry: add it with 'keyring set'"
UNREADABLE = "the keyring cannot be read: unlock it, or write another kind of source"


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("a/b/me", C),
        ("a/b/you", NONE),
        ("empty/me", NONE),
        ("locked/me", UNREADABLE),
        ("broken/me", UNREADABLE),
    ],
)
def test_an_entry(entry: str, expected: str) -> None:
    (got,) = read_entries([entry]).values()
    assert str(got) == expected
    if isinstance(got, Exception):
        assert C not in "".join(traceback.format_exception(got))


def test_one_that_does_not_answer(memory: Memory) -> None:
    got = read_entries(["a/b/me", "stuck/me", "a/b/you"], 0.2)
    late = "the keyring did not answer within 0.2 seconds: unlock it, and try again"
    assert [str(text) for text in got.values()] == [C, late, late]
    memory.released.set()


def test_no_keyring_on_this_machine() -> None:
    with use(NoKeyring()):  # type: ignore[no-untyped-call]  # keyring's own
        (got,) = read_entries(["a/b"]).values()
    assert str(got) == "this machine has no keyring: install one, or write another kind of source"


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    (got,) = read_entries(["a/b"]).values()
    assert str(got) == "needs the extra 'keyring': install keyring beside mitmproxy"


def test_nothing_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert read_entries([]) == {}
