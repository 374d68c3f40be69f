from pathlib import Path

import pytest

from flowrotate.machine.places import places
from flowrotate.machine.service.order import Options, Order, OrderError, make_order


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    file = tmp_path / "s.yaml"
    file.touch()
    return file


def order(options: Options, secrets: Path | None, env: dict[str, str] | None = None) -> Order:
    return make_order(options, "/v/python", places({}, Path("/h"), "linux"), env or {}, secrets)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(), ()),
        (Options(listen="[::1]:80"), ("--listen", "[::1]:80")),
        (Options(modes=("regular", "socks5")), ("--mode", "regular", "--mode", "socks5")),
        (Options(confdir="/a b"), ("--confdir", "/a b")),
        (Options(sets=("a=b=c", "d=")), ("--set", "a=b=c", "--set", "d=")),
    ],
)
def test_command(options: Options, expected: tuple[str, ...], secrets: Path) -> None:
    made = order(options, secrets).command
    rest = list(made)
    at = rest.index("--secrets")
    assert rest[at : at + 2] == ["--secrets", str(secrets)]
    del rest[at : at + 2]
    assert rest == ["/v/python", "-P", "-m", "flowrotate", "serve", *expected]


def test_paths_are_absolute(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(secrets.parent)
    made = order(Options(secrets="s.yaml", confdir="c"), Path("s.yaml"))
    assert made.arguments == ("--secrets", str(secrets), "--confdir", str(secrets.parent / "c"))
    assert made.folders == (secrets.parent / "c", Path("/h/.local/state/flow-rotate"))


def test_what_it_writes(secrets: Path) -> None:
    folders = order(Options(), secrets).folders
    assert folders == (Path("/h/.mitmproxy"), Path("/h/.local/state/flow-rotate"))


def test_it_takes_along_where_things_are_and_nothing_that_may_be_secret(secrets: Path) -> None:
    env = {"PATH": "/a:/b", "XDG_STATE_HOME": "/s", "XDG_DATA_HOME": "", "OPENAI_API_KEY": "sk"}
    made = order(Options(), secrets, env).environment
    assert made == (("PATH", "/a:/b"), ("XDG_STATE_HOME", "/s"))


@pytest.mark.parametrize(
    ("options", "found", "message"),
    [
        (Options(sets=("upstream_auth=u:p",)), True, "write upstream_auth in /h/.mitmproxy/config"),
        (Options(sets=("proxyauth=u:p",), confdir="/c"), True, "write proxyauth in /c/config.yaml"),
        (Options(sets=("confdir=/c",)), True, "--set confdir: write --confdir instead"),
        (
            Options(sets=("rotate_secrets=s",)),
            True,
            "--set rotate_secrets: write --secrets instead",
        ),
        (Options(), False, "no secrets file: put one at /h/.config/flow-rotate/secrets.yaml"),
        (Options(sets=("a=b\nUser=root",)), True, "control character"),
        (Options(listen="1:2\n"), True, "control character"),
        (Options(modes=("\t",)), True, "control character"),
        (Options(confdir="/a\0"), True, "control character"),
    ],
)
def test_what_is_refused(options: Options, found: bool, message: str, secrets: Path) -> None:
    with pytest.raises(OrderError, match=message):
        order(options, secrets if found else None)


@pytest.mark.parametrize(
    ("name", "message"),
    [("PATH", "^PATH: "), ("XDG_DATA_HOME", "^XDG_DATA_HOME: "), ("XDG_STATE_HOME", "path, has a")],
)
def test_an_environment_that_would_add_lines(name: str, message: str, secrets: Path) -> None:
    env = {name: "/a\nExecStartPre=/evil"}
    with pytest.raises(OrderError, match=message):
        make_order(Options(), "/v/python", places(env, Path("/h"), "linux"), env, secrets)


def test_a_password_is_not_repeated(secrets: Path) -> None:
    with pytest.raises(OrderError) as e:
        order(Options(sets=("upstream_auth=user:canary-pw",)), secrets)
    assert "canary" not in str(e.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssl_verify_upstream_trusted_ca=x.pem", "ssl_verify_upstream_trusted_ca={here}/x.pem"),
        ("ssl_verify_upstream_trusted_ca=/x.pem", "ssl_verify_upstream_trusted_ca=/x.pem"),
        ("ssl_verify_upstream_trusted_ca=~/x.pem", "ssl_verify_upstream_trusted_ca={home}/x.pem"),
        ("ssl_verify_upstream_trusted_confdir=x", "ssl_verify_upstream_trusted_confdir={here}/x"),
        ("client_certs=x", "client_certs={here}/x"),
        ("certs=x", "certs={here}/x"),
        ("certs=*.a.example=x", "certs=*.a.example={here}/x"),
        ("rotate_client_token=@x", "rotate_client_token=@{here}/x"),
        ("rotate_client_token=env:x", "rotate_client_token=env:x"),
        ("rotate_fail=x", "rotate_fail=x"),
    ],
)
def test_files_of_options(
    text: str, expected: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(secrets.parent)
    monkeypatch.setenv("HOME", "/home/me")
    made = order(Options(sets=(text,)), secrets).arguments
    assert made[-1] == expected.format(here=secrets.parent, home="/home/me")


@pytest.mark.parametrize(("named", "by"), [("x", "--secrets"), ("", "FLOW_ROTATE_SECRETS")])
def test_a_named_file_that_is_not_there(named: str, by: str) -> None:
    with pytest.raises(OrderError, match=f"^{by}: no such file: /none/x$"):
        order(Options(secrets=named), Path("/none/x"))


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(OrderError) as e:
        order(Options(sets=("confdir=a", "proxyauth=b")), None)
    assert len(str(e.value).splitlines()) == 3
