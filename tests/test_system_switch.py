"""On and off, decided by what is there: on places in memory, killed at every step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from flowrotate.machine.system.kinds import ChangeError, Outcome
from flowrotate.machine.system.ledger import Book, Entry, Ledger
from flowrotate.machine.system.switch import standing, switch_off, switch_on

from .computers import tree

A, B = Entry("kde", "a", ("ours",)), Entry("kde", "b", ("2",))


class Killed(BaseException):
    """What a kill is here: nothing of ours runs after it."""


@dataclass
class Memory:
    """A fake kind, by a name that the ledger knows: its places are a dict. `steps` counts down to
    the kill; `settled` are places for which a kill may have come too early."""

    values: dict[str, str] = field(default_factory=dict)
    steps: int = -1
    broken: set[str] = field(default_factory=set)
    settled: list[str] = field(default_factory=list)
    tidied: list[str] = field(default_factory=list)

    def step(self) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise Killed

    def title(self, entry: Entry) -> str:
        return entry.place

    def look(self, entry: Entry) -> str | None:
        return self.values.get(entry.place)

    def keep(self, entry: Entry) -> Mapping[str, Any]:
        self.step()
        return {"kept": self.values.get(entry.place)}

    def words(self, entry: Entry, value: str | None) -> Sequence[str]:
        return [f"set {entry.place} {value}"]

    def put(self, entry: Entry, value: str | None) -> None:
        self.step()
        if entry.place in self.broken:
            raise ChangeError("broken")
        if value is None:
            del self.values[entry.place]
        else:
            self.values[entry.place] = value
        self.step()

    def settle(self, entry: Entry) -> None:
        self.step()
        if entry.place in self.broken:
            raise ChangeError("broken")
        self.settled.append(entry.place)

    def tidy(self, entry: Entry) -> None:
        self.step()
        self.tidied.append(entry.place)


class Killing(Book):
    """A book in which a kill may come before and after each line."""

    memory: Memory

    def save(self, ledger: Ledger) -> None:
        self.memory.step()
        super().save(ledger)
        self.memory.step()


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "state")


def on(memory: Memory, book: Book, *wishes: Entry | Outcome, dry: bool = False) -> list[str]:
    ledger = book.load() or book.begin("http://127.0.0.1:8080", 0.0)
    done = switch_on({"kde": memory}, book, ledger, wishes or (A, B), dry=dry)
    return [outcome.status for outcome in done]


def off(memory: Memory, book: Book, *, dry: bool = False) -> list[str]:
    ledger = book.load()
    if ledger is None:
        return []
    return [o.status for o in switch_off({"kde": memory}, book, ledger, dry=dry)]


@pytest.mark.parametrize("before", [{}, {"a": "theirs"}, {"a": "x", "b": "y"}, {"b": "2"}])
def test_on_and_off(memory: Memory, book: Book, before: dict[str, str], tmp_path: Path) -> None:
    memory.values = dict(before)
    assert on(memory, book) == [
        "done",
        "already" if "b" in before and before["b"] == "2" else "done",
    ]
    assert memory.values == {"a": "ours", "b": "2"}
    assert set(off(memory, book)) == {"done"}
    assert memory.values == before
    assert tree(tmp_path) == {}
    assert off(memory, book) == []


def test_on_twice_never_takes_ours_for_what_was_before(memory: Memory, book: Book) -> None:
    memory.values = {"a": "theirs"}
    on(memory, book)
    assert on(memory, book) == ["already", "already"]
    off(memory, book)
    assert memory.values == {"a": "theirs"}


def test_another_url_keeps_what_was_before(memory: Memory, book: Book) -> None:
    memory.values = {"a": "theirs"}
    on(memory, book)
    assert on(memory, book, replace(A, ours=("newer",)), B) == ["done", "already"]
    assert memory.values["a"] == "newer"
    assert on(memory, book) == ["done", "already"]  # and back again
    assert on(memory, book) == ["already", "already"]
    off(memory, book)
    assert memory.values == {"a": "theirs"}


def test_what_was_there_before_is_not_ours(memory: Memory, book: Book) -> None:
    memory.values = {"a": "ours"}
    assert on(memory, book) == ["already", "done"]
    off(memory, book)
    assert memory.values == {"a": "ours"}


@pytest.mark.parametrize(
    ("meanwhile", "status", "after"),
    [("mine", "left", "mine"), ("theirs", "already", "theirs"), (None, "left", None)],
)
def test_what_the_user_changed_meanwhile(
    memory: Memory, book: Book, meanwhile: str | None, status: str, after: str | None
) -> None:
    memory.values = {"a": "theirs"}
    on(memory, book)
    memory.values.pop("a")
    if meanwhile:
        memory.values["a"] = meanwhile
    assert off(memory, book) == ["done", status]
    assert memory.values == ({"a": after} if after else {})
    assert book.load() is None
    assert memory.tidied == ["b", "a"]


def test_on_again_after_the_user_changed_it(memory: Memory, book: Book) -> None:
    memory.values = {"a": "theirs"}
    on(memory, book)
    memory.values["a"] = "mine"
    assert on(memory, book) == ["done", "already"]
    assert memory.values["a"] == "ours"
    off(memory, book)
    assert memory.values == {"a": "mine"}


def test_one_that_fails_stops_no_other(memory: Memory, book: Book) -> None:
    memory.broken = {"a"}
    assert on(memory, book, A, Outcome("skipped", "x"), B) == ["failed", "skipped", "done"]
    memory.broken = {"b"}
    assert off(memory, book) == ["failed", "already"]
    ledger = book.load()
    assert ledger
    assert ledger.entries[0].place == "b"
    memory.broken = set()
    assert off(memory, book) == ["done"]
    assert memory.values == {}


def test_what_is_as_it_should_be_is_settled_should_a_kill_have_come(
    memory: Memory, book: Book
) -> None:
    memory.values = {"b": "2"}  # before: none of ours
    on(memory, book)
    assert memory.settled == []
    assert on(memory, book, dry=True) == ["already", "already"]
    assert memory.settled == []
    assert on(memory, book) == ["already", "already"]
    assert memory.settled == ["a"]
    memory.values.pop("a")
    assert off(memory, book, dry=True) == ["already"]
    assert memory.settled == ["a"]
    memory.broken = {"a"}
    assert off(memory, book) == ["failed"]
    assert book.load()
    memory.broken = set()
    assert off(memory, book) == ["already"]
    assert memory.settled == ["a", "a"]
    assert book.load() is None


def test_what_cannot_be_settled_is_told(memory: Memory, book: Book) -> None:
    on(memory, book)
    memory.broken = {"a"}
    assert on(memory, book) == ["failed", "already"]


def test_what_has_been_put_back_is_settled(memory: Memory, book: Book) -> None:
    on(memory, book)
    off(memory, book)
    assert memory.settled == []


def test_a_place_that_takes_no_value_has_failed(book: Book) -> None:
    class Deaf(Memory):
        def put(self, entry: Entry, value: str | None) -> None:
            pass

    deaf = Deaf()
    ledger = book.begin("", 0.0)
    told = list(switch_on({"kde": deaf}, book, ledger, [A], dry=False))
    assert [(one.status, one.why) for one in told] == [("failed", "it is not set after all")]


def test_a_full_disk_changes_nothing(memory: Memory, tmp_path: Path) -> None:
    class Full(Book):
        def save(self, ledger: Ledger) -> None:  # noqa: ARG002
            raise OSError(28, "No space left on device", "system.json")

    book = Full(tmp_path / "state")
    done = list(switch_on({"kde": memory}, book, book.begin("", 0.0), [A], dry=False))
    assert [(o.status, o.why) for o in done] == [("failed", "system.json: No space left on device")]
    assert memory.values == {}


def test_a_dry_run_tells_the_steps_and_does_none(
    memory: Memory, book: Book, tmp_path: Path
) -> None:
    ledger = book.begin("", 0.0)
    told = list(switch_on({"kde": memory}, book, ledger, [A, B], dry=True))
    assert [one.steps for one in told] == [("set a ours",), ("set b 2",)]
    assert {one.status for one in told} == {"would"}
    assert memory.values == {}
    assert tree(tmp_path) == {}
    on(memory, book)
    before = book.file.read_bytes()
    assert off(memory, book, dry=True) == ["would", "would"]
    assert memory.values == {"a": "ours", "b": "2"}
    assert book.file.read_bytes() == before


def test_how_things_stand(memory: Memory, book: Book) -> None:
    on(memory, book)
    memory.values["b"] = "mine"
    ledger = book.load()
    assert ledger
    told = [(o.status, o.what, o.why) for _, o in standing({"kde": memory}, ledger)]
    assert told == [("on", "a: ours", ""), ("changed", "b", "it is mine now")]


NEWER = replace(A, ours=("newer",))
RUNS = {"on": [(A, B)], "moved": [(A, B), (NEWER, B)], "again": [(A, B), (A, B)]}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("before", [{}, {"a": "theirs", "b": "1"}], ids=["unset", "set"])
def test_killed_at_every_step(tmp_path: Path, before: dict[str, str], name: str) -> None:
    """While it goes on, while it goes off, and then off again."""
    step = 0
    while True:
        step += 1
        memory = Memory(dict(before))
        book = Killing(tmp_path / f"{name}-{step}")
        book.memory = memory
        memory.steps = step
        try:
            for wishes in RUNS[name]:
                on(memory, book, *wishes)
            off(memory, book)
        except Killed:
            memory.steps = -1
            off(memory, book)
            assert memory.values == before, step
            assert book.load() is None
        else:
            break
    assert step > 15


@pytest.mark.parametrize("before", [{}, {"a": "theirs", "b": "1"}], ids=["unset", "set"])
def test_killed_at_every_step_and_on_again(tmp_path: Path, before: dict[str, str]) -> None:
    step = 0
    while True:
        step += 1
        memory = Memory(dict(before))
        book = Killing(tmp_path / str(step))
        book.memory = memory
        memory.steps = step
        try:
            on(memory, book)
        except Killed:
            memory.steps = -1
            on(memory, book)
            assert memory.values == {"a": "ours", "b": "2"}
            off(memory, book)
            assert memory.values == before, step
        else:
            break
    assert step > 8
