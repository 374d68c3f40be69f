"""The machine's trust store, in a folder that is not `/`, with update programs that are fakes.

The real update-ca-certificates of Debian is run once, told to keep to that folder: else it would
change the machine that runs the tests.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from flowrotate.machine.commands import Said, run
from flowrotate.machine.system.anchors import wishes
from flowrotate.machine.system.certificate import keep_certificate
from flowrotate.machine.system.kinds import Computer, Outcome
from flowrotate.machine.system.ledger import Entry
from flowrotate.machine.system.plan import kinds
from flowrotate.machine.system.switch import switch_off, switch_on

from .computers import Programs, certificate, computer, tree

DEBIAN = ("usr/local/share/ca-certificates", "update-ca-certificates")
FEDORA = ("etc/pki/ca-trust/source/anchors", "update-ca-trust")
ARCH = ("etc/ca-certificates/trust-source/anchors", "update-ca-trust")
SUSE = ("etc/pki/trust/anchors", "update-ca-certificates")


def at(folder: Path, store: tuple[str, str], *, status: int = 0) -> tuple[Computer, Programs]:
    (folder / store[0]).mkdir(parents=True)
    programs = Programs({store[1]: lambda _: Said(status, "E: it broke\n")})
    return computer(folder, programs), programs


def turn_on(there: Computer, folder: Path) -> list[Outcome]:
    made = certificate(folder)
    ledger = there.book.load() or there.book.begin("", 0.0)
    there.book.save(ledger)
    keep_certificate(there.book, made)
    done = switch_on(kinds(there), there.book, ledger, list(wishes(there, made)), dry=False)
    return list(done)


def turn_off(there: Computer) -> list[Outcome]:
    ledger = there.book.load()
    assert ledger
    return list(switch_off(kinds(there), there.book, ledger))


@pytest.mark.parametrize("store", [DEBIAN, FEDORA, ARCH, SUSE], ids=lambda s: s[0])
@pytest.mark.parametrize("former", [None, b"an older one\n"], ids=["none", "former"])
def test_on_and_off(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, store: tuple[str, str], former: bytes
) -> None:
    there, programs = at(tmp_path, store)
    file = tmp_path / store[0] / "flow-rotate.crt"
    if former:
        file.write_bytes(former)
    before = tree(tmp_path)
    assert [one.status for one in turn_on(there, tmp_path_factory.mktemp("ca"))] == ["done"]
    assert file.read_bytes().startswith(b"-----BEGIN CERTIFICATE-----\n")
    assert file.stat().st_mode & 0o777 == 0o644
    assert programs.told == [[store[1]]]
    assert [one.status for one in turn_off(there)] == ["done"]
    fresh = ["--fresh"] * (store == DEBIAN and not former)
    assert programs.told[1:] == [[store[1], *fresh]]
    assert tree(tmp_path) == before


def test_what_somebody_else_put_there_is_left(tmp_path: Path) -> None:
    there, _ = at(tmp_path, DEBIAN)
    turn_on(there, tmp_path)
    file = tmp_path / DEBIAN[0] / "flow-rotate.crt"
    file.write_bytes(b"another one\n")
    assert [one.status for one in turn_off(there)] == ["left"]
    assert file.read_bytes() == b"another one\n"


def test_an_update_that_fails_is_told_and_off_takes_the_file_out(tmp_path: Path) -> None:
    there, programs = at(tmp_path, DEBIAN, status=1)
    told = turn_on(there, tmp_path)
    assert [(o.status, o.why) for o in told] == [("failed", "update-ca-certificates: E: it broke")]
    programs.fakes["update-ca-certificates"] = lambda _: Said(0, "")
    assert [one.status for one in turn_off(there)] == ["done"]
    assert list((tmp_path / DEBIAN[0]).iterdir()) == []


class Killed(BaseException):
    """What a kill is here: nothing of ours runs after it."""


class Bundle:
    """What the machine trusts: made of the folder by an update program, once it is not broken."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.broken = ""
        self.programs = Programs({DEBIAN[1]: self._update})
        for folder in (DEBIAN[0], "ssl", "none", "hooks"):
            (root / folder).mkdir(parents=True)
        # Some other authority: the real program writes no bundle of none.
        other = certificate(root / "none").pem
        (root / DEBIAN[0] / "other.crt").write_bytes(other)
        self._update(["update-ca-certificates"])

    def trusts(self, pem: bytes) -> bool:
        return pem in self._file.read_bytes()

    @property
    def _file(self) -> Path:
        return self._root / "ssl" / "ca-certificates.crt"

    def _update(self, command: Sequence[str]) -> Said:
        broken, self.broken = self.broken, ""
        if broken == "killed":
            raise Killed
        return Said(1, "E: no space left on device\n") if broken else self.make(command)

    def make(self, command: Sequence[str]) -> Said:  # noqa: ARG002
        found = sorted((self._root / DEBIAN[0]).glob("*.crt"))
        self._file.write_bytes(b"".join(one.read_bytes() for one in found))
        return Said(0, "")


class RealBundle(Bundle):
    """Debian's own program."""

    def make(self, command: Sequence[str]) -> Said:
        places = {
            "certsconf": "ca-certificates.conf",
            "certsdir": "none",
            "localcertsdir": DEBIAN[0],
            "etccertsdir": "ssl",
            "hooksdir": "hooks",
        }
        (self._root / "ca-certificates.conf").write_text("# none\n")
        options = [word for n, p in places.items() for word in (f"--{n}", str(self._root / p))]
        return run([*command, *options])


