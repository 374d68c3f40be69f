"""What tells the requests of one session, or of one limit, from the others. Pure."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

LARGEST_BODY = 8 * 1024 * 1024
"""Bytes of a request's JSON in which a value is looked for; in a larger one there is none."""
LARGEST_PACKED = 1024 * 1024
"""Bytes of one with a Content-Encoding, packed and unpacked: a few can stand for millions."""
LONGEST_VALUE = 1024
"""Characters; of a longer value, the first so many count."""

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2
_POINTER = re.compile(r"(/([^~]|~[01])*)+", re.DOTALL)  # RFC 6901, 3


@dataclass(frozen=True, slots=True)
class RequestKey:
    """`client`, a `header` by its lower-case name, the `path` segment after a prefix, or the value
    that a JSON pointer (`json`, RFC 6901) finds in the body."""

    kind: Literal["client", "header", "path", "json"]
    name: str = ""

    def value(
        self, client: str, headers: Mapping[str, str], path: str, body: Callable[[], bytes]
    ) -> str | None:
        """The request's value, or None when it has none. `body` is called for `json` only."""
        match self.kind:
            case "client":
                found: str | None = client
            case "header":
                found = headers.get(self.name)
            case "path":
                found = _segment_after(self.name, path)
            case "json":
                found = _at_pointer(self.name, body())
        # Without lone surrogates, which nothing can print.
        return found[:LONGEST_VALUE].encode(errors="replace").decode() if found else None


def parse_sticky(text: str) -> RequestKey:
    """What a session is told by. Raises ValueError with the mend."""
    if text == "client":
        return RequestKey("client")
    kind, _, name = text.partition(":")
    if kind == "path":
        if not name.startswith("/") or "?" in name or "*" in name:
            raise ValueError("write path:/prefix: the segment after it tells the session")
        return RequestKey("path", name.rstrip("/") + "/")
    if kind in ("header", "json"):
        return parse_cooldown_by(text)
    raise ValueError("write client, header:NAME, path:/prefix or json:/pointer")


def parse_cooldown_by(text: str) -> RequestKey:
    """What a limit is told by. Raises ValueError with the mend."""
    kind, _, name = text.partition(":")
    if kind == "header":
        if not _HEADER.fullmatch(name):
            raise ValueError("write header: and a header's name, as header:x-session-id")
        return RequestKey("header", name.lower())
    if kind == "json":
        if not _POINTER.fullmatch(name):
            raise ValueError("write json: and a JSON pointer, as json:/model")
        return RequestKey("json", name)
    raise ValueError("write header:NAME or json:/pointer")


def _segment_after(prefix: str, path: str) -> str | None:
    path = path.partition("?")[0]
    return path.removeprefix(prefix).partition("/")[0] if path.startswith(prefix) else None


def _at_pointer(pointer: str, body: bytes) -> str | None:
    if not body or len(body) > LARGEST_BODY:
        return None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", name):
            if int(name) >= len(value):
                return None
            value = value[int(name)]
        else:
            return None
    # Lists and mappings are no value: to write them down takes as long as somebody wants.
    return value if isinstance(value, str) else json.dumps(value) if _is_plain(value) else None


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float)
