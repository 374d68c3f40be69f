"""What `flow-rotate service` does, step by step, each told as it comes out. IO."""

import difflib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from flowrotate.machine import proxies
from flowrotate.machine.commands import Run
from flowrotate.machine.files import write_private
from flowrotate.machine.places import Places

from .keeper import MARKER, Keeper, KeeperError, State, Step
from .order import Order

PATIENCE = 20
"""Tries, a second apart."""
LOOKS = 10
"""At whether it runs, a second apart."""
STEADY = 5
"""Looks in a row at one process: what cannot start has ended by then."""

Outcome = Literal["done", "would", "already", "skipped", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Done:
    """What it was and how it came out; `detail` is a file's text or changes, or the last words of
    a command that failed."""

    what: str
    outcome: Outcome
    detail: str = ""


def check_installed(python: str, root: Path, run: Run) -> None:
    """The service has neither a clone's folder nor PYTHONPATH to go by. Raises KeeperError."""
    if not run((python, "-E", "-P", "-c", "import flowrotate.cli, mitmproxy")).ok:
        raise KeeperError(
            f"a service would not find flowrotate, because it is not installed for {python}: "
            f"{python} -m pip install '{root}[cli]'"
        )


def install(
    keeper: Keeper,
    order: Order,
    places: Places,
    run: Run,
    *,
    dry: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Done]:
    """Raises KeeperError before anything is changed."""
    text = keeper.text(order, run)
    before = _ours(keeper)
    now = _ask(keeper, run)
    if now.foreign:
        raise KeeperError(f"{now.foreign} is not ours, and has the same name: remove it first")
    wanted = (keeper.file.parent, *keeper.folders, *order.folders)
    missing = _missing(wanted)
    if before == text and now.active and now.enabled and not missing:
        yield Done(f"install {keeper.file}", "already")
        return
    if doubts := _try(keeper, order, run):
        yield Done("check the options, without the drop-in", "warning", doubts)
    if not dry:
        _write_down(places, _missing((*wanted, *(link.parent for link in keeper.links))))
    if missing:
        what = f"make {', '.join(map(str, missing))}"
        yield (done := _do(what, partial(_make, missing), dry))
        if done.outcome == "failed":
            return
    if before != text:
        detail = _shown(before, text, dry=dry)
        yield (done := _do(f"write {keeper.file}", partial(_write, keeper, text), dry, detail))
        if done.outcome == "failed":
            return
    for step in keeper.restart if now.loaded else keeper.start:
        yield (done := _step(step, keeper, run, sleep, dry))
        if done.outcome == "failed":
            return
    if not dry:
        yield _see(keeper, places, run, sleep)


def _try(keeper: Keeper, order: Order, run: Run) -> str:
    """What `serve` has against it; with a drop-in, which nobody tries, it may be mistaken.

    Raises KeeperError.
    """
    said = run(keeper.trial(order))
    if said.ok:
        return ""
    if Path(f"{keeper.file}.d").is_dir():
        return said.text.strip()
    raise KeeperError(
        f"{said.text.strip()}\nnot installed: so `flow-rotate serve` would end as a service, which "
        "has none of your shell's variables"
    )


def _see(keeper: Keeper, places: Places, run: Run, sleep: Callable[[float], None]) -> Done:
    """Whether it runs: its process has written itself down, or is the same for some looks."""
    what, steady, pid = "see whether it runs", 0, 0
    for _ in range(LOOKS):
        state = _ask(keeper, run)
        steady = steady + 1 if state.active and state.pid == pid else int(bool(state.active))
        pid = state.pid
        if steady >= STEADY or (state.active and _url(places, pid)):
            return Done(what, "done")
        sleep(1)
    outcome: Outcome = "warning" if state.active is None else "failed"
    return Done(what, outcome, f"{state.result or 'it does not run'}; its log: {keeper.log}")


def uninstall(
    keeper: Keeper,
    places: Places,
    run: Run,
    *,
    dry: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Done]:
    """What cannot be stopped is taken away all the same. Raises KeeperError."""
    before = _ours(keeper)
    now = _ask(keeper, run)
    there = now.loaded and not now.foreign
    if before is None and not there:
        yield Done("uninstall: it is not installed", "already")
        return
    for step in keeper.stop if there else ():
        yield _step(step, keeper, run, sleep, dry)
    for file in (*(link for link in keeper.links if link.is_symlink()), keeper.file):
        if file.is_symlink() or file.exists():
            yield _do(f"remove {file}", file.unlink, dry)
    for step in keeper.forget:
        yield _step(step, keeper, run, sleep, dry)
    if not dry:
        _tidy(_record(places))


def status(keeper: Keeper, places: Places, run: Run) -> dict[str, Any]:
    """All that is known of the service, for a program."""
    text = _text(keeper)
    now = _ask(keeper, run)
    return {
        "keeper": keeper.name,
        "file": str(keeper.file),
        "installed": text is not None and MARKER in text,
        "foreign": str(keeper.file) if text and MARKER not in text else now.foreign or None,
        **{k: v for k, v in asdict(now).items() if k not in ("loaded", "foreign")},
        "url": _url(places, now.pid),
        "command": keeper.command_in(text) if text else "",
        "log": keeper.log,
    }


def _url(places: Places, pid: int) -> str | None:
    """Where the proxy with this process answers."""
    found = proxies.find(places.state) if pid else []
    return next((one.url for one in found if one.pid == pid), None)


def _ask(keeper: Keeper, run: Run) -> State:
    return keeper.read([run(command) for command in keeper.asks])


def _text(keeper: Keeper) -> str | None:
    try:
        return keeper.file.read_bytes().decode(keeper.encoding)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        return ""


def _ours(keeper: Keeper) -> str | None:
    """The file as it is, None where there is none. Raises KeeperError for somebody else's."""
    text = _text(keeper)
    if text is not None and MARKER not in text:
        raise KeeperError(f"{keeper.file} is not ours: move it away, or remove it, first")
    return text


def _shown(before: str | None, text: str, *, dry: bool) -> str:
    if before is None:
        return text if dry else ""
    lines = difflib.unified_diff(
        before.splitlines(), text.splitlines(), "as it was", "as it is to be", lineterm="", n=0
    )
    return "\n".join(lines)


def _do(what: str, change: Callable[[], object], dry: bool, detail: str = "") -> Done:
    if dry:
        return Done(what, "would", detail)
    try:
        change()
    except OSError as e:
        return Done(what, "failed", e.strerror or str(e))
    return Done(what, "done", detail)


def _step(step: Step, keeper: Keeper, run: Run, sleep: Callable[[float], None], dry: bool) -> Done:
    what = keeper.show(step.command)
    if dry:
        return Done(what, "would")
    said = run(step.command)
    for _ in range(PATIENCE if step.patient else 0):
        if said.ok:
            break
        sleep(1)
        said = run(step.command)
    if said.ok:
        return Done(what, "done")
    return Done(what, "skipped" if step.lenient else "failed", said.text.strip())


def _write(keeper: Keeper, text: str) -> None:
    write_private(keeper.file, text.encode(keeper.encoding))


def _missing(folders: Iterable[Path]) -> list[Path]:
    """Those that have to be made, and those above them, the uppermost first."""
    missing = {one for folder in folders for one in (folder, *folder.parents) if not one.exists()}
    return sorted(missing, key=lambda folder: len(folder.parts))


def _make(folders: Iterable[Path]) -> None:
    for folder in folders:
        folder.mkdir(mode=0o700, exist_ok=True)


def _write_down(places: Places, folders: list[Path]) -> None:
    """Before they are made, so that `uninstall` finds them whatever happens."""
    record = _record(places)
    if folders:
        made = sorted({*_made(record), *map(str, folders)})
        write_private(record, json.dumps({"made": made}).encode())


def _record(places: Places) -> Path:
    return places.state / "service.json"


def _made(record: Path) -> list[str]:
    try:
        return list(json.loads(record.read_bytes())["made"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _tidy(record: Path) -> None:
    """The folders that `install` made go again, where nothing else is in them by now."""
    made = sorted(map(Path, _made(record)), key=lambda folder: -len(folder.parts))
    record.unlink(missing_ok=True)
    for folder in made:
        with suppress(OSError):
            folder.rmdir()
