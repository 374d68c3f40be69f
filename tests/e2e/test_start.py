"""What stops the start, and says so in plain lines; what does not."""

import re
from pathlib import Path

import pytest

from .world import World, pool, secret


def lines(text: str) -> list[str]:
    """The log without mitmproxy's times."""
    return [re.sub(r"^\[[\d:.]+\] ", "", line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.yaml", b"", ["{file}: the file is empty"]),
        ("binary.yaml", b"\x00\xff" * 100, ["{file}: a binary file, or not saved as UTF-8"]),
        ("huge.yaml", b"# " + b"x" * 2_000_000, ["{file}: larger than "]),
        ("broken.yaml", b"pools: [", ["{file}: line 1, column "]),
        (
            "bad.yaml",
            f"hosts: [a.test]\ncredential: [{secret('a')}]\ncooldown: soon\n".encode(),
            [
                "{file}: unknown key 'credential': did you mean 'credentials'?",
                "{file}: cooldown: ",
                "{file}: credentials: ",
            ],
        ),
        ("unset.yaml", b"hosts: [a.test]\ncredentials: [{id: a, env: ABSENT}]\n", ["{file}: "]),
    ],
)
def test_a_bad_secrets_file(world: World, name: str, content: bytes, expected: list[str]) -> None:
    file = world.folder / name
    file.write_bytes(content)
    proxy = world.make_proxy(options={"rotate_secrets": str(file)})
    assert proxy.run_to_exit() == 1
    said = lines(proxy.text)
    for line in expected:
        assert any(s.startswith(line.format(file=file)) for s in said), proxy.text
    assert "Traceback" not in proxy.text
    assert "canary" not in proxy.text


@pytest.mark.parametrize("command", ["mitmdump", "mitmweb"])
def test_a_named_file_that_is_missing(world: World, command: str) -> None:
    file = world.folder / "absent.yaml"
    args = ["--no-web-open-browser", "--web-port", "0"] if command == "mitmweb" else []
    proxy = world.make_proxy(options={"rotate_secrets": str(file)}, command=command, args=args)
    assert proxy.run_to_exit() == 1
    assert any(line.startswith(f"{file}: ") for line in lines(proxy.text)), proxy.text
    assert "Traceback" not in proxy.text


def test_no_file_at_all_is_a_warning_and_forwards_as_it_is(world: World, tmp_path: Path) -> None:
    upstream = world.upstream()
    # The folder beside `addon` may have the developer's own file: this package is elsewhere.
    proxy = world.proxy(env={"HOME": str(tmp_path)}, scripts=[world.copied_addon()])
    proxy.wait_for("no secrets file, nothing is injected: put one at .*secrets.yaml or .*yaml")
    url = f"https://localhost:{upstream.port}/"
    world.client(proxy).get(url, headers={"Authorization": "Bearer mine"})
    assert upstream.requests[0].header("authorization") == "Bearer mine"
    assert "Traceback" not in proxy.text


def test_the_environment_names_the_file(world: World) -> None:
    upstream = world.upstream()
    file = world.secrets(pool([f"localhost:{upstream.port}"]))
    proxy = world.proxy(env={"FLOW_ROTATE_SECRETS": str(file)})
    world.client(proxy).get(f"https://localhost:{upstream.port}/")
    assert "canary" in (upstream.requests[0].header("authorization") or "")


TYPOS = [
    ("rotate_cooldown", "abc", "rotate_cooldown: write a whole number"),
    ("rotate_cooldown", "1.5", "rotate_cooldown: write a whole number"),
    ("rotate_expose", "maybe", "rotate_expose: write true or false"),
    ("rotate_exposed", "true", "rotate_exposed: there is no such option: did you mean rotate_e"),
]


@pytest.mark.parametrize(("option", "value", "message"), TYPOS)
def test_a_mistyped_option_stops_the_start(
    world: World, option: str, value: str, message: str
) -> None:
    """mitmproxy itself would run on, without the addon and without a word."""
    proxy = world.make_proxy(pool(["a.test"]), options={option: value, "rotate_retries": "-1"})
    assert proxy.run_to_exit() == 1
    said = lines(proxy.text)
    assert any(line.startswith(message) for line in said), proxy.text
    assert any(line.startswith("rotate_retries: ") for line in said), proxy.text
    assert "Traceback" not in proxy.text


def test_mistyped_options_in_mitmproxys_own_file(world: World) -> None:
    proxy = world.make_proxy(pool(["a.test"]))
    config = proxy.folder / "config.yaml"
    config.write_text(
        "rotate_cooldown: abc\nrotate_allow_clients: 10.0.0.0/8\nrotate_fail: {a: b}\n"
    )
    assert proxy.run_to_exit() == 1
    said = lines(proxy.text)
    for option in ("rotate_cooldown: write", "rotate_allow_clients: write", "rotate_fail: write"):
        assert any(line.startswith(option) for line in said), proxy.text
    assert "Traceback" not in proxy.text


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("rotate_fail", "401=explode", "rotate_fail: "),
        ("rotate_cooldown", "0", "rotate_cooldown: write 1 to 86400 seconds"),
        ("rotate_retries", "-1", "rotate_retries: write 0 to 100"),
        ("rotate_client_token", "canary-token", "rotate_client_token: write env:NAME or @FILE"),
        ("rotate_allow_clients", "lan", "rotate_allow_clients: entry 1 is no network"),
    ],
)
def test_a_bad_option(world: World, option: str, value: str, message: str) -> None:
    proxy = world.make_proxy(pool(["a.test"]), options={option: value})
    assert proxy.run_to_exit() == 1
    assert any(line.startswith(message) for line in lines(proxy.text)), proxy.text
    assert "Traceback" not in proxy.text
    assert "canary" not in proxy.text
