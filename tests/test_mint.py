"""Minted credentials: JWTs that are signed here, and tokens of a real authorization server."""

import asyncio
import gzip
import json
import logging
import os
import stat
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Response

from flowrotate.demo.certs import make_authority
from flowrotate.demo.evidence import forms_of
from flowrotate.mint.egress import Egress
from flowrotate.mint.minter import Minter
from flowrotate.mint.mints import JwtMint, OAuth2Mint
from flowrotate.mint.tokens import MintError, Token
from flowrotate.secret import Secret
from tests.e2e.oauth_server import CLIENT_ID, CLIENT_SECRET, PUBLIC_CLIENT_ID, OAuthServer

ALIAS = "[rotate:pool/a]"
KEY = "canary-key-0123456789-0123456789-0123456789-0123456789-0123456789"
WALL = 1_800_000_000.25
DIRECT = Egress(tuple, lambda: None, {}, lambda: None)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[OAuthServer]:
    with OAuthServer() as running:
        yield running


def jwt_mint(**changed: Any) -> JwtMint:
    mint = JwtMint(ALIAS, "HS256", Secret(KEY, ALIAS), {"sub": "me"}, None)
    return replace(mint, **changed)


def oauth_mint(server: OAuthServer, **changed: Any) -> OAuth2Mint:
    secret = Secret(CLIENT_SECRET, ALIAS)
    mint = OAuth2Mint(
        ALIAS, server.url, CLIENT_ID, secret, "read", "client_credentials", None, None
    )
    return replace(mint, **changed)


def refreshing_mint(server: OAuthServer, **changed: Any) -> OAuth2Mint:
    token = Secret(server.refresh_token(changed.get("client_id", CLIENT_ID)), ALIAS)
    return oauth_mint(server, **{"grant": "refresh_token", "refresh_token": token} | changed)


def minter(
    mint: JwtMint | OAuth2Mint, clock: Callable[[], float], egress: Egress = DIRECT
) -> Minter:
    return Minter(mint, clock, lambda: WALL, egress)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def claims_of(token: Token | None, key: Any = KEY, algorithm: str = "HS256") -> dict[str, Any]:
    assert token
    options: Any = {"verify_exp": False, "verify_iat": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of short keys, which are ours to allow
        claims: dict[str, Any] = jwt.decode(
            token.secret.reveal(), key, algorithms=[algorithm], options=options
        )
    return claims


def pem(key: Any, passphrase: bytes = b"") -> str:
    encryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    form = serialization.PrivateFormat.PKCS8
    encoded: bytes = key.private_bytes(serialization.Encoding.PEM, form, encryption)
    return encoded.decode()


def public_pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, form)
    return encoded.decode()


RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())


# JWT


@pytest.mark.parametrize(
    ("algorithm", "key", "proof"),
    [
        ("HS256", KEY, KEY),
        ("HS384", KEY, KEY),
        ("HS512", KEY, KEY),
        ("HS256", "short", "short"),
        ("HS256", "ключ", "ключ"),
        ("RS256", pem(RSA), RSA.public_key()),
        ("ES256", pem(P256), P256.public_key()),
    ],
)
def test_a_jwt_of_every_algorithm(algorithm: str, key: str, proof: Any, clock: Clock) -> None:
    claims = {"sub": "é", "n": 1, "yes": True, "list": [None, 1.5], "map": {"b": 1, "a": 2}}
    mint = jwt_mint(algorithm=algorithm, key=Secret(key, ALIAS), claims=claims)
    mint.check()
    token = minter(mint, clock).token()
    assert claims_of(token, proof, algorithm) == claims
    assert token
    assert jwt.get_unverified_header(token.secret.reveal()) == {"alg": algorithm, "typ": "JWT"}
    assert (token.ends, token.renew) == (None, None)


def test_claims_keep_their_order(clock: Clock) -> None:
    token = minter(jwt_mint(claims={"b": 1, "a": 2}), clock).token()
    assert list(claims_of(token)) == ["b", "a"]


def test_a_jwt_without_end_is_signed_once(clock: Clock) -> None:
    made = minter(jwt_mint(), clock)
    first = made.token()
    clock.now = 1e12
    assert made.token() is first
    run(_same(made, first))


async def _same(made: Minter, token: Token | None) -> None:
    assert await made.fetch() is token


