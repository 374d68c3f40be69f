"""An end to every look: a socket's timeout is for one read, and a server can answer for ever."""

import socket
import ssl
from contextlib import suppress
from http.client import HTTPConnection
from threading import Timer
from typing import Self

SECONDS = 5.0
"""For one connect, or one read."""
WHOLE = 10.0
"""For all of it, in seconds."""


class Deadline:
    """One connection, which is shut down when its time is over, whatever it does then."""

    def __init__(self, connection: HTTPConnection) -> None:
        self.over = False
        self._connection = connection
        self._raw: socket.socket | None = None
        self._timer = Timer(WHOLE, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._connection.close()
        if self._raw:
            self._raw.close()

    def connect(self) -> None:
        """With the proxy's tunnel, if the connection has one."""
        self._connection.connect()
        self._check()

    def secure(self, context: ssl.SSLContext, name: str) -> None:
        sock = self._connection.sock
        # Within the handshake, `sock` is detached, and cannot be shut down.
        self._raw = sock.dup()
        self._check()
        self._connection.sock = context.wrap_socket(sock, server_hostname=name)

    def why(self, error: Exception) -> str:
        if self.over:
            return f"it came to no end within {WHOLE:.0f} s"
        if isinstance(error, socket.gaierror):
            return "it has no address"
        if isinstance(error, TimeoutError):
            return f"no answer within {SECONDS:.0f} s"
        if isinstance(error, OSError) and error.strerror:
            return error.strerror.lower()
        # A tunnel that fails has the proxy's own words.
        words = "".join(sign for sign in str(error) if sign.isprintable())
        return words or type(error).__name__

    def _check(self) -> None:
        if self.over:
            raise TimeoutError

    def _end(self) -> None:
        self.over = True
        sock = self._raw or self._connection.sock
        if sock:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
