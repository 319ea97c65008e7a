"""Download published weights: the command behind `python -m swin_umamba.weights fetch NAME`."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import yaml

from swin_umamba.errors import InputError, report_errors_in_one_line
from swin_umamba.files import replace_file
from swin_umamba.weights import read_state_dict

MODELS = Path(__file__).resolve().parents[2] / "models"  # of a checkout
TIMEOUT = 60  # seconds without a byte


def fetch(name: str, catalogue: str | Path = MODELS / "checkpoints.yaml", folder: str | Path | None = None) -> Path:
    """Download the weights called `name`, unless they are there, and check them.

    Args:
        name: an entry of the catalogue.
        catalogue: YAML file of entries with url, file and sha256 (null where nobody knows it).
        folder: where to put the file; by default `pretrained` beside the catalogue.

    Returns:
        Path of the file.

    Raises:
        InputError: if the name is unknown, the download fails, or the file is not what the catalogue says.
    """
    entry = _entry(name, Path(catalogue))
    path = Path(folder or Path(catalogue).parent / "pretrained") / entry["file"]
    if path.is_file():
        _check(path, entry)
        print(f"{path} is there already")
        return path
    print(f"{entry['url']} -> {path}")
    with replace_file(path) as temporary:
        try:
            _download(entry["url"], temporary)
        except (OSError, ValueError, HTTPException) as error:
            hint = f"download it with a browser (see also {entry.get('page', entry['url'])}) and put it at {path}"
            raise InputError(f"cannot download {entry['url']}: {getattr(error, 'reason', error)}; {hint}") from error
        _check(temporary, entry)
    return path


def _entry(name: str, catalogue: Path) -> dict[str, Any]:
    if not catalogue.is_file():
        raise InputError(f"no catalogue {str(catalogue)!r}; --catalogue takes the path of a checkpoints.yaml")
    entries = yaml.safe_load(catalogue.read_text(encoding="utf-8")) or {}
    if name not in entries:
        raise InputError(f"unknown weights {name!r}; {catalogue} lists {', '.join(entries)}")
    return entries[name]


def _download(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(path, "wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)
        expected, got = response.headers.get("Content-Length"), file.tell()
    if expected is not None and int(expected) != got:
        raise OSError(f"the connection broke after {got} of {expected} bytes")


def _check(path: Path, entry: dict[str, Any]) -> None:
    """Compare the file's sha256 with the catalogue's; without one, say so, and at least read the file."""
    with open(path, "rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if entry.get("sha256") is None:
        read_state_dict(path)
        print(f"sha256 {got}; could not be verified: the catalogue has none for {entry['file']}")
    elif got != entry["sha256"].lower():
        raise InputError(f"{entry['file']} has sha256 {got}, legal is {entry['sha256']}; delete it and fetch again")
    else:
        print(f"sha256 {got}: as it should be")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    report_errors_in_one_line()
    parser = argparse.ArgumentParser(prog="python -m swin_umamba.weights", description="Published weights.")
    command = parser.add_subparsers(required=True, metavar="fetch").add_parser("fetch", help="download weights by name")
    command.add_argument("name", help="an entry of the catalogue, for example vmamba_tiny")
    command.add_argument("--catalogue", type=Path, default=MODELS / "checkpoints.yaml", help="default: %(default)s")
    command.add_argument("--folder", type=Path, help="default: pretrained, beside the catalogue")
    given = parser.parse_args(arguments)
    fetch(given.name, given.catalogue, given.folder)
