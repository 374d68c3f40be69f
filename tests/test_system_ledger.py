"""What `system on` writes down, and how it is read again."""

from pathlib import Path

import pytest

from flowrotate.machine.system.folders import missing, remove, sweep, write
from flowrotate.machine.system.ledger import Book, Entry, Ledger, LedgerError

from .computers import tree

ONE = Entry("kde", "ProxyType", ("2",), notes={"text": "\udcff", "made": ["/x"]})
TWO = Entry("nss", "/store", (",, n", "C,, n"), before="x", cert="ab")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    book = Book(tmp_path / "state" / "flow-rotate")
    assert book.load() is None
    ledger = book.begin("http://127.0.0.1:8080", 5.0).put(ONE).put(TWO)
    book.save(ledger)
    assert book.load() == ledger
    assert ledger.made == (str(tmp_path / "state"), str(tmp_path / "state" / "flow-rotate"))
    assert book.file.stat().st_mode & 0o777 == 0o600


def test_an_entry_stays_in_its_place() -> None:
    ledger = Ledger("", 0.0).put(ONE).put(TWO)
    moved = Entry("kde", "ProxyType", ("2", "3"))
    assert ledger.put(moved).entries == (moved, TWO)
    assert ledger.find(moved) == ONE
    assert ledger.drop(moved).entries == (TWO,)
    assert ledger.find(Entry("nss", "/store", (), cert="other")) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is broken"),
        (b"[]", "is broken"),
        (b"{}", "is broken"),
        (b'{"version": 1, "entries": [{}]}', "is broken"),
        (b'{"version": 1, "entries": [], "proxy": "", "since": 0, "made": [], "x": 1}', "broken"),
        (b'{"version": 2, "entries": []}', "another version"),
        (b"\xff", "is broken"),
    ],
)
def test_a_ledger_that_cannot_be_used_is_an_error(
    tmp_path: Path, content: bytes, says: str
) -> None:
    book = Book(tmp_path)
    book.file.write_bytes(content)
    with pytest.raises(LedgerError, match=says) as caught:
        book.load()
    assert str(book.file) in str(caught.value)
    assert book.file.read_bytes() == content


def test_closing_leaves_no_trace(tmp_path: Path) -> None:
    book = Book(tmp_path / "state" / "flow-rotate")
    ledger = book.begin("", 0.0)
    book.save(ledger)
    book.folder.mkdir()
    (book.folder / "ab.pem").touch()
    (book.state / ".system.json.x8_y").touch()  # killed while it wrote
    book.close(ledger)
    assert tree(tmp_path) == {}


def test_closing_after_a_kill_before_the_first_line(tmp_path: Path) -> None:
    book = Book(tmp_path / "flow-rotate")
    book.state.mkdir()
    (book.state / ".system.json.x8_y").touch()
    book.close(book.load())
    assert tree(tmp_path) == {}


def test_closing_leaves_what_is_others(tmp_path: Path) -> None:
    book = Book(tmp_path / "state" / "flow-rotate")
    ledger = book.begin("", 0.0)
    book.save(ledger)
    (book.state / "proxies").mkdir()
    book.close(ledger)
    assert list(tree(tmp_path)) == [
        "state",
        "state/flow-rotate",
        "state/flow-rotate/proxies",
    ]


def test_a_link_stays_one_and_the_mode_stays(tmp_path: Path) -> None:
    file, link = tmp_path / "dotfiles", tmp_path / "rc"
    file.write_bytes(b"a")
    file.chmod(0o640)
    link.symlink_to(file)
    write(link, b"b")
    assert link.is_symlink()
    assert file.read_bytes() == b"b"
    assert file.stat().st_mode & 0o777 == 0o640
    assert len(list(tmp_path.iterdir())) == 2


def test_a_write_that_was_killed_is_swept(tmp_path: Path) -> None:
    file = tmp_path / "rc"
    beside = tmp_path / ".rc.flow-rotate"
    beside.touch()
    sweep(file)
    assert list(tmp_path.iterdir()) == []
    sweep(file)


def test_only_folders_that_are_empty_are_removed(tmp_path: Path) -> None:
    made = missing(tmp_path / "a" / "b" / "c")
    assert [Path(one).name for one in made] == ["a", "b", "c"]
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "mine").touch()
    remove(made)
    assert list(tree(tmp_path)) == ["a", "a/mine"]
