"""An HTTP/2 client that sends whatever it is told to, for tests that attack."""

import ssl
from collections.abc import Sequence

import h2.config  # type: ignore[import-untyped, unused-ignore]  # h2 is typed since 4.2
import h2.connection  # type: ignore[import-untyped, unused-ignore]
import h2.events  # type: ignore[import-untyped, unused-ignore]

from flowrotate.demo.proxy import Proxy

from .world import tunnel

Headers = Sequence[tuple[str, str]]


def ask(
    proxy: Proxy,
    authority: str,
    headers: Headers,
    *,
    body: bytes = b"",
    trailers: Headers = (),
) -> int | None:
    """The status of one request in a tunnel to `authority`; None when the proxy hung up."""
    with tunnel(proxy, authority, ["h2"]) as tls:
        return _exchange(tls, headers, body, trailers)


def _exchange(tls: ssl.SSLSocket, headers: Headers, body: bytes, trailers: Headers) -> int | None:
    config = h2.config.H2Configuration(
        client_side=True,
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.send_headers(1, list(headers), end_stream=not (body or trailers))
    if body:
        connection.send_data(1, body, end_stream=not trailers)
    if trailers:
        connection.send_headers(1, list(trailers), end_stream=True)
    tls.sendall(connection.data_to_send())
    while data := tls.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                return int(dict(event.headers)[b":status"])
            if isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset):
                return None
    return None


def request(
    authority: str, *extra: tuple[str, str], path: str = "/", method: str = "GET"
) -> Headers:
    return (
        (":method", method),
        (":scheme", "https"),
        (":path", path),
        (":authority", authority),
        *extra,
    )
