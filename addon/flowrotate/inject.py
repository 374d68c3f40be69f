"""Where a pool's secret is placed in a request, and which texts may be placed there. Pure."""

import base64
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2
_REFERENCE = re.compile(r"(\$|env:)[A-Z_][A-Z0-9_]*|\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_EXAMPLE = re.compile(r"[a-z]+-put-your-[a-z]+-key-here")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")  # RFC 3986, 2.3
_BRACED = re.compile(r"\{[^{}]*\}?|\}")
_PLACEHOLDERS = ("{secret}", "{basic}")
# Hop by hop, framing and routing: mitmproxy and the upstream need them as they are.
_RESERVED_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
LONGEST_SECRET = 16 * 1024
"""Characters. No server takes longer header fields, and hpack's compression of one is quadratic."""
SHORTEST_TELLING = 4
"""Characters. Below, a secret is part of many a name by chance."""


@dataclass(frozen=True, slots=True)
class Inject:
    """A header or query parameter, and its value with `{secret}` or `{basic}` in it once."""

    where: Literal["header", "query"]
    name: str
    template: str

    @property
    def needs_username(self) -> bool:
        return "{basic}" in self.template

    def render(self, secret: str, username: str | None) -> str:
        """The value as it is sent. Raises ValueError when a user name is needed and missing."""
        if not self.needs_username:
            filled = self.template.replace("{secret}", secret)
            return quote(filled, safe="") if self.where == "query" else filled
        if username is None:
            raise ValueError("{basic} needs a username")
        basic = base64.b64encode(f"{username}:{secret}".encode()).decode("ascii")
        return self.template.replace("{basic}", basic)

    def bare(self, value: str) -> str:
        """What `render` put into the template."""
        before, after = re.split("|".join(map(re.escape, _PLACEHOLDERS)), self.template)
        return value[len(before) : len(value) - len(after)]

    def show(self, alias: str) -> str:
        """The value as it may be seen."""
        if self.where == "query":
            return quote(self.template.replace("{secret}", alias), safe="/:")
        return self.template.replace("{basic}", alias).replace("{secret}", alias)


DEFAULT_INJECT = Inject("header", "Authorization", "Bearer {secret}")


def parse_inject(text: str) -> Inject:
    """`Header: template`, or `?name={secret}`. Raises ValueError with the mend."""
    if text.startswith("?"):
        return _parse_query(text)
    name, colon, template = text.partition(":")
    if not colon:
        raise ValueError('write "Header: {secret}" or "?name={secret}"')
    check_header(name)
    template = template.strip(" ")
    if not template.isascii() or not template.isprintable():
        raise ValueError("write only visible ASCII characters and spaces")
    _check_braces(template)
    return Inject("header", name, template)


def _parse_query(text: str) -> Inject:
    name, _, template = text[1:].partition("=")
    if template != "{secret}" or not _UNRESERVED.fullmatch(name):
        raise ValueError("write a query parameter as ?name={secret}, its name without escapes")
    return Inject("query", name, template)


def _check_braces(template: str) -> None:
    found = _BRACED.findall(template)
    if any(braced not in _PLACEHOLDERS for braced in found):
        raise ValueError("only {secret} or {basic} may stand in braces: did you mean {secret}?")
    if len(found) != 1:
        raise ValueError("write {secret} or {basic} exactly once")


def check_header(name: str) -> None:
    """Raises ValueError for what is no header name, or one that no pool may touch."""
    if not _TOKEN.fullmatch(name):
        raise ValueError("not a header name: write letters, digits and - only")
    lower = name.lower()
    if lower in _RESERVED_HEADERS or lower.startswith("proxy-"):
        raise ValueError("this header belongs to the connection: choose another")


def parse_strip(text: str) -> str:
    """A header's name, made lower-case, or `?name`. Raises ValueError with the mend."""
    if text.startswith("?"):
        if not _UNRESERVED.fullmatch(text[1:]):
            raise ValueError("write a query parameter as ?name, without escapes")
        return text
    check_header(text)
    return text.lower()


def parse_method(text: str) -> str:
    """An HTTP method, made upper-case. Raises ValueError."""
    if not _TOKEN.fullmatch(text):
        raise ValueError("not an HTTP method: write GET, POST or the like")
    return text.upper()


def check_secret(text: str, inject: Inject, alias: str = "") -> str | None:
    """What is wrong with a secret, in words that do not tell it, or None."""
    if not text:
        return "the secret is empty"
    if len(text) > LONGEST_SECRET:
        return f"the secret is longer than {LONGEST_SECRET // 1024} KiB: name the right one"
    if _REFERENCE.fullmatch(text):
        return "this names an environment variable: write {env: NAME}"
    if _EXAMPLE.fullmatch(text):
        return "this is the example's text: put your own secret in"
    if has_control(text):
        return "the secret has a control character (a line end or tab?): remove it"
    if text != text.strip():
        return "the secret begins or ends with a space: remove it"
    visible = text.isascii() and text.isprintable() and " " not in text
    if inject.where == "header" and not inject.needs_username and not visible:
        return "a header takes a secret of visible ASCII only: other words belong in 'inject'"
    if len(text) >= SHORTEST_TELLING and text in alias:
        return "the secret can be read in its id or pool name, which are shown: rename them"
    return None


def has_control(text: str) -> bool:
    """Whether text has control characters, line ends, or what cannot be encoded."""
    return any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)
