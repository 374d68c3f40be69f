"""A second script for the leak audit: commands that show what the running proxy has in memory."""

import gc
import logging
from pathlib import Path

from mitmproxy import command, ctx, exceptions
from mitmproxy.addons.export import formats

TALKATIVE = ("hpack", "h2", "httpx", "httpcore", "asyncio", "mitmproxy.proxy.layers.http._http_h2")


@command.command("test.debug")  # type: ignore[untyped-decorator, unused-ignore]
def debug() -> None:
    """Loggers that mitmproxy quiets say all that they have to say."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.DEBUG)


@command.command("test.objects")  # type: ignore[untyped-decorator, unused-ignore]
def objects(path: str) -> None:
    """Every object of the addon, in all ways in which an object shows itself."""
    ours = [o for o in gc.get_objects() if type(o).__module__.startswith("flowrotate")]
    shown = [
        f"{type(o).__qualname__} {text}"
        for o in ours
        for text in (repr(o), str(o), format(o), f"{o!r:>9}", f"{o!s}", "%s %r" % (o, o))  # noqa: UP031
    ]
    Path(path).write_text("\n".join(shown))


@command.command("test.exports")  # type: ignore[untyped-decorator, unused-ignore]
def exports(path: str) -> None:
    """Every flow of the view, in every format of export.file, and what rotate.why says of it."""
    with Path(path).open("wb") as file:
        for flow in ctx.master.commands.call("view.flows.resolve", "@all"):
            file.write(ctx.master.commands.call("rotate.why", flow).encode())
            for name, write in formats.items():
                try:
                    text = write(flow)
                except exceptions.CommandError:
                    continue  # there is nothing of this kind in it
                file.write(b"\n" + name.encode() + b": ")
                file.write(text if isinstance(text, bytes) else text.encode())
