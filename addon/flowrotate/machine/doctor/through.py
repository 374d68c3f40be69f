"""One request through the proxy, which must not cost a credential anything."""

import ssl
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from flowrotate.config.spec import PoolSpec
from flowrotate.hosts import HostRule, rules_overlap
from flowrotate.report import show_host

from .deadline import SECONDS, Deadline
from .finding import Findings, failure, note, ok
from .network import PAGE, Looked, authority


def through(
    url: str, pools: Iterable[PoolSpec], looked: Iterable[Looked], context: ssl.SSLContext
) -> Findings:
    """As a web page would send it: a pool's credential stays where it is, unless the pool serves
    web pages, too."""
    answering = [one.rule for one in looked if one.answers]
    open_to_pages = [rule for pool in pools if pool.browsers for rule in pool.hosts]
    tried = [r for r in answering if not any(rules_overlap(r, other) for other in open_to_pages)]
    if tried:
        yield from _try(url, tried[0], context)
    elif answering:
        said = "not tried: each host that answers is in a pool with `browsers: allow`, "
        yield note("through", f"{said}so the request would spend a credential")
    else:
        yield note("through", "not tried: no pool has a host that answers")


def _try(url: str, rule: HostRule, context: ssl.SSLContext) -> Findings:
    shown = show_host(rule)
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    with Deadline(connection) as deadline:
        try:
            status, error = _status(connection, deadline, rule, context)
        except ssl.SSLCertVerificationError as e:
            mend = "the proxy has another CA than --confdir: name the proxy's own"
            said = f"{shown}: the proxy's certificate: {e.verify_message}"
            yield failure("through", said, mend)
            return
        except (OSError, HTTPException) as e:
            yield failure("through", f"{shown}: {deadline.why(e)}", "look at the proxy's log")
            return
    if status == 502 or error:
        yield failure("through", f"{shown}: the proxy answers {status}", "look at its log")
    else:
        yield ok("through", f"a request through {url} reaches {shown} (it answers {status})")


def _status(
    connection: HTTPConnection, deadline: Deadline, rule: HostRule, context: ssl.SSLContext
) -> tuple[int, str]:
    if rule.tls:
        connection.set_tunnel(rule.name, rule.port)
        deadline.connect()
        deadline.secure(context, rule.name)
        target = "/"
    else:
        deadline.connect()
        target = f"http://{authority(rule)}/"
    connection.request("GET", target, headers={**PAGE, "Host": authority(rule)})
    response = connection.getresponse()
    if deadline.over:
        raise TimeoutError
    return response.status, response.headers.get("X-Rotate-Error", "")
