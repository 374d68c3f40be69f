"""The variables that send each stack's requests to the proxy, and let it trust the proxy's CA.

Pure: the files that they name are made by a function that comes in.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from flowrotate.hosts import HostRule

PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
LOOPBACK = ("localhost", "127.0.0.1", "::1")

REPLACING = (
    "SSL_CERT_FILE",  # OpenSSL, and with it Python, Ruby, PHP; Go's crypto/x509
    "REQUESTS_CA_BUNDLE",  # requests: "SSL Cert Verification"
    "CURL_CA_BUNDLE",  # curl(1), ENVIRONMENT; requests too
    "GIT_SSL_CAINFO",  # git-config(1), http.sslCAInfo
    "AWS_CA_BUNDLE",  # AWS SDKs and Tools Reference Guide, "General configuration settings"
    "PIP_CERT",  # pip's --cert
    "CARGO_HTTP_CAINFO",  # The Cargo Book, http.cainfo
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",  # gRPC environment variables
    "HTTPLIB2_CA_CERTS",  # httplib2, and Google's older clients with it
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",  # gcloud, core/custom_ca_certs_file
    "NIX_SSL_CERT_FILE",  # Nix manual, common environment variables
)
"""Each names a file that stands for all that the tool trusts."""
ADDING = (
    "NODE_EXTRA_CA_CERTS",  # Node.js, "Command-line API"
    "DENO_CERT",  # deno help; added to the store that DENO_TLS_CA_STORE names
)
"""Each names a file that is trusted beside others."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY")
EVERY = (
    *PROXIES,
    *map(str.lower, PROXIES),
    "NO_PROXY",
    "no_proxy",
    *REPLACING,
    *ADDING,
    "NODE_USE_ENV_PROXY",
)


BEFORE = "FLOW_ROTATE_BEFORE"
"""JSON: for each variable what it was before (null: not set), and what it was set to."""


def variables(
    url: str,
    env: Mapping[str, str],
    rules: Iterable[HostRule],
    bundle: Callable[[str], str],
    ca: str,
) -> dict[str, str]:
    """`bundle` makes a file of what a path names ("": the system's roots) and the proxy's CA; `ca`
    is the path of the CA itself.

    What a variable names already is trusted on: it is part of the bundle that takes its place.
    """
    before = what_was(env)
    own = {name: value for name, value in before.items() if value}
    made = dict.fromkeys((*PROXIES, *map(str.lower, PROXIES)), url)
    exempt = no_proxy(own.get("no_proxy") or own.get("NO_PROXY", ""), rules)
    made |= {"NO_PROXY": exempt, "no_proxy": exempt}
    # Who names one file for OpenSSL means: these are this machine's roots.
    usual = own.get("SSL_CERT_FILE", "")
    made |= {name: bundle(own.get(name, usual)) for name in REPLACING}
    made |= {name: bundle(own[name]) if name in own else ca for name in ADDING}
    # Node.js 24.0 and 22.21, "Command-line API": off unless it is asked for.
    made["NODE_USE_ENV_PROXY"] = "1"
    return made | {BEFORE: json.dumps({name: [before[name], made[name]] for name in EVERY})}


def what_was(env: Mapping[str, str]) -> dict[str, str | None]:
    """The variables as they were before the first time; one that has been set since is itself."""
    noted = _noted(env)
    was = {name: env.get(name) for name in EVERY}
    for name, (before, ours) in noted.items():
        if was[name] == ours:
            was[name] = before
    return was


def undone(env: Mapping[str, str]) -> dict[str, str | None]:
    """What takes `variables` back; None is for what has to be unset. Empty: nothing was set."""
    return {**what_was(env), BEFORE: None} if BEFORE in env else {}


def _noted(env: Mapping[str, str]) -> dict[str, tuple[str | None, str]]:
    """What BEFORE says, as far as it can be read."""
    with suppress(ValueError, AttributeError, RecursionError):
        pairs = json.loads(env.get(BEFORE, "")).items()
        return {name: (pair[0], pair[1]) for name, pair in pairs if name in EVERY and _is(pair)}
    return {}


def _is(pair: object) -> bool:
    """Whether it is two texts that a variable can have; the first may be missing."""
    if not isinstance(pair, list) or len(pair) != 2:
        return False
    was, ours = pair
    return isinstance(ours, str) and (was is None or (isinstance(was, str) and was.isprintable()))


def proxy_in(env: Mapping[str, str | None]) -> str:
    """The proxy that https goes to, without its login; "" for none, or one that cannot be read."""
    written = env.get("https_proxy") or env.get("HTTPS_PROXY") or ""
    with suppress(ValueError):
        parts = urlsplit(written if "://" in written else f"http://{written}")
        port = parts.port or PORTS.get(parts.scheme)
        if parts.hostname and port:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"{parts.scheme}://{host}:{port}"
    return ""


def no_proxy(present: str, rules: Iterable[HostRule]) -> str:
    """What goes direct: this machine, and what went direct before; but no host of a pool."""
    entries = re.split(r"[,\s]+", present.strip(", \t"))  # curl takes blanks, too
    pooled = list(rules)
    wanted = (*LOOPBACK, *entries)
    kept = (e for e in wanted if e and not any(hides(e, rule) for rule in pooled))
    return ",".join(dict.fromkeys(kept))


def hides(entry: str, rule: HostRule) -> bool:
    """Whether a client that obeys this entry could go past the proxy to a host of the rule."""
    name, port = entry.lower(), ""
    if entry.count(":") == 1:
        name, _, port = name.partition(":")
    if port.isdecimal() and rule.port not in (None, int(port)):
        return False
    if name == "*":
        return True
    suffix = name.lstrip("*").lstrip(".")
    within = rule.wildcard and suffix.endswith(f".{rule.name}")
    return rule.name == suffix or rule.name.endswith(f".{suffix}") or within
