"""What a failed command said: told when it helps, and never with a secret."""

import base64

import pytest

from flowrotate.secret import Secret
from flowrotate.sources.lastwords import explain, shell_hint

C = "sk-canary-5f2a"
KEY = "-----BEGIN KEY-----\nMHcCAQcanary\nwords of canary\n-----END KEY-----\n"
KNOWN = [
    Secret(C, "[rotate:p/a]"),
    Secret(KEY, "[rotate:p/pem]"),
    Secret("q7z", "[rotate:p/short]"),
    Secret("", "[rotate:p/none]"),
    Secret("tab\tcanary", "[rotate:p/tab]"),
    Secret('q"uo\\te1', "[rotate:p/quoted]"),
]
COMMAND = (
    "sh",
    "-c",
    "curl -H 'X-Key: canary-argument-1' op://canary/item",
    "--vault=canary-vault",
)
HUNTER = Secret("hunter", "[rotate:p/hunter]")
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
        (rb'{"pw":"q\"uo\\te1"}', '{"pw":"[rotate:p/quoted]"}'),
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


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("item", "no item here"),
        ("get-password", "no get-password here"),
        ("abcdefghijkl", "no abcdefghijkl here"),
        # Longer, or with anything else in it.
        ("abcdefghijklm", "no [argument 1] here"),
        ("item1", "no [argument 1] here"),
        ("Item", "no [argument 1] here"),
        # A secret of the file, or with one in it.
        ("hunter", "no [rotate:p/hunter] here"),
        ("my-hunter", "no [argument 1] here"),
    ],
)
def test_plain_words_among_the_arguments_are_told(argument: str, said: str) -> None:
    told = explain(1, f"no {argument} here".encode(), ("tool", argument), [HUNTER])
    assert told == f"ended with status 1, and said: {said}"


@pytest.mark.parametrize(
    ("command", "hinted"),
    [
        ("echo hi | cat", True),
        ("echo hi|cat", True),
        ("echo $(cat f)", True),
        ("echo `cat f`", True),
        ("true; echo hi", True),
        ("cd x && cat f", True),
        ("cat < f", True),
        ("cat f 2>/dev/null", True),
        ("cat $HOME/x", True),
        ("cat ${HOME}/x", True),
        ('cat "$HOME/x"', True),
        ("~/bin/foo", True),
        ("cat ~/key", True),
        ("FOO=bar cat f", True),
        ("cat 'a' | head -n 1", True),
        ("it\\'s | cat", True),
        ("op read op://dev/openai/key", False),
        ("sh -c 'cat f | head -n 1'", False),
        ('sh -c "cat ~/f; FOO=bar x > y"', False),
        ("awk '{print $NF}' f", False),
        ('say "it\'s" "a|b"', False),
        ('say "\\"|"', False),
        ("say a\\|b \\$HOME \\~/x", False),
        ("curl https://a.example/~me?a=1&b=2", False),
        ("tool --key=value name=value costs $5", False),
    ],
)
def test_what_was_meant_for_a_shell(command: str, hinted: bool) -> None:
    hint = "; there is no shell here: write sh -c '…'"
    assert shell_hint(command) == (hint if hinted else "")


def test_a_signal() -> None:
    assert explain(-9, b"oh", (), []) == "was ended by signal 9, and said: oh"
