"""Address and credentials of the PACS."""

from __future__ import annotations

from pathlib import Path

import pytest
from swin_umamba.errors import InputError

from monailabel_app.pacs import connection
from monailabel_app.pacs.connection import PacsConnection

URL = "https://pacs.example.org/dicom-web"


def test_credentials_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wort\n")
    environment = {connection.USER_VARIABLE: "us", connection.PASSWORD_FILE_VARIABLE: str(tmp_path / "password")}
    found = PacsConnection.from_environment(URL + "/", environment)
    assert (found.url, found.user, found.password) == (URL, "us", "wort")
    assert found.session().auth == ("us", "wort")
    assert "wort" not in repr(found)


def test_token_is_sent_as_bearer() -> None:
    found = PacsConnection.from_environment(URL, {connection.TOKEN_VARIABLE: "abc"})
    assert found.session().headers["Authorization"] == "Bearer abc"
    assert found.async_client().headers["authorization"] == "Bearer abc"
    assert "abc" not in repr(found)


def test_certificates_are_checked_against_the_authority_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    assert PacsConnection.from_environment(URL, {}).session().verify is True
    found = PacsConnection.from_environment(URL, {connection.CA_VARIABLE: str(tmp_path / "ca.pem")})
    assert found.session().verify == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("url", "environment", "message"),
    [
        ("https://a:b@pacs/dicom-web", {}, "credentials do not belong"),
        ("https://pacs/dicom-web?a=b", {}, "root of a DICOMweb server"),
        ("https://", {}, "root of a DICOMweb server"),
        ("https://pacs:99999/", {}, "root of a DICOMweb server"),
        (URL, {connection.USER_VARIABLE: "a"}, "both, or none"),
        (URL, {connection.PASSWORD_VARIABLE: "a"}, "both, or none"),
        (
            URL,
            {connection.USER_VARIABLE: "a", connection.PASSWORD_VARIABLE: "b", connection.TOKEN_VARIABLE: "c"},
            "one of them",
        ),
        (URL, {connection.TOKEN_FILE_VARIABLE: "/no/such/file"}, "cannot be read"),
        (URL, {connection.CA_VARIABLE: "/no/such/file"}, "no such file"),
    ],
)
def test_bad_settings_are_told(url: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PacsConnection.from_environment(url, environment)
