"""A second script for tests: sets options and runs commands of the running proxy.

A request to http://control.test/set?NAME=VALUE or /run?COMMAND is answered here.
"""

import traceback
from urllib.parse import unquote

from mitmproxy import ctx, http


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
