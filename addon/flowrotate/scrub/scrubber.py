"""What is looked for in the answers to one request, and where. Pure.

Most answers show no secret: they are looked through, and come back as they are.
"""

from collections.abc import Iterator, Sequence

from flowrotate.placement import Fields

from .forms import Forms, Lately
from .stream import ALL, Look, Stream, Write, alone
from .texts import Texts, broken_off, every_of, plain_of

LATELY_UNTIL = 64 * 1024
CODED_UNTIL = 256 * 1024
"""Bytes of a body. Up to the first limit, every form of all that went out lately is looked for; up
to the second, every form of what its own request carried, and from there on the plain ones."""
PIECES = 16
"""Pieces of a body, of 16 KiB each as a rule, that are looked through at once."""


class Scrubber:
    """`own` are the forms of what the request carried, which may become more."""

    __slots__ = ("_own", "_sent")

    def __init__(self, own: Sequence[Forms], sent: Lately[Forms]) -> None:
        self._own, self._sent = own, sent

    def data(self, data: bytes) -> bytes:
        """A short text, as a header's value."""
        forms = self._sent.beside(self._own)
        found = any(text in data for f in forms for text in f.every)
        return _replaced(data, forms) if found else data

    def message(self, message: str) -> str:
        """mitmproxy's words, which may quote a part of what came: half a secret counts, too."""
        data = message.encode("utf-8", "surrogatepass")
        forms = self._sent.beside(self._own)
        if not any(half in data for f in forms for half in f.halves):
            return message
        data = _replaced(data, forms)
        for f in forms:
            for text, half in zip(f.every, f.halves, strict=True):
                data = _without_half(data, text, half, f.alias)
        return data.decode("utf-8", "replace")  # it may have broken off within a letter

    def fields(self, fields: Fields) -> Fields:
        """Header fields: aliases in the values; a field whose name shows a secret is left out."""
        whole = b"\n".join([part for field in fields for part in field]).lower()
        # HTTP/2 has names in lower case.
        lower = [text for f in self._sent.beside(self._own) for text in f.lower]
        if not any(text in whole for text in lower):
            return fields
        return tuple(
            (name, self.data(value))
            for name, value in fields
            if not any(text in name.lower() for text in lower)
        )

    def body(self, body: bytes, lookout: "Lookout | None" = None) -> bytes:
        """A whole body; the very same when nothing is to be changed.

        `lookout` has had all its pieces.
        """
        forms = self._sent.beside(self._own)
        found = broken_off(body, 0, forms) or any(
            body.find(text, 0, until + len(text)) >= 0
            if until < ALL or not lookout
            # Here it is not in the processor's cache any more.
            else lookout.sees()
            for until, texts in self._look(len(body))
            for text in texts.every
        )
        return _replaced(body, forms) if found else body

    def lookout(self) -> "Lookout":
        """For a large body that is kept whole, while it comes in."""
        return Lookout(plain_of(tuple(self._own)))

    def stream(self, write: Write = alone, least: int = 1) -> Stream:
        """For a body that is passed on as it comes."""
        return Stream(self._sent.beside(self._own), write, least, tuple(self._look(ALL)))

    def _look(self, size: int) -> Iterator[Look]:
        """What is looked for up to which position of a body of this size."""
        own = tuple(self._own)
        yield LATELY_UNTIL, every_of(self._sent.beside(own))
        if size > LATELY_UNTIL:
            yield CODED_UNTIL, every_of(own)
        if size > CODED_UNTIL:
            yield ALL, plain_of(own)


class Lookout:
    """Whether one of some texts is in a body, told piece by piece: a large one that has come in is
    not in the processor's cache any more, and twice as slow to look through."""

    __slots__ = ("_edge", "_found", "_pieces", "_texts")

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._pieces: list[bytes] = []
        self._edge = b""
        self._found = False

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        if len(self._pieces) == PIECES:
            self.sees()

    def sees(self) -> bool:
        """In what was added up to now."""
        edge, size = self._edge, self._texts.longest
        for piece in self._pieces:
            for text in self._texts.every:
                if text in piece or text in edge + piece[:size]:
                    self._found = True
            edge = piece[-size:] if len(piece) >= size else (edge + piece)[-size:]
        self._edge = edge
        self._pieces.clear()
        return self._found


def _replaced(data: bytes, forms: tuple[Forms, ...]) -> bytes:
    stream = Stream(forms)
    return stream.feed(data) + stream.end()


def _without_half(data: bytes, text: bytes, half: bytes, alias: bytes) -> bytes:
    """For what breaks off anywhere: half of a form, and as much more of it as is there."""
    at = data.find(half)
    while at >= 0:
        size = len(half)
        while size < len(text) and data[at + size : at + size + 1] == text[size : size + 1]:
            size += 1
        data = data[:at] + alias + data[at + size :]
        at = data.find(half, at + len(alias))
    return data
