"""Which request paths belong to a pool, however a server may read them. Pure.

A pattern is an automaton: matching follows all its states at once, overlap is a product of two.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

LONGEST_PATTERN = 256  # keeps the work of `paths_overlap` small

_ANY, _SEGMENT = "**", "*"
_MOST_DECODINGS = 3
_TRICKY = re.compile(r"[^\x21-\x7e]|[%\\#;]|//|/\.")
# Some servers cut a segment at the semicolon before they look for dots: `/v1/..;/admin`.
_UP = re.compile(r"/\.\.(/|;|$)")
_EMPTY = re.compile(r"/(/|;)")
"""A segment of nothing, or of parameters alone, which some servers drop."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]|[/\\]\.{1,2};")


@dataclass(frozen=True, slots=True)
class PathRule:
    """`*` is any run within a segment, `**` any run, and `/v1/**` covers `/v1` as well."""

    text: str

    def matches(self, path: str) -> bool:
        """Whether a request path belongs to the rule, however the server may read that path."""
        readings = _readings(path.partition("?")[0])
        forms = _forms(self.text)
        return bool(readings) and all(any(f.accepts(r) for f in forms) for r in readings)


def parse_path(text: str) -> PathRule:
    """One line of `paths`. Raises ValueError with the mend, also for what could never match."""
    if not text.startswith("/"):
        raise ValueError("a path starts with /")
    if len(text) > LONGEST_PATTERN:
        raise ValueError(f"too long: write at most {LONGEST_PATTERN} characters, * for the rest")
    if "?" in text or "#" in text:
        raise ValueError("a path is compared without its query: leave out all from the ? or # on")
    if not re.fullmatch(r"[\x21-\x7e]+", text) or "%" in text or "\\" in text:
        raise ValueError("write visible ASCII without % and \\, and * for what cannot be written")
    if re.search(r"//|/\.{1,2}(/|$)", text):
        raise ValueError("would never match: leave out empty segments, . and ..")
    return PathRule(text)


def paths_overlap(a: PathRule, b: PathRule) -> bool:
    """Whether some text fits both patterns. Exact."""
    return any(_meet(x.tokens, y.tokens) for x in _forms(a.text) for y in _forms(b.text))


class _Form(NamedTuple):
    """A pattern as tokens, and what comes after its first star as a machine whose states are bits.

    Bit n of a state is set while the text so far may have been read by the first n tokens of the
    tail. All ways are followed at once, so that no text takes more than one step per character.
    """

    tokens: tuple[str, ...]
    head: str
    literals: dict[str, int]
    any_runs: int
    segment_runs: int
    end: int

    def accepts(self, text: str) -> bool:
        if not text.startswith(self.head):
            return False
        if self.end == 1 << 1 and self.any_runs:  # nothing but `**` after the head
            return True
        live = self._closed(1)
        for character in text[len(self.head) :]:
            stay = self.any_runs if character == "/" else self.any_runs | self.segment_runs
            live = self._closed((live & self.literals.get(character, 0)) << 1 | live & stay)
            if not live:
                return False
        return bool(live & self.end)

    def _closed(self, live: int) -> int:
        # A run may be empty. Once is enough: no two stars stand side by side.
        return live | (live & (self.any_runs | self.segment_runs)) << 1


@cache
def _forms(pattern: str) -> tuple[_Form, ...]:
    patterns = [pattern]
    if pattern.endswith("/**") and pattern != "/**":
        patterns.append(pattern.removesuffix("/**"))
    return tuple(_form(p) for p in patterns)


def _form(pattern: str) -> _Form:
    tokens = tuple(_ANY if len(t) > 1 else t for t in re.findall(r"\*+|[^*]", pattern))
    head = pattern.partition("*")[0]
    masks: dict[str, int] = {}
    tail = tokens[len(head) :]
    for n, token in enumerate(tail):
        masks[token] = masks.get(token, 0) | 1 << n
    any_runs, segment_runs = masks.pop(_ANY, 0), masks.pop(_SEGMENT, 0)
    return _Form(tokens, head, masks, any_runs, segment_runs, 1 << len(tail))


def _meet(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether the product of two patterns' automata reaches its end."""
    seen: set[tuple[int, int]] = set()
    todo = [(0, 0)]
    while todo:
        pair = todo.pop()
        if pair == (len(a), len(b)):
            return True
        if pair not in seen:
            seen.add(pair)
            todo.extend(_steps(a, b, *pair))
    return False


def _steps(a: tuple[str, ...], b: tuple[str, ...], i: int, j: int) -> Iterator[tuple[int, int]]:
    x, y = a[i : i + 1], b[j : j + 1]
    stars = (_ANY,), (_SEGMENT,)
    if x in stars:
        yield i + 1, j
    if y in stars:
        yield i, j + 1
    if x and x == y and x not in stars:
        yield i + 1, j + 1
    elif x in stars and y and y not in stars and (x == (_ANY,) or y != ("/",)):
        yield i, j + 1
    elif y in stars and x and x not in stars and (y == (_ANY,) or x != ("/",)):
        yield i + 1, j


def _readings(path: str) -> set[str]:
    """Every path that a server may take this one for; empty when no honest client sends it.

    Servers differ in how often they decode, and in whether they merge slashes and turn
    backslashes before they resolve dots: `/v1/../x//../v1/y` is two different paths.
    """
    if not path.startswith("/") or "#" in path:
        return set()
    if not _TRICKY.search(path):
        return {path}
    try:
        decodings = _decodings(path)
    except ValueError:
        return set()
    if any(_UNSAFE.search(text) for text in decodings):
        return set()
    slashed = {s for text in decodings for s in (text, text.replace("\\", "/"))}
    if any(_UP.search(s) and _EMPTY.search(s) for s in slashed):
        return set()  # what `..` leaves then depends on who drops the empty one, and when
    return {path} | {_resolved(p) for s in slashed for p in (s, re.sub("/+", "/", s))}


def _decodings(path: str) -> list[str]:
    """The path, and what each percent-decoding makes of it until nothing changes any more."""
    stages = [path.encode("utf-8", "surrogateescape")]
    for _ in range(_MOST_DECODINGS):
        decoded = unquote_to_bytes(stages[-1])
        if decoded == stages[-1]:
            return [stage.decode() for stage in stages]
        stages.append(decoded)
    raise ValueError("encoded too often")


def _resolved(path: str) -> str:
    """Without dot segments (RFC 3986, 5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
