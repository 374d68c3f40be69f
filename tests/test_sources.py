"""The secrets file on a real disk, and what it refers to."""

import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowrotate.config.spec import ConfigError
from flowrotate.mint.mints import JwtMint, OAuth2Mint
from flowrotate.secret import Secret
from flowrotate.sources.gather import Commands
from flowrotate.sources.resolve import LoadError, ResolvedPool, load

from .test_keyrings import Memory, use

C = "sk-canary-5f2a"
HOSTS = "hosts: [a.example]\n"


def write(folder: Path, credentials: str, rest: str = "") -> Path:
    path = private(folder / "s.yaml")
    path.write_text(f"{HOSTS}{rest}credentials: {credentials}\n", encoding="utf-8")
    return path


def private(path: Path) -> Path:
    path.touch(mode=0o600)
    return path


def problems(
    path: Path, env: dict[str, str] | None = None, commands: Commands | None = None
) -> list[str]:
    """The lines of the error, with the check that neither it nor its traceback tells a secret."""
    with pytest.raises(LoadError) as caught:
        load(path, env or {}, commands)
    assert isinstance(caught.value, ConfigError)
    told = str(caught.value)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.problems)
    assert "canary" not in told + shown
    return [line.removeprefix(f"{path}: ") for line in told.splitlines()]


def python(program: str, *arguments: str) -> str:
    """A command as it is written in the file."""
    return shlex.join([sys.executable, "-I", "-c", program, *arguments])


def secrets(pool: ResolvedPool) -> list[tuple[str, str]]:
    assert all(isinstance(secret, Secret) for secret in pool.secrets)
    return [(s.reveal(), s.alias) for s in pool.secrets if isinstance(s, Secret)]


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
        {"id": "env", "env": "KEY"},
        {"id": "home", "file": "~/key", "disabled": True},
        {"id": "beside", "file": "key"},
        {"id": "whole", "file": str(tmp_path / "bom")},
        {"id": "printed", "command": python("print('from-command\\n')")},
        {"id": "kept", "keyring": "a/b/me"},
    ]
    path = write(tmp_path, json.dumps(credentials))
    with use(Memory({("a/b", "me"): "from-keyring"})):
        loaded = load(path, {"KEY": "from-env"})
    (pool,) = loaded.pools
    assert loaded.files == {path, home / "key", tmp_path / "key", tmp_path / "bom"}
    assert secrets(pool) == [
        (C, "[rotate:default/default-1]"),
        ("from-env", "[rotate:default/env]"),
        ("from-home", "[rotate:default/home]"),
        ("from-beside", "[rotate:default/beside]"),
        ("from-bom", "[rotate:default/whole]"),
        ("from-command", "[rotate:default/printed]"),
        ("from-keyring", "[rotate:default/kept]"),
    ]
    ids = ["default-1", "env", "home", "beside", "whole", "printed", "kept"]
    assert [c.id for c in pool.spec.credentials] == ids
    assert "from-" not in repr(loaded)
    assert C not in repr(loaded)


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


