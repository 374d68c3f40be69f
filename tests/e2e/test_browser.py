"""G4 in a real browser: pages try every way they have to spend a credential through the proxy."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowrotate.demo.proxy import SCRIPT, Proxy
from flowrotate.demo.upstream import Reply, Request, ThreadedUpstream

from .chromium import chromium
from .test_web_port import REBIND
from .world import World, forms, pool

SECONDS = 60
NAMES = "api.example.test evil.here.test plain.here.test"
# What a page does to have `u` asked for.
ATTACKS = {
    "fetch": "fetch(u, {mode: 'no-cors'})",
    "fetch-post": "fetch(u, {method: 'POST', mode: 'no-cors', body: 'x'})",
    "fetch-cors": "fetch(u)",
    "fetch-cookies": "fetch(u, {credentials: 'include'})",
    "fetch-preflight": "fetch(u, {method: 'PUT', headers: {'X-Mine': '1'}})",
    "fetch-login": "fetch(u, {headers: {Authorization: 'Bearer mine'}})",
    "fetch-no-referrer": "fetch(u, {mode: 'no-cors', referrerPolicy: 'no-referrer'})",
    "post-no-referrer": "fetch(u, {method: 'POST', mode: 'no-cors', referrer: ''})",
    "fetch-unsafe-url": "fetch(u, {mode: 'no-cors', referrerPolicy: 'unsafe-url'})",
    "fetch-keepalive": "fetch(u, {mode: 'no-cors', keepalive: true})",
    "xhr": "const x = new XMLHttpRequest(); x.open('POST', u); x.withCredentials = true; x.send()",
    "beacon": "navigator.sendBeacon(u, 'x')",
    "img": "add('img', {src: u})",
    "img-no-referrer": "add('img', {referrerPolicy: 'no-referrer', src: u})",
    "script": "add('script', {src: u})",
    "module": "add('script', {type: 'module', src: u})",
    "stylesheet": "add('link', {rel: 'stylesheet', href: u})",
    "prefetch": "add('link', {rel: 'prefetch', href: u})",
    "preload": "add('link', {rel: 'preload', as: 'image', href: u})",
    "font": "new FontFace('f', `url(${u})`).load()",
    "object": "add('object', {data: u})",
    "iframe": "add('iframe', {src: u})",
    "iframe-no-referrer": "add('iframe', {referrerPolicy: 'no-referrer', src: u})",
    "sandbox": "sandbox(`fetch('${u}', {mode: 'no-cors'})`)",
    "sandbox-post": "sandbox(`fetch('${u}', {method: 'POST', mode: 'no-cors'})`)",
    "data-url": "add('iframe', {src: `data:text/html,<img src='${u}'>`})",
    "form": "submit(u, 'POST')",
    "form-get": "submit(u, 'GET')",
    "worker": "new Worker(URL.createObjectURL(new Blob([`fetch('${u}', {mode: 'no-cors'})`])))",
    "websocket": "new WebSocket(u.replace('http', 'ws'))",
    "eventsource": "new EventSource(u)",
    "ping": "add('a', {href: '#', ping: u}).click()",
    "redirect": "fetch('/redirect?' + u, {mode: 'no-cors'})",
    "redirect-post": "fetch('/redirect?' + u, {method: 'POST', mode: 'no-cors'})",
    "redirect-img": "add('img', {referrerPolicy: 'no-referrer', src: '/redirect?' + u})",
    "redirect-frame": "add('iframe', {src: '/redirect?' + u})",
}
PREFLIGHTS = ["fetch-preflight", "fetch-login"]
SERVICE_WORKER = {"service-worker": "navigator.serviceWorker.register('/worker.js?' + u)"}
TOP = {
    "top": "location = u",
    "top-form": "submit(u, 'POST', '_self')",
    "top-no-referrer": "add('a', {rel: 'noreferrer', href: u}).click()",
    "top-redirect": "location = '/redirect?' + u",
}
HELPERS = """
function add(name, attributes) {
  const made = Object.assign(document.createElement(name), attributes);
  return document.body.appendChild(made);
}
function sandbox(script) {
  const made = document.createElement('iframe');
  made.sandbox = 'allow-scripts';
  made.srcdoc = `<script>${script}<\\/script>`;
  document.body.appendChild(made);
}
function submit(u, method, target) {
  const name = target || add('iframe', {name: 'frame' + Math.random()}).name;
  add('form', {action: u, method, target: name}).submit();
}
"""


def page(attacks: Mapping[str, str], *targets: str, next: str = "") -> bytes:
    """A document that tries each attack on each target; `next` is said to a target by `willing`."""
    steps = "".join(
        f"try {{ const u = {json.dumps(f'{target}/{name}{next}')}; {attack} }}"
        f" catch (e) {{ console.log({json.dumps(name)}, e) }}\n"
        for target in targets
        for name, attack in attacks.items()
    )
    return f"<!doctype html><body><script>{HELPERS}{steps}</script>".encode()


@dataclass
class Evil:
    """Serves the pages, and what they need of their own origin."""

    pages: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, request: Request) -> Reply:
        path, _, query = request.target.partition("?")
        if path == "/redirect":
            return Reply(307, [("location", query)])
        if path == "/worker.js":
            script = f"fetch({json.dumps(query)}, {{mode: 'no-cors'}})"
            return Reply(200, [("content-type", "text/javascript")], script.encode())
        return Reply(200, [("content-type", "text/html")], self.pages.get(path, b""))


def willing(request: Request) -> Reply:
    """An upstream that lets every page do all it likes, and sends a browser on to `next`."""
    if next := request.target.partition("?next=")[2]:
        return Reply(303, [("location", next)])
    headers = [
        ("access-control-allow-origin", request.header("origin") or "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "PUT"),
        ("access-control-allow-headers", "authorization, x-mine"),
    ]
    return Reply(200, headers, b"")


def browser(proxy: Proxy, profile: Path, url: str) -> AbstractContextManager[None]:
    """A Chromium that trusts every certificate and lets pages do what they like."""
    options = (
        *("--disable-popup-blocking", "--ignore-certificate-errors"),
        *(f"--proxy-server={proxy.url}", "--proxy-bypass-list=<-loopback>"),
    )
    return chromium(profile, url, *options)


@dataclass
class Pooled:
    """An upstream of a pool, over https and over plain http."""

    tls: ThreadedUpstream
    plain: ThreadedUpstream

    @classmethod
    def start(cls, world: World) -> "Pooled":
        return cls(world.upstream(willing), world.upstream(willing, tls=False))

    @property
    def urls(self) -> tuple[str, str]:
        return self.tls.url(""), self.plain.url("", "plain.here.test")

    def pool(self, name: str, **keys: str) -> dict[str, Any]:
        tls, plain = self.urls
        return pool([tls.removeprefix("https://"), plain], name=name, **keys)


def visits(where: str, to: str, names: Iterable[str] = TOP) -> list[tuple[str, str, str]]:
    """From a page of one origin to a target, once in each way: page, way, URL."""
    return [(where, name, to) for name in names]


def chain(steps: Sequence[tuple[str, str, str]]) -> dict[str, bytes]:
    """The pages of visits: a navigation ends its page, so each leads to the next one's."""
    # Nor may the last one stay there: that site's own requests, for its icon, are no attack.
    pages = [f"{where}/{n}" for n, (where, _, _) in enumerate(steps)]
    after = [*pages[1:], f"{steps[-1][0]}/end"]
    return {
        f"/{n}": page({name: TOP[name]}, to, next=f"?next={next}")
        for n, ((_, name, to), next) in enumerate(zip(steps, after, strict=True))
    }


