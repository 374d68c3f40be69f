"""What an end-to-end test needs: an upstream, a secrets file, a real mitmproxy, real clients."""

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mitmproxy.certs import CertStore

from flowrotate.demo.certs import Authority
from flowrotate.demo.evidence import forms_of
from flowrotate.demo.message import App
from flowrotate.demo.proxy import SCRIPT, Proxy, clean_environment
from flowrotate.demo.upstream import Request, ThreadedUpstream, json_reply


def ok(_: Request) -> Any:
    return json_reply({"ok": True})


def secret(id: str) -> str:
    """A canary: nothing else looks like it."""
    return f"sk-canary-{id}-7f3a9c"


def pool(hosts: Sequence[str], ids: Sequence[str] = ("a", "b", "c"), **keys: Any) -> dict[str, Any]:
    credentials = [{"id": id, "secret": secret(id)} for id in ids]
    return {"name": "pool", "hosts": list(hosts), "credentials": credentials, **keys}


class World:
    """Starts things in one folder, and ends them all."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.authority = authority
        self._stack = ExitStack()
        self._proxies = 0

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def upstream(
        self, app: App = ok, *, tls: bool = True, leaf: Path | None = None, **options: Any
    ) -> ThreadedUpstream:
        leaf = (leaf or self.authority.leaf) if tls else None
        return self._stack.enter_context(ThreadedUpstream(app, leaf=leaf, **options))

    def secrets(self, *pools: Mapping[str, Any], name: str = "secrets.json") -> Path:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(json.dumps({"pools": pools}))
        return file

    def proxy(
        self,
        *pools: Mapping[str, Any],
        options: Mapping[str, str | Sequence[str]] | None = None,
        trust: Path | None = None,
        **more: Any,
    ) -> Proxy:
        """A proxy that runs until the world's end; with pools, a secrets file for them."""
        return self._stack.enter_context(
            self.make_proxy(*pools, options=options, trust=trust, **more)
        )

    def make_proxy(
        self,
        *pools: Mapping[str, Any],
        options: Mapping[str, str | Sequence[str]] | None = None,
        trust: Path | None = None,
        own_ca: bool = False,
        **more: Any,
    ) -> Proxy:
        """With `own_ca` its CA is no other proxy's."""
        self._proxies += 1
        folder = self.folder / f"proxy-{self._proxies}"
        if not own_ca:
            shutil.copytree(made_once(self.authority), folder)
        chosen: dict[str, str | Sequence[str]] = dict(options or {})
        if pools:
            chosen["rotate_secrets"] = str(self.secrets(*pools, name=f"{folder.name}.json"))
        return Proxy(folder, trust=trust or self.authority.ca, options=chosen, **more)

    def copied_addon(self) -> Path:
        """The script in a copy of `addon/`, for tests that change it."""
        copy = self.folder / "project" / "addon"
        shutil.copytree(SCRIPT.parent, copy, ignore=shutil.ignore_patterns("*.egg-info"))
        return copy / SCRIPT.name

    def client(self, proxy: Proxy, *, http2: bool = False, **options: Any) -> httpx.Client:
        """An httpx client that goes through the proxy and trusts its CA."""
        return self._stack.enter_context(client(proxy, http2=http2, **options))

    def curl(self) -> Callable[..., str]:
        """curl, or a skipped test where it is not installed. Raises when curl fails."""
        program = shutil.which("curl") or pytest.skip("curl is not installed")

        def run(*args: str) -> str:
            command = [program, "--silent", "--show-error", "--max-time", "20", *args]
            return subprocess.run(
                command, env=clean_environment(), check=True, capture_output=True, text=True
            ).stdout

        return run


def made_once(authority: Authority) -> Path:
    """A folder with a CA as mitmproxy makes it, which costs each proxy a key otherwise."""
    folder = authority.ca.parent / "mitmproxy"
    if not folder.exists():
        CertStore.create_store(folder, "mitmproxy", 2048)
    return folder


class OnlyHttp2(ssl.SSLContext):
    """httpx prefers HTTP/1.1, and so would mitmproxy before it has met the upstream."""

    def set_alpn_protocols(self, _: Iterable[str]) -> None:
        super().set_alpn_protocols(["h2"])


def trusting(ca: Path, *, http2: bool = False) -> ssl.SSLContext:
    context = (OnlyHttp2 if http2 else ssl.SSLContext)(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=str(ca))
    # mitmproxy's leaf certificates have no authority key identifier, which 3.13 asks for.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    return context


@contextmanager
def tunnel(proxy: Proxy, authority: str, alpn: Sequence[str] = ()) -> Iterator[ssl.SSLSocket]:
    """TLS through the proxy, for clients that write their own bytes."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as raw:
        raw.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        assert b" 200 " in raw.recv(4096)
        context = trusting(proxy.ca)
        context.set_alpn_protocols(list(alpn))
        with context.wrap_socket(raw, server_hostname=authority.split(":")[0]) as tls:
            yield tls


def client(proxy: Proxy, *, http2: bool = False, **options: Any) -> httpx.Client:
    context = trusting(proxy.ca, http2=http2)
    transport = httpx.HTTPTransport(
        verify=context, http2=http2, http1=not http2, proxy=httpx.Proxy(proxy.url)
    )
    options.setdefault("timeout", 20)
    return httpx.Client(transport=transport, trust_env=False, **options)


def bearers(requests: Sequence[Request]) -> list[str]:
    """The id of the credential that each request carried; "?" for what is no canary."""
    ids = []
    for request in requests:
        given = request.header("authorization") or ""
        id = given.removeprefix("Bearer sk-canary-").removesuffix("-7f3a9c")
        ids.append(id if given == f"Bearer {secret(id)}" else "?")
    return ids


def forms(text: bytes, ids: Sequence[str] = ("a", "b", "c")) -> list[str]:
    """The canaries that can be found in some bytes, in any of their forms."""
    return [id for id in ids for form in forms_of(secret(id)) if form in text]
