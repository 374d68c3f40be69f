"""Path rules against the servers that read the path: every one must find it inside."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product

from hypothesis import event, example, given
from hypothesis import strategies as st

from flowrotate.paths import PathRule, parse_path, paths_overlap

from . import examples


def fits(pattern: str, path: str) -> bool:
    """What the stars mean, tried one by one."""
    if pattern.endswith("/**") and pattern != "/**" and run(pattern[:-3], path):
        return True
    return run(pattern, path)


def run(pattern: str, path: str) -> bool:
    if not pattern:
        return not path
    if not pattern.startswith("*"):
        return path[:1] == pattern[0] and run(pattern[1:], path[1:])
    rest = pattern.lstrip("*")
    longest = len(path) if pattern.startswith("**") else len(path.partition("/")[0])
    return any(run(rest, path[n:]) for n in range(longest + 1))


def decode(path: str) -> str:
    data = path.encode("utf-8", "surrogateescape")
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes.fromhex(m[1].decode()), data).decode()


def resolve(path: str) -> str:
    """Without `.` and `..`, one after the other from the left."""
    while found := re.search(r"/\.(/|$)|(^|/[^/]*)/\.\.(/|$)", path):
        path = path[: found.start()] + "/" + path[found.end() :]
    return path


def merge(path: str) -> str:
    return re.sub("/+", "/", path)


def turn(path: str) -> str:
    return path.replace("\\", "/")


def cut(path: str) -> str:
    """Without parameters (RFC 3986, 3.3), as Java's servers cut them off."""
    return re.sub(";[^/]*", "", path)


def keep(path: str) -> str:
    return path


Step = Callable[[str], str]
ONE_SERVER: list[tuple[Step, ...]] = [
    (*[decode] * times, turned, merged, resolved)
    for times, turned, merged, resolved in product(
        range(4), (keep, turn), (keep, merge), (keep, resolve)
    )
    # One that turns or merges and then leaves the dots alone reads no other folder.
    if resolved is resolve or (turned, merged) == (keep, keep)
]
MOST_READINGS = 32
"""A path that can be read in more ways may be refused."""
STEPS: tuple[Step, ...] = (decode, turn, merge, cut, resolve)


def readings_of_one(path: str) -> Iterator[str]:
    """What each server makes of a path that decodes it first, and resolves it last."""
    for steps in ONE_SERVER:
        read = path
        for step in steps:
            read = step(read)
        yield read


def readings_of_all(path: str) -> set[str]:
    """What any servers one behind the other make of a path, whatever each does."""
    found, todo = {path}, [path]
    while todo:
        read = todo.pop()
        new = {step(read) for step in STEPS} - found
        found |= new
        todo.extend(new)
    return found


def is_refused(path: str) -> bool:
    """Whether no honest client sends a path: it is in no pool, whatever the pattern."""
    stages = [path]
    try:
        while (decoded := decode(stages[-1])) != stages[-1]:
            stages.append(decoded)
        path.encode()
    except UnicodeError:
        return True
    odd = any(re.search(r"[\x00-\x1f\x7f]|[/\\]\.\.?;", stage) for stage in stages)
    slashed = {s for stage in stages for s in (stage, stage.replace("\\", "/"))}
    odd = odd or any(re.search(r"/\.\.(/|;|$)", s) and re.search("/(/|;)", s) for s in slashed)
    return odd or not path.startswith("/") or "#" in path or len(stages) > 3