def test_a_jwt_with_ttl_is_renewed_at_80_per_cent(clock: Clock) -> None:
    made = minter(jwt_mint(ttl=100), clock)
    first = made.token()
    whole = int(WALL)
    assert claims_of(first) == {"sub": "me", "iat": whole, "exp": whole + 100}
    assert first
    assert (first.ends, first.renew) == (199.75, 180.0)
    clock.now = 179.9
    assert made.token() is first
    clock.now = 180.0
    second = made.token()
    assert second is not first
    assert second
    assert second.renew == 260.0


def test_threads_that_ask_at_once_get_one_token(clock: Clock) -> None:
    signed: list[int] = []
    start = threading.Barrier(8)

    def wall() -> float:
        signed.append(1)
        return WALL

    made = Minter(jwt_mint(algorithm="RS256", key=Secret(pem(RSA), ALIAS)), clock, wall, DIRECT)
    got: list[Token | None] = []

    def ask() -> None:
        start.wait()
        got.append(made.token())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len({id(token) for token in got}) == 1
    assert len(signed) == 1


def test_a_jwt_that_cannot_be_signed(clock: Clock) -> None:
    made = minter(jwt_mint(algorithm="ES256"), clock)
    with pytest.raises(MintError, match=r"^the JWT cannot be signed: run flow-rotate check$"):
        made.token()


RS = "RS256 needs an RSA private key, as PEM without a passphrase"
ES = "ES256 needs a P-256 private key, as PEM without a passphrase"
HS = "HS256, HS384 and HS512 need a plain text as key: for a PEM, write RS256 or ES256"


@pytest.mark.parametrize(
    ("algorithm", "key", "message"),
    [
        ("RS256", KEY, RS),
        ("RS256", pem(P256), RS),
        ("RS256", public_pem(RSA), RS),
        ("RS256", pem(RSA, b"canary"), RS),
        ("RS256", pem(RSA)[:200], RS),
        ("ES256", KEY, ES),
        ("ES256", pem(RSA), ES),
        ("ES256", pem(P384), ES),
        ("ES256", public_pem(P256), ES),
        ("HS256", pem(RSA), HS),
        ("HS512", public_pem(P256), HS),
    ],
)
def test_keys_that_do_not_fit(algorithm: str, key: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        jwt_mint(algorithm=algorithm, key=Secret(key, ALIAS)).check()
    assert str(caught.value) == message
    assert caught.value.__context__ is None


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()])
def test_claims_that_json_cannot_hold(value: object) -> None:
    with pytest.raises(ValueError, match=r"^claims: write only what JSON can hold"):
        jwt_mint(claims={"x": value}).check()


@pytest.mark.parametrize(
    ("modules", "kind", "message"),
    [
        (["jwt"], "jwt", "needs the extra 'jwt': install PyJWT beside mitmproxy"),
        (
            ["authlib", "authlib.integrations", "authlib.integrations.httpx_client"],
            "oauth2",
            "needs the extra 'oauth': install Authlib and httpx beside mitmproxy",
        ),
    ],
)
def test_a_missing_extra_is_named(
    modules: list[str],
    kind: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    server: OAuthServer,
) -> None:
    mint = jwt_mint() if kind == "jwt" else oauth_mint(server)
    mint.check()
    for name in list(sys.modules):
        if name.split(".")[0] == "authlib":
            monkeypatch.delitem(sys.modules, name)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r".") as caught:
        mint.check()
    assert str(caught.value) == message


def test_authlib_over_httpx_alone_warns_of_nothing() -> None:
    script = (
        "import sys; sys.modules['httpx2'] = None\n"
        "from flowrotate.mint.mints import OAuth2Mint\n"
        "OAuth2Mint('a', 'https://a.example', 'id', None, None, 'client_credentials', None, None)"
        ".check()\n"
        "assert 'httpx' in sys.modules\n"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "naïve"},
        {"client_secret": Secret("canary\n", ALIAS)},
        {"refresh_token": Secret("canáry", ALIAS)},
    ],
)
def test_texts_that_a_token_request_cannot_hold(
    changed: dict[str, Any], server: OAuthServer
) -> None:
    with pytest.raises(ValueError, match=r"^write visible ASCII only in client_id, client_secret"):
        oauth_mint(server, **changed).check()


# What two mints have in common


