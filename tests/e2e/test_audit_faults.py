"""The leak audit, where things fail: in the addon, at token endpoints, and in secrets files."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

import httpx

from flowrotate.demo.proxy import SCRIPT
from flowrotate.demo.upstream import Raw, Reply, Request

from .audit import canary, search, seen
from .audit_proxy import BY_ENV, INSPECTING, LOUD, SOME, Audit
from .audit_upstreams import BROKEN, JSON, TEXT, Given
from .test_commands import CONTROL, run
from .world import World, pool

# Functions that fail, by their module, and the kind of source that they are called for.
FAULTS: Sequence[tuple[str, str, str]] = (
    ("mint.minter", "ask", "oauth2"),
    ("mint.minter", "read_answer", "refresh"),
    ("mint.mints", "JwtMint.sign", "jwt"),
    ("rotator", "Pool.forms", "jwt"),
    ("rotator", "Rotator.note_sent", "secret"),
    ("passage", "decide", "secret"),
    *(("attempt", name, "secret") for name in ("pick", "show", "annotate", "seal")),
    *(("outcome", name, "secret") for name in ("learn", "judge", "expose", "must_read")),
    *(("scrub.scrubber", f"Scrubber.{name}", "own") for name in ("data", "fields", "body")),
    ("scrub.scrubber", "Lookout.add", "secret"),
    *(("scrub.stream", f"Stream.{name}", "basic") for name in ("feed", "end")),
    *(("wire.scrubbing", name, "query") for name in ("streamed", "scrub_whole", "_charset")),
    ("wire.scrubbing", "scrub_messages", "secret"),
    ("wire.messages", "_scrubbed", "secret"),
    ("wire.sealing", "verified_name", "secret"),
    ("logs", "scrubbed", "secret"),
    ("reload", "load", "secret"),
    ("reload", "describe", "secret"),
    ("rotator", "Rotator.swap", "secret"),
    ("sources.watch", "Watch.look", "secret"),
)
FAULT = canary("fault")

BREAKING = """
import functools, importlib, operator
broken = ""

def fail_at(module, name):
    owner = importlib.import_module("flowrotate." + module)
    *path, name = name.split(".")
    owner = operator.attrgetter(".".join(path))(owner) if path else owner
    whole = getattr(owner, name)
    @functools.wraps(whole)
    def failing(*args, **named):
        if broken == name:
            print(f"fault at {name}", flush=True)
            raise RuntimeError(FAULT, args) from ValueError(FAULT)
        return whole(*args, **named)
    setattr(owner, name, failing)

def running():
    for module, name, _ in FAULTS:
        fail_at(module, name)

def requestheaders(flow):
    global broken
    if flow.request.host != "control.test":
        broken = flow.request.path.partition("?")[0].split("/")[-1]
"""


def breaking(world: World, faults: Sequence[tuple[str, str, str]]) -> list[str]:
    """Arguments for a script that breaks the function that the end of a path names."""
    script = world.folder / "breaking.py"
    script.write_text(f"FAULT, FAULTS = {FAULT!r}, {faults!r}\n{BREAKING}")
    return ["-s", str(script)]


def test_faults_at_every_step(world: World) -> None:
    """A fault's message may hold anything, also what never went out."""
    with Audit(world, BY_ENV, breaking(world, FAULTS)) as a:
        a.echo(SOME, ["secret"])
        for _, name, kind in FAULTS:
            step = name.rpartition(".")[2]
            for http2 in (False, True):
                for echo in ("a body", "events", "header values"):
                    with suppress(httpx.RemoteProtocolError):
                        a.get(kind, f"{echo}/{step}", http2)
            a.open_socket("secret", step)
            run(a.proxy, "rotate.reload")
            a.proxy.wait_for(f"fault at {step}", 20)
        assert a.get("secret", "a body").status_code == 200
        artefacts = a.left()
        assert a.search(artefacts) == []
        assert search(artefacts, {"a fault": FAULT}) == []