PATTERNS = st.lists(st.sampled_from("/ab*"), max_size=7).map(
    lambda parts: re.sub("/+", "/", "/" + "".join(parts))
)
PLAIN = st.lists(st.sampled_from("//aab"), max_size=9).map(lambda parts: "/" + "".join(parts))
PIECES = [
    "a", "/", "//", ".", "..", "/..", "/../", "%2e", "%2E%2e/", "%252e", "%25252e", "%2525252e",
    "%2f", "%252f", "\\", "%5c", ";", "/;", "%3b", "%", "%00", "#", "ü", "%C3", "?/../",
]  # fmt: skip
# Most begin in the folder: a path that is elsewhere at once tells nothing.
TRICKY = st.builds(
    lambda start, parts: start + "".join(parts),
    st.sampled_from(["/a/", "/a/", "/a", "/", "/b", ""]),
    st.lists(st.sampled_from(PIECES), max_size=7),
)
FOLDERS = st.sampled_from(["/a/**", "/a/**", "/a/*", "/a/**/a", "/**/a", "/*/**", "/a*", "/**"])


@examples(300)
@given(PATTERNS, PLAIN)
def test_the_stars(pattern: str, path: str) -> None:
    expected = fits(pattern, path) and fits(pattern, merge(path))
    event(f"fits: {expected}")
    assert parse_path(pattern).matches(path) is expected
    assert parse_path(pattern).matches(path + "?/../b") is expected


@examples(400)
@given(FOLDERS, TRICKY)
@example("/a/**", "/a/%2e%2e/b")
@example("/a/**", "/a/../b%2f..%2fa")
@example("/a/**", "/a//../../a")
@example("/a/**", "/a/..\\b")
def test_what_matches_is_inside_for_every_server(pattern: str, path: str) -> None:
    matches = parse_path(pattern).matches(path)
    event(f"matches: {matches}")
    path = path.partition("?")[0]
    if matches:
        assert not is_refused(path)
        assert [read for read in readings_of_one(path) if not fits(pattern, read)] == []


@examples(300)
@given(FOLDERS, TRICKY)
@example("/a/**", "/a/;/../b")
@example("/a/**", "/a//../b/%2f../a")
def test_what_matches_is_inside_for_all_servers_in_a_row(pattern: str, path: str) -> None:
    if parse_path(pattern).matches(path):
        path = path.partition("?")[0]
        assert [read for read in readings_of_all(path) if not fits(pattern, read)] == []


@examples(400)
@given(FOLDERS, TRICKY)
def test_what_is_inside_for_everyone_matches(pattern: str, path: str) -> None:
    plain = path.partition("?")[0]
    readings = set() if is_refused(plain) else readings_of_all(plain)
    inside = bool(readings) and all(fits(pattern, read) for read in readings)
    event(f"inside: {inside}")
    if inside and len(readings) <= MOST_READINGS:
        assert parse_path(pattern).matches(path)


@examples(200)
@given(PATTERNS, PATTERNS, PLAIN)
def test_rules_with_a_path_in_common_overlap(a: str, b: str, path: str) -> None:
    common = fits(a, path) and fits(b, path)
    event(f"common: {common}")
    x, y = parse_path(a), parse_path(b)
    assert paths_overlap(x, y) is paths_overlap(y, x)
    if common:
        assert paths_overlap(x, y)


@examples(200)
@given(st.text("/ab.*%\\?#é \n\ud800", max_size=9), TRICKY)
def test_a_pattern_is_refused_or_can_be_used(text: str, path: str) -> None:
    try:
        rule = parse_path(text)
    except ValueError:
        return
    assert rule == PathRule(text)
    # What it is without its stars is in it, unless that makes an empty segment, `.` or `..`.
    bare = text.replace("*", "")
    if not re.search(r"//|/\.{1,2}(/|$)", bare):
        assert rule.matches(bare)
    rule.matches(path)


def test_hits_and_misses_are_both_common() -> None:
    seen: Counter[tuple[str, bool]] = Counter()

    @examples(300)
    @given(PATTERNS, PLAIN, FOLDERS, TRICKY)
    def count(pattern: str, plain: str, folder: str, tricky: str) -> None:
        seen["plain", parse_path(pattern).matches(plain)] += 1
        seen["tricky", parse_path(folder).matches(tricky)] += 1

    count()
    for kind in ("plain", "tricky"):
        hits, misses = seen[kind, True], seen[kind, False]
        assert min(hits, misses) > (hits + misses) // 20
