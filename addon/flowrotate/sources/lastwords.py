"""What a failed command said, without secrets, so that it can be told. Pure."""

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from flowrotate.inject import SHORTEST_TELLING, has_control
from flowrotate.secret import Secret

LONGEST_SAID = 200
"""Characters."""
LONGEST_LINE = 4096
"""Bytes. A longer one may have lost its beginning, and half a secret is not recognized."""

_NOT_SHOWN = "what it said is not shown, it may hold a secret: run it by hand"
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # ECMA-48, 5.4: colours and the like
_WORD = re.compile(r"[^\s'\"]{8,}")
_PIECE = re.compile(r"[^\s'\"=:,;/|&<>()$]{8,}")
# A word that could be a token; what was put in a secret's place could not.
_TOKEN = re.compile(
    r"(\[rotate:[^]]*\]|\[argument [0-9]+\])"
    r"|[\w+%=~-]{20,}|(?=[a-zA-Z_+%=~-]*[0-9])[\w+%=~-]{12,}"
)
_SHARED = 8
"""Characters in a row that a line and a secret have in common by no chance."""


def explain(status: int, err: bytes, command: Sequence[str], known: Iterable[Secret]) -> str:
    """How a command ended, and the last line of its errors if no secret can be in it.

    `known` are the file's other secrets, and what the command printed.
    """
    how = f"ended with status {status}" if status >= 0 else f"was ended by signal {-status}"
    lines = [line for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return f"{how} and said nothing: run it by hand"
    whole = len(lines) > 1 or len(err) <= LONGEST_LINE
    said = _told(lines[-1], command, list(known)) if whole else None
    return f"{how}; {_NOT_SHOWN}" if said is None else f"{how}, and said: {said[:LONGEST_SAID]}"


def _told(line: str, command: Sequence[str], known: Sequence[Secret]) -> str | None:
    line = _clean(line).strip()
    hidden = {_clean(text): shown for text, shown in _hidden(command, known) if text}
    for text in sorted(hidden, key=len, reverse=True):
        if text and text in line:
            if len(text) < SHORTEST_TELLING:
                return None
            line = line.replace(text, hidden[text])
    here = _runs(line)
    if any(not here.isdisjoint(_runs(_clean(secret.reveal()))) for secret in known):
        return None
    return _TOKEN.sub(lambda match: match[1] or "[…]", line)


def _hidden(command: Sequence[str], known: Iterable[Secret]) -> Iterator[tuple[str, str]]:
    """Texts, and what is shown instead."""
    for n, argument in enumerate(command[1:], 1):
        for piece in (argument, *_WORD.findall(argument), *_PIECE.findall(argument)):
            if len(piece) >= SHORTEST_TELLING:
                yield piece, f"[argument {n}]"
    for secret in known:
        text = secret.reveal()
        for part in {text, *text.splitlines()}:
            data = part.encode("utf-8", "surrogatepass")
            yield part, secret.alias
            yield quote(data, safe=""), secret.alias
            yield data.hex(), secret.alias
            yield base64.b64encode(data).decode().rstrip("="), secret.alias


def _clean(text: str) -> str:
    return "".join(c for c in _ESCAPE.sub("", text) if not has_control(c))


def _runs(text: str) -> set[str]:
    return {text[n : n + _SHARED] for n in range(len(text) - _SHARED + 1)}
