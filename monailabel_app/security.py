"""Who may send requests, from where, and how much: a wrapper around the whole server."""

from __future__ import annotations

import dataclasses
import hmac
import ipaddress
import json
import os
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from swin_umamba.errors import InputError

TOKEN_VARIABLE, TOKEN_FILE_VARIABLE = "SWIN_UMAMBA_TOKEN", "SWIN_UMAMBA_TOKEN_FILE"
ORIGINS_VARIABLE, UPLOAD_VARIABLE = "SWIN_UMAMBA_CORS_ORIGINS", "SWIN_UMAMBA_UPLOAD_LIMIT_MB"
COOKIE = "swin_umamba_token"
LOGIN, PAGES = "/login", "/ohif/"  # what a person opens in the browser begins like the latter
OPEN_PATHS = ("/healthz", "/auth/", "/auth", "/auth/token", LOGIN)
SHORTEST_TOKEN = 16


@dataclasses.dataclass(frozen=True)
class Rules:
    """What the guard lets through.

    Args:
        token: that every request must carry, as a bearer token or in the cookie of the login page; None lets requests
            of this machine through without one, and no others.
        origins: of web pages, besides the server's own, that may use it, such as "https://viewer.example.org".
        upload_limit: largest body of a request in bytes.
    """

    token: str | None = None
    origins: tuple[str, ...] = ()
    upload_limit: int = 2 * 2**30

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Rules:
        """Read the rules that the command line, or a service unit, has put into the environment.

        Raises:
            InputError: for a token file that is missing or holds none, a token that is too short, or an illegal limit.
        """
        token = environment.get(TOKEN_VARIABLE, "").strip()
        file = environment.get(TOKEN_FILE_VARIABLE, "")
        if file and not token:
            try:
                token = Path(file).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"token file {file!r} cannot be read: {error}") from error
            if not token:
                raise InputError(
                    f"token file {file!r} is empty; legal: a line with {SHORTEST_TOKEN} or more characters"
                )
        if token and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
            raise InputError(f"token: legal: {SHORTEST_TOKEN} or more printable ASCII characters without spaces")
        limit = environment.get(UPLOAD_VARIABLE, "2048")
        if not limit.isdecimal() or int(limit) < 1:
            raise InputError(f"{UPLOAD_VARIABLE} {limit!r}: legal: a whole number of MiB, 1 or more")
        origins = tuple(
            part.strip().rstrip("/") for part in environment.get(ORIGINS_VARIABLE, "").split(",") if part.strip()
        )
        for origin in origins:
            if urlsplit(origin).scheme not in ("http", "https") or not urlsplit(origin).netloc:
                raise InputError(f"{ORIGINS_VARIABLE} {origin!r}: legal: such as https://viewer.example.org")
        return cls(token=token or None, origins=origins, upload_limit=int(limit) * 2**20)

    def accepts(self, token: str | None) -> bool:
        """Compare a token in constant time; blanks and ends of lines around it came from copying."""
        return self.token is not None and hmac.compare_digest((token or "").strip().encode(), self.token.encode())


class Guard:
    """ASGI middleware: origin, token, size, in this order, before anything of the server runs.

    Args:
        app: to guard.
        rules: to apply.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None and refusal[0] == 401 and _is_page(scope, headers):
            await _redirect(send, f"{LOGIN}?{urlencode({'next': _address_of(scope)})}")
            return
        if refusal is not None:
            await _answer(send, *refusal)
            return
        await self._limited(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.rules.token is None and not is_loopback(_name_of(host)):  # a web page whose name was made to point here
            return 403, f"host {host[:100]!r}: without a token this server answers as 127.0.0.1 and localhost only"
        origin = headers.get("origin")
        if origin and not self._own(origin, headers) and origin not in self.rules.origins:
            return 403, f"web pages of {origin[:100]} may not use this server; the administrator can allow that origin"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.rules.upload_limit:
            return 413, self._too_large()
        if scope["path"] in OPEN_PATHS or scope["method"] == "OPTIONS":
            return None
        if self.rules.token is None:
            if is_loopback((scope.get("client") or ("", 0))[0]):
                return None
            return 403, "this server has no token, so it answers its own machine only; start it with a token file"
        if self.rules.accepts(token_of(headers)):
            return None
        return 401, "a bearer token is needed: header 'Authorization: Bearer …', or log in at /login"

    @staticmethod
    def _own(origin: str, headers: Mapping[str, str]) -> bool:
        return origin.lower().partition("://")[2] == headers.get("host", "").lower()

    def _too_large(self) -> str:
        return f"the request is larger than {self.rules.upload_limit // 2**20} MiB"

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and cut it off when a body without a declared length grows too large."""
        taken, answered = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.rules.upload_limit:
                raise _TooLarge(413, self._too_large())
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = answered or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except _TooLarge as error:
            if not answered:
                await _answer(send, error.status_code, error.detail)


class _TooLarge(HTTPException):
    """What the app would make of another exception is "error parsing the body", or an error of its own."""


def token_of(headers: Mapping[str, str]) -> str | None:
    """Return the token of a request: of the Authorization header, or of the login page's cookie."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    try:
        cookies: Any = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return None
    return cookies[COOKIE].value if COOKIE in cookies else None


def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return host in ("localhost", "testclient")


def _name_of(host: str) -> str:
    """Return the Host header without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()


def page_after_login(wanted: str) -> str:
    """Return the page of this server that a person wanted before logging in, or the first one for anything else."""
    inside = wanted.startswith(PAGES) and wanted.isprintable() and "\\" not in wanted
    return wanted if inside else PAGES


def _is_page(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Tell whether a person's browser asks for a page, and not a program or a script for data."""
    page = scope["path"] == "/" or scope["path"].startswith(PAGES)
    return scope["method"] == "GET" and page and "text/html" in headers.get("accept", "")


def _address_of(scope: Scope) -> str:
    query = scope.get("query_string", b"").decode("latin-1")
    return scope["path"] + (f"?{query}" if query else "")


async def _redirect(send: Send, place: str) -> None:
    headers = [(b"location", place.encode("latin-1")), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _answer(send: Send, status: int, detail: str) -> None:
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": detail}).encode()})
