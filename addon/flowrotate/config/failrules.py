"""What a status says of a credential: a pool's `fail`, and the option `rotate_fail`. Pure."""

import re
from collections.abc import Iterable

from flowrotate.verdict import FailRules

ACTIONS = ("disable", "cooldown", "ignore")
LOWEST, HIGHEST = 400, 599

_STATUS = re.compile(r"([0-9]{3})(?:-([0-9]{3}))?")


def parse_fail_rules(items: Iterable[tuple[object, object]]) -> tuple[FailRules, tuple[str, ...]]:
    """(status or range, action) pairs -> rules by status, and the mistakes, by entry from 1."""
    read: dict[int, tuple[int, int, str]] = {}
    mistakes = []
    for number, (status, action) in enumerate(items, 1):
        try:
            rule = _rule(status, action)
            _check_apart(rule, read)
            read[number] = rule
        except ValueError as e:
            mistakes.append(f"entry {number}: {e}")
    return tuple(sorted(read.values())), tuple(mistakes)


def parse_fail_option(text: str) -> FailRules:
    """`401=disable,500-599=cooldown` -> rules. Raises ValueError naming each bad entry."""
    if not text.strip():
        return ()
    pairs = (piece.partition("=") for piece in text.split(","))
    rules, mistakes = parse_fail_rules(
        (status.strip(), action.strip()) for status, _, action in pairs
    )
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return rules


def _rule(status: object, action: object) -> tuple[int, int, str]:
    match = _STATUS.fullmatch(str(status))
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not LOWEST <= low <= high <= HIGHEST:
        raise ValueError("write a status from 400 to 599, or a range such as 500-599")
    if not isinstance(action, str) or action not in ACTIONS:
        raise ValueError("write disable, cooldown or ignore as the action")
    return low, high, action


def _check_apart(rule: tuple[int, int, str], read: dict[int, tuple[int, int, str]]) -> None:
    for number, (low, high, _) in read.items():
        if rule[0] <= high and low <= rule[1]:
            raise ValueError(f"overlaps with entry {number}: write each status once")
