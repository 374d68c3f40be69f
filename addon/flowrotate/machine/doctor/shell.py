"""The variables of this shell, and what other stacks need."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from flowrotate.hosts import HostRule
from flowrotate.machine.environment import PROXIES, hides
from flowrotate.report import show_host

from .finding import Findings, note, ok, warning

EVAL = 'eval "$(flow-rotate env)"'


def shell(env: Mapping[str, str], url: str, rules: Iterable[HostRule]) -> Findings:
    """As its tools will read them: many know only one of the two cases."""
    named = {name: env.get(name, "") for name in (*PROXIES, *map(str.lower, PROXIES))}
    if not any(named.values()):
        yield note("shell", "this shell sends nothing to a proxy", EVAL)
        return
    wrong = [f"{name}={_shown(text)}" for name, text in named.items() if not _same(text, url)]
    if wrong:
        yield warning("shell", f"not this proxy ({url}): {', '.join(wrong)}", EVAL)
    else:
        yield ok("shell", f"this shell's tools go to {url}")
    entries = {e.strip() for name in ("NO_PROXY", "no_proxy") for e in env.get(name, "").split(",")}
    for rule in rules:
        hidden = [entry for entry in sorted(entries) if entry and hides(entry, rule)]
        if hidden:
            said = f"NO_PROXY names {', '.join(hidden)}: {show_host(rule)} goes past the proxy"
            yield warning("shell", said, f"take it out, or {EVAL}")


def stacks(url: str, ca: str, which: Callable[[str], str | None] = shutil.which) -> Findings:
    """What the variables do not do for those that are installed."""
    parts = urlsplit(url)
    advice = {
        "java": (
            "Java reads neither proxy nor CA variables",
            f"keytool -importcert -noprompt -cacerts -storepass changeit -alias flow-rotate -file "
            f"{ca}; export JAVA_TOOL_OPTIONS='-Dhttps.proxyHost={parts.hostname} "
            f"-Dhttps.proxyPort={parts.port} -Dhttp.proxyHost={parts.hostname} "
            f"-Dhttp.proxyPort={parts.port}'",
        ),
        "go": (
            "Go's programs read SSL_CERT_FILE on Linux, elsewhere the system's store alone; "
            "they never send requests for localhost to a proxy",
            "macOS, Windows: flow-rotate system on",
        ),
        "dotnet": (
            ".NET reads SSL_CERT_FILE on Linux, elsewhere the system's store alone",
            "macOS, Windows: flow-rotate system on",
        ),
        "node": (
            "Node.js reads HTTPS_PROXY from 22.21 and 24.0 on (NODE_USE_ENV_PROXY=1)",
            "older: undici's EnvHttpProxyAgent, or reverse mode (docs/machine.md)",
        ),
    }
    for program, (said, mend) in advice.items():
        if which(program):
            yield note("stacks", said, mend)


def _same(text: str, url: str) -> bool:
    return text.rstrip("/") in (url, url.removeprefix("http://"))


def _shown(text: str) -> str:
    """Without a password."""
    return text.rpartition("@")[2] if text else "unset"
