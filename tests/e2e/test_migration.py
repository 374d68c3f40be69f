"""The commands of docs/migration.md, run as they are written, before a stand-in for the service.

Only what belongs to the test is put in their place: the port, the secrets file, and which address
`flow.ciandt.com` has.
"""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import jwt
import pytest

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Request, ThreadedUpstream

from .world import World

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "migration.md").read_text()
HOST = "flow.ciandt.com"
LISTENING = "127.0.0.1:8899"

CLIENTS = [
    {
        "name": name,
        "clientId": f"client-{name}",
        "clientSecret": f"canary-{name}-0123456789abcdef0123456789abcdef",
        "tenant": "acme",
    }
    for name in ("first", "second")
]
OLDER_FILE = [CLIENTS[0] | {"agent": "chat", "appToAccess": "llm-api"}, CLIENTS[1]]

BODY = {
    "model": "m",
    "context_management": {"edits": [{"type": "clear", "trigger": {"type": "t", "value": 3}}]},
    "messages": [{"role": "user", "content": 'Say "context_management": {}, and no more.'}],
}

DIAL = f"""
import asyncio
dial = asyncio.open_connection
async def open_connection(host, port, **rest):
    assert (host, port) == ("{HOST}", 443)
    return await dial("127.0.0.1", %d, **rest)
asyncio.open_connection = open_connection
"""


def commands(program: str) -> list[list[str]]:
    """The commands of the page that begin with a word, split as a shell does it."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    split = [shlex.split(block.replace("\\\n", " ")) for block in blocks]
    return [words for words in split if words[0] == program]


REVERSE, FORWARD = commands("mitmdump")
IN_REVERSE, IN_FORWARD = (command[1:] for command in commands("curl"))
(FILTER,) = commands("--modify-headers")


def start(
    world: World, command: Sequence[str], more: Sequence[str] = ()
) -> tuple[Proxy, ThreadedUpstream, Path]:
    """The proxy that a command of the page starts, the service behind it, and its capture."""
    upstream = world.upstream(leaf=world.authority.issue([HOST]))
    secrets = world.folder / "secrets.json"
    secrets.touch(mode=0o600)
    secrets.write_text(json.dumps(OLDER_FILE))
    dial = world.folder / "dial.py"
    dial.write_text(DIAL % upstream.port)
    capture = world.folder / "flows.mitm"
    given = dict(zip(command[1::2], command[2::2], strict=True))
    assert given.pop("-s") == "addon/flow_rotate.py"
    assert given.pop("--set") == "rotate_secrets=secrets.json"
    assert f"{given.pop('--listen-host')}:{given.pop('--listen-port')}" == LISTENING
    mode = given.pop("--mode", "regular")
    args = [word for pair in given.items() for word in pair]
    proxy = world.proxy(
        options={"rotate_secrets": str(secrets)},
        mode=mode,
        scripts=[SCRIPT, dial],
        args=[*args, *more, "-w", str(capture)],
    )
    return proxy, upstream, capture


def check_token(request: Request, client: dict[str, str]) -> None:
    """The service knows it: signed with the client's secret, and says these three things."""
    (given,) = request.all("authorization")
    token = given.removeprefix("Bearer ")
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    claims = jwt.decode(token, client["clientSecret"], algorithms=["HS256"])
    assert claims == {name: client[name] for name in ("clientId", "clientSecret", "tenant")}


@pytest.mark.parametrize(
    ("command", "client"),
    [(REVERSE, IN_REVERSE), (FORWARD, IN_FORWARD)],
    ids=["reverse", "forward"],
)
def test_the_commands(world: World, command: list[str], client: list[str]) -> None:
    curl = world.curl()
    proxy, upstream, capture = start(world, command)
    here = [word.replace(LISTENING, f"127.0.0.1:{proxy.port}") for word in client]
    for _ in range(4):
        assert json.loads(curl(*here, "--header", "Authorization: Bearer mine")) == {"ok": True}
    proxy.stop()
    requests = upstream.requests
    assert [r.target for r in requests] == ["/flow-llm-proxy/v1/models"] * 4
    assert [r.authority for r in requests] == [HOST] * 4
    for request, expected in zip(requests, CLIENTS * 2, strict=True):
        check_token(request, expected)
    tokens = [(r.header("authorization") or "").encode() for r in requests]
    seen = capture.read_bytes() + proxy.text.encode()
    assert b"[rotate:flow/first]" in seen
    assert b"[rotate:flow/second]" in seen
    assert not any(token.removeprefix(b"Bearer ") in seen for token in tokens)
    assert b"canary" not in seen


def test_a_path_that_has_the_base_already(world: World) -> None:
    curl = world.curl()
    proxy, upstream, _ = start(world, REVERSE)
    curl(f"{proxy.url}/flow-llm-proxy/v1/models", f"{proxy.url}/v1/a?b=/c")
    assert [r.target for r in upstream.requests] == [
        "/flow-llm-proxy/v1/models",
        "/flow-llm-proxy/v1/a?b=/c",
    ]


def without(body: bytes) -> dict[str, object]:
    return {key: value for key, value in json.loads(body).items() if key != "context_management"}


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_request_filter(world: World, spaced: bool, at: int) -> None:
    """Wherever the field stands among the others."""
    curl = world.curl()
    proxy, upstream, _ = start(world, REVERSE, FILTER)
    items = [item for item in BODY.items() if item[0] != "context_management"]
    items.insert(at, ("context_management", BODY["context_management"]))
    sent = json.dumps(dict(items), separators=None if spaced else (",", ":")).encode()
    headers = ["--header", "anthropic-version: 1", "--header", "anthropic-beta: context-1"]
    for path in ("/v1/messages?beta=true", "/v1/other"):
        answer = curl(*headers, "--data-binary", sent.decode(), f"{proxy.url}{path}")
        assert json.loads(answer) == {"ok": True}
    messages, other = upstream.requests
    assert json.loads(messages.body) == without(sent)
    assert messages.header("anthropic-beta") is None
    assert messages.header("anthropic-version") == "1"
    assert other.body == sent
    assert other.header("anthropic-beta") == "context-1"


def test_a_body_that_is_the_field_alone(world: World) -> None:
    curl = world.curl()
    proxy, upstream, _ = start(world, REVERSE, FILTER)
    curl("--data-binary", '{"context_management": {}}', f"{proxy.url}/v1/messages")
    assert upstream.requests[0].body == b"{}"
