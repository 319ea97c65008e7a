"""What an administrator chooses about the PACS, on the command line or in the environment.

MONAI Label reads its settings when it is imported, so nothing here may import it: the command line comes first.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from swin_umamba.errors import InputError

from monailabel_app.pacs import connection

FILTER_VARIABLE = "MONAI_LABEL_DICOMWEB_SEARCH_FILTER"
DAYS_VARIABLE, SIZE_VARIABLE = "SWIN_UMAMBA_PACS_CACHE_DAYS", "SWIN_UMAMBA_PACS_CACHE_GB"
FILE_VARIABLES = (
    *(connection.PASSWORD_FILE_VARIABLE, connection.TOKEN_FILE_VARIABLE),
    *(connection.CA_VARIABLE, connection.CERTIFICATE_VARIABLE),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a PACS to a command line."""
    group = parser.add_argument_group("PACS", "for --studies https://…; passwords and tokens come from files")
    group.add_argument("--pacs-user", help="user name for HTTP basic authentication")
    group.add_argument("--pacs-password-file", help="file with that user's password")
    group.add_argument("--pacs-token-file", help="file with a bearer token")
    group.add_argument("--pacs-ca", help="PEM file of the authority that signed the PACS's certificate")
    group.add_argument("--pacs-certificate", help="PEM file with our own certificate and key, if the PACS wants one")
    group.add_argument(
        "--pacs-filter",
        action="append",
        metavar="ATTRIBUTE=VALUE",
        help="which series are offered; default Modality=MR; may be given several times",
    )
    group.add_argument(
        "--cache-days", type=float, help="that a copy of a series is kept after its last use; default 30"
    )
    group.add_argument("--cache-gb", type=float, help="that all copies may take; default 50")


def environment_of(options: argparse.Namespace) -> dict[str, str]:
    """Return the environment variables that say the same as the command line; what it leaves open is not among them.

    Raises:
        InputError: for a filter that is none.
    """
    chosen = {
        connection.USER_VARIABLE: options.pacs_user,
        connection.PASSWORD_FILE_VARIABLE: options.pacs_password_file,
        connection.TOKEN_FILE_VARIABLE: options.pacs_token_file,
        connection.CA_VARIABLE: options.pacs_ca,
        connection.CERTIFICATE_VARIABLE: options.pacs_certificate,
        DAYS_VARIABLE: options.cache_days,
        SIZE_VARIABLE: options.cache_gb,
    }
    if options.pacs_filter:
        pairs = [part.partition("=") for part in options.pacs_filter]
        for part, (key, _, value) in zip(options.pacs_filter, pairs, strict=True):
            if not key.isalnum() or not value:
                raise InputError(f"pacs_filter {part!r}: legal: ATTRIBUTE=VALUE, such as Modality=MR")
        chosen[FILTER_VARIABLE] = json.dumps({key: value for key, _, value in pairs})
    return {
        name: str(Path(value).expanduser().resolve()) if name in FILE_VARIABLES else str(value)
        for name, value in chosen.items()
        if value is not None
    }
