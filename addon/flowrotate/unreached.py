"""A line in the log for each pooled host that is not reached: mitmproxy's own names no host."""

import logging

from mitmproxy import tls
from mitmproxy.connection import Server
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from .guard import Place
from .passage import canonical_or_none
from .rotator import ROTATOR

logger = logging.getLogger(__name__)


class Unreached:
    """A part of FlowRotate."""

    def __init__(self, name: str) -> None:
        self.name = name

    def tls_failed_server(self, data: tls.TlsData) -> None:
        if isinstance(data.conn, Server) and is_pooled(data.conn):
            tell(
                data.conn,
                "no request goes there: where its CA is a private one, name it with "
                "--set ssl_verify_upstream_trusted_ca=FILE",
            )

    def server_connect_error(self, data: ServerConnectionHookData) -> None:
        if is_pooled(data.server):
            tell(data.server, "is the name right, and is it reached from here without a proxy?")


def is_pooled(server: Server) -> bool:
    if not server.address:
        return False
    host = canonical_or_none(server.address[0])
    name = canonical_or_none(server.sni or host)
    places = (Place(tls, host, server.address[1], name) for tls in (True, False))
    return any(map(ROTATOR.is_pooled, places))


def tell(server: Server, mend: str) -> None:
    assert server.address
    host, port = server.address[:2]
    logger.warning("%s:%s, of a pool: %s; %s", host, port, server.error, mend)
