"""A second script for tests: sends requests with X-Elsewhere to another place, after every hook
of the addon, as map_remote and people who edit an intercepted flow do."""

from mitmproxy import http


def request(flow: http.HTTPFlow) -> None:
    if place := flow.request.headers.pop("X-Elsewhere", None):
        # Not `request.host = …`: that would change the Host header as well.
        flow.request.data.host, port = place.split(":")
        flow.request.data.port = int(port)