@pytest.mark.parametrize(
    "changed",
    [
        {"algorithm": "HS384"},
        {"key": Secret("other", ALIAS)},
        {"claims": {"sub": "you"}},
        {"claims": {"sub": "me", "n": 1}},
        {"ttl": 60},
    ],
)
def test_what_makes_another_jwt(changed: dict[str, Any]) -> None:
    assert jwt_mint(**changed).identity != jwt_mint().identity


@pytest.mark.parametrize(
    "changed",
    [
        {"token_url": "https://other.example"},
        {"client_id": "other"},
        {"client_secret": Secret("other", ALIAS)},
        {"client_secret": None},
        {"scope": None},
        {"scope": "write"},
        {"refresh_token": Secret("r", ALIAS)},
        {"grant": "refresh_token"},
    ],
)
def test_what_makes_another_oauth_credential(changed: dict[str, Any], server: OAuthServer) -> None:
    assert oauth_mint(server, **changed).identity != oauth_mint(server).identity


def test_what_makes_no_other_one(server: OAuthServer) -> None:
    one, two = jwt_mint(claims={"a": 1, "b": 2}), jwt_mint(alias="x", claims={"b": 2, "a": 1})
    assert one.identity == two.identity
    assert one.identity.alias == ALIAS
    placed = oauth_mint(server, write_back=Path("r"))
    assert placed.identity == oauth_mint(server).identity
    assert len({hash(one), hash(jwt_mint(claims={"a": 1, "b": 2}))}) == 1


# OAuth 2.0


def test_fifty_requests_that_ask_at_once_make_one_token_request(
    server: OAuthServer, clock: Clock
) -> None:
    async def main() -> None:
        made = minter(oauth_mint(server), clock)
        assert made.token() is None
        tokens = await asyncio.gather(*(made.fetch() for _ in range(50)))
        assert len({id(token) for token in tokens}) == 1
        assert server.forms == [{"grant_type": "client_credentials", "scope": "read"}]
        assert server.valid(tokens[0].secret.reveal())
        assert tokens[0].secret.alias == ALIAS
        assert (tokens[0].ends, tokens[0].renew) == (3700.0, 2980.0)
        assert made.token() is await made.fetch() is tokens[0]
        assert server.requests == 1

    run(main())


