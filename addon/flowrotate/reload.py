"""Reading the secrets file at start, when it changes, and when asked: whole, or not at all.

A file that is wrong changes nothing: every problem of it is logged, and the pools stay as they are.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .changes import describe
from .config.spec import ConfigError
from .rotator import ROTATOR
from .settings import Settings, SettingsError
from .sources.gather import Commands
from .sources.resolve import LoadError, ResolvedPool, load
from .sources.watch import Moment, Watch

logger = logging.getLogger(__name__)

EVERY = 0.5
"""Seconds between two looks at the files."""

Locate = Callable[[], tuple[Path | None, tuple[Path, ...]]]
"""The secrets file, or None, and the places looked at when none was named."""
Environment = Callable[[], Mapping[str, str]]
"""What sources and commands see of the environment now."""


@dataclass(eq=False)
class Reloader:
    """One per process; it belongs to the event loop, but for the loading itself.

    `owners` are the addon instances that live now: the last one to leave ends the watch.
    """

    env: Environment = dict
    locate: Locate = lambda: (None, ())
    settings: Callable[[], Settings] = Settings
    """What the options say now. Raises SettingsError."""
    commands: Commands = field(default_factory=dict)
    """What commands of the file have printed. Only `rotate.reload` runs them again."""
    owners: set[object] = field(default_factory=set)
    path: Path | None = None
    """The file that is in use."""
    _watch: Watch = field(default_factory=lambda: Watch((), ROTATOR.wall))
    _number: int = 0
    """Of reads that were taken: one that was overtaken by another is dropped."""
    _asked: asyncio.Event | None = None
    _task: asyncio.Task[None] | None = None

    def read(
        self, locate: Locate, env: Environment, settings: Callable[[], Settings]
    ) -> tuple[ResolvedPool, ...]:
        """What the secrets file says now, for the caller to use. Raises ConfigError."""
        self.locate, self.env, self.settings = locate, env, settings
        path, places = locate()
        reading = self._load(path, places, env(), self.commands)
        self._watch.accept(reading.files, reading.begun)
        if reading.error:
            raise reading.error
        self.path, self.commands, self._number = path, reading.commands, self._number + 1
        return reading.pools

    def start(self, owner: object) -> None:
        """Watch the files from now on, in the running event loop."""
        self.owners.add(owner)
        if self._task is None or self._task.done():
            self._asked = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(self._asked))

    def stop(self, owner: object) -> None:
        self.owners.discard(owner)
        if self._task and not self.owners:
            self._task.cancel()
            self._task = self._asked = None

    def ask(self) -> bool:
        """Read it anew soon, commands too; False when nobody runs who would do it."""
        if self._asked:
            self._asked.set()
        return self._asked is not None

    async def _run(self, asked: asyncio.Event) -> None:
        while True:
            # Not `wait_for`, which in Python 3.11 may swallow that it is cancelled.
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await asked.wait()
            anew = asked.is_set()
            asked.clear()
            try:
                if anew or await asyncio.to_thread(self._watch.look):
                    await self._again(anew=anew)
            except Exception as fault:
                # Not its text: nobody knows what is in there.
                where = traceback.extract_tb(fault.__traceback__)[-1]
                kind = type(fault).__name__
                logger.error("not reloaded: %s at %s:%s", kind, where.name, where.lineno)

    async def _again(self, *, anew: bool) -> None:
        reading, number = None, self._number
        while reading is None or number != self._number:  # another was taken meanwhile
            number = self._number
            path, places = self.locate()
            # One that is gone is an error, not "no pools".
            path = path or self.path
            known = {} if anew else self.commands
            reading = await asyncio.to_thread(self._load, path, places, self.env(), known)
        self._watch.accept(reading.files, reading.begun)
        try:
            if reading.error:
                raise reading.error
            # Pools that are good do not make up for options that are not.
            settings = self.settings()
        except (ConfigError, SettingsError) as e:
            for line in str(e).splitlines():
                logger.error(line)
            logger.error("not reloaded: the pools stay as they were")
            return
        said = describe(ROTATOR.pools, reading.pools)
        self.path, self.commands, self._number = path, reading.commands, number + 1
        ROTATOR.swap(settings, reading.pools)
        logger.info("reloaded: %s", said)

    def _load(
        self,
        path: Path | None,
        places: Sequence[Path],
        env: Mapping[str, str],
        known: Commands,
    ) -> "_Reading":
        """In any thread. `known` is left as it is: nobody knows whether this is taken."""
        begun, commands = self._watch.begin(), dict(known)
        if path is None:
            return _Reading(begun, frozenset(places))
        try:
            loaded = load(path, env, commands)
        except LoadError as e:
            return _Reading(begun, e.files, error=e)
        return _Reading(begun, loaded.files, loaded.pools, commands)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a load found, or what is wrong; `files` are to be watched in any case."""

    begun: Moment
    files: frozenset[Path]
    pools: tuple[ResolvedPool, ...] = ()
    commands: Commands = field(default_factory=dict)
    error: ConfigError | None = None


RELOADER = Reloader()
