"""The present token of each minted credential. IO.

A Minter has the present token of one credential. At 80 % of its life a new one is made, while the
present one stays in use to its end. However many requests ask for a token, one is made at a time.

What an upstream's 401 says of a token:

    refused                                -->  thrown away, a new one is worth a try
    refused, and was made after a refusal  -->  it is not the token: the credential is at fault
    accepted                               -->  the refusal before it is forgotten
"""

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from flowrotate.secret import Secret

from .egress import Egress
from .endpoint import ask, read_answer
from .mints import JwtMint, Mint, OAuth2Mint
from .signing import Signer, signer
from .tokens import MintError, Token

logger = logging.getLogger(__name__)

RENEW_AT = 0.8
"""Of a token's life."""
LONGEST_BACKOFF = 60.0
"""Seconds. The first is one second, and each doubles the one before."""


@dataclass(slots=True, eq=False, repr=False)
class Minter:
    """The tokens of one credential. `clock` in seconds, `wall` in seconds since the epoch.

    All of it belongs to the event loop, but a JWT's `token` is safe from any thread.
    """

    mint: Mint
    clock: Callable[[], float]
    wall: Callable[[], float]
    egress: Egress
    _token: Token | None = None
    _refused: bool = False
    """A token was refused, and none was accepted since."""
    _second: Token | None = None
    """The latest one that was made after a refusal, unless it was accepted."""
    _flight: "asyncio.Task[Token | MintError] | None" = None
    _failures: int = 0
    """In a row."""
    _failed: MintError | None = None
    _not_before: float = 0.0
    _origins: tuple[Secret, ...] = ()
    """The first identity, and the one before the present one."""
    _signer: Signer | None = None
    _signing: threading.Lock = field(default_factory=threading.Lock)
    """Guards `_signer` and, of a JWT, that one token is made at a time. No IO under it."""

    def __repr__(self) -> str:
        state = "token" if self._usable() else "no token"
        failed = f", {self._failures} failures" if self._failures else ""
        return f"Minter({self.mint.alias} {state}{failed})"

    @property
    def identity(self) -> Secret:
        return self.mint.identity

    @property
    def identities(self) -> tuple[Secret, ...]:
        """What a reload may know it by: its refresh token may have been exchanged meanwhile."""
        return (self.identity, *self._origins)

    def adopt(self, mint: Mint) -> None:
        """Go on with a mint that was read anew and is one of `identities`. Tokens stay."""
        if isinstance(mint, OAuth2Mint) and isinstance(self.mint, OAuth2Mint):
            mint = replace(mint, refresh_token=self.mint.refresh_token)
        self.mint = mint

    def token(self) -> Token | None:
        """The present token, or None: then `fetch` one. Never waits.

        A JWT is always there. Raises MintError for one that cannot be signed.
        """
        if isinstance(self.mint, JwtMint):
            return self._signed(self.mint)
        token = self._usable()
        if token and not self._is_fresh(token):
            with suppress(RuntimeError):  # there is no event loop: the next request does it
                asyncio.get_running_loop()
                self._take_off()
        return token

    async def fetch(self) -> Token:
        """A token, made anew unless a fresh one is there. Raises MintError."""
        if isinstance(self.mint, JwtMint):
            return self._signed(self.mint)
        token = self._usable()
        if token and self._is_fresh(token):
            return token
        flight = self._take_off()
        # Who is cancelled leaves; the flight goes on for the others.
        outcome = await asyncio.shield(flight) if flight else self._failed
        if isinstance(outcome, Token):
            return outcome
        assert outcome is not None
        # A new one for everybody who waits: an exception keeps the frames that it went through.
        raise MintError(str(outcome), outcome.status)

    def refuse(self, token: Token) -> bool:
        """The upstream answered 401 to this very token. Whether another is worth a try."""
        if self._token is token:
            self._token = None
            self._refused = True
        return token is not self._second

    def accept(self, token: Token) -> None:
        """The upstream took this very token."""
        if token is self._token:
            self._refused = False
            self._second = None

    def _usable(self) -> Token | None:
        token = self._token
        return token if token and (token.ends is None or self.clock() < token.ends) else None

    def _is_fresh(self, token: Token) -> bool:
        return token.renew is None or self.clock() < token.renew

    def _keep(self, token: Token, *, after_refusal: bool) -> Token:
        self._token = token
        if after_refusal:
            self._second = token
        return token

    def _signed(self, mint: JwtMint) -> Token:
        token = self._token
        if token and self._is_fresh(token):
            return token
        with self._signing:
            token = self._token
            if token and self._is_fresh(token):
                return token
            return self._keep(self._sign(mint), after_refusal=self._refused)

    def _sign(self, mint: JwtMint) -> Token:
        now, wall = self.clock(), self.wall()
        text = None
        with suppress(ValueError, TypeError, RecursionError):
            # Kept: to read an RSA key takes longer than to sign.
            self._signer = self._signer or signer(mint.algorithm, mint.key)
            text = mint.sign(self._signer, int(wall))
        if text is None:
            raise MintError("the JWT cannot be signed: run flow-rotate check")
        if mint.ttl is None:
            return Token(Secret(text, mint.alias), None, None)
        # `exp` counts from a whole second.
        ends = now + int(wall) - wall + mint.ttl
        return Token(Secret(text, mint.alias), ends, now + RENEW_AT * mint.ttl)

    def _take_off(self) -> "asyncio.Task[Token | MintError] | None":
        """The flight that is under way, or a new one; None in the time after a failure."""
        if self._flight and not self._flight.done():
            return self._flight
        if self._failed and self.clock() < self._not_before:
            return None
        assert isinstance(self.mint, OAuth2Mint)
        self._flight = asyncio.create_task(self._fly(self.mint), name="flow-rotate token request")
        return self._flight

    async def _fly(self, mint: OAuth2Mint) -> Token | MintError:
        after_refusal = self._refused
        began = self.clock()
        try:
            answer = read_answer(*await ask(mint, self.egress))
        except MintError as e:
            self._note_failure(e)
            return MintError(str(e), e.status)
        self._failures, self._failed = 0, None
        life = answer.expires_in
        token = Token(
            Secret(answer.access_token, mint.alias),
            None if life is None else began + life,
            None if life is None else began + RENEW_AT * life,
        )
        self._keep(token, after_refusal=after_refusal)
        if mint.grant == "refresh_token" and answer.refresh_token:
            await self._exchange(answer.refresh_token)
        return token

    def _note_failure(self, error: MintError) -> None:
        self._failures += 1
        self._failed = MintError(str(error), error.status)
        self._not_before = self.clock() + min(LONGEST_BACKOFF, 2.0 ** min(self._failures - 1, 9))
        # Without a token whoever asked is told.
        if self._failures == 1 and self._usable():
            logger.warning("%s: no new token, the present one goes on: %s", self.mint.alias, error)

    async def _exchange(self, text: str) -> None:
        """Use another refresh token from now on, and write it where the old one came from."""
        mint = self.mint
        assert isinstance(mint, OAuth2Mint)
        if mint.refresh_token and mint.refresh_token.reveal() == text:
            return
        before = mint.identity
        self._origins = (self._origins[0] if self._origins else before, before)
        # First here: a reload may read the file as soon as it is written.
        self.mint = replace(mint, refresh_token=Secret(text, mint.alias))
        if not mint.write_back:
            logger.warning(
                "%s: its refresh token was exchanged, and the new one is lost when this ends: "
                "let refresh_token come from a file",
                mint.alias,
            )
            return
        try:
            await asyncio.to_thread(_write_back, mint, text + "\n")
        except (OSError, ValueError, RuntimeError):  # the last for symbolic links in a circle
            logger.error(
                "%s: its refresh token was exchanged, and the new one cannot be written, "
                "so that it is lost when this ends: let this folder be written to: %s",
                mint.alias,
                mint.write_back.parent,
            )


def _write_back(mint: OAuth2Mint, text: str) -> None:
    """Put a refresh token in the place of the one that it was exchanged for, if that is there."""
    path, sent = mint.write_back, mint.refresh_token
    assert path
    assert sent
    # Somebody may have put another one there meanwhile.
    if path.read_text("utf-8-sig").rstrip("\r\n") == sent.reveal():
        _write_private(path, text)


def _write_private(path: Path, text: str) -> None:
    """Put a text in a file's place, whole or not at all, for its owner alone. Raises OSError."""
    place = path.resolve()
    # Made with mode 0600.
    number, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(place)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