@pytest.mark.parametrize("leaving", [1, 3])
def test_who_is_cancelled_does_not_cancel_the_others(
    leaving: int, server: OAuthServer, clock: Clock
) -> None:
    async def main() -> None:
        made = minter(oauth_mint(server), clock)
        server.open.clear()
        waiting = [asyncio.create_task(made.fetch()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting[:leaving]:
            task.cancel()
        server.open.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(o, asyncio.CancelledError) for o in outcomes[:leaving])
        assert all(isinstance(o, Token) for o in outcomes[leaving:])
        await made.fetch()
        assert server.requests == 1

    run(main())


def test_a_token_is_renewed_behind_the_requests_at_80_per_cent(
    server: OAuthServer, clock: Clock
) -> None:
    async def main() -> None:
        made = minter(oauth_mint(server), clock)
        first = await made.fetch()
        clock.now = 2979.9
        assert made.token() is first
        await asyncio.sleep(0)
        assert server.requests == 1
        clock.now = 2980.0
        assert made.token() is made.token() is first
        server.open.clear()
        await asyncio.sleep(0)
        assert made.token() is first
        clock.now = 2990.0
        server.open.set()
        second = await made.fetch()
        assert second.ends == 2980.0 + 3600.0
        assert made.token() is second
        assert server.requests == 2

    run(main())


def test_without_an_event_loop_the_present_token_goes_on(server: OAuthServer, clock: Clock) -> None:
    made = minter(oauth_mint(server), clock)
    run(_fetched(made))
    clock.now = 3000.0
    assert made.token()
    clock.now = 3700.0
    assert made.token() is None
    assert server.requests == 1


async def _fetched(made: Minter) -> None:
    await made.fetch()


def test_a_renewal_that_fails_is_told_once_and_the_token_goes_on_to_its_end(
    server: OAuthServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        made = minter(oauth_mint(server), clock)
        first = await made.fetch()
        server.down = True
        clock.now = 3000.0
        for requests in (2, 3, 4):
            assert made.token() is first
            with pytest.raises(MintError):
                await made.fetch()
            assert made.token() is first
            assert server.requests == requests
            clock.now += 60.0
        clock.now = 3700.0
        assert made.token() is None
        server.down = False
        assert await made.fetch() is made.token()

    run(main())
    assert [record.getMessage() for record in caplog.records] == [
        f"{ALIAS}: no new token, the present one goes on: "
        "the token endpoint answered 503: it may be better later"
    ]


def test_failures_are_not_repeated_before_their_time(
    server: OAuthServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        made = minter(oauth_mint(server), clock)
        server.down = True
        for n, seconds in enumerate((1, 2, 4, 8, 16, 32, 60, 60), 1):
            outcomes = await asyncio.gather(
                *(made.fetch() for _ in range(3)), return_exceptions=True
            )
            clock.now += seconds - 0.01
            with pytest.raises(MintError, match="answered 503") as caught:
                await made.fetch()
            assert server.requests == n
            assert {type(o) for o in outcomes} == {MintError}
            assert len({id(o) for o in (*outcomes, caught.value)}) == 4
            assert caught.value.status == 503
            clock.now += 0.02
        assert repr(made) == f"Minter({ALIAS} no token, 8 failures)"
        server.down = False
        await made.fetch()
        assert repr(made) == f"Minter({ALIAS} token)"
        clock.now, server.down = 1e9, True
        for requests in (10, 11):
            with pytest.raises(MintError):
                await made.fetch()
            clock.now += 1.0
            assert server.requests == requests

    run(main())
    assert not caplog.records  # whoever asked was told


@pytest.mark.parametrize("limit", ["TIMEOUT", "LONGEST_REQUEST"])
def test_an_endpoint_that_does_not_answer(
    limit: str, server: OAuthServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"flowrotate.mint.endpoint.{limit}", 0.2)
    server.open.clear()

    async def main() -> None:
        with pytest.raises(MintError, match=r"^the token endpoint cannot be reached: check"):
            async with asyncio.timeout(8):  # neither limit's true length
                await minter(oauth_mint(server), clock).fetch()

    run(main())


def test_an_endpoint_that_is_not_there(clock: Clock) -> None:
    gone = OAuthServer()
    with gone:
        mint = oauth_mint(gone)

    async def main() -> None:
        with pytest.raises(
            MintError, match=r"^the token endpoint cannot be reached: check"
        ) as caught:
            await minter(mint, clock).fetch()
        assert caught.value.status is None

    run(main())


# What an upstream says of a token: each step is an action, the number of a token, what comes out


@pytest.mark.parametrize("kind", ["jwt", "oauth2"])
@pytest.mark.parametrize(
    "steps",
    [
        "refuse 1 yes, mint, refuse 2 no",
        "accept 1, refuse 1 yes, mint, refuse 2 no",
        "refuse 1 yes, mint, accept 2, refuse 2 yes, mint, refuse 3 no",
        # Several requests had it at once.
        "refuse 1 yes, refuse 1 yes, mint, refuse 1 yes, have 2, refuse 2 no, refuse 2 no",
        # Of an older token neither word says anything about the present one.
        "refuse 1 yes, mint, accept 1, refuse 2 no",
        "refuse 1 yes, mint, accept 2, refuse 1 yes, have 2, refuse 2 yes",
        # It was forgotten when the present one came.
        "refuse 1 yes, mint, accept 2, end, mint, refuse 3 yes",
        # On a later trial.
        "refuse 1 yes, mint, refuse 2 no, mint, refuse 3 no, mint, accept 4, refuse 4 yes",
    ],
)
def test_refused_and_accepted_tokens(
    steps: str, kind: str, server: OAuthServer, clock: Clock
) -> None:
    async def main() -> None:
        made = minter(jwt_mint(ttl=3600) if kind == "jwt" else oauth_mint(server), clock)
        tokens = [await made.fetch()]
        for step in steps.split(", "):
            match step.split():
                case ["mint"]:
                    tokens.append(await made.fetch())
                    assert len({id(token) for token in tokens}) == len(tokens)
                case ["end"]:
                    clock.now += 3600.0
                case ["have", number]:
                    assert made.token() is tokens[int(number) - 1]
                case ["accept", number]:
                    made.accept(tokens[int(number) - 1])
                case ["refuse", number, worth]:
                    assert made.refuse(tokens[int(number) - 1]) is (worth == "yes"), step

    run(main())


def test_a_refused_token_is_not_given_out_again(server: OAuthServer, clock: Clock) -> None:
    async def main() -> None:
        made = minter(oauth_mint(server), clock)
        first = await made.fetch()
        server.revoke_all()
        assert made.refuse(first)
        assert made.token() is None
        assert server.valid((await made.fetch()).secret.reveal())

    run(main())


def test_a_renewal_that_began_before_the_refusal_proves_nothing(
    server: OAuthServer, clock: Clock
) -> None:
    async def main() -> None:
        made = minter(oauth_mint(server), clock)
        first = await made.fetch()
        clock.now = 3000.0
        server.open.clear()
        made.token()
        await asyncio.sleep(0)
        assert made.refuse(first)
        server.open.set()
        second = await made.fetch()
        assert server.requests == 2
        assert made.refuse(second)
        assert not made.refuse(await made.fetch())

    run(main())


# The refresh grant


def test_an_exchanged_refresh_token_is_written_back(
    server: OAuthServer, clock: Clock, tmp_path: Path
) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real / "token")
    mint = refreshing_mint(server, write_back=link)
    assert mint.refresh_token
    (real / "token").write_text(mint.refresh_token.reveal() + "\n")
    (real / "token").chmod(0o644)

    async def main() -> None:
        made = minter(mint, clock)
        seen = {mint.refresh_token}
        for requests in (1, 2, 3):
            token = await made.fetch()
            assert server.valid(token.secret.reveal())
            assert isinstance(made.mint, OAuth2Mint)
            new = made.mint.refresh_token
            assert new
            assert new not in seen
            seen.add(new)
            assert (real / "token").read_text() == new.reveal() + "\n"
            assert stat.S_IMODE((real / "token").stat().st_mode) == 0o600
            assert server.requests == requests
            made.refuse(token)
            made.accept(token)
        assert made.identity == made.mint.identity != mint.identity

    run(main())
    assert link.is_symlink()
    assert [file.name for file in real.iterdir()] == ["token"]


@pytest.mark.parametrize(("file", "level"), [("absent/token", "ERROR"), (None, "WARNING")])
def test_an_exchanged_refresh_token_that_has_no_place_is_used_all_the_same(
    file: str | None,
    level: str,
    server: OAuthServer,
    clock: Clock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        made = minter(refreshing_mint(server, write_back=file and tmp_path / file), clock)
        for _ in range(3):
            token = await made.fetch()
            assert server.valid(token.secret.reveal())
            made.refuse(token)

    run(main())
    assert {record.levelname for record in caplog.records} == {level}
    assert all(ALIAS in record.getMessage() for record in caplog.records)
    assert not file or str(tmp_path / "absent") in caplog.text


def test_a_failed_write_leaves_the_old_file_and_no_other(
    server: OAuthServer, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "token"
    place.write_text("old\n")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    run(_fetched(minter(refreshing_mint(server, write_back=place), clock)))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("token", "old\n")]


def test_a_public_client_names_itself(server: OAuthServer, clock: Clock) -> None:
    mint = refreshing_mint(server, client_id=PUBLIC_CLIENT_ID, client_secret=None, scope=None)
    assert mint.refresh_token
    run(_fetched(minter(mint, clock)))
    assert server.forms == [
        {
            "grant_type": "refresh_token",
            "refresh_token": mint.refresh_token.reveal(),
            "client_id": PUBLIC_CLIENT_ID,
        }
    ]


def test_a_refresh_token_that_stays_is_kept(
    server: OAuthServer, clock: Clock, tmp_path: Path
) -> None:
    server.answer = Response(json.dumps({"access_token": "a", "refresh_token": ""}))
    mint = refreshing_mint(server, write_back=tmp_path / "token")
    made = minter(mint, clock)
    run(_fetched(made))
    assert made.mint is mint
    assert not list(tmp_path.iterdir())


def test_tokens_outlive_a_reload(server: OAuthServer, clock: Clock, tmp_path: Path) -> None:
    mint = refreshing_mint(server)

    async def main() -> None:
        made = minter(mint, clock)
        made.refuse(await made.fetch())
        token = await made.fetch()
        present = made.mint
        assert isinstance(present, OAuth2Mint)
        # As it is, as it was at first (there is no file to write to), and as something else.
        assert made.identities[0] == made.identity == present.identity
        assert mint.identity in made.identities
        assert replace(mint, scope=None).identity not in made.identities
        made.adopt(replace(mint, write_back=tmp_path / "token"))
        assert made.mint == replace(present, write_back=tmp_path / "token")
        assert made.token() is token
        made.refuse(token)
        assert server.valid((await made.fetch()).secret.reveal())

    run(main())


def test_a_jwt_outlives_a_reload(clock: Clock) -> None:
    made = minter(jwt_mint(), clock)
    token, again = made.token(), jwt_mint()
    assert made.identities == (again.identity,)
    made.adopt(again)
    assert made.mint is again
    assert made.token() is token


# Answers


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        (3600, 3600.0),
        ("3600", 3600.0),
        (0.5, 0.5),
        (None, None),
        (0, None),
        (-1, None),
        (True, None),
        ("soon", None),
        ("nan", None),
        (float("inf"), None),
        (10**400, None),
        ([3600], None),
    ],
)
def test_how_long_a_token_lives(
    life: object, seconds: float | None, server: OAuthServer, clock: Clock
) -> None:
    server.answer = Response(json.dumps({"access_token": "a", "expires_in": life}))

    async def main() -> None:
        token = await minter(oauth_mint(server), clock).fetch()
        assert token.ends == (None if seconds is None else 100.0 + seconds)
        assert token.renew == (None if seconds is None else 100.0 + 0.8 * seconds)

    run(main())


def test_without_expires_in_a_token_is_good_until_it_is_refused(
    server: OAuthServer, clock: Clock
) -> None:
    server.lifetime = 0

    async def main() -> None:
        made = minter(oauth_mint(server), clock)
        token = await made.fetch()
        clock.now = 1e12
        assert made.token() is await made.fetch() is token
        assert server.requests == 1

    run(main())


GOOD = json.dumps({"access_token": "canary-good"}).encode()
UNUSABLE = "the token endpoint gave no usable access_token: check token_url"
CREDENTIALS = "check client_id, client_secret, scope and refresh_token"


@pytest.mark.parametrize(
    ("status", "headers", "body", "message"),
    [
        (200, {}, b"<html>canary</html>", UNUSABLE),
        (200, {}, b'["canary"]', UNUSABLE),
        (200, {}, b"[" * 100_000, UNUSABLE),
        (200, {}, b'{"error": "canary"}', UNUSABLE),
        (200, {}, b'{"access_token": ["canary"]}', UNUSABLE),
        (200, {}, b'{"access_token": ""}', UNUSABLE),
        (200, {}, b'{"access_token": "canary one"}', UNUSABLE),
        (200, {}, b'{"access_token": "canary\\r\\nX: y"}', UNUSABLE),
        (200, {}, '{"access_token": "canáry"}'.encode(), UNUSABLE),
        (200, {"Content-Encoding": "gzip"}, gzip.compress(GOOD, mtime=0), UNUSABLE),
        (
            200,
            {},
            GOOD + b" " * 1024 * 1024,
            "the token endpoint's answer is too large: check token_url",
        ),
        (
            302,
            {"Location": "/token?canary"},
            GOOD,
            "the token endpoint answered 302: redirects are not followed, write where it leads to "
            "as token_url",
        ),
        (400, {}, b'{"error": "canary"}', f"the token endpoint answered 400: {CREDENTIALS}"),
        (
            401,
            {"WWW-Authenticate": "canary"},
            GOOD,
            f"the token endpoint answered 401: {CREDENTIALS}",
        ),
        (404, {}, b"canary", "the token endpoint answered 404: check token_url"),
        (429, {}, GOOD, "the token endpoint answered 429: it may be better later"),
        (500, {}, GOOD, "the token endpoint answered 500: it may be better later"),
    ],
)
def test_answers_without_a_token(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    message: str,
    server: OAuthServer,
    clock: Clock,
) -> None:
    server.answer = Response(body, status, headers)

    async def main() -> None:
        with pytest.raises(MintError) as caught:
            await minter(oauth_mint(server), clock).fetch()
        assert str(caught.value) == message
        assert caught.value.status == (None if "large" in message else status)
        assert server.requests == 1
        assert "canary" not in "".join(traceback.format_exception(caught.value))

    run(main())


def test_an_answer_of_almost_a_mebibyte(server: OAuthServer, clock: Clock) -> None:
    server.answer = Response(GOOD.ljust(1024 * 1024))
    run(_fetched(minter(oauth_mint(server), clock)))


# The way there


class _Proxy(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        seen = (self.path, self.headers["Accept-Encoding"])
        self.server.seen.append(seen)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(GOOD)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def proxy() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), _Proxy) as running:
        running.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


