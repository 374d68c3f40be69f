"""Certificate bundles: what is in them, and when they are made anew."""

import asyncio
import os
from pathlib import Path

import pytest

from flowrotate.machine import bundle
from flowrotate.machine.bundle import BundleError, Bundles, renew, source_of, system_roots
from flowrotate.machine.commands import Said
from flowrotate.machine.places import Places, places
from flowrotate.presence import keep_renewed


def pem(text: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----"


@pytest.fixture
def here(tmp_path: Path) -> Places:
    return places({}, tmp_path / "home", "linux")


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_text(pem("the proxy's"))
    return file


def test_the_systems_roots_and_the_proxys_ca(here: Places, ca: Path) -> None:
    text = Bundles(here, ca).of("").read_text()
    assert pem("the proxy's") in text
    assert text.encode().endswith(system_roots("linux", lambda _: Said(127, "")))
    assert text.count("BEGIN CERTIFICATE") > 2


def test_of_a_file_that_is_trusted_instead(here: Places, ca: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    own.write_text(pem("own"))  # without a line end
    path = Bundles(here, ca).of(str(own))
    lines = path.read_text().splitlines()
    assert lines[0].endswith(f"the proxy's CA, and {own}")
    assert lines[1:] == [*pem("the proxy's").splitlines(), *pem("own").splitlines()]
    # Whoever a container runs as may read it.
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700


def test_of_a_folder(here: Places, ca: Path, tmp_path: Path) -> None:
    """As OpenSSL's rehash leaves it: each certificate twice, and other things."""
    folder = tmp_path / "certs"
    folder.mkdir()
    for name, text in (("a.pem", pem("a")), ("b.crt", pem("b")), ("1f.0", pem("a")), ("x", "no")):
        (folder / name).write_text(text)
    text = Bundles(here, ca).of(str(folder)).read_text()
    assert text.count(pem("a")) == text.count(pem("b")) == 1
    assert "no\n" not in text


def test_of_one_of_ours(here: Places, ca: Path, tmp_path: Path) -> None:
    """Somebody exported it: its source counts, not itself."""
    own = tmp_path / "own.pem"
    own.write_text(pem("own"))
    bundles = Bundles(here, ca)
    once = bundles.of(str(own))
    assert bundles.of(str(once)) == once
    assert source_of(here, str(once)) == str(own)
    assert bundles.of(str(bundles.of(""))) == bundles.of("")


def test_no_key_is_copied(here: Places, tmp_path: Path) -> None:
    """The CA's own file, or a client's, has its key beside the certificate."""
    key = "-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY-----\n"
    ca, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    ca.write_text(key + pem("the proxy's"))
    own.write_text(f"canary\n{pem('own')}\n{key}{pem('own 2')}\n{key}")
    text = Bundles(here, ca).of(str(own)).read_text()
    assert text.count("BEGIN CERTIFICATE") == 3
    assert "canary" not in text
    assert "PRIVATE KEY" not in text


def test_a_file_that_calls_itself_a_bundle(here: Places, ca: Path, tmp_path: Path) -> None:
    """Only where ours are is a first line believed: else it could name any file."""
    victim, planted = tmp_path / "id", tmp_path / "roots.pem"
    victim.write_text(pem("canary"))
    planted.write_bytes(bundle.HEAD + str(victim).encode() + f"\n{pem('own')}".encode())
    text = Bundles(here, ca).of(str(planted)).read_text()
    assert pem("own") in text
    assert "canary" not in text


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_a_file_without_an_end(here: Places, ca: Path, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="mend the variable that names it"):
        Bundles(here, ca).of(str(tmp_path / name))


def test_what_is_as_it_should_be_is_left(here: Places, ca: Path) -> None:
    path = Bundles(here, ca).of("")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert Bundles(here, ca).of("") == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


@pytest.mark.parametrize("changed", ["ca", "own", "bundle"])
def test_it_is_made_anew(here: Places, ca: Path, tmp_path: Path, changed: str) -> None:
    own = tmp_path / "own.pem"
    own.write_text(pem("own"))
    path = Bundles(here, ca).of(str(own))
    assert renew(here, ca) == []
    {"ca": ca, "own": own, "bundle": path}[changed].write_text(
        (path.read_text().splitlines()[0] + "\n" if changed == "bundle" else "") + pem("new")
    )
    assert renew(here, ca) == [path]
    text = path.read_text()
    assert (pem("new") in text) is (changed != "bundle")
    assert (pem("own") in text) is (changed != "own")
    assert (pem("the proxy's") in text) is (changed != "ca")


def test_renewing_leaves_what_it_does_not_know(here: Places, ca: Path, tmp_path: Path) -> None:
    other = tmp_path / "other-ca.pem"
    other.write_text(pem("another proxy's"))
    path = Bundles(here, other).of("")
    stray = path.with_name("stray.pem")
    stray.write_text("x")
    other.write_text(pem("changed"))
    assert renew(here, ca) == []
    assert stray.read_text() == "x"


def test_a_source_that_is_gone_leaves_the_bundle(here: Places, ca: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    own.write_text(pem("own"))
    path = Bundles(here, ca).of(str(own))
    own.unlink()
    assert renew(here, ca) == []
    assert pem("own") in path.read_text()


def test_a_proxy_keeps_them_renewed(here: Places, ca: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    own.write_text(pem("own"))
    path = Bundles(here, ca).of(str(own))

    async def change() -> None:
        keeping = asyncio.create_task(keep_renewed(here, ca, every=0.01))
        own.write_text(pem("new"))
        async with asyncio.timeout(20):
            while pem("new") not in path.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        keeping.cancel()

    asyncio.run(change())


def test_what_cannot_be_read_is_told(here: Places, ca: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent\.pem: .*: mend the variable that names it"):
        Bundles(here, ca).of(str(tmp_path / "absent.pem"))
    with pytest.raises(BundleError, match=r"no-ca\.pem: .*: start the proxy once"):
        Bundles(here, tmp_path / "no-ca.pem").of("")
    here.state.parent.mkdir(parents=True)
    here.state.write_text("a file where our folder should be")
    with pytest.raises(BundleError, match="make the folder yours"):
        Bundles(here, ca).of("")


def test_macos_keychains() -> None:
    """Composed and read here, never run: there is no macOS."""
    told: list[list[str]] = []

    def run(command: list[str]) -> Said:
        told.append(command)
        return Said(0, pem("keychain"))

    assert system_roots("darwin", run) == f"{pem('keychain')}\n".encode()  # type: ignore[arg-type]
    assert told == [["security", "find-certificate", "-a", "-p", *bundle.KEYCHAINS]]


def test_the_first_of_the_systems_places(tmp_path: Path) -> None:
    first, second = tmp_path / "1.pem", tmp_path / "2.pem"
    second.write_text(pem("two"))
    never = lambda _: Said(127, "")  # noqa: E731
    assert system_roots("linux", never, [str(first), str(second)]) == f"{pem('two')}\n".encode()
    first.write_text(pem("one"))
    assert system_roots("linux", never, [str(first), str(second)]) == f"{pem('one')}\n".encode()


def test_mozillas_where_a_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl

    nowhere = ssl.get_default_verify_paths()._replace(openssl_cafile="/nowhere")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    assert system_roots("linux", lambda _: Said(127, ""), []).count(b"BEGIN CERTIFICATE") > 50
