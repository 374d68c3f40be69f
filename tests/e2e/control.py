"""A second script for tests: sets options and runs commands of the running proxy.

A request to http://control.test/set?NAME=VALUE or /run?COMMAND is answered here.
"""

import asyncio
import traceback
from urllib.parse import unquote

from mitmproxy import command, ctx, http


@command.command("test.waiting")
def waiting() -> str:
    """How many requests wait for a credential."""
    from flowrotate.rotator import ROTATOR

    return str(sum(len(pool.room.queue) for pool in ROTATOR.pools.values()))


@command.command("test.tasks")
def tasks() -> str:
    """How many waits go on, in hooks and timers."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return str(sum("rotate_hold" in name or "wakeup" in name for name in names))


def requestheaders(flow: http.HTTPFlow) -> None:
    if flow.request.host != "control.test":
        return
    verb, _, argument = flow.request.path.removeprefix("/").partition("?")
    try:
        said = _done(verb, unquote(argument))
        flow.response = http.Response.make(200, said)
    except Exception as e:
        flow.response = http.Response.make(400, f"{type(e).__name__}: {e}")
        traceback.clear_frames(e.__traceback__)


def _done(verb: str, argument: str) -> str:
    if verb == "set":
        ctx.options.set(argument)
        return ""
    answer = ctx.master.commands.execute(argument)
    return "\n".join(answer) if isinstance(answer, list) else str(answer)
