"""The variables that a shell gets: for whom, and what stays as it was."""

import json
from collections.abc import Mapping, Sequence

import pytest

from flowrotate.hosts import parse_host_rule
from flowrotate.machine.environment import (
    ADDING,
    BEFORE,
    EVERY,
    REPLACING,
    no_proxy,
    proxy_in,
    undone,
    variables,
    what_was,
)

URL = "http://127.0.0.1:8080"
CA = "/home/me/.mitmproxy/ca.pem"


def made(env: Mapping[str, str], hosts: Sequence[str] = ("api.example",)) -> dict[str, str]:
    rules = [parse_host_rule(host) for host in hosts]
    return variables(URL, env, rules, lambda source: f"bundle of {source or 'system'}", CA)


def test_the_proxy_in_both_cases() -> None:
    values = made({})
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        assert values[name] == URL
    assert values["NODE_USE_ENV_PROXY"] == "1"
    assert values.keys() == {*EVERY, BEFORE}


def test_whom_each_stack_trusts() -> None:
    values = made({})
    assert {values[name] for name in REPLACING} == {"bundle of system"}
    assert {values[name] for name in ADDING} == {CA}


def test_what_is_trusted_already_stays_trusted() -> None:
    own = {name: f"/own/{name}" for name in (*REPLACING, *ADDING)}
    values = made(own)
    assert {name: values[name] for name in own} == {n: f"bundle of /own/{n}" for n in own}


def test_a_file_for_openssl_is_for_the_others_too() -> None:
    values = made({"SSL_CERT_FILE": "/company.pem", "PIP_CERT": "/pip.pem"})
    assert values["CURL_CA_BUNDLE"] == values["SSL_CERT_FILE"] == "bundle of /company.pem"
    assert values["PIP_CERT"] == "bundle of /pip.pem"
    # Node.js does not read it.
    assert values["NODE_EXTRA_CA_CERTS"] == CA


@pytest.mark.parametrize("env", [{}, {"SSL_CERT_FILE": "/own.pem", "HTTPS_PROXY": "http://corp:1"}])
def test_twice_is_as_once(env: dict[str, str]) -> None:
    once = made(env)
    assert made({**env, **once}) == once
    assert what_was({**env, **once}) == what_was(env)


def test_it_is_taken_back() -> None:
    env = {"SSL_CERT_FILE": "/own.pem", "HTTPS_PROXY": "http://corp:1", "HOME": "/home/me"}
    now = {**env, **made(env)}
    back = undone(now)
    assert back.keys() == {*EVERY, BEFORE}
    left = {name: text for name, text in {**now, **back}.items() if text is not None}
    assert left == env


def test_nothing_is_taken_back_where_nothing_was_set() -> None:
    assert undone({"HTTPS_PROXY": "http://corp:1"}) == {}


@pytest.mark.parametrize(
    "pair",
    [7, "x", [], ["x"], ["x", 7], [7, URL], ["a\0b", URL], ["a\ud800", URL], ["a", URL, "c"]],
)
def test_a_broken_note_is_no_note(pair: object) -> None:
    env = {"HTTPS_PROXY": URL, BEFORE: json.dumps({"HTTPS_PROXY": pair, "PATH": ["x", "y"]})}
    was = what_was(env)
    assert was.keys() == set(EVERY)
    assert was["HTTPS_PROXY"] == URL
    assert json.loads(made(env)[BEFORE]).keys() == set(EVERY)


@pytest.mark.parametrize("text", ["", "x", "[]", "7", "[" * 100_000])
def test_what_is_no_note(text: str) -> None:
    assert what_was({"HTTPS_PROXY": URL, BEFORE: text})["HTTPS_PROXY"] == URL


def test_what_was_set_in_between_stays() -> None:
    """It is somebody's own: part of the next bundles, and not taken back."""
    once = made({"SSL_CERT_FILE": "/first.pem", "NO_PROXY": "a.corp"})
    between = {**once, "SSL_CERT_FILE": "/second.pem", "NO_PROXY": f"{once['NO_PROXY']},b.corp"}
    again = made(between)
    assert again["SSL_CERT_FILE"] == "bundle of /second.pem"
    assert again["NO_PROXY"].endswith(",a.corp,b.corp")
    assert undone({**between, **again})["SSL_CERT_FILE"] == "/second.pem"
    assert undone(between)["SSL_CERT_FILE"] == "/second.pem"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, ""),
        ({"HTTPS_PROXY": "http://me:canary@corp:3128/"}, "http://corp:3128"),
        ({"HTTPS_PROXY": "corp"}, "http://corp:80"),
        ({"https_proxy": "socks5h://corp", "HTTPS_PROXY": "x"}, "socks5h://corp:1080"),
        ({"HTTPS_PROXY": "http://[::1]:1"}, "http://[::1]:1"),
        ({"HTTPS_PROXY": "http://u:pw%40h"}, ""),
        ({"HTTPS_PROXY": "http://["}, ""),
    ],
)
def test_the_proxy_of_an_environment(env: dict[str, str], expected: str) -> None:
    assert proxy_in(env) == expected


@pytest.mark.parametrize(
    ("present", "hosts", "expected"),
    [
        ("", ["api.example"], "localhost,127.0.0.1,::1"),
        ("a.corp, 10.0.0.0/8", ["api.example"], "localhost,127.0.0.1,::1,a.corp,10.0.0.0/8"),
        ("localhost", ["api.example"], "localhost,127.0.0.1,::1"),
        ("", ["localhost:9443"], "127.0.0.1,::1"),
        ("", ["http://127.0.0.1:9080"], "localhost,::1"),
        ("", ["[::1]:8443"], "localhost,127.0.0.1"),
        ("api.example", ["api.example"], "localhost,127.0.0.1,::1"),
        ("API.Example", ["api.example"], "localhost,127.0.0.1,::1"),
        (".example", ["api.example"], "localhost,127.0.0.1,::1"),
        ("*.example", ["api.example"], "localhost,127.0.0.1,::1"),
        ("example", ["api.example"], "localhost,127.0.0.1,::1"),
        ("*", ["api.example"], "localhost,127.0.0.1,::1"),
        ("api.example:443", ["api.example"], "localhost,127.0.0.1,::1"),
        ("api.example:8443", ["api.example"], "localhost,127.0.0.1,::1,api.example:8443"),
        ("a.api.example", ["api.example"], "localhost,127.0.0.1,::1,a.api.example"),
        ("a.wild.example", ["*.wild.example"], "localhost,127.0.0.1,::1"),
        ("wild.example", ["*.wild.example"], "localhost,127.0.0.1,::1"),
        ("pi.example", ["api.example"], "localhost,127.0.0.1,::1,pi.example"),
        (" ,, ", ["api.example"], "localhost,127.0.0.1,::1"),
        ("a.corp api.example\tb.corp", ["api.example"], "localhost,127.0.0.1,::1,a.corp,b.corp"),
    ],
)  # fmt: skip
def test_what_goes_past_the_proxy(present: str, hosts: list[str], expected: str) -> None:
    assert no_proxy(present, [parse_host_rule(host) for host in hosts]) == expected


def test_lower_case_counts_first() -> None:
    values = made({"NO_PROXY": "upper.example", "no_proxy": "lower.example"})
    assert values["NO_PROXY"] == values["no_proxy"] == "localhost,127.0.0.1,::1,lower.example"