NO_SHELL = "; there is no shell here: write sh -c '…'"
VISIBLE = "a header takes a secret of visible ASCII only: other words belong in 'inject'"
NOTHING = "it printed nothing: run it by hand"
SECRET = "sk-other-canary-77"
TELL = "import os, sys; print(sys.argv[1]); sys.exit(sys.argv[2])"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("no-such-canary-here", "no such program: install it or mend its name"),
        ("~/bin/canary", f"no such program: install it or mend its name{NO_SHELL}"),
        ("FOO=canary cat f", f"no such program: install it or mend its name{NO_SHELL}"),
        # What is printed is no secret for a header.
        ("echo canary | cat", f"{VISIBLE}{NO_SHELL}"),
        (
            "sh -c 'echo canary | cat | exit 4'",
            "ended with status 4 and said nothing: run it by hand",
        ),
        (python("print('sk-canary | x')"), VISIBLE),
        (python("pass"), NOTHING),
        (python("print('\\n')"), NOTHING),
        (
            python("print('sk-canary\\0')"),
            "it printed no UTF-8 text: make it print the secret alone",
        ),
        (python("print('sk-canary\\nsecond')"), CONTROL),
        (
            python("print('sk-canary' * 9999)"),
            "it printed more than 64 KiB: print the secret alone",
        ),
        (python("import sys; sys.exit(3)"), "ended with status 3 and said nothing: run it by hand"),
        (python("import sys; sys.exit('locked')"), "ended with status 1, and said: locked"),
        # Its own output, a variable of the file, another command's output, an unrelated variable.
        (
            python(TELL, "sk-canary-out", "not sk-canary-out"),
            "ended with status 1, and said: [argument 5]",
        ),
        (
            python("import sys; print('sk-' + 'canary-o'); sys.exit('not sk-' + 'canary-o')"),
            "ended with status 1, and said: not [rotate:default/told]",
        ),
        (
            python("import os, sys; sys.exit('not ' + os.environ['A'])"),
            "ended with status 1, and said: not [rotate:default/env]",
        ),
        (
            python("import sys; sys.exit('not ' + '-'.join(['sk', 'other', 'canary', '77']))"),
            "ended with status 1, and said: not [rotate:default/other]",
        ),
        (
            python("import os, sys; sys.exit('not ' + os.environ['OP_TOKEN'])"),
            "ended with status 1, and said: not [environment]",
        ),
    ],
)
def test_commands_that_give_nothing(tmp_path: Path, command: str, expected: str) -> None:
    credentials = [
        {"id": "told", "command": command},
        {"id": "env", "env": "A"},
        {"id": "other", "command": python(f"print({SECRET!r})")},
    ]
    path = write(tmp_path, json.dumps(credentials))
    env = {"A": C, "OP_TOKEN": "canary-of-op"}
    assert problems(path, env) == [f"credentials[0].command: {expected}"]


COUNT = "import pathlib; print('x', file=pathlib.Path('runs').open('a')); print('sk-1')"


def two_pools(folder: Path) -> Path:
    path = folder / "s.json"
    pools = [
        {"name": name, "hosts": [f"{name}.example"], "credentials": [{"command": python(COUNT)}]}
        for name in ("one", "two")
    ]
    path.write_text(json.dumps({"pools": pools}))
    return path


def test_a_command_runs_once_in_a_load_and_not_at_all_when_it_is_known(tmp_path: Path) -> None:
    path, known = two_pools(tmp_path), Commands()
    one, two = load(path, {}, known).pools
    assert secrets(one) == [("sk-1", "[rotate:one/one-1]")]
    assert secrets(two) == [("sk-1", "[rotate:two/two-1]")]
    assert (tmp_path / "runs").read_text() == "x\n"
    assert [secret.reveal() for secret in known.values()] == ["sk-1"]
    assert load(path, {}, known).pools == (one, two)
    assert (tmp_path / "runs").read_text() == "x\n"
    load(path, {})
    assert (tmp_path / "runs").read_text() == "x\nx\n"


def test_a_failed_command_is_not_kept_and_others_are(tmp_path: Path) -> None:
    commands = [python("print('sk-1')"), python("import sys; print('sk-2'); sys.exit(1)")]
    known = Commands()
    path = write(tmp_path, json.dumps([{"command": c} for c in commands]))
    assert len(problems(path, {}, known)) == 1
    assert [secret.reveal() for secret in known.values()] == ["sk-1"]


def test_a_keyring_without_the_entry(tmp_path: Path) -> None:
    path = write(tmp_path, "[{keyring: canary/key}]")
    with use(Memory({})):
        assert problems(path) == [
            "credentials[0].keyring: the keyring has no such entry: add it with 'keyring set'"
        ]


