"""Commands for administrators: `python -m monailabel_app.pacs purge …` and `… send …`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from swin_umamba.errors import InputError

from monailabel_app.pacs import options as pacs_options
from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PacsConnection
from monailabel_app.pacs.opening import FOLDER, open_cache
from monailabel_app.settings import default_data_dir

BATCH = 50  # instances sent at once


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do what it says."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def purge(options: argparse.Namespace) -> int:
    """Remove the copies of series; labels, and what is known of series that have one, stay."""
    data_dir = Path(options.data_dir or default_data_dir(options.studies)).expanduser()
    if not (data_dir / FOLDER).is_dir():
        raise InputError(f"data directory {str(data_dir)!r} is none of a server with a PACS")
    cache = open_cache(data_dir)
    size = sum(size for _, size in cache.used().values())
    removed = cache.purge()
    print(f"{len(removed)} copies of series removed, {size / 1e6:.0f} MB; labels are untouched")
    return 0


def send(options: argparse.Namespace) -> int:
    """Store the DICOM files of a folder in a PACS."""
    os.environ.update(pacs_options.environment_of(options))
    client = PacsClient(PacsConnection.from_environment(options.studies))
    total, batch = 0, []
    for dataset in _datasets(Path(options.folder)):
        batch.append(dataset)
        if len(batch) == BATCH:
            client.store(batch)
            total, batch = total + len(batch), []
    if batch:
        client.store(batch)
        total += len(batch)
    if not total:
        raise InputError(f"folder {options.folder!r} holds no DICOM file")
    print(f"{total} instances stored in {client.url}")
    return 0


def _datasets(folder: Path) -> Iterator[Dataset]:
    if not folder.exists():
        raise InputError(f"folder {str(folder)!r} does not exist")
    for file in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if file.is_file() and file.name != "DICOMDIR":
            try:
                yield pydicom.dcmread(file)
            except pydicom.errors.InvalidDicomError:
                print(f"{file} is left out: no DICOM file", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m monailabel_app.pacs", description="Look after a server with a PACS.")
    commands = parser.add_subparsers(required=True)
    purging = commands.add_parser("purge", help="remove the copies of series; stop the server before")
    place = purging.add_mutually_exclusive_group(required=True)
    place.add_argument("--data-dir", help="of the server; for --orthanc FOLDER it is FOLDER/.swin_umamba")
    place.add_argument("--studies", help="address of the PACS, if the server has its default data directory")
    purging.set_defaults(command=purge)
    sending = commands.add_parser("send", help="store DICOM files in a PACS, or through a running server")
    sending.add_argument("folder", help="folder of DICOM files, or one file")
    sending.add_argument(
        "--studies",
        required=True,
        help="root of a DICOMweb server; our server's: http://127.0.0.1:8000/proxy/dicom/wado",
    )
    pacs_options.add_options(sending)
    sending.set_defaults(command=send)
    return parser


if __name__ == "__main__":
    sys.exit(main())
