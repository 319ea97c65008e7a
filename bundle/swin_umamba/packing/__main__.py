"""`python -m swin_umamba.packing`: the bundle and one model as a zip."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from swin_umamba.errors import report_errors_in_one_line
from swin_umamba.packing.bundle import EXTRAS, pack


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes the process's.

    Raises:
        InputError: for anything the user has to change.
    """
    report_errors_in_one_line()
    parser = argparse.ArgumentParser(prog="python -m swin_umamba.packing", description="Pack the bundle and one model.")
    parser.add_argument("model", help="folder with model.pt and model.yaml")
    parser.add_argument("--output", required=True, help="zip to write; its name becomes the bundle's")
    parser.add_argument("--name", help="of the bundle, if it is not the zip's")
    parser.add_argument(
        "--include", default="", help=f"{', '.join(EXTRAS)}, parted by commas; model.pt is always there"
    )
    given = parser.parse_args(arguments)
    include = [extra.strip() for extra in given.include.split(",") if extra.strip()]
    packed = pack(given.model, given.output, name=given.name, include=include)
    models = [file for file in packed.files if file.startswith("models/")]
    print(f"{packed.path}: bundle {packed.name}, {len(packed.files)} files, {', '.join(models)}")
    print(f"unpack it anywhere, then see {packed.name}/docs/README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
