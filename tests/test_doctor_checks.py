"""The doctor's checks of files, versions, shells and languages: what each says, and how loudly."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flowrotate.demo.certs import make_authority
from flowrotate.hosts import parse_host_rule
from flowrotate.machine.commands import Said, run
from flowrotate.machine.doctor import certificates, stacks, upstreams, versions
from flowrotate.machine.doctor.finding import EVAL, Finding
from flowrotate.machine.doctor.shell import UNREADABLE, shell, shown

URL = "http://127.0.0.1:8080"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


def levels(findings: Any) -> list[tuple[str, str]]:
    found: list[Finding] = list(findings)
    return [(f.level, f.said) for f in found]


def test_the_cas_key(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, ["localhost"])
    key = tmp_path / certificates.KEY_NAME
    key.touch(mode=0o600)
    now = datetime.now(UTC)
    assert [f.level for f in certificates.authority(authority.ca, now)] == ["warning"]  # 30 days
    assert [f.level for f in certificates.authority(authority.ca, now - timedelta(hours=5))] == [
        "ok"
    ]
    late = certificates.authority(authority.ca, now + timedelta(days=31))
    early = certificates.authority(authority.ca, now - timedelta(days=31))
    assert [f.level for f in (*late, *early)] == ["failure", "failure"]
    key.chmod(0o640)
    *_, last = certificates.authority(authority.ca, now)
    assert last.level == "failure"
    assert last.mend.startswith(f"chmod 600 {key}")
    authority.ca.write_text("x")
    assert [f.level for f in certificates.authority(authority.ca, now)] == ["failure"]


def test_who_trusts_it(tmp_path: Path) -> None:
    ca = make_authority(tmp_path, ["localhost"]).ca
    other = str(tmp_path / "other.pem")
    Path(other).write_text("x")

    def found(env: dict[str, str], system: bytes = b"", *stores: str) -> list[tuple[str, str]]:
        return levels(certificates.trust(ca, env, lambda: system, stores))

    assert found({"PIP_CERT": str(ca)}) == [("ok", "the CA is trusted in this shell's PIP_CERT")]
    assert found({}, b"x" + ca.read_bytes()) == [("ok", "the CA is trusted in the system's store")]
    assert found({}, b"", "nss") == [("ok", "the CA is trusted in nss")]
    assert found({"PIP_CERT": str(ca), "SSL_CERT_FILE": other})[1] == (
        "warning",
        "without the CA: the file that this shell's SSL_CERT_FILE names",
    )
    assert found({"SSL_CERT_FILE": "/absent", "PIP_CERT": other})[1] == (
        "note",
        "without the CA: the files that this shell's SSL_CERT_FILE, PIP_CERT name",
    )


@pytest.mark.parametrize(
    ("env", "level"),
    [({}, "note"), ({"https_proxy": URL}, "warning"), ({"HTTP_PROXY": URL}, "warning")],
)
def test_nobody_trusts_it(tmp_path: Path, env: dict[str, str], level: str) -> None:
    """It matters to those whose requests go through the proxy."""
    ca = make_authority(tmp_path, ["localhost"]).ca
    assert [f.level for f in certificates.trust(ca, env, bytes, [])] == [level]


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    ca = make_authority(tmp_path, ["localhost"]).ca
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(b"\n" * certificates.LARGEST + ca.read_bytes())
    (found, _) = certificates.trust(ca, {"PIP_CERT": str(bundle)}, bytes, [])
    assert found.level == "note"


@pytest.mark.parametrize(
    ("mitmproxy", "python", "expected"),
    [
        ("12.3.1", (3, 13, 0), ["ok"]),
        ("11.1.2", (3, 11, 7), ["ok"]),
        ("11.0.2", (3, 11, 7), ["warning"]),
        ("11.0.1", (3, 11, 7), ["failure"]),
        ("13.0.0", (3, 13, 0), ["failure"]),
        ("", (3, 13, 0), ["failure"]),
        ("12.3.1", (3, 10, 0), ["failure", "ok"]),
        ("12.3.1", (3, 14, 0), ["failure", "ok"]),
    ],
)
def test_versions(mitmproxy: str, python: tuple[int, ...], expected: list[str]) -> None:
    assert [f.level for f in versions.versions(mitmproxy, python)] == expected


def test_versions_of_this_machine() -> None:
    (found,) = versions.versions(versions.installed())
    assert found.level in ("ok", "warning")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"config.yaml": "ssl_verify_upstream_trusted_ca: /a.pem"}, "/a.pem"),
        ({"config.yml": "ssl_verify_upstream_trusted_ca: /b.pem"}, "/b.pem"),
        (
            {
                "config.yaml": "ssl_verify_upstream_trusted_ca: /a.pem",
                "config.yml": "ssl_verify_upstream_trusted_ca: /b.pem",
            },
            "/b.pem",
        ),
        ({"config.yaml": "mode: [regular]"}, None),
        ({"config.yaml": ""}, None),
        ({"config.yaml": "- a"}, None),
        ({"config.yaml": "{"}, None),
        ({"config.yaml": "ssl_verify_upstream_trusted_ca: [1]"}, None),
    ],
)
def test_the_option_of_a_folder(
    tmp_path: Path, files: dict[str, str], expected: str | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert upstreams.configured(tmp_path) == (Path(expected) if expected else None)


def what(program: str, says: str = "") -> list[Finding]:
    """As on a machine that has one program: both are fakes, of its folders and of the program."""

    def which(name: str) -> str | None:
        return f"/usr/bin/{name}" if name == program else None

    def fake_run(command: Sequence[str]) -> Said:
        assert list(command) == [f"/usr/bin/{program}", "--version"]
        return Said(0, says)

    return list(stacks.stacks(URL, "/my home/ca.pem", which, fake_run))


def test_java() -> None:
    (found,) = what("java")
    assert "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8080" in found.mend
    assert "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=8080" in found.mend
    assert "-file '/my home/ca.pem'; " in found.mend


@pytest.mark.parametrize("program", ["go", "dotnet"])
def test_go_and_dotnet(program: str) -> None:
    (found,) = what(program)
    assert found.mend == "macOS, Windows: flow-rotate system on"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v24.0.0\n", "Node.js v24.0.0 reads HTTPS_PROXY"),
        ("v22.21.0\n", "Node.js v22.21.0 reads HTTPS_PROXY"),
        ("v25.1.0-nightly\n", "Node.js v25.1.0-nightly reads HTTPS_PROXY"),
        ("v22.20.9\n", "Node.js v22.20.9 reads no proxy variables"),
        ("v23.11.0\n", "Node.js v23.11.0 reads no proxy variables"),
        ("v20.20.2\n", "Node.js v20.20.2 reads no proxy variables"),
        ("no such thing", "Node.js reads HTTPS_PROXY from 22.21 and 24.0 on"),
    ],
)
def test_node(version: str, expected: str) -> None:
    (found,) = what("node", version)
    assert found.said.startswith(expected)
    assert ("EnvHttpProxyAgent" in found.mend) == ("reads HTTPS_PROXY, with" not in found.said)


@pytest.mark.parametrize(
    ("says", "count"),
    [("GNU Wget\n\n+psl +ssl/gnutls\n", 1), ("GNU Wget\n\n+psl +ssl/openssl\n", 0), ("", 0)],
)
def test_wget(says: str, count: int) -> None:
    found = what("wget", says)
    assert len(found) == count
    assert all("--ca-certificate=" in f.mend for f in found)


@pytest.mark.skipif(not shutil.which("wget"), reason="wget is not installed")
def test_this_machines_wget() -> None:
    said = run(["wget", "--version"]).text
    found = stacks.stacks(URL, "/ca.pem", lambda name: name if name == "wget" else None)
    assert len(list(found)) == ("gnutls" in said)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", "unset"),
        ("http://corp:1", "http://corp:1"),
        ("corp:1", "http://corp:1"),
        ("http://[::1]:1/", "http://[::1]:1"),
        ("https://corp", "https://corp"),
        ("socks5h://u:hunter2@h:1", "socks5h://h:1"),
        ("http://u:hun@hunter2@h:1", "http://h:1"),
        ("http://h:1/?k=hunter2", "http://h:1"),
        ("http://h:1/hunter2#hunter2", "http://h:1"),
        ("http://h:1?k=hunter2", "http://h:1"),
        ("u:hunter2%40h", UNREADABLE),
        ("http://u:hunter2%40h:1", UNREADABLE),
        ("http://u%3Ahunter2%40h:1", UNREADABLE),
        ("http://hunter2@", UNREADABLE),
        ("hunter2@h,x:hunter2", UNREADABLE),
        ("http://[hunter2", UNREADABLE),
        ("hunter2://h:1", UNREADABLE),
        ("http://\x1bhunter2:1", UNREADABLE),
    ],
)
def test_no_login_is_shown(written: str, expected: str) -> None:
    assert shown(written) == expected


def test_a_shell_without_a_proxy() -> None:
    rules = [parse_host_rule("api.example")]
    assert [f.level for f in shell({}, URL, rules)] == ["note"]
    both = dict.fromkeys(NAMES, "127.0.0.1:8080")
    assert [f.level for f in shell(both, URL, rules)] == ["ok"]


@pytest.mark.parametrize(
    ("proxy", "next_proxy", "expected"),
    [
        ("http://127.0.0.1:3128", "", EVAL),
        ("http://localhost:3128", "", EVAL),
        ("http://u:pw%40h", "", EVAL),
        ("http://u:pw@corp:3128", "", "--mode upstream:http://corp:3128, then"),
        ("https://10.0.0.1:3128", "", "--mode upstream:https://10.0.0.1:3128, then"),
        ("socks5://corp:1080", "", "go past socks5://corp:1080"),
        ("http://corp:3128", "http://corp:3128", EVAL),
    ],
)
def test_a_shell_with_the_companys_proxy(proxy: str, next_proxy: str, expected: str) -> None:
    """It may be the only way out: the line alone would take it away."""
    (found,) = shell(dict.fromkeys(NAMES, proxy), URL, [], next_proxy)
    assert found.level == "warning"
    assert found.mend == EVAL if expected == EVAL else expected in found.mend
    assert "pw" not in f"{found.said}{found.mend}"
