"""Flow Rotate: a pool of credentials, rotated onto the requests that mitmproxy forwards."""

__version__ = "0.1.0"
