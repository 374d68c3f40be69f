"""The seam: the one package that reaches into mitmproxy's HTTP layer.

mitmproxy makes one HttpStream per request, in every mode, and looks that name up in its module
each time. With our subclass in its place, a credential can be put on the wire without ever being
in a flow, and a request can go out again before the client has seen a byte of the failing answer.
Seen to work on mitmproxy 11.0.2 and 12.2.3.
"""

from mitmproxy.proxy.layers import http as http_layer

from .scrubbing import ScrubbingStream
from .sealing import MitmproxyStream

__all__ = ["MitmproxyStream", "ScrubbingStream", "install", "uninstall"]


def install(owner: object) -> None:
    """Put the seam in place. Raises RuntimeError when another addon has changed the same class."""
    if http_layer.HttpStream not in (MitmproxyStream, ScrubbingStream):
        raise RuntimeError("another addon has replaced mitmproxy's HttpStream")
    ScrubbingStream.owners.add(owner)
    http_layer.HttpStream = ScrubbingStream  # type: ignore[misc]


def uninstall(owner: object, *, returning: bool) -> None:
    """Take the seam away with its last owner.

    `returning`: mitmproxy is about to load the script again. Should that fail, the seam is what
    keeps placeholders from going out: it stays, and refuses what belongs to a pool.
    """
    ScrubbingStream.owners.discard(owner)
    if not ScrubbingStream.owners and not returning:
        http_layer.HttpStream = MitmproxyStream  # type: ignore[misc]
