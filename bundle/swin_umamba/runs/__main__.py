"""`python -m swin_umamba.runs`: trainings side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from swin_umamba.errors import report_errors_in_one_line
from swin_umamba.runs.comparison import find_runs, format_comparison, write_comparison


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of runs and, if asked for, draw their curves.

    Args:
        arguments: without the program's name; None takes the process's.

    Raises:
        InputError: for a folder that is no run and holds none.
    """
    report_errors_in_one_line()
    parser = argparse.ArgumentParser(prog="python -m swin_umamba.runs", description="Compare trainings.")
    parser.add_argument(
        "runs", nargs="*", default=["bundle/runs"], help="runs, or folders of runs; default: bundle/runs"
    )
    parser.add_argument("--output", metavar="FILE", help="draw loss and validation Dice into a .png, .pdf or .svg")
    given = parser.parse_args(arguments)
    runs = find_runs(given.runs)
    print(format_comparison(runs))
    if given.output:
        write_comparison(runs, given.output)
        print(f"\ncurves: {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
