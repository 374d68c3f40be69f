"""What a request wants of a pick: its session, its limit, the account that has its objects."""

from mitmproxy import http

from .keys import LARGEST_PACKED, RequestKey
from .placement import Fields
from .rotator import Pool
from .selector.strategies import ANY, Wish
from .unpack import start_of


def wish_of(flow: http.HTTPFlow, pool: Pool, taken: Fields, *, repeatable: bool) -> Wish:
    """`taken` are the header fields that the client sent as its credential."""
    spec = pool.resolved.spec
    if not (spec.sticky or spec.cooldown_by or spec.pin):
        return ANY if repeatable else Wish(repeatable=False)
    return Wish(
        session=_value(spec.sticky, flow, taken),
        pinned=any(rule.matches(flow.request.path) for rule in spec.pin),
        scope=_value(spec.cooldown_by, flow, taken),
        repeatable=repeatable,
    )


def scope_of(flow: http.HTTPFlow, pool: Pool) -> str | None:
    """The request's value of `cooldown_by`, as the flow shows it now."""
    return _value(pool.resolved.spec.cooldown_by, flow, ())


def _value(key: RequestKey | None, flow: http.HTTPFlow, taken: Fields) -> str | None:
    if key is None:
        return None
    request = flow.request
    headers = request.headers
    if key.kind == "header" and taken:
        # Sessions may be told by the placeholder that each of them sends.
        headers = http.Headers((*taken, *headers.fields))
    return key.value(_client(flow), headers, request.path, lambda: _body(request))


def _client(flow: http.HTTPFlow) -> str:
    """Who sent it: the name of its login at this proxy, else its address."""
    login = flow.metadata.get("proxyauth")
    return str(login[0]) if login else str(flow.client_conn.peername[0])


def _body(request: http.Request) -> bytes:
    # Unpacked by our own means: mitmproxy's would unpack any bomb.
    body, encoding = request.raw_content or b"", request.headers.get("content-encoding", "")
    if encoding.lower() in ("", "identity"):
        return body
    return start_of(body, encoding, LARGEST_PACKED) if len(body) <= LARGEST_PACKED else b""