def tried(upstream: ThreadedUpstream) -> set[str]:
    return {request.target.partition("?")[0] for request in upstream.requests}


def got(upstream: ThreadedUpstream) -> set[str]:
    """What came with a secret, in whatever form."""
    return {r.target.partition("?")[0] for r in upstream.requests if forms(repr(r).encode())}


def paths(folder: str, names: Iterable[str]) -> set[str]:
    return {f"/{folder}/{name}" for name in names}


def test_g4_a_page_that_tries_everything(world: World) -> None:
    evil = Evil()
    evil_tls, evil_plain = world.upstream(evil), world.upstream(evil, tls=False)
    cross, site = evil_tls.url("", "api.example.test"), evil_tls.url("")
    other, local = evil_plain.url("", "evil.here.test"), evil_plain.url("")
    closed, opened = Pooled.start(world), Pooled.start(world)
    (tls, plain), (open_tls, open_plain) = closed.urls, opened.urls
    # On the way down to plain http, Chromium asks the user before it sends a form.
    down = [name for name in TOP if name != "top-form"]
    starts = [f"{cross}/cross", f"{site}/site", f"{other}/plain", f"{local}/worker", f"{cross}/0"]
    evil.pages |= {
        "/start": page({url: f"open('{url}')" for url in starts}, ""),
        "/cross": page(ATTACKS, f"{tls}/cross", f"{open_tls}/cross"),
        "/site": page(ATTACKS, f"{tls}/site"),
        "/plain": page(ATTACKS, f"{plain}/plain", f"{open_plain}/plain"),
        "/worker": page(SERVICE_WORKER, f"{tls}/worker"),
    } | chain(
        visits(cross, f"{tls}/top")
        + visits(cross, f"{open_tls}/top")
        + visits(other, f"{plain}/top")
        + visits(cross, f"{plain}/down", down)
    )
    everything = {
        closed.tls: paths("cross", ATTACKS) | paths("site", ATTACKS) | paths("top", TOP),
        closed.plain: paths("plain", ATTACKS) | paths("top", TOP) | paths("down", down),
        opened.tls: paths("cross", ATTACKS) | paths("top", TOP),
        opened.plain: paths("plain", ATTACKS),
    }
    everything[closed.tls] |= paths("worker", SERVICE_WORKER)
    proxy = world.proxy(
        closed.pool("closed"),
        opened.pool("opened", browsers="allow"),
        scripts=[SCRIPT, REBIND],
        env={"REBIND": NAMES},
    )
    with browser(proxy, world.folder / "profile", f"{local}/start"):
        end = time.monotonic() + SECONDS
        while missing := [all - tried(to) for to, all in everything.items() if all - tried(to)]:
            assert time.monotonic() < end, missing
            time.sleep(0.05)
    assert got(closed.tls) == got(closed.plain) == set()
    preflights = [r for r in closed.tls.requests + closed.plain.requests if r.method == "OPTIONS"]
    assert {r.target for r in preflights} >= paths("cross", PREFLIGHTS) | paths("plain", PREFLIGHTS)
    assert forms(repr(preflights).encode()) == []
    for pooled in (opened.tls, opened.plain):
        assert got(pooled) >= everything[pooled]
    # And a tool gets it, through the same proxy.
    for url in closed.urls:
        assert world.client(proxy).get(f"{url}/tool").status_code == 200
    assert "/tool" in got(closed.tls) & got(closed.plain)
