"""`flow-rotate doctor`: what may be wrong is found, with its mend; and no credential is spent."""

import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from flowrotate.demo.certs import make_authority
from flowrotate.demo.upstream import Reply, Request

from .developer import Developer, Served
from .world import World, bearers, forms, pool

Change = Callable[[World, Developer], list[str]]


class Clinic:
    """A machine on which all is well, until a test makes it otherwise."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.developer = Developer(world.folder, world.authority.ca)
        self.skew = timedelta()
        self.upstream = world.upstream(self.answer)
        self.pools = [pool([f"localhost:{self.upstream.port}"])]
        self.env: dict[str, str] = {}

    def answer(self, request: Request) -> Reply:
        date = format_datetime(datetime.now(UTC) + self.skew, usegmt=True)
        body = b"" if request.method == "HEAD" else b"{}"
        return Reply(200, [("date", date)], body)

    @property
    def secrets(self) -> Path:
        return self.world.secrets(*self.pools)

    def serve(self, *args: str) -> Served:
        trust = f"ssl_verify_upstream_trusted_ca={self.world.authority.ca}"
        return self.developer.serve("--secrets", str(self.secrets), "--set", trust, *args)

    def findings(self, *args: str, **more: str) -> tuple[int, list[dict[str, str]]]:
        ran = self.developer.run("doctor", "--json", *args, env={**self.env, **more})
        assert forms(f"{ran.stdout}{ran.stderr}".encode()) == []
        assert ran.stderr == ""
        return ran.returncode, json.loads(ran.stdout)["findings"]


@pytest.fixture
def clinic(world: World) -> Clinic:
    return Clinic(world)


def said(findings: list[dict[str, str]], check: str, level: str) -> str:
    """The only one of its kind."""
    (found,) = [f for f in findings if (f["check"], f["level"]) == (check, level)]
    assert level in ("ok", "note") or found["mend"]
    return f"{found['said']} → {found['mend']}"


def test_all_is_well(clinic: Clinic) -> None:
    with clinic.serve() as served:
        env = clinic.developer.json("env")
        status, findings = clinic.findings(**env)
        assert [f for f in findings if f["level"] == "failure"] == []
        assert status == 0
        shown = clinic.developer.run("doctor", env=env)
        assert shown.returncode == 0
        assert shown.stdout.rstrip().splitlines()[-1].startswith("failures 0, warnings ")
    assert f"runs at {served.url}, process {served.pid}" in said(findings, "proxy", "ok")
    assert "every source answers, pools pool (3)" in said(findings, "secrets", "ok")
    assert "its certificate is good" in said(findings, "hosts", "ok")
    assert "right to 1 s" in said(findings, "clock", "ok")
    assert "it answers 200" in said(findings, "through", "ok")
    assert f"tools go to {served.url}" in said(findings, "shell", "ok")
    assert "this shell's SSL_CERT_FILE, " in said(findings, "trust", "ok")
    # Who looked took no credential along, and none was judged.
    assert set(bearers(clinic.upstream.requests)) == {"?"}


def test_no_proxy_runs(clinic: Clinic) -> None:
    status, findings = clinic.findings("--proxy", "http://127.0.0.1:1")
    assert status == 1
    expected = "none runs at http://127.0.0.1:1 → flow-rotate serve"
    assert expected in said(findings, "proxy", "failure")
    assert "there is none → start the proxy once" in said(findings, "ca", "failure")
    assert "no secrets file" in said(findings, "secrets", "failure")


def test_somebody_else_has_the_port(clinic: Clinic) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        status, findings = clinic.findings("--proxy", url)
    assert status == 1
    assert f"something answers at {url} that is none of this user's" in said(
        findings, "proxy", "failure"
    )


def of(credential: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": "p", "hosts": ["a.example"], "credentials": [credential]}]


@pytest.mark.parametrize(
    ("pools", "check", "text"),
    [
        ([pool(["a.example"], [])], "secrets", "pools[0].credentials: "),
        (of({"env": "ABSENT"}), "secrets", "pools[0].credentials[0].env: "),
        (of({"command": "false"}), "secrets", "pools[0].credentials[0].command: "),
        ([pool(["nowhere.invalid"])], "hosts", "nowhere.invalid: it has no address"),
        ([pool(["localhost:1"])], "hosts", "localhost:1: connection refused"),
        ([pool(["http://localhost:1"])], "hosts", "http://localhost:1: connection refused"),
    ],
)
def test_files_and_hosts(clinic: Clinic, pools: list[Any], check: str, text: str) -> None:
    clinic.pools = pools
    status, findings = clinic.findings("--secrets", str(clinic.secrets))
    assert status == 1
    assert text in said(findings, check, "failure")


def test_a_certificate_that_is_not_verified(clinic: Clinic) -> None:
    foreign = make_authority(clinic.world.folder / "foreign", ["localhost"])
    upstream = clinic.world.upstream(leaf=foreign.leaf)
    clinic.pools = [pool([f"localhost:{upstream.port}"])]
    with clinic.serve():
        status, findings = clinic.findings()
        assert status == 1
        assert "certificate: self-signed certificate" in said(findings, "hosts", "failure")
        _, findings = clinic.findings("--trust", str(foreign.ca))
        assert said(findings, "hosts", "ok")
    assert upstream.requests == [] or bearers(upstream.requests) == ["?"] * len(upstream.requests)
    _, findings = clinic.findings("--trust", "/nowhere.pem", "--secrets", str(clinic.secrets))
    assert "/nowhere.pem: " in said(findings, "hosts", "failure")


@pytest.mark.parametrize(
    ("minutes", "level", "text"), [(-2, "warning", "120 s fast"), (10, "failure", "600 s slow")]
)
def test_the_clock(clinic: Clinic, minutes: int, level: str, text: str) -> None:
    clinic.skew = timedelta(minutes=minutes, seconds=0.5)
    with clinic.serve():
        status, findings = clinic.findings()
    assert status == (level == "failure")
    found = said(findings, "clock", level)
    seconds, sign = text.split(" s ")
    assert f" s {sign}" in found
    assert any(f" {int(seconds) + off} s" in found for off in (-1, 0, 1, 2))


def test_a_proxy_with_another_ca(clinic: Clinic) -> None:
    with clinic.serve(), clinic.serve("--confdir", str(clinic.developer.home / "other")) as other:
        confdir = str(clinic.developer.home / ".mitmproxy")
        status, findings = clinic.findings("--proxy", other.url, "--confdir", confdir)
    assert status == 1
    assert "the proxy has another CA than --confdir" in said(findings, "through", "failure")


def test_a_proxy_that_believes_others(clinic: Clinic) -> None:
    """The hosts are reached from here, and not by the proxy."""
    with clinic.developer.serve("--secrets", str(clinic.secrets)):
        status, findings = clinic.findings("--trust", str(clinic.world.authority.ca))
    assert status == 1
    assert said(findings, "hosts", "ok")
    assert "the proxy answers 502" in said(findings, "through", "failure")


def test_pools_that_serve_web_pages(clinic: Clinic) -> None:
    """Such a request would take a credential along, and an answer of 401 would disable it."""
    clinic.pools[0]["browsers"] = "allow"
    with clinic.serve():
        status, findings = clinic.findings()
    assert status == 0
    assert "in a pool with `browsers: allow`" in said(findings, "through", "note")
    assert bearers(clinic.upstream.requests) == ["?"]


def test_a_proxy_with_other_secrets(clinic: Clinic) -> None:
    """Its pool gives a page a credential; the file that is looked at does not say so."""
    other = clinic.world.secrets(*clinic.pools, name="other.json")
    clinic.pools = [pool([f"localhost:{clinic.upstream.port}"], browsers="allow")]
    with clinic.serve() as served:
        trust = ("--trust", str(clinic.world.authority.ca))
        _, findings = clinic.findings("--proxy", served.url, "--secrets", str(other), *trust)
    assert "which pools this proxy has is not known" in said(findings, "through", "note")
    assert bearers(clinic.upstream.requests) == ["?"]


def test_a_ca_that_config_yaml_names(clinic: Clinic) -> None:
    """No proxy runs, which would say it itself."""
    confdir = clinic.developer.home / ".mitmproxy"
    confdir.mkdir()
    secrets = str(clinic.secrets)
    assert said(clinic.findings("--secrets", secrets)[1], "hosts", "failure")
    option = f"ssl_verify_upstream_trusted_ca: '{clinic.world.authority.ca}'"
    (confdir / "config.yaml").write_text(f"mode: [regular]\n{option}\n")
    assert said(clinic.findings("--secrets", secrets)[1], "hosts", "ok")


@pytest.mark.skipif(os.name != "posix", reason="named pipes of POSIX")
def test_files_that_never_end(clinic: Clinic) -> None:
    pipe = clinic.developer.home / "pipe"
    os.mkfifo(pipe)
    secrets = ("--secrets", str(clinic.secrets))
    with clinic.serve():
        named = {"PIP_CERT": str(pipe), "CARGO_HTTP_CAINFO": "/dev/zero"}
        _, findings = clinic.findings("--trust", str(pipe), *secrets, **named)
    assert f"{pipe}: this is no regular file" in said(findings, "hosts", "failure")
    assert "PIP_CERT, CARGO_HTTP_CAINFO" in str([f for f in findings if f["check"] == "trust"])
    _, findings = clinic.findings("--trust", "/dev/zero", *secrets)
    assert "/dev/zero: this is no regular file" in said(findings, "hosts", "failure")
    confdir = clinic.developer.home / "elsewhere"
    confdir.mkdir()
    os.mkfifo(confdir / "mitmproxy-ca-cert.pem")
    os.mkfifo(confdir / "config.yaml")
    none = {"SSL_CERT_FILE": "", "NODE_EXTRA_CA_CERTS": ""}  # they are compared with the CA
    _, findings = clinic.findings("--confdir", str(confdir), *secrets, **none)
    assert "no certificate that can be read" in said(findings, "ca", "failure")


def test_a_file_that_others_may_write(clinic: Clinic) -> None:
    secrets = clinic.secrets
    secrets.chmod(0o620)
    _, findings = clinic.findings("--secrets", str(secrets))
    assert f"chmod go-w {secrets}" in said(findings, "secrets", "warning")


def test_a_shell_that_goes_elsewhere(clinic: Clinic) -> None:
    with clinic.serve() as served:
        _, findings = clinic.findings(
            HTTPS_PROXY="http://me:canary-pw@corp:1", NO_PROXY="localhost"
        )
        found = [f["said"] for f in findings if f["check"] == "shell"]
    assert found[0].startswith(
        f"not this proxy ({served.url}): HTTP_PROXY=unset, HTTPS_PROXY=http://corp:1"
    )
    assert "localhost" in found[1]
    assert "goes past the proxy" in found[1]
    assert "canary-pw" not in str(findings)


def test_wildcards_are_not_tried(clinic: Clinic) -> None:
    clinic.pools = [pool(["*.wild.example", "any.example:*"])]
    _, findings = clinic.findings("--secrets", str(clinic.secrets))
    assert "no host of one name and port" in said(findings, "hosts", "note")
    assert "no host has answered with a date" in said(findings, "clock", "note")


def test_the_desktop(clinic: Clinic) -> None:
    """By KDE's file, which needs no desktop that runs."""
    file = clinic.developer.home / ".config" / "kioslaverc"
    file.parent.mkdir()
    file.write_text("[Other]\n")
    clinic.env["XDG_CURRENT_DESKTOP"] = "KDE"
    with clinic.serve() as served:
        assert "system is off" in said(clinic.findings()[1], "desktop", "note")
        on = clinic.developer.run("system", "on", env=clinic.env)
        assert on.returncode == 0, on
        assert f"browsers use {served.url}" in said(clinic.findings()[1], "desktop", "ok")
        with clinic.serve() as other:
            _, findings = clinic.findings("--proxy", other.url)
            assert f"another proxy, {served.url}" in said(findings, "desktop", "warning")
        file.write_text(file.read_text().replace("ProxyType=2", "ProxyType=0"))
        assert ": it is 0 now" in said(clinic.findings()[1], "desktop", "warning")
    assert clinic.developer.run("system", "off", env=clinic.env).returncode == 0
    assert "system is off" in said(clinic.findings()[1], "desktop", "note")