ELSEWHERE = "http://endpoint.test/token"


def test_token_requests_go_the_egress_way(
    proxy: HTTPServer, server: OAuthServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{proxy.server_port}"
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, url)  # of this process: the Egress alone counts
    monkeypatch.delenv("no_proxy", raising=False)
    run(_fetched(minter(oauth_mint(server), clock)))
    assert server.requests == 1
    through = replace(DIRECT, upstream=lambda: url)
    # This machine's own endpoints never: another proxy has another 127.0.0.1.
    run(_fetched(minter(oauth_mint(server), clock, through)))
    assert server.requests == 2
    elsewhere = replace(oauth_mint(server), token_url=ELSEWHERE)
    run(_fetched(minter(elsewhere, clock, through)))
    assert server.requests == 2
    assert proxy.seen == [(ELSEWHERE, "identity")]  # type: ignore[attr-defined]


def test_an_endpoint_that_is_this_proxy(server: OAuthServer, clock: Clock) -> None:
    port = int(server.url.split(":")[2].removesuffix("/token"))
    here = replace(DIRECT, listening=lambda: [("127.0.0.1", port)])
    with pytest.raises(MintError, match=r"^token_url is this proxy itself"):
        run(_fetched(minter(oauth_mint(server), clock, here)))
    assert server.requests == 0


