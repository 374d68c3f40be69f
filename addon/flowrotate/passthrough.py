"""Connections to hosts in no pool pass undecrypted (`rotate_passthrough`).

Where a connection leads is told by what mitmproxy will dial (a CONNECT's target, SOCKS, a
transparent client's address) and, for an address without a name, by the name in the TLS client
hello: as for requests (passage.place_of). It is asked once for each connection, so that a host that
a reload brings into a pool is intercepted from its next connection on.
"""

from mitmproxy import ctx
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientQuicLayer, ClientTLSLayer, TCPLayer, UDPLayer
from mitmproxy.proxy.layers.quic import quic_parse_client_hello_from_datagrams
from mitmproxy.proxy.layers.tls import parse_client_hello
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.tls import ClientHelloData

from .guard import Place
from .passage import canonical_or_none
from .rotator import ROTATOR

DNS_PORTS = (53, 5353)


class Passthrough:
    """A part of FlowRotate: its hooks come before those of mitmproxy's own NextLayer."""

    def __init__(self, name: str) -> None:
        self.name = name

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        context = nextlayer.context
        # Within the TLS of a connection that is intercepted, that is decided.
        within = isinstance(context.layers[-1], (ClientTLSLayer, ClientQuicLayer))
        if nextlayer.layer or within or not applies(context):
            return
        choose = choose_udp if context.client.transport_protocol == "udp" else choose_tcp
        nextlayer.layer = choose(context, nextlayer.data_client())

    def tls_clienthello(self, data: ClientHelloData) -> None:
        """The same for a client hello that came in pieces; the layers of TLS wait for all of it."""
        if applies(data.context) and not is_pooled(data.context, data.client_hello.sni):
            data.ignore_connection = True


def applies(context: Context) -> bool:
    """Whether this is a connection to somewhere, that may be a tunnel.

    In reverse mode the client believes that the proxy is the server. While it is not known what
    belongs to a pool, nothing passes.
    """
    return (
        ROTATOR.settings.passthrough
        and not ROTATOR.broken
        and context.server.address is not None
        and not isinstance(context.client.proxy_mode, ReverseMode)
    )


def is_pooled(context: Context, sni: str | None, *, tls: bool = True) -> bool:
    assert context.server.address
    host = canonical_or_none(context.server.address[0])
    name = canonical_or_none(sni or host)
    return ROTATOR.is_pooled(Place(tls, host, context.server.address[1], name))


def choose_tcp(context: Context, data: bytes) -> layer.Layer | None:
    """A tunnel, or None: mitmproxy goes on as ever."""
    sni = None
    if is_tls := starts_like_tls_record(data):
        try:
            hello = parse_client_hello(data)
        except ValueError:
            is_tls = False  # something else, that begins alike
        else:
            if hello is None:
                return None  # not all of it is here: `tls_clienthello` sees the rest
            sni = hello.sni
    if is_pooled(context, sni) or (not is_tls and is_pooled(context, None, tls=False)):
        return None
    return TCPLayer(context, ignore=not ctx.options.show_ignored_hosts)


def choose_udp(context: Context, data: bytes) -> layer.Layer | None:
    """QUIC to a pooled host is left unanswered, and its client takes TCP instead."""
    assert context.server.address
    if context.server.address[1] in DNS_PORTS:
        return None
    try:
        hello = quic_parse_client_hello_from_datagrams([data])
    except ValueError:
        hello = None
    if hello is None:
        return None
    if is_pooled(context, hello.sni):
        return Unanswered(context)
    return UDPLayer(context, ignore=not ctx.options.show_ignored_hosts)


class Unanswered(layer.Layer):
    """Takes all and says nothing, as mitmproxy does with QUIC when its option `http3` is off."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:  # noqa: ARG002
        yield from ()
