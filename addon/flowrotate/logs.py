"""What is logged in this process, by whomever, shows no secret that went out.

mitmproxy quotes raw bytes in its log: answers that it could not read, half heads of clients that
left, and with `proxy_debug` all that it sends. A logger's filter does not see what other loggers
hand on to it, and handlers come and go: records are scrubbed where they are made.
"""

import logging
import re
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from .rotator import ROTATOR
from .scrub.forms import Forms
from .scrub.scrubber import Scrubber
from .secret import Secret

Factory = Callable[..., logging.LogRecord]

_owners: set[object] = set()
_before: Factory = logging.LogRecord
_QUOTED = re.compile(r"\bb'(?:[^'\\]|\\.)*|\bb\"(?:[^\"\\]|\\.)*")
_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def install(owner: object) -> None:
    """Scrub every record from now on, until the last owner is gone."""
    global _before
    _owners.add(owner)
    if logging.getLogRecordFactory() is not _make:
        _before = logging.getLogRecordFactory()
        logging.setLogRecordFactory(_make)


def uninstall(owner: object) -> None:
    _owners.discard(owner)
    if not _owners and logging.getLogRecordFactory() is _make:
        logging.setLogRecordFactory(_before)


def _make(*args: Any, **named: Any) -> logging.LogRecord:
    record = _before(*args, **named)
    try:
        _scrub(record)
    except Exception as fault:
        # Fail closed. Not its text: nobody knows what is in there.
        record.msg = f"a log message that cannot be scrubbed ({type(fault).__name__})"
        record.args, record.exc_info, record.stack_info = (), None, None
    return record


def _scrub(record: logging.LogRecord) -> None:
    message = record.getMessage()
    told = [message]
    if record.exc_info and record.exc_info[0]:
        told.append("".join(traceback.format_exception(*record.exc_info)))
    if record.stack_info:
        told.append(record.stack_info)
    clean = [scrubbed(text) for text in told]
    if clean != told:
        # Formatters make the text of an exception by themselves.
        record.msg, record.args = "\n".join(clean), ()
        record.exc_info, record.stack_info = None, None


def scrubbed(text: str) -> str:
    """A message without secrets, and in bytes that it quotes without the clients' own ones."""
    token = ROTATOR.settings.client_token
    own = [Forms.of(token)] if token else []
    text = Scrubber(own, ROTATOR.logged).message(text)
    if "\\x" in text:
        for value in ROTATOR.on_wire.items:
            for packed in _packed(value):
                text = text.replace(packed, value.alias)
    lines, pairs, params = _credentials(_names())
    if "b'" in text or 'b"' in text:
        text = pairs.sub(_without_value, text)
        text = _QUOTED.sub(lambda found: lines.sub(_without_value, found[0]), text)
    return params.sub(_without_value, text)


@lru_cache(128)
def _packed(value: Secret) -> tuple[str, ...]:
    """As HTTP/2 sends it (RFC 7541, 5.2), and Python quotes that."""
    written = repr(_huffman.encode(value.reveal().encode("ascii")))[2:-1]
    return written, written.replace("'", "\\'")


def _names() -> tuple[frozenset[bytes], frozenset[bytes]]:
    places = [pool.placement for pool in ROTATOR.pools.values()]
    headers = frozenset().union(*(place.headers for place in places))
    return headers | {b"proxy-authorization"}, frozenset().union(*(p.params for p in places))


@lru_cache(8)
def _credentials(names: tuple[frozenset[bytes], frozenset[bytes]]) -> tuple[re.Pattern[str], ...]:
    """A header's line in quoted bytes; a header in a list of pairs; a query parameter."""
    headers, params = ("|".join(re.escape(name.decode()) for name in some) for some in names)
    header = rf"(?i:(?:(?<![\w-])|(?<=\\n))(?:{headers}))"
    # A line goes on where the next one begins with a blank (RFC 9112, 5.2).
    line = r"(?P<value>(?:\\r\\n(?: |\\t)|\\[^rn]|[^\\])+)"
    value = r"(?P<value>(?:(?!(?P=quote))[^\\]|\\.)+)"
    param = rf"(?P<name>(?<=[?&])(?:{params})=)" if params else r"(?P<name>(?!))"
    return (
        re.compile(rf"(?P<name>{header}\s*:(?: |\\t)*){line}"),
        re.compile(rf"(?P<name>{header}['\"],\s*b?(?P<quote>['\"])){value}"),
        re.compile(rf"{param}(?P<value>(?:\\[^rn]|[^\\&\s'\"])+)"),
    )


def _without_value(found: re.Match[str]) -> str:
    shown = found["value"] if "[rotate:" in found["value"] else "[rotate:removed]"
    return found["name"] + shown
