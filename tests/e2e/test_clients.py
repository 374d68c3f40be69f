"""Tools as they are, that know nothing of the proxy but its address and its CA."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowrotate.demo.proxy import Proxy, clean_environment
from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream, json_reply

from .world import World, bearers, pool, secret


def completion(request: Request) -> Reply:
    if request.target.endswith("/messages"):
        return json_reply(
            {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "model": "demo",
                "content": [{"type": "text", "text": "Hello!"}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
        )
    message = {"role": "assistant", "content": "Hello!"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json_reply(
        {"id": "c", "object": "chat.completion", "created": 0, "model": "demo", "choices": [choice]}
    )


def surroundings(proxy: Proxy) -> dict[str, str]:
    """What the README tells people to set."""
    names = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"]
    return (
        clean_environment()
        | {"HTTPS_PROXY": proxy.url, "https_proxy": proxy.url, "NO_PROXY": "", "no_proxy": ""}
        | dict.fromkeys(names, str(proxy.ca))
    )


def python(code: str, env: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("sdk", ["openai", "anthropic", "httpx"])
def test_python_clients(world: World, sdk: str) -> None:
    pytest.importorskip(sdk)
    upstream = world.upstream(completion)
    inject = "x-api-key: {secret}" if sdk == "anthropic" else "Authorization: Bearer {secret}"
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], inject=inject))
    base = f"https://localhost:{upstream.port}"
    code = {
        "openai": f"""
import openai
c = openai.OpenAI(api_key="placeholder", base_url="{base}/v1", max_retries=0)
for _ in range(4):
    r = c.chat.completions.create(model="demo", messages=[dict(role="user", content="Hi")])
print(r.choices[0].message.content)""",
        "anthropic": f"""
import anthropic
c = anthropic.Anthropic(api_key="placeholder", base_url="{base}", max_retries=0)
for _ in range(4):
    r = c.messages.create(model="demo", max_tokens=9, messages=[dict(role="user", content="Hi")])
print(r.content[0].text)""",
        "httpx": f"""
import httpx
for _ in range(4):
    r = httpx.post("{base}/v1/chat", headers=dict(Authorization="Bearer placeholder"))
print(r.json()["choices"][0]["message"]["content"])""",
    }[sdk]
    assert python(code, surroundings(proxy)) == "Hello!"
    header = "x-api-key" if sdk == "anthropic" else "authorization"
    sent = [str(r.header(header)).removeprefix("Bearer ") for r in upstream.requests]
    assert sent == [secret(id) for id in "abca"]
    assert "placeholder" not in str(upstream.requests)


def test_curl(world: World) -> None:
    program = shutil.which("curl") or pytest.skip("curl is not installed")
    upstream = world.upstream(completion)
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]))
    urls = [f"https://localhost:{upstream.port}/v1/models"] * 4
    done = subprocess.run(
        [program, "-sSf", *urls, "-H", "Authorization: Bearer placeholder"],
        env=surroundings(proxy),
        capture_output=True,
        check=True,
    )
    assert done.stdout.count(b"Hello!") == 4
    assert bearers(upstream.requests) == list("abca")


def repository(folder: Path) -> Path:
    """A bare repository that any web server can serve (git's dumb protocol)."""
    work, bare = folder / "work", folder / "repo.git"
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.test"}
    env = os.environ | identity | {k.replace("AUTHOR", "COMMITTER"): v for k, v in identity.items()}
    for command in (
        ["git", "init", "-q", str(work)],
        ["git", "-C", str(work), "commit", "-q", "--allow-empty", "-m", "first"],
        ["git", "clone", "-q", "--bare", str(work), str(bare)],
        ["git", "-C", str(bare), "update-server-info"],
    ):
        subprocess.run(command, env=env, check=True)
    return bare


def test_git(world: World) -> None:
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    bare = repository(world.folder)

    def serve(request: Request) -> Reply:
        if not (request.header("authorization") or "").startswith("Basic dXNlcjpzay1jYW5hcnkt"):
            return Reply(401, [("WWW-Authenticate", 'Basic realm="git"')])
        file = bare / request.target.partition("?")[0].removeprefix("/repo.git/")
        return Reply(body=file.read_bytes()) if file.is_file() else Reply(404)

    upstream: ThreadedUpstream = world.upstream(serve)
    keys = {"inject": "Authorization: Basic {basic}", "username": "user"}
    proxy = world.proxy(pool([f"localhost:{upstream.port}"], **keys))
    done = subprocess.run(
        ["git", "clone", f"https://localhost:{upstream.port}/repo.git", str(world.folder / "c")],
        env=surroundings(proxy) | {"GIT_TERMINAL_PROMPT": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len({r.header("authorization") for r in upstream.requests}) == 3
