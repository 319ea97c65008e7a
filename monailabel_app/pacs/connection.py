"""How the server reaches the PACS: address, credentials, TLS, time limits."""

from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import requests
from swin_umamba.errors import InputError

USER_VARIABLE = "SWIN_UMAMBA_PACS_USER"
PASSWORD_VARIABLE, PASSWORD_FILE_VARIABLE = "SWIN_UMAMBA_PACS_PASSWORD", "SWIN_UMAMBA_PACS_PASSWORD_FILE"
TOKEN_VARIABLE, TOKEN_FILE_VARIABLE = "SWIN_UMAMBA_PACS_TOKEN", "SWIN_UMAMBA_PACS_TOKEN_FILE"
CA_VARIABLE, CERTIFICATE_VARIABLE = "SWIN_UMAMBA_PACS_CA", "SWIN_UMAMBA_PACS_CERTIFICATE"
CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0  # for a connection, and between two parts of an answer
CONNECTIONS = 16  # at once, of the viewers' proxy


class PacsError(InputError):
    """The PACS cannot be reached (`status` 503), or refuses or answers nonsense (502)."""

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status


def is_url(studies: str) -> bool:
    """Tell whether studies are a PACS's address and no folder."""
    return studies.startswith(("http://", "https://"))


@dataclasses.dataclass(frozen=True)
class PacsConnection:
    """Address and credentials of a DICOMweb server.

    Args:
        url: of the DICOMweb root, without credentials, query and final slash.
        user: for HTTP basic authentication, with `password`.
        password: see `user`.
        token: sent as a bearer token instead.
        ca: PEM file with the certificates of authorities to trust, such as a hospital's own; None: the usual ones.
        certificate: PEM file with the client's certificate and key, for servers that ask for one.
    """

    url: str
    user: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    token: str | None = dataclasses.field(default=None, repr=False)
    ca: str | None = None
    certificate: str | None = None

    @classmethod
    def from_environment(cls, url: str, environment: Mapping[str, str] = os.environ) -> PacsConnection:
        """Read credentials from the environment, or from the files that it names.

        Raises:
            InputError: for an illegal address, a file that cannot be read, or credentials that contradict each other.
        """
        password = _secret(environment, PASSWORD_VARIABLE, PASSWORD_FILE_VARIABLE)
        token = _secret(environment, TOKEN_VARIABLE, TOKEN_FILE_VARIABLE)
        user = environment.get(USER_VARIABLE) or None
        if (user is None) != (password is None):
            raise InputError(f"{USER_VARIABLE} and {PASSWORD_VARIABLE} (or …_FILE): legal: both, or none")
        if user and token:
            raise InputError(f"{USER_VARIABLE} and {TOKEN_VARIABLE}: legal: one of them")
        files = {variable: environment.get(variable) or None for variable in (CA_VARIABLE, CERTIFICATE_VARIABLE)}
        for variable, file in files.items():
            if file and not Path(file).is_file():
                raise InputError(f"{variable} {file!r}: no such file")
        return cls(check_url(url), user, password, token, files[CA_VARIABLE], files[CERTIFICATE_VARIABLE])

    def as_environment(self) -> dict[str, str]:
        """Return the environment variables in which `from_environment` finds user and password."""
        return {USER_VARIABLE: self.user or "", PASSWORD_VARIABLE: self.password or ""}

    def session(self) -> requests.Session:
        """Return a session for one request after the other."""
        session = _Session()
        session.verify = self.ca or True
        session.cert = self.certificate
        if self.user is not None:
            session.auth = (self.user, self.password or "")
        if self.token is not None:
            session.headers["Authorization"] = f"Bearer {self.token}"
        return session

    def async_client(self, *, reuses: bool = True) -> httpx.AsyncClient:
        """Return a client for many requests at once; without `reuses` each gets a connection of its own."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate:
            context.load_cert_chain(self.certificate)
        return httpx.AsyncClient(
            auth=(self.user, self.password or "") if self.user is not None else None,
            headers={"Authorization": f"Bearer {self.token}"} if self.token is not None else None,
            verify=context,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=None if reuses else 0),
        )


class _Session(requests.Session):
    """A session that never waits without end."""

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or (CONNECT_SECONDS, READ_SECONDS)
        kwargs.setdefault("verify", self.verify)  # or REQUESTS_CA_BUNDLE would win over the PACS's own authority
        (kwargs.get("headers") or {}).pop("Host", None)  # dicomweb-client leaves out the port
        return super().request(method, url, *args, **kwargs)


def check_url(url: str) -> str:
    """Return the address of a DICOMweb root without its final slash.

    Raises:
        InputError: if it is none, or holds credentials, which would end up in logs and in lists of processes.
    """
    parts = urlsplit(url)
    try:
        legal = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        legal = False
    if parts.username or parts.password:
        raise InputError(
            f"studies: credentials do not belong into the address; set {USER_VARIABLE}, {PASSWORD_VARIABLE}"
        )
    if not legal or parts.query or parts.fragment:
        raise InputError(f"studies {url!r}: legal: the root of a DICOMweb server such as https://pacs/dicom-web")
    return url.rstrip("/")


def _secret(environment: Mapping[str, str], variable: str, file_variable: str) -> str | None:
    value, file = environment.get(variable) or None, environment.get(file_variable)
    if value is None and file:
        try:
            value = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file_variable} {file!r} cannot be read: {error}") from error
        if not value:
            raise InputError(f"{file_variable} {file!r} is empty; legal: a file with one line")
    return value