JWT = {"algorithm": "HS256", "key": C, "claims": {"sub": C}, "ttl": 60}
CLIENT = {"token_url": "https://a.example/t", "client_id": "me"}


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        (
            {"jwt": JWT},
            JwtMint("[rotate:default/default-1]", "HS256", Secret(C, ""), {"sub": C}, 60),
        ),
        (
            {"jwt": {"algorithm": "HS512", "key": {"env": "A"}}},
            JwtMint("[rotate:default/default-1]", "HS512", Secret("from-env", ""), {}, None),
        ),
        (
            {"id": "x", "oauth2": {**CLIENT, "client_secret": {"file": "key"}, "scope": "a b"}},
            OAuth2Mint(
                "[rotate:default/x]",
                "https://a.example/t",
                "me",
                Secret("from-file", ""),
                "a b",
                "client_credentials",
                None,
                None,
            ),
        ),
        *(
            (
                {"oauth2": {**CLIENT, "grant": "refresh_token", "refresh_token": refresh}},
                OAuth2Mint(
                    "[rotate:default/default-1]",
                    "https://a.example/t",
                    "me",
                    None,
                    None,
                    "refresh_token",
                    Secret(text, ""),
                    Path(back) if back else None,
                ),
            )
            for refresh, text, back in (
                ({"env": "A"}, "from-env", None),
                ({"file": "key"}, "from-file", "key"),
                ({"command": python("print('from-command')")}, "from-command", None),
            )
        ),
    ],
)
def test_minted_ones(
    tmp_path: Path, credential: dict[str, Any], expected: JwtMint | OAuth2Mint
) -> None:
    if isinstance(expected, OAuth2Mint) and expected.write_back:
        expected = replace(expected, write_back=tmp_path / expected.write_back)
    (tmp_path / "key").write_text("from-file\n")
    loaded = load(write(tmp_path, json.dumps([credential])), {"A": "from-env"})
    ((made,),) = (pool.secrets for pool in loaded.pools)
    assert made == expected
    assert made.alias == expected.alias
    assert ((tmp_path / "key") in loaded.files) is ("file" in json.dumps(credential))
    assert C not in repr(loaded)
    assert "from-" not in repr(loaded)


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        ({"jwt": {**JWT, "key": {"env": "B"}}}, f"jwt.key.env: {NOT_SET}"),
        ({"jwt": {**JWT, "key": {"file": "none"}}}, f"jwt.key.file: {MISSING}"),
        (
            {"jwt": {**JWT, "key": {"env": "A"}}},
            "jwt.key.env: this names an environment variable: write {env: NAME}",
        ),
        (
            {"jwt": {**JWT, "algorithm": "RS256"}},
            "jwt: RS256 needs an RSA private key, as PEM without a passphrase",
        ),
        (
            {"oauth2": {**CLIENT, "client_secret": {"command": python("pass")}}},
            f"oauth2.client_secret.command: {NOTHING}",
        ),
        (
            {"oauth2": {**CLIENT, "client_secret": {"env": "LINE"}}},
            f"oauth2.client_secret.env: {CONTROL}",
        ),
        (
            {
                "oauth2": {
                    **CLIENT,
                    "grant": "refresh_token",
                    "client_secret": C,
                    "refresh_token": {"file": "none"},
                }
            },
            f"oauth2.refresh_token.file: {MISSING}",
        ),
        (
            {"oauth2": {**CLIENT, "client_secret": f"{C}ü"}},
            "oauth2: write visible ASCII only in client_id, client_secret, refresh_token",
        ),
    ],
)
def test_what_cannot_be_minted(tmp_path: Path, credential: dict[str, Any], expected: str) -> None:
    path = write(tmp_path, json.dumps(["sk-good", credential]))
    env = {"A": "$CANARY", "LINE": f"{C}\n"}
    assert problems(path, env) == [f"credentials[1].{expected}"]


def test_a_key_of_several_lines(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("one\ntwo\n")
    credential = {"jwt": {**JWT, "key": {"file": "key.pem"}}}
    (pool,) = load(write(tmp_path, json.dumps([credential])), {}).pools
    (made,) = pool.secrets
    assert isinstance(made, JwtMint)
    assert made.key.reveal() == "one\ntwo"


@pytest.mark.parametrize(
    ("module", "credential", "place", "message"),
    [
        ("jwt", {"jwt": JWT}, "jwt", "needs the extra 'jwt': install PyJWT beside mitmproxy"),
        (
            "authlib",
            {"oauth2": {**CLIENT, "client_secret": C}},
            "oauth2",
            "needs the extra 'oauth': install Authlib and httpx beside mitmproxy",
        ),
    ],
)
def test_the_extra_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    credential: dict[str, Any],
    place: str,
    message: str,
) -> None:
    for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert problems(write(tmp_path, json.dumps([credential]))) == [
        f"credentials[0].{place}: {message}"
    ]


def test_the_same_token_twice(tmp_path: Path) -> None:
    client = {**CLIENT, "client_secret": C}
    credentials: list[dict[str, Any]] = [
        {"jwt": JWT},
        {"oauth2": client},
        {"jwt": {**JWT, "key": {"env": "A"}}},
        {"jwt": {**JWT, "ttl": 61}},
        {"oauth2": {**client, "grant": "client_credentials"}},
        {"oauth2": {**client, "scope": "a"}},
    ]
    assert problems(write(tmp_path, json.dumps(credentials)), {"A": C}) == [
        "credentials[2]: same secret as credentials[0]: remove one",
        "credentials[4]: same secret as credentials[1]: remove one",
    ]


