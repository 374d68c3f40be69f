"""The README's and the docs' commands, tables and examples against the code."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from mitmproxy.command import CommandManager

from flowrotate.addon import FlowRotate
from flowrotate.cli import cli
from flowrotate.config.credentials import CREDENTIAL_KEYS
from flowrotate.config.pools import POOL_KEYS, parse
from flowrotate.machine.environment import BEFORE, EVERY
from flowrotate.options import OPTIONS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
MACHINE = (ROOT / "docs" / "machine.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")]


def tables(text: str) -> Iterator[list[list[str]]]:
    """Every table's rows, without its head."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [re.split(r" \| ", row.strip("| ")) for row in table.splitlines()]
        yield rows[2:]


def column(text: str, known: str, n: int = 0) -> list[str]:
    """A column of the table in whose first column `known` stands."""
    found = [t for t in tables(text) if any(known in row[0] for row in t)]
    return [row[n].strip("`| ") for row in found[0]]


CLI_ROWS = column(README, "`flow-rotate serve`")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_options() -> None:
    written = dict(
        zip(column(README, "rotate_fail"), column(README, "rotate_fail", 1), strict=True)
    )
    assert {k: v.strip('"') for k, v in written.items()} == {
        name: str(default).lower() if isinstance(default, bool) else str(default)
        for name, _, default, _ in OPTIONS
    }


def test_commands() -> None:
    manager = CommandManager(None)
    manager.collect_commands(FlowRotate())
    written = {row.split()[0] for row in column(README, "rotate.status")}
    assert written == set(manager.commands)


def test_the_command_line() -> None:
    written = {re.split(r"[ `]", row.removeprefix("flow-rotate "))[0]: row for row in CLI_ROWS}
    assert written.keys() == cli.commands.keys()
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            verbs = written[name].removeprefix(f"flow-rotate {name} ").split("\\|")
            assert set(verbs) == command.commands.keys()


def test_the_options_of_serve() -> None:
    written = {
        name.split()[0].strip("`")
        for row in column(MACHINE, "`--listen")
        for name in row.split(", ")
    }
    visible = [p for p in cli.commands["serve"].params if not getattr(p, "hidden", False)]
    assert written == {parameter.opts[0] for parameter in visible}


def test_the_variables() -> None:
    rows = column(MACHINE, "`HTTP_PROXY`")
    written = {name.strip("` ") for row in rows for name in row.split(",")}
    assert written == {*EVERY, BEFORE}


def test_the_parts_of_an_argument_are_those_of_the_code() -> None:
    """Every option of a command that a page shows is one of that command."""
    for page in PAGES:
        pattern = r"flow-rotate ([a-z]+(?: [a-z]+)?)((?: +--[a-z-]+)+)"
        for words, options in re.findall(pattern, page.read_text()):
            names, given = words.split(), options.split()
            command: click.Command = cli.commands[names[0]]
            if isinstance(command, click.Group):
                command = command.commands[names[1]]
            known = {name for parameter in command.params for name in parameter.opts}
            assert set(given) <= known, (page.name, words, options)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(
            pytest.param(b, "x.yaml", id=f"readme-{n}")
            for n, b in enumerate(blocks(README, "yaml"))
        ),
        *(
            pytest.param(block, f"x.{kind}", id=f"{kind}-{n}")
            for kind in ("yaml", "json", "toml")
            for n, block in enumerate(blocks(CONFIGURATION, kind))
        ),
        *(
            pytest.param(block, "x.yaml", id=f"{page.stem}-{n}")
            for page in PAGES
            if page.stem in ("rotation", "migration", "hints")
            for n, block in enumerate(blocks(page.read_text(), "yaml"))
        ),
    ],
)
def test_examples_are_good_secrets_files(text: str, name: str) -> None:

    config = parse(text.encode(), name)
    assert config.problems == ()
    assert config.pools


def test_the_example_is_good_but_for_the_secrets() -> None:
    config = parse((ROOT / "secrets" / "example.yaml").read_bytes(), "example.yaml")
    assert len(config.pools) == 2
    assert {p.message for p in config.problems} == {
        "this is the example's text: put your own secret in"
    }
    assert len(config.problems) == 4


def test_every_key_is_documented() -> None:
    assert set(column(CONFIGURATION, "`inject`")) == set(POOL_KEYS)
    assert set(column(CONFIGURATION, "`id`")) == set(CREDENTIAL_KEYS)


def test_recipes() -> None:
    justfile = (ROOT / "justfile").read_text()
    recipes = set(re.findall(r"^([a-z]+)[ *A-Z]*:(?!=)", justfile, re.MULTILINE))
    named = set(re.findall(r"`just ([a-z]+)", README)) | set(
        re.findall(r"\bjust (\w+)", "\n".join(blocks(README, "sh")))
    )
    assert named <= recipes
    assert {"setup", "demo", "run", "web", "check", "test", "fmt", "clean"} <= recipes


def test_just_lists_the_recipes_with_a_comment_each() -> None:
    just = shutil.which("just") or pytest.skip("just is not installed")
    listed = subprocess.run([just], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line for line in listed.splitlines()[1:] if line.strip()]
    assert len(lines) >= 8
    assert all("#" in line for line in lines), listed


def test_the_house_is_as_it_is_drawn() -> None:
    package = ROOT / "addon" / "flowrotate"
    drawn, folders = set(), {4: Path()}
    for indent, names in re.findall(
        r"^( {4,8})((?:\w+(?:\.py|/) )+)", blocks(ARCHITECTURE, "")[0], re.MULTILINE
    ):
        inside = folders[len(indent)]
        for name in names.split():
            if name.endswith("/"):
                folders[len(indent) + 2] = inside / name
            else:
                drawn.add(str(inside / name))
    # The demo is drawn as one.
    written = {p.relative_to(package) for p in package.rglob("*.py") if p.parent.name != "demo"}
    assert drawn == {str(p) for p in written if not p.stem.startswith("__")}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_dependencies_are_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    names = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names += [name for extra, listed in extras.items() if extra != "all" for name in listed]
    text = (ROOT / "docs" / "dependencies.md").read_text().lower()
    for name in names:
        assert re.split(r"[\[<>=!~ ]", name)[0].lower() in text
