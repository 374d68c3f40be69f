"""A second script for tests: names that resolve to this machine, each in its own way."""

import os
import socket
from typing import Any

HERE = tuple(os.environ.get("REBIND", ".here.test .turns.test").split())
resolve = socket.getaddrinfo
asked: set[str] = set()


def getaddrinfo(host: Any, *args: Any, **more: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host or ""
    if name.endswith(".turns.test") and name not in asked:
        # Who looks it up again, to dial, gets another answer.
        asked.add(name)
        raise socket.gaierror(socket.EAI_NONAME, "not yet")
    return resolve("127.0.0.1" if name.endswith(HERE) else host, *args, **more)


socket.getaddrinfo = getaddrinfo