def older(number: int) -> dict[str, str]:
    return {key: f"{C}-{key}-{number}" for key in ("clientId", "clientSecret", "tenant")}


def test_the_older_plugins_file(tmp_path: Path) -> None:
    path = private(tmp_path / "secrets.json")
    path.write_text(json.dumps([{**older(1), "name": "a"}, older(2)]))
    (pool,) = load(path, {}).pools
    assert pool.secrets == tuple(
        JwtMint(f"[rotate:flow/{id}]", "HS256", Secret(f"{C}-clientSecret-{n}", ""), older(n), None)
        for n, id in ((1, "a"), (2, "flow-2"))
    )
    assert "canary" not in repr(pool)


OTHERS = "others may read this file, and it holds secrets: chmod 600"


@pytest.mark.skipif(os.name != "posix", reason="no file modes here")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o602, 0o604, 0o644, 0o777])
@pytest.mark.parametrize(
    ("content", "inline"),
    [
        ({"hosts": ["a.example"], "credentials": [C]}, True),
        ({"hosts": ["a.example"], "credentials": [{"env": "A"}, {"secret": C}]}, True),
        ({"hosts": ["a.example"], "credentials": [{"jwt": JWT}]}, True),
        (
            {"hosts": ["a.example"], "credentials": [{"oauth2": {**CLIENT, "client_secret": C}}]},
            True,
        ),
        ([older(1)], True),
        ({"hosts": ["a.example"], "credentials": [{"env": "A"}, {"file": "key"}]}, False),
        (
            {"hosts": ["a.example"], "credentials": [{"jwt": {**JWT, "key": {"env": "A"}}}]},
            False,
        ),
    ],
)
def test_who_may_read_the_file(tmp_path: Path, mode: int, content: object, inline: bool) -> None:
    (tmp_path / "key").write_text("from-file")
    (tmp_path / "key").chmod(0o644)
    path = tmp_path / "my s.json"
    path.write_text(json.dumps(content))
    path.chmod(mode)
    link = tmp_path / "link.json"
    link.symlink_to(path.name)
    if inline and mode & 0o004:
        assert problems(path, {"A": "1"}) == [f"{OTHERS} '{path}'"]
        assert problems(link, {"A": "1"}) == [f"{OTHERS} {link}"]
    else:
        assert load(path, {"A": "1"}).pools
        assert load(link, {"A": "1"}).files >= {link}


def test_the_files_to_watch_when_something_is_wrong(tmp_path: Path) -> None:
    path = write(
        tmp_path, "[{file: none}, {file: ../x/key}, {jwt: {algorithm: HS256, key: {file: pem}}}, 1]"
    )
    with pytest.raises(LoadError) as caught:
        load(path, {})
    assert caught.value.files == {path, *(tmp_path / name for name in ("none", "../x/key", "pem"))}
    with pytest.raises(LoadError) as caught:
        load(tmp_path / "t.yaml", {})
    assert caught.value.files == {tmp_path / "t.yaml"}


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
    one, two = load(path, {"A": C}).pools
    assert one.secrets == two.secrets == (Secret(C, ""),)
    assert secrets(two) == [(C, "[rotate:two/two-1]")]


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
    assert secrets(load(basic, env).pools[0])[0][0] == "pass wörd"
    assert problems(write(tmp_path, "[{env: A}]"), env) == [
        "credentials[0].env: a header takes a secret of visible ASCII only: "
        "other words belong in 'inject'"
    ]


def test_no_secrets_file(tmp_path: Path) -> None:
    assert problems(tmp_path / "s.yaml") == [MISSING]
    assert problems(tmp_path) == [FOLDER]


def test_a_secrets_file_that_is_too_large(tmp_path: Path) -> None:
    path = private(tmp_path / "s.yaml")
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    assert problems(path) == ["larger than 1024 KiB: name the right file"]
    path.write_text((HOSTS + f"credentials: [{C}]\n").ljust(1024 * 1024))
    assert len(load(path, {}).pools) == 1


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
