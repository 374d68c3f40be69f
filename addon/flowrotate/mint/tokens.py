"""What a mint gives, or why it gives none."""

from dataclasses import dataclass

from flowrotate.secret import Secret


@dataclass(frozen=True, slots=True)
class Token:
    """`ends` and `renew` in seconds of the Minter's clock; None is never."""

    secret: Secret
    ends: float | None
    renew: float | None


class MintError(Exception):
    """Why there is no new token, in words that tell nothing of it. `status` is the endpoint's."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NotYetError(MintError):
    """There is none for this request; it may come in a moment."""


def text_of(secret: Secret | None) -> str | None:
    return secret.reveal() if secret else None
