"""The secrets file on a real disk, and what it refers to."""

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowrotate.config import ConfigError
from flowrotate.secret import Secret
from flowrotate.sources import ResolvedPool, load

C = "sk-canary-5f2a"
HOSTS = "hosts: [a.example]\n"


def write(folder: Path, credentials: str, rest: str = "") -> Path:
    path = folder / "s.yaml"
    path.write_text(f"{HOSTS}{rest}credentials: {credentials}\n", encoding="utf-8")
    return path


def problems(path: Path, env: dict[str, str] | None = None) -> list[str]:
    """The lines of the error, with the check that neither it nor its traceback tells a secret."""
    with pytest.raises(ConfigError) as caught:
        load(path, env or {})
    told = str(caught.value)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.problems)
    assert "canary" not in told + shown
    return [line.removeprefix(f"{path}: ") for line in told.splitlines()]


def secrets(pool: ResolvedPool) -> list[tuple[str, str]]:
    return [(secret.reveal(), secret.alias) for secret in pool.secrets]


def test_every_source_in_file_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    (home / "key").write_text("from-home\n")
    (tmp_path / "key").write_text("from-beside\r\n\n")
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbffrom-bom")
    credentials = [
        C,
        "{id: env, env: KEY}",
        "{id: home, file: ~/key, disabled: true}",
        "{id: beside, file: key}",
        f"{{id: whole, file: '{(tmp_path / 'bom').as_posix()}'}}",
    ]
    path = write(tmp_path, f"[{', '.join(credentials)}]")
    (pool,) = load(path, {"KEY": "from-env"})
    assert secrets(pool) == [
        (C, "[rotate:default/default-1]"),
        ("from-env", "[rotate:default/env]"),
        ("from-home", "[rotate:default/home]"),
        ("from-beside", "[rotate:default/beside]"),
        ("from-bom", "[rotate:default/whole]"),
    ]
    assert [c.id for c in pool.spec.credentials] == ["default-1", "env", "home", "beside", "whole"]
    assert "from-" not in repr(pool)
    assert C not in repr(pool)


def test_equal_files_are_equal_pools(tmp_path: Path) -> None:
    path = write(tmp_path, f"[{C}, {{id: a, env: A}}]")
    assert load(path, {"A": "one"}) == load(path, {"A": "one"})
    assert load(path, {"A": "one"}) != load(path, {"A": "two"})


NOT_SET = "this environment variable is not set, or empty: set it"
MISSING = "there is no such file: create it, or mend its name"
FOLDER = "this is a folder: name a file"
CONTROL = "the secret has a control character (a line end or tab?): remove it"


@pytest.mark.parametrize(
    ("credential", "value", "expected"),
    [
        ("{env: CANARY}", None, f"credentials[0].env: {NOT_SET}"),
        ("{env: CANARY}", "", f"credentials[0].env: {NOT_SET}"),
        ("{env: CANARY}", f"{C}\n", f"credentials[0].env: {CONTROL}"),
        (
            "{env: CANARY}",
            f" {C}",
            "credentials[0].env: the secret begins or ends with a space: remove it",
        ),
        (
            "{env: CANARY, id: my-sesame-1}",
            "sesame",
            "credentials[0].env: the secret can be read in its id or pool name, "
            "which are shown: rename them",
        ),
    ],
)
def test_variables(tmp_path: Path, credential: str, value: str | None, expected: str) -> None:
    path = write(tmp_path, f"[{credential}]")
    assert problems(path, {} if value is None else {"CANARY": value}) == [expected]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, MISSING),
        (b"", "this file is empty: write the secret in it"),
        (b"\n\n", "this file is empty: write the secret in it"),
        (C.encode() + b"\0", "this file is binary: write the secret in it as UTF-8 text"),
        (C.encode() + b"\xff", "this file is binary: write the secret in it as UTF-8 text"),
        (C.encode() + b"\nsecond", CONTROL),
        (C.encode() + b" \n", "the secret begins or ends with a space: remove it"),
        (C.encode() * 8000, "larger than 64 KiB: name the right file"),
    ],
    # The temporary folder has the test's name, and the error the folder's.
    ids=["missing", "empty", "lines", "nul", "latin-1", "two lines", "space", "large"],
)
def test_files(tmp_path: Path, content: bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "canary").write_bytes(content)
    path = write(tmp_path, "[{file: canary}]")
    assert problems(path) == [f"credentials[0].file: {expected}"]


