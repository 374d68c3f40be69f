"""What the seam asks of the layers between an HttpStream and its upstream connection.

They are mitmproxy's own affair; tests/test_seam.py says so when a release changes them.
"""

from ipaddress import ip_address
from typing import Any

from cryptography.x509 import IPAddress
from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import _events
from mitmproxy.proxy.layers.http._events import RequestProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Client
from mitmproxy.proxy.layers.http._http2 import Http2Client
from mitmproxy.proxy.layers.tls import ServerTLSLayer
from OpenSSL import SSL

from flowrotate.guard import is_ip

Steps = layer.CommandGenerator[Any]

# 12.x has an enumeration where 11.0 has HTTP statuses; both become RST_STREAM(CANCEL).
CANCEL: Any = _events.ErrorCode.CANCEL if hasattr(_events, "ErrorCode") else 499

NOBODY = -1
"""A stream id that no client's stream has."""


def verified_name(stream: http_layer.HttpStream) -> str | None:
    """The name for which the server's certificate was verified, by this connection's own mode.

    What the option `ssl_insecure` says now, or said to other connections, does not count, nor does
    a name that a script gave the connection later.
    """
    server = stream.context.server
    for step in _layers(stream, server):
        if isinstance(step, ServerTLSLayer) and step.conn == server and server.tls_established:
            verified = step.tls.get_verify_mode() & SSL.VERIFY_PEER
            return server.sni if verified and _was_asked_for(server, step.tls) else None
    return None


def _was_asked_for(server: Server, tls: SSL.Connection) -> bool:
    """Whether the handshake was with the name that the connection has now."""
    name, asked = server.sni or "", tls.get_servername()
    if asked is not None:
        return name.encode("ascii" if name.isascii() else "idna").lower() == asked.lower()
    # An address is not asked for (RFC 6066, 3): its certificate tells.
    held = server.certificate_list[0].altnames.get_values_for_type(IPAddress)
    return is_ip(name) and ip_address(name) in held


def detach(stream: http_layer.HttpStream) -> Steps:
    """End this stream's turn on its connection, so that nothing of it meets the next attempt.

    An HTTP/1 connection in the middle of this stream's answer is closed. An HTTP/2 stream is reset
    unless both of its sides are over: a server may answer before it has read the body.
    """
    server = stream.context.server
    *_, client = _layers(stream, server)
    give_up = http_layer.SendHttp(
        RequestProtocolError(stream.stream_id, "answer given up", CANCEL), server
    )
    if isinstance(client, Http2Client):
        ours = client.our_stream_id.get(stream.stream_id)
        if ours is None:
            return
        if not client.is_closed(ours):
            yield give_up
        del client.our_stream_id[stream.stream_id]
        client.their_stream_id[ours] = NOBODY
    elif isinstance(client, Http1Client) and client.stream_id == stream.stream_id:
        if server.connected:
            yield give_up
        client.state = client.done


def _layers(stream: http_layer.HttpStream, server: Connection) -> list[layer.Layer]:
    parent = stream.context.layers[stream.context.layers.index(stream) - 1]
    assert isinstance(parent, http_layer.HttpLayer)
    return parent.connections[server].context.layers
