"""What counts as a change of a file, when it is told, and that none is lost."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flowrotate.config.document import LARGEST_FILE
from flowrotate.sources.watch import Watch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.yaml"
    path.write_text("one")
    return path


def looks(watch: Watch, count: int = 4) -> list[bool]:
    return [watch.look() for _ in range(count)]


TOLD_ONCE = [False, True, False, False]
NEVER = [False] * 4


def rewrite(path: Path) -> None:
    path.write_text("two")


def longer(path: Path) -> None:
    path.write_text("one and more")


def old(path: Path) -> None:
    """Other text with a time of long ago, as `cp -p` and `tar` give it."""
    path.write_text("two")
    os.utime(path, (1, 1))


def replace(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text("two")
    new.replace(path)


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def into_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def into_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def too_large(path: Path) -> None:
    path.write_bytes(b"x" * (LARGEST_FILE + 1))


def touch(path: Path) -> None:
    path.touch()


def same_again(path: Path) -> None:
    path.write_text("one")


def same_replaced(path: Path) -> None:
    replace(path)
    path.write_text("one")


def recreate(path: Path) -> None:
    path.unlink()
    path.write_text("one")


def mode(path: Path) -> None:
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        *(
            (happens, TOLD_ONCE)
            for happens in (
                rewrite,
                longer,
                old,
                replace,
                Path.unlink,
                into_folder,
                into_loop,
                into_pipe,
                too_large,
            )
        ),
        *((happens, NEVER) for happens in (touch, same_again, same_replaced, recreate, mode)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_counts_as_a_change(
    file: Path, happens: Callable[[Path], None], expected: list[bool]
) -> None:
    watch = Watch([file], time.time)
    assert looks(watch) == NEVER
    happens(file)
    assert looks(watch) == expected


@pytest.mark.parametrize("happens", [rewrite, replace, touch, recreate])
def test_a_link_is_followed(tmp_path: Path, file: Path, happens: Callable[[Path], None]) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    watch = Watch([link], time.time)
    happens(file)
    assert looks(watch) == (TOLD_ONCE if happens in (rewrite, replace) else NEVER)


def test_a_folder_that_kubernetes_swaps(tmp_path: Path) -> None:
    """A mounted Secret: file → ..data/file, ..data → a folder with a time in its name."""

    def publish(version: str, text: str) -> None:
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        (folder / "secrets.yaml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(folder.name)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    publish("v1", "one")
    file = tmp_path / "secrets.yaml"
    file.symlink_to("..data/secrets.yaml")
    watch = Watch([file], time.time)
    publish("v2", "one")
    assert looks(watch) == NEVER
    publish("v3", "two")
    assert looks(watch) == TOLD_ONCE


def test_a_file_that_goes_and_comes_back(file: Path) -> None:
    watch = Watch([file], time.time)
    file.unlink()
    assert looks(watch) == TOLD_ONCE
    file.write_text("one")
    assert looks(watch) == TOLD_ONCE


def test_a_file_that_is_half_written_is_left_alone(file: Path) -> None:
    watch = Watch([file], time.time)
    with file.open("w") as writing:
        for _ in range(4):
            writing.write("more")
            writing.flush()
            assert not watch.look()
    assert looks(watch, 3) == [True, False, False]


def test_two_files_that_change_one_after_the_other_are_told_together(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    watch = Watch([one, two], time.time)
    one.write_text("a")
    assert not watch.look()
    two.write_text("b")
    assert looks(watch) == TOLD_ONCE


def test_a_file_that_is_touched_all_the_time_does_not_hide_the_others(tmp_path: Path) -> None:
    busy, other = tmp_path / "busy", tmp_path / "other"
    busy.touch()
    watch = Watch([busy, other], time.time)
    other.write_text("new")
    told = []
    for n in range(3):
        os.utime(busy, (n, n))
        told.append(watch.look())
    assert told == [False, True, False]


def test_what_is_taken_back_before_it_settled_is_no_change(file: Path) -> None:
    watch = Watch([file], time.time)
    file.write_text("two")
    assert not watch.look()
    file.write_text("one")
    assert looks(watch) == NEVER


class OnFat(type(Path())):  # type: ignore[misc]  # the class of this system's paths
    """On a file system whose clock tells even seconds only."""

    def stat(self, **options: Any) -> Any:
        status = super().stat(**options)
        coarse = status.st_mtime_ns // 2_000_000_000 * 2_000_000_000
        return SimpleNamespace(
            st_mode=status.st_mode,
            st_dev=status.st_dev,
            st_ino=status.st_ino,
            st_size=status.st_size,
            st_mtime_ns=coarse,
            st_ctime_ns=coarse,
        )


def test_the_same_size_within_one_tick(file: Path) -> None:
    watch = Watch([OnFat(file)], time.time)
    for text in ("two", "six"):
        file.write_text(text)
        assert looks(watch) == TOLD_ONCE


@pytest.mark.parametrize("shift", [-3600, 3600])
def test_a_clock_that_is_wrong_hides_nothing(file: Path, shift: float) -> None:
    watch = Watch([file], lambda: time.time() + shift)
    file.write_text("two, longer")
    assert looks(watch) == TOLD_ONCE


class Counting(type(Path())):  # type: ignore[misc]  # the class of this system's paths
    """Counts how often it is opened, and fails when it is told to."""

    opened = 0
    fails = False

    def open(self, *args: Any, **options: Any) -> Any:
        Counting.opened += 1
        if Counting.fails:
            raise OSError(errno.EIO, "a disk that does not answer")
        return super().open(*args, **options)


def test_content_is_not_read_again_and_again(file: Path) -> None:
    later = time.time() + 60
    watch = Watch([Counting(file)], lambda: later)
    file.write_text("two")
    assert looks(watch) == TOLD_ONCE
    opened = Counting.opened
    looks(watch)
    assert Counting.opened == opened


def test_a_disk_that_does_not_answer_for_a_while(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + 60
    monkeypatch.setattr(Counting, "fails", True)
    watch = Watch([Counting(file)], lambda: later)
    assert looks(watch) == NEVER
    monkeypatch.setattr(Counting, "fails", False)
    assert looks(watch) == TOLD_ONCE


class Load:
    """A load that reads its files when told; `begin` and `accept` around it as the addon does."""

    def __init__(self, watch: Watch, *files: Path) -> None:
        self.watch, self.files = watch, files

    def __enter__(self) -> None:
        self.begun = self.watch.begin()

    def __exit__(self, *_: object) -> None:
        self.watch.accept(self.files, self.begun)


def test_a_load_takes_in_what_changed_before_it(file: Path) -> None:
    watch = Watch([file], time.time)
    file.write_text("two")
    with Load(watch, file):
        file.read_text()
    assert looks(watch) == NEVER


def test_a_bad_file_is_loaded_once_until_it_changes_again(file: Path) -> None:
    watch = Watch([file], time.time)
    file.write_text("bad")
    assert looks(watch, 2) == [False, True]
    with Load(watch, file):
        pass  # it failed
    assert looks(watch) == NEVER
    file.write_text("good")
    assert looks(watch) == TOLD_ONCE


@pytest.mark.parametrize("happens", [rewrite, longer, replace, Path.unlink])
@pytest.mark.parametrize("look", [False, True])
def test_a_change_during_a_load_is_not_lost(
    file: Path, happens: Callable[[Path], None], look: bool
) -> None:
    watch = Watch([file], time.time)
    with Load(watch, file):
        file.read_text()
        happens(file)
        if look:
            watch.look()
    assert True in looks(watch)
    assert looks(watch) == NEVER


def test_a_load_that_saw_what_is_there_no_more(file: Path) -> None:
    """Back to the old text before anybody looked; the load read the one in between."""
    watch = Watch([file], time.time)
    with Load(watch, file):
        file.write_text("between")
        file.read_text()
        file.write_text("one")
    assert looks(watch) == TOLD_ONCE


def test_a_file_that_the_load_is_the_first_to_name(tmp_path: Path, file: Path) -> None:
    key = tmp_path / "key"
    key.write_text("key")
    now = key.stat().st_ctime - 60
    watch = Watch([file], lambda: now)
    now += 120
    with Load(watch, file, key):
        pass
    assert looks(watch) == NEVER
    key.write_text("other key")
    assert looks(watch) == TOLD_ONCE


@pytest.mark.parametrize("kind", [Path, OnFat])
def test_a_file_that_changes_while_it_is_first_named(
    tmp_path: Path, file: Path, kind: type[Path]
) -> None:
    key = kind(tmp_path / "key")
    watch = Watch([file], time.time)
    with Load(watch, file, key):
        key.write_text("key")
    assert looks(watch) == TOLD_ONCE


def test_a_file_that_is_named_no_more(tmp_path: Path, file: Path) -> None:
    key = tmp_path / "key"
    watch = Watch([file, key], time.time)
    with Load(watch, file):
        pass
    key.write_text("new")
    assert looks(watch) == NEVER


@contextmanager
def nobody() -> Iterator[None]:
    """Not root for a while: root reads all files."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_permission_that_goes_and_comes_back(file: Path) -> None:
    watch = Watch([file], time.time)
    file.chmod(0)
    with nobody():
        assert looks(watch) == TOLD_ONCE
    file.chmod(0o600)
    assert looks(watch) == TOLD_ONCE


def test_a_folder_that_may_not_be_entered(file: Path) -> None:
    watch = Watch([file], time.time)
    file.parent.chmod(0)
    with nobody():
        assert looks(watch) == TOLD_ONCE
    file.parent.chmod(0o700)
    assert looks(watch) == TOLD_ONCE


@pytest.mark.parametrize("name", ["x\0y", "x" * 5000, ""])
def test_paths_that_no_system_takes(name: str) -> None:
    watch = Watch([Path(name)], time.time)
    with Load(watch, Path(name)):
        pass
    assert looks(watch) == NEVER


def test_looks_and_loads_from_several_threads(tmp_path: Path, file: Path) -> None:
    watch = Watch([file], time.time)
    stop = threading.Event()
    failures: list[Exception] = []

    def work(step: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                step()
        except Exception as e:
            failures.append(e)

    def load() -> None:
        with Load(watch, file, tmp_path / "key"):
            pass

    threads = [threading.Thread(target=work, args=(s,)) for s in (watch.look, load, load)]
    for thread in threads:
        thread.start()
    for n in range(100):
        file.write_text(str(n))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    file.write_text("the last")
    assert True in looks(watch)
    assert looks(watch) == NEVER
