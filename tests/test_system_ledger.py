"""What `system on` writes down, and how it is read again."""

import json
import os
from pathlib import Path

import pytest

from flowrotate.machine.system import folders, plan
from flowrotate.machine.system.folders import missing, remove, sweep, write
from flowrotate.machine.system.ledger import KINDS, Book, Entry, Ledger, LedgerError

from .computers import computer, tree

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
        (b'{"version": 1, "entries": [], "proxy": "", "since": "x", "made": []}', "is broken"),
        (b'{"version": 1, "entries": [], "proxy": "", "since": 0, "made": [1]}', "is broken"),
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


GOOD: dict[str, object] = {
    "kind": "kde",
    "place": "x",
    "ours": ["a"],
    "before": None,
    "cert": "",
    "notes": {},
}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"kind": "not-here"},
        {"kind": []},
        {"place": None},
        {"ours": []},
        {"ours": [None]},
        {"before": 1},
        {"cert": "../../x"},
        {"cert": None},
        {"notes": []},
        {"more": 1},
    ],
    ids=str,
)
def test_an_entry_that_is_none_is_an_error(tmp_path: Path, wrong: dict[str, object]) -> None:
    book = Book(tmp_path)
    data = {"version": 1, "proxy": "", "since": 0, "made": [], "entries": [GOOD | wrong]}
    book.file.write_text(json.dumps(data))
    if not wrong:
        assert book.load() == Ledger("", 0, (Entry("kde", "x", ("a",)),))
        return
    with pytest.raises(LedgerError, match="is broken"):
        book.load()


def test_it_knows_every_kind(tmp_path: Path) -> None:
    assert set(plan.kinds(computer(tmp_path))) == KINDS


def owned(book: Book, whose: str, user: int, group: int = -1) -> None:
    os.chown(book.state if whose == "folder" else book.file, user, group)


@pytest.mark.parametrize("whose", ["folder", "file"])
@pytest.mark.parametrize(("owner", "user", "works"), [(65534, 0, False), (65534, 65534, True)])
def test_root_obeys_nobody_elses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whose: str,
    owner: int,
    user: int,
    works: bool,
) -> None:
    if os.name != "posix" or os.geteuid():
        pytest.skip("only root can give a file away")
    book = Book(tmp_path / "state")
    book.save(Ledger("", 0.0).put(ONE))
    owned(book, whose, owner)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if works:
        assert book.load()
        return
    with pytest.raises(LedgerError, match="another user's"):
        book.load()


def test_a_link_is_no_ledger(tmp_path: Path) -> None:
    book = Book(tmp_path / "state")
    book.save(Ledger("", 0.0).put(ONE))
    book.file.rename(tmp_path / "elsewhere")
    book.file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match=str(book.file)):
        book.load()


@pytest.mark.parametrize(
    ("value", "mine"),
    [
        ("C,, n", True),
        ("CT,C,C n", True),
        ("C,, m", False),
        ("C,, x n", False),
        ("n", False),
        ("", False),
        (None, False),
    ],
)
def test_a_certificate_under_our_name_is_ours(value: str | None, mine: bool) -> None:
    assert TWO.owns(value) is mine


def test_what_is_no_certificate_is_ours_as_we_set_it_alone() -> None:
    entry = Entry("windows", "x", ("REG_SZ http://ours",))
    assert entry.owns("REG_SZ http://ours")
    assert not entry.owns("REG_EXPAND_SZ http://ours")
    hashed = Entry("anchors", "x", ("ab",), cert="ab")
    assert not hashed.owns("cd")


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


@pytest.mark.parametrize("planted", ["link", "hard link", "file"])
def test_what_has_the_name_of_what_is_written_first_is_not_written_to(
    tmp_path: Path, planted: str
) -> None:
    victim, file = tmp_path / "victim", tmp_path / "rc"
    victim.write_bytes(b"precious")
    victim.chmod(0o600)
    beside = tmp_path / ".rc.flow-rotate"
    if planted == "link":
        beside.symlink_to(victim)
    elif planted == "hard link":
        beside.hardlink_to(victim)
    else:
        beside.write_bytes(b"left by a kill")
    write(file, b"ours", 0o644)
    assert victim.read_bytes() == b"precious"
    assert victim.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() == b"ours"
    assert not file.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o644
    assert sorted(one.name for one in tmp_path.iterdir()) == ["rc", "victim"]


def test_nor_what_comes_there_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who may write to the folder, and is quick: a fake of him in the place of `sweep`."""
    victim, file = tmp_path / "victim", tmp_path / "rc"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(
        folders, "sweep", lambda _: (tmp_path / ".rc.flow-rotate").symlink_to(victim)
    )
    with pytest.raises(FileExistsError):
        write(file, b"ours")
    assert victim.read_bytes() == b"precious"
    assert not file.exists()


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
