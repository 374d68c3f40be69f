"""A secret that shows its alias wherever it is printed, formatted or logged."""

import hmac
from typing import NoReturn, Self, final


@final
class Secret:
    """Text that only `reveal` gives out. Equal when the texts are, whatever the aliases."""

    __slots__ = ("_alias", "_text")

    def __init__(self, text: str, alias: str) -> None:
        self._text = text
        self._alias = alias

    @property
    def alias(self) -> str:
        return self._alias

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return self._alias

    def __format__(self, spec: str) -> str:
        # Any specification: a width or a `!s` in a log line must not be a way around the alias.
        return self._alias

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._text), _bytes(other._text))

    def __hash__(self) -> int:
        return hash(self._text)

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        # Pickle, copy and multiprocessing all come here: a copy would leave our sight.
        raise TypeError("a secret is not copied or pickled")


def _bytes(text: str) -> bytes:
    # An environment variable that is not UTF-8 comes with lone surrogates.
    return text.encode("utf-8", "surrogatepass")