def test_faults_before_anything_is_known(world: World) -> None:
    faults = [("passage", "enter", "secret"), ("passage", "admit", "secret")]
    with Audit(world, BY_ENV, breaking(world, faults)) as a:
        a.echo(SOME, ["secret"])
        for _, step, kind in (*faults, *faults):
            assert a.get(kind, f"a body/{step}").status_code in (200, 502)
        assert a.proxy.text.count("fault at ") >= 2
        artefacts = a.left()
        assert a.search(artefacts) == []
        assert search(artefacts, {"a fault": FAULT}) == []


ENDPOINTS: Mapping[str, Callable[[Given], Reply]] = {
    "refused": lambda g: Reply(400, [JSON], json.dumps({"error": g.wire, "x": g.secret}).encode()),
    "unauthorized": lambda g: Reply(401, [("www-authenticate", g.wire)], g.body),
    "moved": lambda g: Reply(302, [("location", f"/?{quote(g.secret)}")], g.body),
    "failing": lambda g: Reply(500, [TEXT], g.body),
    "no JSON": lambda g: Reply(200, [JSON], g.body),
    "a list": lambda g: Reply(200, [JSON], json.dumps(g.texts).encode()),
    "no token": lambda g: Reply(200, [JSON], json.dumps({"access_token": g.texts}).encode()),
    "two lines": lambda g: Reply(
        200, [JSON], json.dumps({"access_token": g.secret + "\n"}).encode()
    ),
    "blanks": lambda g: Reply(200, [JSON], json.dumps({"access_token": f"a {g.secret}"}).encode()),
    "endless": lambda g: Reply(200, [JSON], g.body * 2000),
    "an odd life": lambda g: Reply(
        200, [JSON], json.dumps({"access_token": canary("access"), "expires_in": g.secret}).encode()
    ),
}


def endpoint(request: Request) -> Reply | Raw:
    _, grant, name = map(unquote, request.target.split("/"))
    got = Given(canary(grant), (request.header("authorization") or "").removeprefix("Basic "))
    if name in ENDPOINTS:
        return ENDPOINTS[name](got)

    async def run(_: Any, writer: Any) -> None:
        writer.write(BROKEN[name].replace(b"{}", got.secret.encode()))

    return Raw(run)


def test_token_endpoints_that_fail(world: World) -> None:
    """They send back the client's secret, or the refresh token; or they are not there."""
    tokens, upstream = world.upstream(endpoint, tls=False), world.upstream()
    client = {"client_id": "id", "client_secret": canary("client")}
    grants = {
        "client": client,
        "renewal": {**client, "grant": "refresh_token", "refresh_token": canary("renewal")},
    }
    urls = {
        (grant, name): tokens.url(f"/{grant}/{quote(name)}", "127.0.0.1")
        for grant in grants
        for name in (*ENDPOINTS, *BROKEN)
    }
    urls["client", "no TLS"] = f"https://127.0.0.1:{tokens.port}/"
    urls["client", "down"] = "http://127.0.0.1:1/"
    specs = [
        {
            "name": f"pool-{n}",
            "hosts": [f"localhost:{upstream.port}"],
            "paths": [f"/{n}/**"],
            "credentials": [{"id": "c", "oauth2": {"token_url": url, **grants[grant]}}],
        }
        for n, ((grant, _), url) in enumerate(urls.items())
    ]
    capture = world.folder / "flows.mitm"
    proxy = world.proxy(
        *specs, options=LOUD, args=["-w", str(capture)], scripts=[SCRIPT, CONTROL, INSPECTING]
    )
    assert run(proxy, "test.debug")[0] == 200
    c = world.client(proxy)
    answers = {name: c.get(upstream.url(f"/{n}/")) for n, name in enumerate(urls)}
    assert [name for (_, name), a in answers.items() if a.status_code == 200] == ["an odd life"] * 2
    proxy.stop()
    log = proxy.text.encode()
    assert log.count(b"could not be minted") == len(urls) - 2
    artefacts = {
        "-w": seen(capture),
        "log": log,
        "got": b"".join(a.content for a in answers.values()),
    }
    secrets = {kind: canary(kind) for kind in (*grants, "access")}
    assert search(artefacts, secrets) == []


