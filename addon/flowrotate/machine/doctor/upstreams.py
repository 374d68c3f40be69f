"""Whose certificates a proxy believes, of its upstreams; and a client, of the proxy."""

import ssl
from contextlib import suppress
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from .certificates import read

OPTION = "ssl_verify_upstream_trusted_ca"
CONFIGS = ("config.yaml", "config.yml")
"""In the order in which mitmproxy reads them: the last one counts."""


def configured(confdir: Path) -> Path | None:
    """What a proxy that starts with this folder would believe; one that runs says it itself."""
    found = None
    for name in CONFIGS:
        # A file that is no good is told by the proxy, when it starts.
        with suppress(ValueError, YAMLError, AttributeError, RecursionError):
            said = YAML(typ="safe", pure=True).load(read(confdir / name)).get(OPTION)
            found = Path(said) if isinstance(said, str) and said else found
    return found


def believed(trusted: Path | None) -> ssl.SSLContext:
    """As mitmproxy believes upstreams: certifi's roots, or the file. Raises ValueError, OSError."""
    import certifi

    context = _context(trusted or Path(certifi.where()))
    # Python 3.13 asks for more than mitmproxy does.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


def of_proxy(ca: Path) -> ssl.SSLContext | None:
    with suppress(ValueError, OSError):
        return _context(ca)
    return None


def _context(file: Path) -> ssl.SSLContext:
    read(file)  # OpenSSL would wait for a pipe, and read a device for ever
    return ssl.create_default_context(cafile=str(file))