@pytest.fixture(params=[Bundle, RealBundle])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    program = shutil.which("update-ca-certificates")
    known = program and "--etccertsdir" in Path(program).read_text(errors="replace")
    if request.param is RealBundle and not known:
        pytest.skip("Debian's update-ca-certificates is not installed")
    made: Bundle = request.param(tmp_path)
    return made


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_off_ends_when_the_store_believes_it_no_more(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, how: str
) -> None:
    folder = tmp_path_factory.mktemp("ca")
    there = computer(tmp_path, bundle.programs)
    assert [one.status for one in turn_on(there, folder)] == ["done"]
    pem = there.book.folder.joinpath(f"{certificate_of(there)}.pem").read_bytes()
    assert bundle.trusts(pem)
    for status in (how, how, "already"):
        bundle.broken = how if status == how else ""
        try:
            told = [one.status for one in turn_off(there)]
        except Killed:
            told = ["killed"]
        assert told == [status]
        assert bundle.trusts(pem) is (status == how)
        assert bool(there.book.load()) is (status == how)


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_on_again_makes_the_store_believe_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, how: str
) -> None:
    folder = tmp_path_factory.mktemp("ca")
    there = computer(tmp_path, bundle.programs)
    bundle.broken = how
    try:
        told = [one.status for one in turn_on(there, folder)]
    except Killed:
        told = ["killed"]
    assert told == [how]
    pem = there.book.folder.joinpath(f"{certificate_of(there)}.pem").read_bytes()
    assert not bundle.trusts(pem)
    ledger = there.book.load()
    assert ledger
    (entry,) = ledger.entries
    for status in ("failed", "already"):
        bundle.broken = status if status == "failed" else ""
        again = switch_on(kinds(there), there.book, ledger, [entry], dry=False)
        assert [one.status for one in again] == [status]
    assert bundle.trusts(pem)


def test_a_file_that_the_user_took_away_is_taken_out_of_the_store(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, bundle: Bundle
) -> None:
    there = computer(tmp_path, bundle.programs)
    turn_on(there, tmp_path_factory.mktemp("ca"))
    file = tmp_path / DEBIAN[0] / "flow-rotate.crt"
    pem = file.read_bytes()
    file.unlink()
    assert bundle.trusts(pem)
    assert [one.status for one in turn_off(there)] == ["already"]
    assert not bundle.trusts(pem)


def certificate_of(there: Computer) -> str:
    ledger = there.book.load()
    assert ledger
    return ledger.entries[0].cert


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("program", [False, True])
def test_where_the_store_itself_is_gone(tmp_path: Path, folder: bool, program: bool) -> None:
    """With its package, it is; else what it was made from may still be believed."""
    there, programs = at(tmp_path, DEBIAN)
    turn_on(there, tmp_path)
    (tmp_path / DEBIAN[0] / "flow-rotate.crt").unlink()
    if not folder:
        (tmp_path / DEBIAN[0]).rmdir()
    if not program:
        programs.fakes.clear()
    told = [(one.status, "no such program" in one.why) for one in turn_off(there)]
    assert told == [("failed", True) if folder and not program else ("already", False)]
    assert (["update-ca-certificates", "--fresh"] in programs.told) is (folder or program)


@pytest.mark.parametrize("place", ["cron", f"{DEBIAN[0]}/other.crt", "../flow-rotate.crt"])
def test_no_other_file_is_changed(tmp_path: Path, place: str) -> None:
    there, programs = at(tmp_path, DEBIAN)
    file = tmp_path / place
    file.write_bytes(b"theirs")
    ours = hashlib.sha256(b"theirs").hexdigest()
    entry = Entry("anchors", str(file), (ours,), cert="ab", notes={"text": "* * * root id"})
    there.book.save(there.book.begin("", 0.0).put(entry))
    told = turn_off(there)
    assert [one.status for one in told] == ["failed"]
    assert "no place of ours" in told[0].why
    assert file.read_bytes() == b"theirs"
    assert programs.told == []
    file.unlink()


def test_a_link_in_the_place_of_our_file_is_not_followed(tmp_path: Path) -> None:
    there, programs = at(tmp_path, DEBIAN)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / DEBIAN[0] / "flow-rotate.crt").symlink_to(victim)
    told = turn_on(there, tmp_path)
    assert [one.status for one in told] == ["failed"]
    assert "is a link" in told[0].why
    assert victim.read_bytes() == b"precious"
    assert programs.told == []


@pytest.mark.parametrize("folder", [True, False])
def test_a_machine_without_a_known_store(tmp_path: Path, folder: bool) -> None:
    if folder:
        (tmp_path / DEBIAN[0]).mkdir(parents=True)
    there = computer(tmp_path)
    told = list(wishes(there, certificate(tmp_path)))
    assert [one.status for one in told if isinstance(one, Outcome)] == ["failed"]


def test_the_words_are_the_commands(tmp_path: Path) -> None:
    there, _ = at(tmp_path, DEBIAN)
    made = certificate(tmp_path)
    (wish,) = wishes(there, made)
    assert isinstance(wish, Entry)
    assert wish.goal == hashlib.sha256(made.pem).hexdigest()
    kind = kinds(there)["anchors"]
    assert kind.words(wish, wish.goal) == [f"write {wish.place}", "update-ca-certificates"]
    assert kind.words(wish, None) == [f"remove {wish.place}", "update-ca-certificates --fresh"]
