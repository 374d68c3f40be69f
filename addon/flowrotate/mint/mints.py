"""What credentials are minted from, as frozen data."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flowrotate.inject import LONGEST_SECRET
from flowrotate.secret import Secret

from .endpoint import client_class
from .signing import Signer, jwt, signer
from .tokens import text_of


@dataclass(frozen=True, slots=True)
class JwtMint:
    """What a JSON Web Token (RFC 7519) is signed from. `ttl` in seconds; None: it has no end."""

    alias: str
    algorithm: str
    key: Secret
    claims: Mapping[str, object] = field(repr=False, hash=False)
    ttl: int | None

    @property
    def identity(self) -> Secret:
        """All that decides which tokens come out, as one text."""
        parts = ["jwt", self.algorithm, self.key.reveal(), dict(self.claims), self.ttl]
        return Secret(json.dumps(parts, sort_keys=True), self.alias)

    def check(self) -> None:
        """Raises ValueError, with the mend, when nothing can be signed with this."""
        sign = signer(self.algorithm, self.key)
        token = None
        with suppress(ValueError, TypeError, RecursionError):
            token = self.sign(sign, 0)
        if token is None:
            raise ValueError(
                "claims: write only what JSON can hold: texts, numbers, lists, mappings"
            )
        if len(token) > LONGEST_SECRET:
            raise ValueError("claims: too long for a header, say less")

    def sign(self, sign: Signer, now: int) -> str:
        """A token of `now`, in seconds since the epoch (RFC 7519, 4.1.4 and 4.1.6)."""
        times = {} if self.ttl is None else {"iat": now, "exp": now + self.ttl}
        return jwt(self.algorithm, {**self.claims, **times}, sign)


@dataclass(frozen=True, slots=True)
class OAuth2Mint:
    """What a token endpoint asks for (RFC 6749, 4.4 and 6).

    A refresh token that the endpoint exchanges is written to the file `write_back`.
    """

    alias: str
    # Not in the repr: its query may hold a secret too.
    token_url: str = field(repr=False)
    client_id: str = field(repr=False)
    client_secret: Secret | None
    scope: str | None
    grant: Literal["client_credentials", "refresh_token"]
    refresh_token: Secret | None
    write_back: Path | None

    @property
    def identity(self) -> Secret:
        """All that decides which tokens come out, as one text."""
        parts = [
            "oauth2",
            self.token_url,
            self.client_id,
            text_of(self.client_secret),
            self.scope,
            self.grant,
            text_of(self.refresh_token),
        ]
        return Secret(json.dumps(parts), self.alias)

    def check(self) -> None:
        """Raises ValueError, with the mend, when no token can be asked for with this."""
        client_class()
        texts = (self.client_id, text_of(self.client_secret), text_of(self.refresh_token))
        # RFC 6749, A.1, A.2 and A.17.
        if not all(text is None or (text.isascii() and text.isprintable()) for text in texts):
            raise ValueError("write visible ASCII only in client_id, client_secret, refresh_token")


Mint = JwtMint | OAuth2Mint