def test_an_egress_that_is_wrong(server: OAuthServer, clock: Clock) -> None:
    async def main() -> None:
        egress = replace(DIRECT, upstream=lambda: "socks5://canary@h:1")
        mint = replace(oauth_mint(server), token_url=ELSEWHERE)
        with pytest.raises(MintError, match=r"^--mode upstream names no http:// or") as caught:
            await minter(mint, clock, egress).fetch()
        assert "canary" not in "".join(traceback.format_exception(caught.value))

    run(main())


def test_the_endpoints_certificate_is_verified(clock: Clock, tmp_path: Path) -> None:
    authority = make_authority(tmp_path, ["127.0.0.1"])
    trusting = replace(DIRECT, env={"SSL_CERT_FILE": str(authority.ca)})

    async def main(mint: OAuth2Mint) -> None:
        await minter(mint, clock, trusting).fetch()
        with pytest.raises(
            MintError, match=r"^the token endpoint's certificate cannot be verified"
        ):
            await minter(mint, clock).fetch()

    with OAuthServer(authority.leaf) as server:
        run(main(oauth_mint(server)))
        assert server.requests == 1


# Silence


def test_nothing_tells_a_secret(
    server: OAuthServer, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    query = "canary-query-51c0"
    mint = refreshing_mint(server, token_url=f"{server.url}?key={query}", write_back=tmp_path / "r")
    signing = jwt_mint(claims={"secret": "canary-claim-77aa"})
    secrets = [CLIENT_SECRET, query, KEY, "canary-claim-77aa"]
    shown = [repr(mint), repr(signing), str(mint), f"{mint.identity} {signing.identity}"]

    async def main() -> None:
        made, signer = minter(mint, clock), minter(signing, clock)
        for _ in range(2):
            assert isinstance(made.mint, OAuth2Mint)
            assert made.mint.refresh_token
            secrets.append(made.mint.refresh_token.reveal())
            token = await made.fetch()
            secrets.append(token.secret.reveal())
            made.refuse(token)
        signed = signer.token()
        assert signed
        secrets.append(signed.secret.reveal())
        shown.extend(map(repr, (made, made.mint, token, signer, signed)))
        for answer in (None, Response(CLIENT_SECRET, 401, {"X-Echo": CLIENT_SECRET})):
            server.down, server.answer = answer is None, answer
            clock.now += 100.0
            with pytest.raises(MintError) as caught:
                await made.fetch()
            shown.extend(traceback.format_exception(caught.value))
            assert caught.value.__context__ is None

    asyncio.run(main(), debug=True)
    shown.append(caplog.text)
    assert "asyncio" in caplog.text  # it was listened to
    assert len(secrets) == 9
    told = "\n".join(shown).encode()
    assert [s for s in secrets for form in forms_of(s) if form in told] == []


def test_other_users_of_httpx_are_heard(
    server: OAuthServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    import httpx

    caplog.set_level(logging.INFO)
    run(_fetched(minter(oauth_mint(server), clock)))
    assert not caplog.records
    with httpx.Client(trust_env=False) as client:
        client.post(server.url)
    assert any(record.name == "httpx" for record in caplog.records)
