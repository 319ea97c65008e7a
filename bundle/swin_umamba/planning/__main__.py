"""`python -m swin_umamba.planning`: look at a data set and write an overlay for it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from swin_umamba.errors import report_errors_in_one_line
from swin_umamba.planning.fingerprint import fingerprint_dataset
from swin_umamba.planning.memory import check_memory, memory_at_hand
from swin_umamba.planning.overlay import COMMAND, describe, write_overlay
from swin_umamba.planning.plan import plan_training

PROGRAM = "python -m swin_umamba.planning"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes the process's.

    Raises:
        InputError: for anything the user has to change.
    """
    report_errors_in_one_line()
    logging.basicConfig(format="%(message)s")
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Look at a data set and write an overlay for it.")
    parser.add_argument("source", help="data list, or a folder: nnU-Net, Decathlon, or images/ and labels/")
    parser.add_argument("--output", required=True, help="overlay to write, such as configs/liver.yaml")
    parser.add_argument("--labels", help="of a plain folder: a label table, or a JSON or YAML file {organ: id}")
    parser.add_argument("--dataset_dir", help="folder that relative paths start from; default: the data list's own")
    parser.add_argument("--network", help="default: by the number of patients")
    parser.add_argument(
        "--memory_gb", type=float, help="GiB to plan for; default: the first GPU's, or a quarter of RAM"
    )
    given = parser.parse_args(arguments)

    if given.memory_gb is None:
        memory, memory_source = memory_at_hand()
        half = torch.cuda.is_available()
    else:
        memory, memory_source, half = check_memory(given.memory_gb), "as told", True
    fingerprint = fingerprint_dataset(given.source, given.labels, given.dataset_dir)
    settings = plan_training(
        fingerprint,
        model_name=Path(given.output).stem,
        memory=memory,
        memory_source=memory_source,
        half=half,
        network=given.network,
    )
    overlay, facts = write_overlay(given.output, settings, fingerprint)
    print("\n".join(describe(fingerprint)))
    print(f"{overlay}: the settings, with their reasons\n{facts}: every case")
    datalist = given.source if Path(given.source).suffix == ".json" else "DATALIST.json"
    print(f"then: {COMMAND.format(overlay=overlay, datalist=datalist)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
