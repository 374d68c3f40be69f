"""What to tell of a failed command: what it said, without secrets, and its likely mistake. Pure."""

import base64
import json
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
# Words of many a command: not worth hiding, and no secrets.
_PLAIN = re.compile(r"[a-z-]{1,12}")
# A "$NAME" is expanded by a shell, so that it counts as not quoted.
_QUOTED = re.compile(r"""'[^']*'|"(?!\$[A-Za-z_{(])(?:[^"\\]|\\.)*"|\\.""")
_FOR_A_SHELL = re.compile(r"[|;<>`]|&&|\$[A-Za-z_{(]|(^|\s)~|^\s*[A-Za-z_][A-Za-z0-9_]*=")
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


def shell_hint(command: str) -> str:
    """What to add when a command, as it was written, failed as if it was meant for a shell."""
    meant = _FOR_A_SHELL.search(_QUOTED.sub("_", command))
    return "; there is no shell here: write sh -c '…'" if meant else ""


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


def _hidden(command: Sequence[str], known: Sequence[Secret]) -> Iterator[tuple[str, str]]:
    """Texts, and what is shown instead."""
    secrets = [text for secret in known if (text := secret.reveal())]
    for n, argument in enumerate(command[1:], 1):
        if _PLAIN.fullmatch(argument) and not any(text in argument for text in secrets):
            continue
        for piece in (argument, *_WORD.findall(argument), *_PIECE.findall(argument)):
            if len(piece) >= SHORTEST_TELLING:
                yield piece, f"[argument {n}]"
    for secret in known:
        text = secret.reveal()
        for part in {text, *text.splitlines()}:
            data = part.encode("utf-8", "surrogatepass")
            yield part, secret.alias
            yield quote(data, safe=""), secret.alias
            yield json.dumps(part)[1:-1], secret.alias
            yield data.hex(), secret.alias
            yield base64.b64encode(data).decode().rstrip("="), secret.alias


def _clean(text: str) -> str:
    return "".join(c for c in _ESCAPE.sub("", text) if not has_control(c))


def _runs(text: str) -> set[str]:
    return {text[n : n + _SHARED] for n in range(len(text) - _SHARED + 1)}
