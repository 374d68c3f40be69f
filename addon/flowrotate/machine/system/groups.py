"""KDE's settings files: one key set, every other byte left as it is. Pure.

Where a file has a key twice, KConfig reads the last one.
"""

import re

GROUP = "Proxy Settings"


def get_key(text: str, key: str) -> str | None:
    lines = _lines(text)
    found = _find(lines, key)
    return lines[found].partition("=")[2].strip() if found is not None else None


def set_key(text: str, key: str, value: str | None) -> str:
    """With the key set, or gone (None). A group that is not there is made at the end."""
    lines = _lines(text)
    end = "\r\n" if "\r\n" in text else "\n"
    found = _find(lines, key)
    if value is None:
        return text if found is None else "".join(lines[:found] + lines[found + 1 :])
    line = f"{key}={value}{end}"
    if found is not None:
        # The key may be marked, as `ProxyType[$e]`: it stays so.
        lines[found] = re.sub(r"=[^\r\n]*", lambda _: f"={value}", lines[found], count=1)
        return "".join(lines)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    head = next((n for n, one in enumerate(lines) if _name(one) == GROUP), None)
    if head is None:
        return "".join([*lines, f"[{GROUP}]{end}", line])
    return "".join([*lines[: head + 1], line, *lines[head + 1 :]])


def same_settings(one: str, other: str) -> bool:
    """Whether they differ in no more than blank lines and groups without a key."""
    return _bare(one) == _bare(other)


def _find(lines: list[str], key: str) -> int | None:
    group, found = "", None
    for n, line in enumerate(lines):
        name = _name(line)
        if name is not None:
            group = name
        elif group == GROUP and _key(line) == key:
            found = n
    return found


def _bare(text: str) -> list[str]:
    lines = [line.strip() for line in _lines(text) if line.strip()]
    pairs = zip(lines, [*lines[1:], "[]"], strict=False)
    return [line for line, next in pairs if not (_is_head(line) and _is_head(next))]


def _is_head(line: str) -> bool:
    return _name(line) is not None


def _name(line: str) -> str | None:
    line = line.strip()
    return line[1:-1] if line.startswith("[") and line.endswith("]") else None


def _key(line: str) -> str | None:
    name, equals, _ = line.partition("=")
    return name.partition("[$")[0].strip() if equals else None


def _lines(text: str) -> list[str]:
    """With their ends. A line ends nowhere else: `splitlines` knows many more."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)