def test_a_file_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "canary").mkdir()
    assert problems(write(tmp_path, "[{file: canary}]")) == [f"credentials[0].file: {FOLDER}"]


def test_a_path_that_no_system_takes(tmp_path: Path) -> None:
    path = write(tmp_path, f"[{{file: {'canary' * 1000}}}]")
    assert problems(path) == ["credentials[0].file: this file cannot be read: check its path"]


def test_the_same_secret_from_two_sources(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{C}\n")
    path = write(tmp_path, f"[{C}, {{env: A}}, {{env: B}}, {{file: key}}]")
    assert problems(path, {"A": C, "B": "other"}) == [
        "credentials[1]: same secret as credentials[0]: remove one",
        "credentials[3]: same secret as credentials[0]: remove one",
    ]


def test_the_same_secret_twice_in_the_text_is_told_once(tmp_path: Path) -> None:
    assert problems(write(tmp_path, f"[{C}, {C}]")) == [
        "credentials[1]: same secret as credentials[0]: remove one"
    ]


def test_two_pools_may_share_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    pool = '[[pools]]\nname = "{0}"\nhosts = ["{0}.example"]\ncredentials = [{{env = "A"}}]\n'
    path.write_text(pool.format("one") + pool.format("two"))
    one, two = load(path, {"A": C})
    assert one.secrets == two.secrets == (Secret(C, ""),)
    assert [s.alias for s in two.secrets] == ["[rotate:two/two-1]"]


def test_problems_of_the_text_and_of_the_sources_come_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "[{env: CANARY}, {file: canary}, 1]", "cooldown: 0\n")
    assert problems(path) == [
        "cooldown: write whole seconds from 1 to 86400, without quotes",
        "credentials[2]: write the secret in quotes, or a mapping such as {env: NAME}",
        f"credentials[0].env: {NOT_SET}",
        f"credentials[1].file: {MISSING}",
    ]


def test_a_pools_inject_decides_what_a_source_may_give(tmp_path: Path) -> None:
    env = {"A": "pass wörd"}
    basic = write(tmp_path, "[{env: A, username: u}]", "inject: 'A: {basic}'\n")
    assert load(basic, env)[0].secrets[0].reveal() == "pass wörd"
    assert problems(write(tmp_path, "[{env: A}]"), env) == [
        "credentials[0].env: a header takes a secret of visible ASCII only: "
        "other words belong in 'inject'"
    ]


def test_no_secrets_file(tmp_path: Path) -> None:
    assert problems(tmp_path / "s.yaml") == [MISSING]
    assert problems(tmp_path) == [FOLDER]


def test_a_secrets_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    assert problems(path) == ["larger than 1024 KiB: name the right file"]
    path.write_text((HOSTS + f"credentials: [{C}]\n").ljust(1024 * 1024))
    assert len(load(path, {})) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system here")
def test_a_pipe_is_not_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.yaml")
    assert problems(tmp_path / "s.yaml") == ["this is no regular file: name one"]
    os.mkfifo(tmp_path / "key")
    path = tmp_path / "t.yaml"
    path.write_text(f"{HOSTS}credentials: [{{file: key}}]")
    assert problems(path) == ["credentials[0].file: this is no regular file: name one"]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_a_device_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, "[{file: /dev/zero}]")
    assert problems(path) == ["credentials[0].file: this is no regular file: name one"]


@pytest.fixture
def unreadable(tmp_path: Path) -> Path:
    path = write(tmp_path, f"[{C}]")
    path.chmod(0)
    return path


@pytest.fixture
def nobody() -> Iterator[None]:
    """Not root for a while: root reads all files."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.mark.usefixtures("unreadable", "nobody")
def test_a_file_that_may_not_be_read(unreadable: Path) -> None:
    assert problems(unreadable) == ["this file may not be read: change its owner or mode"]
