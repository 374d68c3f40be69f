"""Datagrams under `rotate_passthrough`: a pooled host answers no QUIC, others pass as they are.

Which datagrams a client sends is real (aioquic's); that they came through WireGuard or `--mode
local` is not: neither can be had in a test.
"""

import ssl
from collections.abc import Iterator

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from mitmproxy import ctx
from mitmproxy.connection import Client
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import UDPLayer
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons
from mitmproxy.tls import ClientHello, ClientHelloData

from flowrotate.passthrough import Passthrough, Unanswered
from flowrotate.rotator import ROTATOR
from flowrotate.settings import Settings
from tests.parsing import resolved

PEER = ("192.0.2.1", 50000)


@pytest.fixture
def passthrough() -> Iterator[Passthrough]:
    before = ROTATOR.settings, ROTATOR.pools
    pools = resolved('{hosts: [api.example, "*.wild.example:*"], credentials: [sk-canary]}')
    ROTATOR.swap(Settings(passthrough=True), pools)
    with taddons.context() as context:
        context.options.add_option("show_ignored_hosts", bool, False, "")
        yield Passthrough("p")
        context.master.event_loop.close()
    ROTATOR.swap(before[0], [pool.resolved for pool in before[1].values()])


def initial(name: str) -> list[bytes]:
    """The first datagrams of a QUIC client."""
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["h3"], server_name=name, verify_mode=ssl.CERT_NONE
    )
    client = QuicConnection(configuration=configuration)
    client.connect(("192.0.2.2", 443), now=0.0)
    return [data for data, _ in client.datagrams_to_send(now=0.0)]


def context_to(host: str, port: int, mode: str = "wireguard") -> Context:
    client = Client(
        peername=PEER,
        sockname=("192.0.2.2", port),
        transport_protocol="udp",
        proxy_mode=ProxyMode.parse(mode),
    )
    context = Context(client, ctx.options)
    context.server.address = (host, port)
    context.server.transport_protocol = "udp"
    Unanswered(context)  # any layer: the mode's own needs a running proxy
    return context


def asked(passthrough: Passthrough, context: Context, data: bytes) -> layer.Layer | None:
    nextlayer = layer.NextLayer(context)
    nextlayer.events = [events.DataReceived(context.client, data)]
    passthrough.next_layer(nextlayer)
    return nextlayer.layer


@pytest.mark.parametrize(
    ("host", "port", "sni", "expected"),
    [
        ("192.0.2.2", 443, "api.example", Unanswered),
        ("192.0.2.2", 8443, "a.wild.example", Unanswered),
        ("api.example", 443, "other.example", Unanswered),
        ("192.0.2.2", 443, "other.example", UDPLayer),
        ("192.0.2.2", 8443, "api.example", UDPLayer),
        ("192.0.2.2", 53, "api.example", None),
    ],
)
def test_quic(
    passthrough: Passthrough, host: str, port: int, sni: str, expected: type[layer.Layer] | None
) -> None:
    found = asked(passthrough, context_to(host, port), initial(sni)[0])
    assert type(found) is (expected or type(None))
    if isinstance(found, UDPLayer):
        assert found.flow is None  # a tunnel is no flow


@pytest.mark.parametrize("data", [b"", b"x", b"\x00" * 1200, b"\xc0" + b"\x01" * 20])
def test_other_datagrams_are_mitmproxys(passthrough: Passthrough, data: bytes) -> None:
    assert asked(passthrough, context_to("192.0.2.2", 443), data) is None


def test_unanswered_says_nothing(passthrough: Passthrough) -> None:
    context = context_to("192.0.2.2", 443)
    found = asked(passthrough, context, initial("api.example")[0])
    assert found
    coming = [events.Start(), events.DataReceived(context.client, b"x")]
    assert [command for event in coming for command in found.handle_event(event)] == []


@pytest.mark.parametrize("mode", ["reverse:https://192.0.2.2", "wireguard"])
def test_a_hello_in_several_datagrams(passthrough: Passthrough, mode: str) -> None:
    """mitmproxy collects it, and asks once it is whole."""
    data = ClientHelloData(context_to("192.0.2.2", 443, mode), client_hello("other.example"))
    passthrough.tls_clienthello(data)
    assert data.ignore_connection is (mode == "wireguard")


def test_a_pooled_hello_is_not_ignored(passthrough: Passthrough) -> None:
    data = ClientHelloData(context_to("192.0.2.2", 443), client_hello("api.example"))
    passthrough.tls_clienthello(data)
    assert not data.ignore_connection


def client_hello(name: str) -> ClientHello:
    """What a TLS client sends first, without its record's head."""
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return ClientHello(outgoing.read()[9:])
