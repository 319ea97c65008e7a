"""Get the OHIF viewer: `python -m monailabel_app.ohif fetch`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from swin_umamba.errors import InputError

from monailabel_app.ohif.package import PACKAGES, REGISTRY, VERSION, default_folder, fetch


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and fetch."""
    options = _parser().parse_args(arguments)
    folder = options.data_dir / "ohif" if options.data_dir else default_folder()
    try:
        print(f"OHIF {VERSION} is at {fetch(folder, options.file, options.registry)}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m monailabel_app.ohif", description="The OHIF viewer.")
    command = parser.add_subparsers(required=True, metavar="fetch").add_parser(
        "fetch", help=f"download and verify {' and '.join(item.name for item in PACKAGES)}, about 50 MB"
    )
    command.add_argument("--data-dir", type=Path, help="of one server; default: a folder for all servers of this user")
    command.add_argument(
        "--file", type=Path, action="append", default=[], help="a package that was got elsewhere; for each of them"
    )
    command.add_argument("--registry", help=f"npm registry; default: npm's own settings, or {REGISTRY}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
