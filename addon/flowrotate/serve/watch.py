"""The end of another process, waited for."""

import asyncio
import os

EVERY = 0.5
"""Seconds between two looks, where the system does not tell by itself."""


async def when_ended(pid: int) -> None:
    """Return when there is no process of this number any more; at once, when there is none."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError) as e:
        if not isinstance(e, ProcessLookupError):
            await _poll(pid)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _poll(pid: int) -> None:
    """The parent of an orphan is another one: it need not be asked whether the number is in use."""
    while os.getppid() == pid:  # noqa: ASYNC110  # nobody there sets an event
        await asyncio.sleep(EVERY)
