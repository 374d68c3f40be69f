"""The machine's trust store, in a folder that is not `/`, with update programs that are fakes.

The real update-ca-certificates is not run: it would change the machine that runs the tests.
"""

import hashlib
from pathlib import Path

import pytest

from flowrotate.machine.commands import Said
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
    ledger = there.book.begin("", 0.0)
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
