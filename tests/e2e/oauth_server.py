"""A real OAuth 2.0 authorization server on loopback, with its tables in memory."""

import logging
import secrets
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from authlib.integrations.flask_oauth2 import (  # type: ignore[import-untyped]
    AuthorizationServer,
)
from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    ClientMixin,
    TokenMixin,
    grants,
)
from authlib.oauth2.rfc6750 import BearerTokenGenerator  # type: ignore[import-untyped]
from flask import Flask, Response, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

CLIENT_ID = "rotator"
CLIENT_SECRET = "canary-client-secret+/%41=7d1e"
PUBLIC_CLIENT_ID = "public"


@dataclass(frozen=True, slots=True)
class _Client(ClientMixin):  # type: ignore[misc]
    client_id: str
    secret: str

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str) -> str:
        return scope or "read"

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, self.secret)

    def check_endpoint_auth_method(self, method: str, _: str) -> bool:
        return method == ("client_secret_basic" if self.secret else "none")

    def check_grant_type(self, grant_type: str) -> bool:
        return bool(self.secret) or grant_type == "refresh_token"


@dataclass(slots=True)
class _Issued(TokenMixin):  # type: ignore[misc]
    client_id: str
    scope: str
    ends: float

    def check_client(self, client: _Client) -> bool:
        return client.client_id == self.client_id

    def get_scope(self) -> str:
        return self.scope


@dataclass
class OAuthServer:
    """Use it as a context. `lifetime` in seconds; 0: no `expires_in` is told, tokens have no end.

    `requests` are the forms that came, `answer` takes the place of every answer while it is set,
    `down` makes every answer a 503, and none is sent while `open` is cleared.
    """

    leaf: Path | None = None
    """Key and certificate in one PEM, for 127.0.0.1; without, it is plain http."""
    lifetime: int = 3600
    down: bool = False
    answer: Response | None = None
    open: threading.Event = field(default_factory=threading.Event)
    forms: list[dict[str, str]] = field(default_factory=list)
    _access: dict[str, _Issued] = field(default_factory=dict)
    _refresh: dict[str, _Issued] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.open.set()
        self._clients = {
            client.client_id: client
            for client in (_Client(CLIENT_ID, CLIENT_SECRET), _Client(PUBLIC_CLIENT_ID, ""))
        }
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if self.leaf else None
        if context and self.leaf:
            context.load_cert_chain(self.leaf)
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", 0, _app(self), True, 1, _Quiet, ssl_context=context
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """The token endpoint."""
        return f"http{'s' if self.leaf else ''}://127.0.0.1:{self._server.port}/token"

    @property
    def requests(self) -> int:
        """How many token requests came."""
        return len(self.forms)

    def __enter__(self) -> "OAuthServer":
        # It logs the tokens that it gives out: a test that reads logs asks what the client logs.
        self._logger = logging.getLogger("authlib.oauth2.rfc6749")
        self._level, self._logger.level = self._logger.level, logging.INFO
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._logger.setLevel(self._level)

    def refresh_token(self, client_id: str = CLIENT_ID) -> str:
        """A first refresh token, as a user's consent would give one."""
        token = f"canary-refresh-{secrets.token_urlsafe(12)}"
        self._refresh[token] = _Issued(client_id, "read write", float("inf"))
        return token

    def valid(self, token: str) -> bool:
        """Whether an access token is good."""
        issued = self._access.get(token)
        return issued is not None and time.monotonic() < issued.ends

    def revoke_all(self) -> None:
        """End every access token. Refresh tokens stay."""
        self._access.clear()

    def save(self, token: dict[str, Any], request: Any) -> None:
        ends = time.monotonic() + self.lifetime if self.lifetime else float("inf")
        issued = _Issued(request.client.client_id, token.get("scope", ""), ends)
        self._access[token["access_token"]] = issued
        if "refresh_token" in token:
            self._refresh[token["refresh_token"]] = issued

    def find_client(self, client_id: str) -> _Client | None:
        return self._clients.get(client_id)

    def find_refresh_token(self, token: str) -> _Issued | None:
        return self._refresh.get(token)

    def forget_refresh_token(self, issued: _Issued) -> None:
        self._refresh = {text: i for text, i in self._refresh.items() if i is not issued}


def _app(server: OAuthServer) -> Flask:
    app = Flask(__name__)
    authorization = AuthorizationServer(app, server.find_client, server.save)
    authorization.register_token_generator(
        "default",
        BearerTokenGenerator(
            lambda **_: f"canary-access-{secrets.token_urlsafe(12)}",
            lambda **_: f"canary-refresh-{secrets.token_urlsafe(12)}",
            lambda *_: server.lifetime,
        ),
    )
    authorization.register_grant(grants.ClientCredentialsGrant)
    authorization.register_grant(_refresh_grant(server))

    @app.post("/token")
    def token() -> Response:
        server.forms.append(request.form.to_dict())
        server.open.wait()
        if server.down:
            return Response("down", 503)
        return server.answer or authorization.create_token_response()

    return app


def _refresh_grant(server: OAuthServer) -> type:
    class RefreshTokenGrant(grants.RefreshTokenGrant):  # type: ignore[misc]
        INCLUDE_NEW_REFRESH_TOKEN = True
        TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "none"]

        def authenticate_refresh_token(self, refresh_token: str) -> _Issued | None:
            return server.find_refresh_token(refresh_token)

        def authenticate_user(self, refresh_token: _Issued) -> str:
            return refresh_token.client_id

        def revoke_old_credential(self, refresh_token: _Issued) -> None:
            server.forget_refresh_token(refresh_token)

    return RefreshTokenGrant


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """A line for each request is noise in a test's output."""
