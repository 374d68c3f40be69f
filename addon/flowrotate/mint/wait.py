"""Waiting for a credential that has to be minted first."""

import asyncio
from dataclasses import dataclass, field

from .minter import Minter
from .tokens import Token


@dataclass(slots=True, eq=False)
class Minting:
    """One request's wait. Afterwards it has the token, or the failure, or neither: it left."""

    minter: Minter = field(repr=False)
    token: Token | None = field(default=None, repr=False)
    failure: BaseException | None = None
    """A MintError, or a fault of ours."""
    _flight: asyncio.Task[Token] | None = None
    _left: bool = False

    async def wait(self) -> None:
        """Return when the token is there, when it cannot be had, or when `leave` was called."""
        if self._left:
            return
        self._flight = asyncio.ensure_future(self.minter.fetch())
        try:
            await asyncio.wait((self._flight,))
        finally:
            self._flight.cancel()
        if self._flight.cancelled():
            return
        self.failure = self._flight.exception()
        if self.failure is None:
            self.token = self._flight.result()

    def leave(self) -> None:
        """Wait no longer; others who wait for the same token go on."""
        self._left = True
        if self._flight:
            self._flight.cancel()
