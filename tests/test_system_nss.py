"""Browsers' certificate stores: real ones, changed by the real certutil."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flowrotate.machine.system.certificate import Certificate, keep_certificate
from flowrotate.machine.system.kinds import Computer, Outcome
from flowrotate.machine.system.ledger import Entry
from flowrotate.machine.system.nss import FILES, Nss, is_open, stores, wishes
from flowrotate.machine.system.plan import kinds
from flowrotate.machine.system.switch import standing, switch_off, switch_on

from .computers import Programs, certificate, computer, tree

FIREFOX = ".mozilla/firefox/x1.default"


def tool(*arguments: str | Path) -> str:
    """certutil, which must be there, and must do it."""
    program = shutil.which("certutil") or pytest.skip("certutil (libnss3-tools) is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def store_at(folder: Path, password: str = "") -> Path:
    folder.mkdir(parents=True)
    if password:
        file = folder / "password"
        file.write_text(f"{password}\n")
        tool("-N", "-d", f"sql:{folder}", "-f", file)
        file.unlink()
    else:
        tool("-N", "-d", f"sql:{folder}", "--empty-password")
    return folder


def add(store: Path, name: str, made: Certificate, folder: Path, trust: str = "C,,") -> None:
    file = folder / "added.pem"
    file.write_bytes(made.pem)
    tool("-A", "-d", f"sql:{store}", "-t", trust, "-n", name, "-i", file)


def names(store: Path) -> str:
    return tool("-L", "-d", f"sql:{store}")


@pytest.fixture
def there(tmp_path: Path) -> Computer:
    """With a Chromium that is only a name, and one Firefox profile."""
    programs = {"chromium": "/usr/bin/chromium", "certutil": shutil.which("certutil")}
    store_at(tmp_path / "home" / FIREFOX)
    return computer(tmp_path, which=programs.get, real=True)


@pytest.fixture
def ca(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def others(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("others"))


def turn_on(there: Computer, made: Certificate) -> list[Outcome]:
    ledger = there.book.load() or there.book.begin("", 0.0)
    there.book.save(ledger)
    keep_certificate(there.book, made)
    done = switch_on(kinds(there), there.book, ledger, list(wishes(there, made)), dry=False)
    return list(done)


def turn_off(there: Computer) -> list[str]:
    ledger = there.book.load()
    assert ledger
    return [one.status for one in switch_off(kinds(there), there.book, ledger)]


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [one.status for one in outcomes]


def test_byte_for_byte(tmp_path: Path, there: Computer, ca: Certificate) -> None:
    """Also a store that was not there, and the folders around it."""
    home = there.places.home
    before = tree(tmp_path)
    assert statuses(turn_on(there, ca)) == ["done", "done"]
    for store in (home / ".pki" / "nssdb", home / FIREFOX):
        line = next(line for line in names(store).splitlines() if "Flow Rotate" in line)
        assert line.split("  ")[0] == f"Flow Rotate (mitmproxy) {ca.sha256[:16]}"
        assert line.split()[-1] == "C,,"
        assert {f.stat().st_mode & 0o777 for f in store.iterdir()} == {0o600}
    assert (home / ".pki").stat().st_mode & 0o777 == 0o700
    assert str(home / ".pki" / "nssdb") in (home / ".pki/nssdb/pkcs11.txt").read_text()
    assert statuses(turn_on(there, ca)) == ["already", "already"]
    assert turn_off(there) == ["done", "done"]
    assert tree(tmp_path) == before


def test_what_the_user_added_meanwhile_stays(
    tmp_path: Path, there: Computer, ca: Certificate, others: Certificate
) -> None:
    home = there.places.home
    turn_on(there, ca)
    for store in (home / ".pki" / "nssdb", home / FIREFOX):
        add(store, "mine", others, tmp_path)
    assert turn_off(there) == ["done", "done"]
    for store in (home / ".pki" / "nssdb", home / FIREFOX):
        assert "mine" in names(store)
        assert "Flow Rotate" not in names(store)


def test_a_store_that_is_open_is_changed_where_it_is(there: Computer, ca: Certificate) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    store = there.places.home / FIREFOX
    before = names(store)
    with (store / "cert9.db").open("rb") as browser:
        number = os.fstat(browser.fileno()).st_ino
        assert is_open(store)
        turn_on(there, ca)
        ledger = there.book.load()
        assert ledger
        assert ledger.entries[1].notes == {}  # bytes that may be torn are not kept
        assert "Flow Rotate" in names(store)
        assert turn_off(there) == ["done", "done"]
        assert (store / "cert9.db").stat().st_ino == number
    assert not is_open(store)
    assert names(store) == before
    assert not (there.places.home / ".pki").exists()


def test_a_store_that_was_opened_meanwhile(there: Computer, ca: Certificate) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    store = there.places.home / FIREFOX
    turn_on(there, ca)
    with (store / "cert9.db").open("rb") as browser:
        number = os.fstat(browser.fileno()).st_ino
        assert turn_off(there) == ["done", "done"]
        assert (store / "cert9.db").stat().st_ino == number
    assert "Flow Rotate" not in names(store)


@pytest.mark.parametrize("mark", ["cert9.db-journal", "key4.db-wal", "lock"])
def test_what_a_browser_leaves_while_it_runs(there: Computer, mark: str) -> None:
    store = there.places.home / FIREFOX
    assert not is_open(store)
    (store / mark).symlink_to("127.0.0.1:+4711")
    assert is_open(store)


def test_where_nobody_can_tell_a_store_is_open(tmp_path: Path, there: Computer) -> None:
    assert is_open(there.places.home / FIREFOX, proc=tmp_path / "nowhere")
    assert not is_open(tmp_path / "nowhere", proc=tmp_path / "nowhere")


@pytest.mark.parametrize("trust", ["C,,", ",,"])
def test_the_certificate_that_was_there_before_is_not_ours(
    tmp_path: Path, there: Computer, ca: Certificate, trust: str
) -> None:
    store = there.places.home / FIREFOX
    add(store, "by hand", ca, tmp_path, trust)
    before = tree(store)
    told = turn_on(there, ca)
    assert statuses(told) == ["done", "already"]
    assert "by hand" in told[1].why
    assert turn_off(there) == ["done"]
    assert tree(store) == before


def trust(store: Path, name: str, flags: str) -> None:
    tool("-M", "-d", f"sql:{store}", "-n", name, "-t", flags)


def meanwhile(change: str, store: Path, name: str) -> None:
    if change == "delete":
        tool("-D", "-d", f"sql:{store}", "-n", name)
    else:
        shutil.rmtree(store)


@pytest.mark.parametrize(("change", "status"), [("delete", "already"), ("profile", "already")])
def test_what_the_user_changed_meanwhile(
    there: Computer, ca: Certificate, change: str, status: str
) -> None:
    store = there.places.home / FIREFOX
    turn_on(there, ca)
    meanwhile(change, store, f"Flow Rotate (mitmproxy) {ca.sha256[:16]}")
    before = tree(store)
    assert turn_off(there) == [status, "done"]
    assert tree(store) == before
    assert there.book.load() is None


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("flags", ["CT,C,C", "c,,", "p,p,p"])
def test_ours_goes_whatever_its_trust_is_now(
    there: Computer, ca: Certificate, flags: str, again: bool
) -> None:
    """Also when it was set to ours again in between."""
    store = there.places.home / FIREFOX
    before = names(store)
    turn_on(there, ca)
    name = f"Flow Rotate (mitmproxy) {ca.sha256[:16]}"
    trust(store, name, flags)
    if again:
        assert statuses(turn_on(there, ca)) == ["already", "done"]
        assert f"{name}                     C,," in names(store)
    ledger = there.book.load()
    assert ledger
    told = {one.what: one for one in switch_off(kinds(there), there.book, ledger)}
    outcome = told[f"the CA in {store}: taken out"]
    assert outcome.status == "done"
    assert outcome.why == (
        "" if again else f"ours all the same: somebody has made it {flags} {name}"
    )
    assert names(store) == before
    assert there.book.load() is None


@pytest.mark.parametrize("opened", [False, True])
def test_a_store_with_a_password_stays_as_it_is(
    there: Computer, ca: Certificate, opened: bool
) -> None:
    store = store_at(there.places.home / ".mozilla/firefox/locked", "hunter22")
    before = names(store), tree(store)
    if opened:
        (store / "cert9.db-journal").touch()
    told = {one.what: one for one in turn_on(there, ca)}
    outcome = told[f"the CA in {store}"]
    assert outcome.status == "failed"
    assert outcome.why == "it has a password: import the CA in the browser's settings"
    if opened:
        (store / "cert9.db-journal").unlink(missing_ok=True)
    else:
        assert tree(store) == before[1]
    assert names(store) == before[0]
    turn_off(there)
    assert names(store) == before[0]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("place", [".pki/nssdb", FIREFOX])
def test_killed_between_two_files(
    tmp_path: Path, there: Computer, ca: Certificate, count: int, place: str, again: bool
) -> None:
    store = there.places.home / place
    before = tree(tmp_path)
    turn_on(there, ca)
    folder = next(
        f
        for f in there.book.folder.iterdir()
        if (f / "after").is_dir()
        and (f / "after/cert9.db").read_bytes() == (store / "cert9.db").read_bytes()
    )
    for name in FILES[count:]:  # those that were not in place yet
        (store / name).unlink()
        if (folder / "before" / name).exists():
            shutil.copy(folder / "before" / name, store / name)
    (store / ".cert9.db.flow-rotate").touch()
    if again:
        assert set(statuses(turn_on(there, ca))) == {"already", "done"}
    turn_off(there)
    assert tree(tmp_path) == before


def test_two_proxies_cas_one_after_the_other(
    tmp_path: Path, there: Computer, ca: Certificate, others: Certificate
) -> None:
    before = tree(tmp_path)
    turn_on(there, ca)
    turn_on(there, others)
    assert names(there.places.home / FIREFOX).count("Flow Rotate") == 2
    assert turn_off(there) == ["done"] * 4
    assert tree(tmp_path) == before


def test_a_broken_store_fails_alone(there: Computer, ca: Certificate) -> None:
    store = there.places.home / FIREFOX
    (store / "cert9.db").write_bytes(b"no database")
    told = turn_on(there, ca)
    assert statuses(told) == ["done", "failed"]
    assert "cert9.db" in told[1].why
    assert turn_off(there) == ["done"]
    assert (store / "cert9.db").read_bytes() == b"no database"


@pytest.mark.parametrize(
    ("programs", "says"),
    [
        (["chromium"], "install libnss3-tools"),
        ([], "install libnss3-tools"),
        (["certutil"], "start the browser once"),
    ],
)
def test_where_no_browser_can_be_told_nothing_is_tried(
    tmp_path: Path, ca: Certificate, programs: list[str], says: str
) -> None:
    there = computer(tmp_path, Programs({name: lambda _: pytest.fail("run") for name in programs}))
    (told,) = wishes(there, ca)
    assert isinstance(told, Outcome)
    assert told.status == "skipped"
    assert says in told.why


def test_certutil_that_is_gone_at_off_is_told(
    there: Computer, ca: Certificate, tmp_path: Path
) -> None:
    turn_on(there, ca)
    bare = computer(tmp_path, Programs())
    ledger = bare.book.load()
    assert ledger
    missing = "certutil is missing: install libnss3-tools (Fedora: nss-tools, Arch: nss)"
    stands = [outcome for _, outcome in standing(kinds(bare), ledger)]
    told = list(switch_off(kinds(bare), bare.book, ledger))
    assert {(one.status, one.why) for one in stands + told} == {("failed", missing)}
    assert turn_off(there) == ["done", "done"]


def test_the_words_are_the_commands(there: Computer, ca: Certificate) -> None:
    told = [one for one in wishes(there, ca) if isinstance(one, Entry)]
    kind = Nss(there)
    pki = there.places.home / ".pki"
    assert kind.words(told[0], told[0].goal)[:3] == [
        f"mkdir {pki}",
        f"mkdir {pki / 'nssdb'}",
        f"certutil -N -d sql:{pki / 'nssdb'} --empty-password",
    ]
    # Without the last argument certutil asks for a password, and waits.
    for words in (kind.words(told[1], told[1].goal), kind.words(told[1], None)):
        assert words[0].endswith(" -f /dev/null")


def test_the_words_of_off_are_what_it_will_do(
    tmp_path: Path, there: Computer, ca: Certificate, others: Certificate
) -> None:
    turn_on(there, ca)
    ledger = there.book.load()
    assert ledger
    kind = Nss(there)
    assert kind.words(ledger.entries[1], None)[0].startswith("put back pkcs11.txt, key4.db")
    add(there.places.home / FIREFOX, "mine", others, tmp_path)
    assert kind.words(ledger.entries[1], None)[0].startswith("certutil -D -d")


PLACES: list[tuple[str, bool]] = [
    (".pki/nssdb", True),
    (".mozilla/firefox/a.default", True),
    (".mozilla/firefox/no-store", False),
    ("snap/firefox/common/.mozilla/firefox/b", True),
    (".var/app/org.mozilla.firefox/.mozilla/firefox/c", True),
    ("snap/chromium/current/.pki/nssdb", True),
    (".thunderbird/d", False),
]


@pytest.mark.parametrize(("place", "found"), PLACES)
def test_where_stores_are(tmp_path: Path, place: str, found: bool) -> None:
    there = computer(tmp_path)
    store = there.places.home / place
    store.mkdir(parents=True)
    if "no-store" not in place:
        (store / "cert9.db").touch()
    assert list(stores(there)) == ([store] if found else [])


@pytest.mark.parametrize("program", ["chromium", "google-chrome", "brave-browser"])
def test_chromiums_store_is_made_where_a_chromium_is(tmp_path: Path, program: str) -> None:
    which: Callable[[str], str | None] = {program: "/x"}.get
    there = computer(tmp_path, which=which)
    assert list(stores(there)) == [there.places.home / ".pki" / "nssdb"]
    assert list(stores(computer(tmp_path))) == []
