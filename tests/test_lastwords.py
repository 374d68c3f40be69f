"""What a failed command said: told when it helps, and never with a secret."""

import base64

import pytest

from flowrotate.secret import Secret
from flowrotate.sources.lastwords import explain

C = "sk-canary-5f2a"
KEY = "-----BEGIN KEY-----\nMHcCAQcanary\nwords of canary\n-----END KEY-----\n"
KNOWN = [
    Secret(C, "[rotate:p/a]"),
    Secret(KEY, "[rotate:p/pem]"),
    Secret("q7z", "[rotate:p/short]"),
    Secret("", "[rotate:p/none]"),
    Secret("tab\tcanary", "[rotate:p/tab]"),
]
COMMAND = (
    "sh",
    "-c",
    "curl -H 'X-Key: canary-argument-1' op://canary/item",
    "--vault=canary-vault",
)
NOT_SHOWN = "; what it said is not shown, it may hold a secret: run it by hand"


@pytest.mark.parametrize(
    ("err", "said"),
    [
        (b"", None),
        (b" \n\n", None),
        (b"pass: not initialized", "pass: not initialized"),
        (b"first\nlast \n \n", "last"),
        (b"old\rnew\r\n", "new"),
        ("geht nicht: ü".encode(), "geht nicht: ü"),
        (b"\xff", "\ufffd"),
        (b"\x1b[1;31merror\x1b[0m: \x07no\x00 way\x7f", "error: no way"),
        (b"a " * 150, "a " * 100),
        # Secrets of the file, as they are and as programs write them.
        (f"bad key {C}, {C}".encode(), "bad key [rotate:p/a], [rotate:p/a]"),
        (b"bad key sk-\x1b[1mcanary-\x005f2a", "bad key [rotate:p/a]"),
        (f"bad key {C.encode().hex()}".encode(), "bad key [rotate:p/a]"),
        (b"bad key " + base64.b64encode(C.encode()), "bad key [rotate:p/a]="),
        (b"bad key tab%09canary", "bad key [rotate:p/tab]"),
        (b"bad key tabcanary", "bad key [rotate:p/tab]"),
        (b"bad line: words of canary", "bad line: [rotate:p/pem]"),
        (f"{'ab ' * 65}{C}".encode(), ("ab " * 65 + "[rotate:p/a]")[:200]),
        # A part of one, or one that any word may hold.
        (b"bad key sk-canary-5f2", ...),
        (b"bad key canary-5...", ...),
        (b"of can, fq7zx", ...),
        # What only looks like one.
        (b"got eyJhbGciOiJIUzI1NiJ9 back", "got […] back"),
        (b"no item x7k2m9q4w1z8", "no item […]"),
        (b"no such item in the directory", "no such item in the directory"),
        (b"status 401 at 2026-01-01", "status 401 at 2026-01-01"),
        # An argument may be a secret that was written in the wrong place.
        (b"no op://canary/item here", "no [argument 2] here"),
        (b"Bad header canary-argument-1.", "Bad header [argument 2]."),
        (b"unknown --vault=canary-vault", "unknown [argument 3]"),
        (b"no vault canary-vault", "no vault [argument 3]"),
        (COMMAND[2].encode(), "[argument 2]"),
        # The beginning of the line is lost.
        (b"canary " * 1000, ...),
        (b"x\n" + b"a " * 5000, "a " * 100),
    ],
)
def test_the_last_line(err: bytes, said: object) -> None:
    told = explain(3, err, COMMAND, KNOWN)
    assert "canary" not in told
    if said is None:
        assert told == "ended with status 3 and said nothing: run it by hand"
    elif said is ...:
        assert told == "ended with status 3" + NOT_SHOWN
    else:
        assert told == f"ended with status 3, and said: {said}"


def test_a_signal() -> None:
    assert explain(-9, b"oh", (), []) == "was ended by signal 9, and said: oh"
