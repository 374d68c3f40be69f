"""What the variables do not do for the languages and tools that are installed."""

import re
import shlex
import shutil
from collections.abc import Callable
from urllib.parse import urlsplit

from flowrotate.machine import commands

from .finding import Finding, Findings, note

Which = Callable[[str], str | None]

PLAINLY = {
    "go": (
        "Go's programs read SSL_CERT_FILE on Linux, elsewhere the system's store alone; "
        "they never send requests for localhost to a proxy",
        "macOS, Windows: flow-rotate system on",
    ),
    "dotnet": (
        ".NET reads SSL_CERT_FILE on Linux, elsewhere the system's store alone",
        "macOS, Windows: flow-rotate system on",
    ),
}


def stacks(
    url: str, ca: str, which: Which = shutil.which, run: commands.Run = commands.run
) -> Findings:
    if which("java"):
        yield _java(url, ca)
    for program, (said, mend) in PLAINLY.items():
        if which(program):
            yield note("stacks", said, mend)
    if node := which("node"):
        yield _node(run([node, "--version"]).text.strip())
    wget = which("wget")
    # Built with OpenSSL, it reads SSL_CERT_FILE.
    if wget and "ssl/gnutls" in run([wget, "--version"]).text:
        yield note(
            "stacks",
            "wget is built with GnuTLS here (as Debian has it), and reads no CA variable",
            'wget --ca-certificate="$SSL_CERT_FILE", or ca_certificate = FILE in ~/.wgetrc',
        )


def _java(url: str, ca: str) -> Finding:
    parts = urlsplit(url)
    options = " ".join(
        f"-D{scheme}.proxyHost={parts.hostname} -D{scheme}.proxyPort={parts.port}"
        for scheme in ("https", "http")
    )
    return note(
        "stacks",
        "Java reads neither proxy nor CA variables",
        "keytool -importcert -noprompt -cacerts -storepass changeit -alias flow-rotate -file "
        f"{shlex.quote(ca)}; export JAVA_TOOL_OPTIONS='{options}'",
    )


def _node(version: str) -> Finding:
    """Node.js, "Command-line API": NODE_USE_ENV_PROXY since 24.0 and 22.21."""
    older = "undici's EnvHttpProxyAgent, or reverse mode (docs/machine.md)"
    match = re.fullmatch(r"v(\d{1,4})\.(\d{1,4})\.\S{1,40}", version)
    if not match:
        said = "Node.js reads HTTPS_PROXY from 22.21 and 24.0 on (NODE_USE_ENV_PROXY=1)"
        return note("stacks", said, f"older: {older}")
    numbers = int(match[1]), int(match[2])
    if numbers >= (24, 0) or (22, 21) <= numbers < (23, 0):
        said = f"Node.js {version} reads HTTPS_PROXY, with NODE_USE_ENV_PROXY=1 (flow-rotate env)"
        return note("stacks", said)
    return note("stacks", f"Node.js {version} reads no proxy variables (22.21 and 24.0 do)", older)
