"""For the leak audit: a pool for every kind of source that a secret may come from."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flowrotate.demo.upstream import Request

from .audit import MINE, canary
from .audit_upstreams import given
from .oauth_server import CLIENT_ID, CLIENT_SECRET, OAuthServer

SOURCES = ("secret", "env", "file", "command", "keyring", "headers", "basic", "query", "own")
MINTED = ("jwt", "oauth2", "refresh")
KINDS = (*SOURCES, *MINTED)
FAILING = tuple(canary(f"failing-{id}") for id in "abc")
TOKEN = canary("token")
"""What clients have to present."""

PLACED: dict[str, dict[str, Any]] = {
    "basic": {"inject": "Authorization: Basic {basic}", "username": "user"},
    "query": {"inject": "?key={secret}"},
    "own": {"inject": "X-Own-Key: {secret}"},
}


def pools(folder: Path, server: OAuthServer, hosts: Sequence[str]) -> list[dict[str, Any]]:
    """They share the hosts, each has paths of its own; one has several that fail."""
    failing = {
        "name": "failing",
        "hosts": list(hosts),
        "paths": ["/failing/**"],
        "strategy": "fill-first",
        "cooldown": 1,
        "hold": 20,
        "credentials": [
            {"id": id, "secret": text} for id, text in zip("abc", FAILING, strict=True)
        ],
    }
    return [
        failing,
        *(
            {
                "name": kind,
                "hosts": list(hosts),
                "paths": [f"/{kind}/**"],
                "credentials": [{"id": "c", **_source(folder, server, kind)}],
                **PLACED.get(kind, {}),
            }
            for kind in KINDS
        ),
    ]


def _source(folder: Path, server: OAuthServer, kind: str) -> dict[str, Any]:
    text, file = canary(kind), folder / f"{kind}.txt"
    file.touch(mode=0o600)
    file.write_text(server.refresh_token() if kind == "refresh" else text)
    client = {"token_url": server.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    match kind:
        case "env":
            return {"env": "AUDIT_KEY"}
        case "file":
            return {"file": str(file)}
        case "command":
            return {"command": f"cat {file}"}
        case "keyring":
            return {"keyring": f"{file}/user"}
        case "headers":
            return {"secret": text, "headers": {"X-Organization": "org-1"}}
        case "jwt":
            # As the older plugin's are: the key is in its own claims.
            claims = {"clientSecret": text, "tenant": "t"}
            return {"jwt": {"algorithm": "HS256", "key": text, "claims": claims, "ttl": 600}}
        case "oauth2":
            return {"oauth2": client}
        case "refresh":
            token = {"grant": "refresh_token", "refresh_token": {"file": str(file)}}
            return {"oauth2": client | token}
    return {"secret": text}


def surroundings(folder: Path) -> dict[str, str]:
    """The environment: sources, a keyring whose services are files, folders of its own."""
    keyring = folder / "lib" / "audit_keyring.py"
    keyring.parent.mkdir()
    keyring.write_text(
        "from pathlib import Path\n"
        "from keyring.backend import KeyringBackend\n"
        "class Keyring(KeyringBackend):\n"
        "    priority = 1\n"
        "    def get_password(self, service, username):\n"
        "        return Path(service).read_text()\n"
        "    def set_password(self, service, username, password):\n"
        "        raise NotImplementedError\n"
    )
    scratch = folder / "scratch"
    scratch.mkdir()
    return {
        "PYTHONPATH": str(keyring.parent),
        "PYTHON_KEYRING_BACKEND": "audit_keyring.Keyring",
        "AUDIT_KEY": canary("env"),
        "AUDIT_TOKEN": TOKEN,
        "TMPDIR": str(scratch),
        "HOME": str(scratch),
    }


def canaries(folder: Path, server: OAuthServer, requests: Iterable[Request]) -> dict[str, str]:
    """All that must be nowhere, by name; with the tokens that were minted meanwhile."""
    minted = [r for r in requests if r.target.split("/")[1] in MINTED]
    tokens = {given(dict(r.headers), r.target).secret for r in minted}
    refresh = {form["refresh_token"] for form in server.forms if "refresh_token" in form}
    refresh.add((folder / "refresh.txt").read_text().strip())
    return {
        **{kind: canary(kind) for kind in (*SOURCES, "jwt")},
        **{f"failing {n}": text for n, text in enumerate(FAILING)},
        **{f"token {n}": text for n, text in enumerate(tokens)},
        **{f"refresh token {n}": text for n, text in enumerate(refresh)},
        "client_secret": CLIENT_SECRET,
        "the client token": TOKEN,
        "the client's own": MINE,
    }
