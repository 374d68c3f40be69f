"""The leak audit: canaries of every kind of source go through every feature, then all is searched.

Each test plays one part against one proxy, and looks at what is left of it at its end.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from .audit import WRITINGS, canary, search
from .audit_proxy import BY_ENV, EVERY, SOME, Audit, Web
from .audit_sources import KINDS, TOKEN
from .audit_upstreams import ECHOES, ONLY_HTTP2
from .test_commands import run
from .test_hostile import run_set
from .world import World

STREAMED = {"stream_large_bodies": "1", "store_streamed_bodies": "true"}

_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


@pytest.mark.parametrize(
    ("options", "kinds"), [({}, EVERY), (STREAMED, EVERY[:1])], ids=["whole", "streamed"]
)
def test_what_upstreams_echo(world: World, options: dict[str, str], kinds: tuple[str, ...]) -> None:
    with Audit(world, BY_ENV | options) as a:
        a.echo()
        a.echo([*ECHOES, *ONLY_HTTP2], kinds)
        a.echo(["the last one"], EVERY)
        a.fail_over()
        assert a.search(a.left()) == []


def test_what_is_no_http(world: World) -> None:
    with Audit(world, BY_ENV) as a:
        a.echo(SOME, EVERY)
        a.break_off()
        for kind in EVERY:
            a.open_socket(kind)
        a.vanish()
        a.refuse()
        assert a.search(a.left()) == []


def test_debugging(world: World) -> None:
    """proxy_debug quotes every byte, and the loggers of hpack and h2 every field."""
    token = world.folder / "token"
    token.write_text(TOKEN + "\n")
    with Audit(world, {"rotate_client_token": f"@{token}", "proxy_debug": "true"}) as a:
        assert run(a.proxy, "test.debug")[0] == 200
        a.echo(["a body"], KINDS)
        a.echo(["header values", "events"], EVERY)
        a.break_off(["plain"], ["secret"])
        a.open_socket("secret")
        a.vanish()
        a.refuse()
        artefacts = a.left()
        assert b"Decoded (b'authorization'" in artefacts["the log"]
        assert b"<< Send(RequestHeaders(" in artefacts["the log"]
        # As HTTP/2 packs it (RFC 7541, 5.2), and Python quotes that.
        packed = _huffman.encode(f"Bearer {canary('secret')}".encode())
        assert repr(packed)[2:-1].encode() not in artefacts["the log"]
        assert a.search(artefacts) == []


def test_mitmweb(world: World, free_port: int) -> None:
    """Before, while and after a request is in flight, and intercepted; what is exported then."""
    args = ["--no-web-open-browser", "--web-port", str(free_port)]
    with Audit(world, BY_ENV, args, "mitmweb") as a:
        exports, options = world.folder / "exports", world.folder / "options.yaml"
        a.echo(SOME, EVERY)
        a.open_socket("secret")
        with Web(a) as web, ThreadPoolExecutor(1) as threads:
            request = threads.submit(a.get, "secret", "held")
            assert a.arrived.wait(20)
            shown = {"in flight": web.see()}
            a.leave.set()
            request.result()
            for stage in ("~q", "~s"):
                told = len(web.updates)
                run_set(a.proxy, f"intercept={stage} & ~u erro[r]")
                request = threads.submit(a.get, "secret", "an error page")
                web.wait_for(b'"intercepted": true', told)
                shown[f"intercepted at {stage}"] = web.see()
                run(a.proxy, "flow.resume @all")
                request.result()
            assert run(a.proxy, f"test.exports {exports}")[0] == 200
            assert run(a.proxy, f"options.save {options}")[0] == 200
            shown["afterwards"] = web.see()
            shown |= {"exports": exports.read_bytes()}
            artefacts = a.left(**shown)
        artefacts |= {"updates": b"\n".join(web.updates), "options": options.read_bytes()}
        assert b"[rotate:secret/c]" in artefacts["updates"]
        assert a.search(artefacts) == []


def test_objects_in_memory(world: World) -> None:
    """As they show themselves, in a log, a debugger or a traceback."""
    with Audit(world, BY_ENV) as a:
        a.echo()
        objects = world.folder / "objects"
        assert run(a.proxy, f"test.objects {objects}")[0] == 200
        shown = objects.read_bytes()
        for kind in (b"Secret", b"Forms", b"Pool", b"Passage", b"Minter", b"Rotator", b"Settings"):
            assert b"\n" + kind + b" " in shown
        assert a.search({"objects": shown}) == []


@pytest.mark.parametrize("writing", WRITINGS)
def test_the_search_finds_each_writing(writing: str) -> None:
    text = canary("x")
    written = b"before " + WRITINGS[writing](text).encode() + b" behind"
    assert ("it", "x", writing) in search({"it": written, "other": b"[rotate:x/c]"}, {"x": text})