BAD = "sk-canary-bad-7f3a9c"
# By how the file's name ends; {} is BAD.
BAD_FILES: Sequence[tuple[str, str]] = (
    ("json", '{"pools": [{"secret": "{}"'),
    ("json", '{"{}": 1, "{}": 2}'),
    ("json", '{"pools": "{}"}'),
    ("json", '{"pools": ["{}"]}'),
    ("json", "{}"),
    ("json", '\xff{"pools": "{}"}'),
    ("json", '[{"clientId": "{}", "clientSecret": "{}", "tenant": ["{}"], "{}": 1}]'),
    ("yaml", "{}: [\n"),
    ("yaml", "{}: 1\n{}: 2\n"),
    ("yaml", "\t{}: 1\n"),
    ("yaml", "pools: *{}\n"),
    ("yaml", "pools: !{} x\n"),
    ("yaml", "pools: !!python/object:{} x\n"),
    ("yaml", "pools: '{}\n"),
    ("yaml", 'pools: "\\q{}"\n'),
    ("yaml", "pools: !!int {}\n"),
    ("yaml", "pools: {}: b\n"),
    ("yaml", "pools:\n- credentials:\n  - {}\n - b\n"),
    ("toml", "secret = {}\n"),
    ("toml", "{} = 1\n{} = 2\n"),
    ("toml", "[{}\n"),
    ("toml", 'a = "{}\\q"\n'),
    ("txt", "{}"),
)
BAD_CREDENTIALS: Sequence[Mapping[str, Any]] = (
    {"{}": "x"},
    {"id": "{}", "secret": "{}"},
    {"secret": "{}", "env": "{}"},
    {"secret": "{}\n"},
    {"secret": ["{}"]},
    {"secret": "{}", "weight": "{}", "rpm": "{}", "priority": "{}"},
    {"secret": "{}", "headers": {"a b": "{}"}},
    {"env": "{}"},
    {"env": "AUDIT_MISSING", "username": "{}:"},
    {"file": "{}"},
    {"keyring": "{}"},
    {"command": "{}"},
    {"command": "sh -c 'echo {} >&2; exit 1'"},
    {"command": "sh -c 'echo {}; exit 1'"},
    {"command": "sh -c 'echo {}; echo {}'"},
    {"command": "cat /nonexistent/{}"},
    {"command": "echo '{}"},
    {"jwt": {"algorithm": "{}", "key": "{}"}},
    {"jwt": {"algorithm": "RS256", "key": "{}", "claims": "{}", "ttl": "{}"}},
    {"jwt": {"algorithm": "HS256", "key": {"{}": "{}"}, "claims": {"a": 1.5}}},
    {"oauth2": {"token_url": "http://x/?{}", "client_id": "{}", "client_secret": "{}"}},
    {"oauth2": {"token_url": "https://u:{}@x/", "client_id": "{}", "client_secret": ["{}"]}},
    {"oauth2": {"token_url": "https://x/", "client_id": "{}", "grant": "{}", "scope": '{}"'}},
)


def test_secrets_files_that_are_wrong(world: World) -> None:
    proxy = world.proxy(pool(["localhost:1"]), options=LOUD, scripts=[SCRIPT, CONTROL])
    wrong = [
        ("json", json.dumps({"hosts": ["localhost:1"], "credentials": [credential]}))
        for credential in BAD_CREDENTIALS
    ]
    told = b""
    with httpx.Client(proxy=proxy.url, trust_env=False, timeout=20) as control:
        for n, (ends, text) in enumerate((*BAD_FILES, *wrong)):
            file = world.folder / f"wrong-{n}.{ends}"
            file.touch(mode=0o600)
            file.write_bytes(text.replace("{}", BAD).encode("latin-1"))
            answer = control.get(f"http://control.test/set?rotate_secrets={file}")
            assert answer.status_code == 400, text
            told += answer.content
    live = world.folder / "proxy-1.json"
    live.write_text('{"pools": "{}"}'.replace("{}", BAD))
    proxy.wait_for("not reloaded: the pools stay as they were", 20)
    proxy.stop()
    assert b"pools" in told
    assert search({"answers": told, "log": proxy.text.encode()}, {"bad": BAD}) == []
