"""A token endpoint of OAuth 2.0, asked with Authlib over httpx. IO.

Nothing of what is sent, or of what it answers, is in a log or an error.
"""

import asyncio
import json
import logging
import math
import ssl
import warnings
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flowrotate.inject import LONGEST_SECRET

from .egress import Egress
from .tokens import MintError, text_of

if TYPE_CHECKING:
    from .mints import OAuth2Mint

TIMEOUT = 10.0
"""Seconds, to connect and for each read."""
LONGEST_REQUEST = 30.0
"""Seconds, in all."""
LARGEST_ANSWER = 1024 * 1024
"""Bytes."""


def client_class() -> Any:
    """Authlib's client for httpx. Raises ValueError when there is none."""
    try:
        from authlib.deprecate import AuthlibDeprecationWarning  # type: ignore[import-untyped]

        # Over httpx, some versions say on import that they would rather have httpx2.
        warnings.filterwarnings("ignore", category=AuthlibDeprecationWarning)
        from authlib.integrations import httpx_client  # type: ignore[import-untyped]
    except ImportError:
        message = "needs the extra 'oauth': install Authlib and httpx beside mitmproxy"
        raise ValueError(message) from None
    return httpx_client.AsyncOAuth2Client


_asking: ContextVar[bool] = ContextVar("asking", default=False)
_TALKATIVE = [
    f"{package}{part}"
    for package in ("httpx", "httpx2", "httpcore", "httpcore2")
    for part in ("", ".connection", ".http11", ".proxy")
]


def _is_not_ours(_: logging.LogRecord) -> bool:
    return not _asking.get()


async def ask(mint: "OAuth2Mint", egress: Egress) -> tuple[int, bytes]:
    """The status and body with which the token endpoint answers. Raises MintError."""
    # They log URLs with their queries, and an answer's header fields.
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_is_not_ours)
    _asking.set(True)  # in the context of this task, which ends with it
    try:
        async with asyncio.timeout(LONGEST_REQUEST):
            return await _post(mint, *await asyncio.to_thread(_way, egress, mint.token_url))
    except MintError:
        raise
    except Exception as e:
        # Whatever it is, it may quote what was sent: nothing of it goes on, not even as context.
        problem = _what_failed(e)
    raise MintError(problem)


def _way(egress: Egress, url: str) -> tuple[str | None, ssl.SSLContext]:
    try:
        if egress.is_this_proxy(url):
            raise MintError("token_url is this proxy itself: write where the endpoint is")
        return egress.proxy_for(url), egress.ssl_context()
    except ValueError as e:
        raise MintError(str(e)) from None


async def _post(
    mint: "OAuth2Mint", proxy: str | None, context: ssl.SSLContext
) -> tuple[int, bytes]:
    client_id, secret = mint.client_id, text_of(mint.client_secret)
    if secret:
        # RFC 6749, 2.3.1: they are escaped before they become a Basic user and password.
        client_id, secret = quote(client_id, safe=""), quote(secret, safe="")
    client = client_class()(
        client_id,
        secret,
        trust_env=False,
        proxy=proxy,
        verify=context,
        timeout=TIMEOUT,
        follow_redirects=False,
    )
    form = {
        "grant_type": mint.grant,
        "refresh_token": text_of(mint.refresh_token),
        "scope": mint.scope,
    }
    async with (
        client,
        client.stream(
            "POST",
            mint.token_url,
            auth=client.client_auth(client.token_endpoint_auth_method),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            data={name: value for name, value in form.items() if value},
        ) as response,
    ):
        body = bytearray()
        # Raw: a small body that unpacks into a large one is nothing that we asked for.
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > LARGEST_ANSWER:
                raise MintError("the token endpoint's answer is too large: check token_url")
        return response.status_code, bytes(body)


def _what_failed(error: BaseException | None) -> str:
    while error:
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                "the token endpoint's certificate cannot be verified: mend token_url, or name its "
                "CA's file in SSL_CERT_FILE"
            )
        error = error.__cause__ or error.__context__
    return "the token endpoint cannot be reached: check token_url, the network and the proxy"


@dataclass(frozen=True, slots=True)
class Answer:
    access_token: str = field(repr=False)
    expires_in: float | None
    refresh_token: str | None = field(repr=False)


def read_answer(status: int, body: bytes) -> Answer:
    """RFC 6749, 5.1. Raises MintError."""
    if not 200 <= status < 300:
        raise MintError(_refusal(status), status)
    data: object = None
    with suppress(ValueError, RecursionError):
        data = json.loads(body)
    fields = data if isinstance(data, dict) else {}
    access_token = _visible(fields.get("access_token"))
    if access_token is None or " " in access_token:
        raise MintError("the token endpoint gave no usable access_token: check token_url", status)
    life = _seconds(fields.get("expires_in"))
    return Answer(access_token, life, _visible(fields.get("refresh_token")))


def _refusal(status: int) -> str:
    if status in (400, 401, 403):
        mend = "check client_id, client_secret, scope and refresh_token"
    elif 300 <= status < 400:
        mend = "redirects are not followed, write where it leads to as token_url"
    elif status == 429 or status >= 500:
        mend = "it may be better later"
    else:
        mend = "check token_url"
    return f"the token endpoint answered {status}: {mend}"


def _visible(value: object) -> str | None:
    if not isinstance(value, str) or len(value) > LONGEST_SECRET:
        return None
    return value if value and value.isascii() and value.isprintable() else None


def _seconds(value: object) -> float | None:
    """A life in seconds, which some send as text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    with suppress(ValueError, OverflowError):
        seconds = float(value)
        return seconds if math.isfinite(seconds) and seconds > 0 else None
    return None
