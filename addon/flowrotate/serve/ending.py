"""How a server ends: a first signal lets what is under way finish, a second one does not."""

import asyncio
import logging
import os
import signal

from mitmproxy.master import Master

from flowrotate.reload import RELOADER

from .drain import MOST_SECONDS, Draining
from .watch import when_ended

logger = logging.getLogger(__name__)


class Ending:
    """Belongs to the event loop."""

    def __init__(self, master: Master, draining: Draining) -> None:
        self.master = master
        self.draining = draining
        self._tasks: list[asyncio.Task[None]] = []
        self._on_terminal = has_terminal()

    def listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for name, react in (("SIGTERM", self.end), ("SIGINT", self.end), ("SIGHUP", self.hang_up)):
            number = getattr(signal, name, None)
            if number is None:
                continue
            try:
                loop.add_signal_handler(number, react)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_, react=react: loop.call_soon_threadsafe(react))
        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def end_with(self, pid: int) -> None:
        """End when that process does: nobody is left who would wait for an answer."""
        self._tasks.append(asyncio.create_task(self._outlive(pid)))

    def end(self) -> None:
        step = self._finish() if self.draining.ends else self._drain()
        self._tasks.append(asyncio.create_task(step))

    def hang_up(self) -> None:
        """Read the secrets file again; but whose terminal has gone is to go, too."""
        if self._on_terminal and not has_terminal():
            self.end()
        elif not RELOADER.ask():
            logger.warning("not reloaded: still starting")

    async def _outlive(self, pid: int) -> None:
        await when_ended(pid)
        await self._finish()

    async def _drain(self) -> None:
        if busy := self.draining.busy():
            logger.info("ending: up to %d s for %d at work", MOST_SECONDS, busy)
        if not await self.draining.drain():
            logger.warning("ended, although requests were at work")
        await self._finish()

    async def _finish(self) -> None:
        await self.draining.close()
        self.master.shutdown()


def has_terminal() -> bool:
    """Whether this process belongs to one; a daemon does not, nor who outlives its window."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except (OSError, AttributeError):
        return False
    return True
