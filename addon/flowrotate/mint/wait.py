"""Waiting for a credential that has to be minted first."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from .minter import Minter
from .tokens import MintError, NotYetError, Token

PATIENCE = 2.0
"""Seconds for which one request awaits tokens while another credential is ready."""


@dataclass(slots=True, eq=False)
class Minting:
    """One request's wait. Afterwards it has the token, or the failure, or neither: it left."""

    minter: Minter = field(repr=False)
    has_another: Callable[[], bool] = field(repr=False)
    """Whether the request could go out with another credential."""
    patience: float
    """Seconds after which it does."""
    token: Token | None = field(default=None, repr=False)
    failure: BaseException | None = None
    """A MintError, or a fault of ours."""
    _flight: asyncio.Task[Token] | None = None
    _over: bool = False

    @classmethod
    def of(cls, minter: Minter, has_another: Callable[[], bool], patience: float) -> Self:
        """With the token, when it is there already."""
        try:
            return cls(minter, has_another, patience, minter.token())
        except MintError as e:
            return cls(minter, has_another, patience, failure=e, _over=True)

    async def wait(self) -> None:
        """Return when the token is there, when it cannot be had, or when `leave` was called."""
        if self._over:
            return
        self._flight = asyncio.ensure_future(self.minter.fetch())
        try:
            done, _ = await asyncio.wait((self._flight,), timeout=self.patience)
            if not done and self.has_another():
                self.failure = NotYetError("the token endpoint has not answered yet")
            elif not done:
                await asyncio.wait((self._flight,))
        finally:
            self._flight.cancel()
        if not self._flight.done() or self._flight.cancelled():
            return
        self.failure = self._flight.exception()
        if self.failure is None:
            self.token = self._flight.result()

    def leave(self) -> None:
        """Wait no longer; others who wait for the same token go on, and so does its flight."""
        self._over = True
        if self._flight:
            self._flight.cancel()
