"""Bytes in, bytes out: where the credential goes, and what of the client's must go."""

import pytest

from flowrotate.config.pools import parse
from flowrotate.placement import Fields, Placement, credentials_in

HOST = (b"Host", b"api.example.test")
ACCEPT = (b"Accept", b"*/*")


def placement(pool: str = "") -> Placement:
    text = f"{{hosts: [api.example.test], credentials: [sk-canary], {pool}}}"
    config = parse(text.encode(), "secrets.yaml")
    assert not config.problems
    return Placement.of(config.pools[0])


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ((HOST, ACCEPT), (HOST, ACCEPT, (b"Authorization", b"NEW"))),
        ((HOST, (b"authorization", b"x"), ACCEPT), (HOST, (b"Authorization", b"NEW"), ACCEPT)),
        (
            ((b"AUTHORIZATION", b"x"), (b"Authorization", b"y"), HOST),
            ((b"Authorization", b"NEW"), HOST),
        ),
        (
            (
                (b"x-api-key", b"x"),
                (b"API-KEY", b"x"),
                (b"X-Goog-Api-Key", b"x"),
                HOST,
            ),
            (HOST, (b"Authorization", b"NEW")),
        ),
        (((b"X-Api-Keys", b"kept"),), ((b"X-Api-Keys", b"kept"), (b"Authorization", b"NEW"))),
    ],
)
def test_header(sent: Fields, expected: Fields) -> None:
    assert placement().put(sent, b"/v1", (b"Authorization", b"NEW")) == (expected, b"/v1")


def test_a_pools_own_header_and_strip_list() -> None:
    made = placement("inject: 'x-api-key: {secret}', strip: [X-Mine, '?token']")
    fields = ((b"X-API-Key", b"x"), (b"x-mine", b"x"), (b"Authorization", b"kept"))
    put, target = made.put(fields, b"/v1?a=1&token=x&b=2&tok%65n=y", (b"x-api-key", b"NEW"))
    assert put == ((b"x-api-key", b"NEW"), (b"Authorization", b"kept"))
    assert target == b"/v1?a=1&b=2"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/v1", b"/v1?key=NEW"),
        (b"/v1?", b"/v1?key=NEW"),
        (b"/v1?a=1", b"/v1?a=1&key=NEW"),
        (b"/v1?key=x", b"/v1?key=NEW"),
        (b"/v1?key=x&a=%20&key=y&KEY=z", b"/v1?a=%20&KEY=z&key=NEW"),
        (b"/v1?k%65y=x&keys=1", b"/v1?keys=1&key=NEW"),
        (b"/v1?key", b"/v1?key=NEW"),
    ],
)
def test_query_parameter(target: bytes, expected: bytes) -> None:
    made = placement("inject: '?key={secret}'")
    fields, put = made.put((HOST, (b"Authorization", b"x")), target, (b"key", b"NEW"))
    assert (fields, put) == ((HOST,), expected)


def test_restore_undoes_put() -> None:
    made = placement("inject: '?key={secret}', strip: [Authorization]")
    sent = ((b"Authorization", b"mine"), HOST)
    taken = made.taken(sent, b"/v1?key=mine&a=1")
    fields, target = made.put(sent, b"/v1?key=mine&a=1", (b"key", b"NEW"))
    assert made.restore(fields, target, taken) == (
        (HOST, (b"Authorization", b"mine")),
        b"/v1?a=1&key=mine",
    )


def test_http2_names_are_lower_case() -> None:
    assert placement().name_for(True) == b"authorization"
    assert placement().name_for(False) == b"Authorization"


@pytest.mark.parametrize(
    ("pool", "fields", "target"),
    [
        ("", ((b"Authorization", b"Bearer TOKEN"),), b"/"),
        ("", ((b"authorization", b"bearer  TOKEN"),), b"/"),
        ("", ((b"Authorization", b"Basic dXNlcjpUT0tFTg=="),), b"/"),
        ("inject: 'x-api-key: {secret}'", ((b"X-Api-Key", b"TOKEN"),), b"/"),
        ("inject: 'x-api-key: {secret}'", ((b"Authorization", b"Bearer TOKEN"),), b"/"),
        ("inject: 'X-Auth: Token {secret}'", ((b"X-Auth", b"Token TOKEN"),), b"/"),
        ("inject: '?key={secret}'", (), b"/?a=b&key=TOKEN"),
    ],
)
def test_how_a_client_gives_a_credential(pool: str, fields: Fields, target: bytes) -> None:
    assert "TOKEN" in list(credentials_in(placement(pool), fields, target))


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        (((b"Authorization", b"Bearer TOKENS"),), b"/"),
        (((b"X-Other", b"TOKEN"),), b"/"),
        (((b"Authorization", b"Basic VE9LRU4="),), b"/"),  # no user name before it
        (((b"Authorization", b"Basic not base64 \xff"),), b"/"),
        ((), b"/?key=TOKEN"),
    ],
)
def test_what_is_no_credential(fields: Fields, target: bytes) -> None:
    assert "TOKEN" not in list(credentials_in(placement(), fields, target))
