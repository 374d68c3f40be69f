"""mitmproxy's options: what they mean, and the line that a bad one gets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flowrotate.settings import Settings, SettingsError, find_secrets, parse_settings

TOKEN = "canary-token"


def parsed(env: Mapping[str, str] | None = None, **changed: Any) -> Settings:
    options: dict[str, Any] = {
        "fail": "401=disable,429=cooldown",
        "cooldown": 60,
        "retries": 3,
        "hold": 0,
        "stream": True,
        "scrub": True,
        "passthrough": False,
        "client_token": "",
        "allow_clients": [],
        "expose": False,
    }
    return parse_settings(**(options | changed), env=env or {})


def test_the_defaults_are_the_options_defaults() -> None:
    assert parsed() == Settings()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cooldown": 0}, "rotate_cooldown: write 1 to 86400 seconds"),
        ({"cooldown": 86_401}, "rotate_cooldown: write 1 to 86400 seconds"),
        ({"retries": -1}, "rotate_retries: write 0 to 100 further credentials"),
        ({"hold": 86_401}, "rotate_hold: write 0 to 86400 seconds"),
        ({"client_token": TOKEN}, "write env:NAME or @FILE, never the token itself"),
        ({"client_token": "env:ABSENT"}, "the environment variable that it names is not set"),
        ({"client_token": "env:SPACED"}, "a token is visible ASCII without spaces"),
        ({"client_token": "@~nobody-here/x"}, "the file that it names can't be read"),
        ({"client_token": "@/absent"}, "the file that it names can't be read"),
        ({"client_token": "@/dev/null"}, "the file that it names is empty"),
        ({"allow_clients": ["10.0.0.0/8", "lan"]}, "rotate_allow_clients: entry 2 is no network"),
        ({"allow_clients": ["10.0.0.1/8"]}, "rotate_allow_clients: entry 1 is no network"),
        ({"fail": "401=explode"}, "rotate_fail: "),
    ],
)
def test_a_bad_option_is_named_with_its_mend(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        parsed({"SPACED": f"{TOKEN} {TOKEN}"}, **changed)
    assert message in str(error.value)
    assert TOKEN not in str(error.value)
    assert "\n" not in str(error.value)


def test_all_bad_options_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        parsed(fail="x", cooldown=0, retries=-1, client_token="x", allow_clients=["x", "::/0", "y"])
    names = [line.partition(":")[0] for line in str(error.value).splitlines()]
    assert names == [
        "rotate_fail",
        "rotate_cooldown",
        "rotate_retries",
        "rotate_client_token",
        "rotate_allow_clients",
        "rotate_allow_clients",
    ]


def test_the_token_by_environment_and_by_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    for spec in ("env:TOKEN", f"@{file}"):
        settings = parsed({"TOKEN": TOKEN}, client_token=spec)
        assert settings.client_token
        assert settings.client_token.reveal() == TOKEN
        assert TOKEN not in repr(settings)


def test_where_the_secrets_file_is(tmp_path: Path) -> None:
    home, package = tmp_path / "home", tmp_path / "project" / "addon" / "flowrotate"
    beside = tmp_path / "project" / "secrets" / "secrets.yaml"
    own = home / ".config" / "flow-rotate" / "secrets.yaml"

    def found(option: str = "", env: Mapping[str, str] | None = None) -> Path | None:
        return find_secrets(option, env or {}, home, package)[0]

    assert find_secrets("", {}, home, package) == (None, (beside, own))
    for file in (own, beside):  # the later one goes before
        file.parent.mkdir(parents=True)
        file.touch()
        assert found() == file
    assert found(env={"FLOW_ROTATE_SECRETS": "/named"}) == Path("/named")
    assert found("/option", {"FLOW_ROTATE_SECRETS": "/named"}) == Path("/option")
    assert found("~/x") == Path.home() / "x"


def test_an_installed_package_looks_in_the_home_only(tmp_path: Path) -> None:
    assert find_secrets("", {}, tmp_path, tmp_path / "site-packages" / "flowrotate") == (
        None,
        (tmp_path / ".config" / "flow-rotate" / "secrets.yaml",),
    )
