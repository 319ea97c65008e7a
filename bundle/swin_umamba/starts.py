"""A training before the training: weights to begin with that no patient's image has gone into."""

from __future__ import annotations

import copy
import gc
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from swin_umamba.data import write_phantoms
from swin_umamba.distributed import is_rank_zero, rank, wait_for_all
from swin_umamba.errors import InputError
from swin_umamba.runs.folders import RECORD_FILE, resume_of
from swin_umamba.runs.record import running_config

logger = logging.getLogger(__name__)

RUN = {"_target_": "swin_umamba.training.run_trainer", "trainer": "@train#trainer", "handlers": "@train#handlers"}


def start_on_phantoms(folder: str | os.PathLike, *, cases: int = 48, max_epochs: int = 12) -> str:
    """Train the running config's network on generated phantoms first and return the file of its weights.

    For `checkpoint` of train.yaml. The config's own settings hold for it, but for the data, the epochs and what is
    done after them: nothing is validated or scored. Of several processes all train. When the training itself goes on
    (`resume`), a start that is finished is not made again, and one that was interrupted goes on.

    Args:
        folder: gets the phantoms, `phantoms/`, and a run of its own, `run/`.
        cases: phantoms to train on, 1 or more.
        max_epochs: 1 or more.

    Returns:
        Path of `model.pt`.

    Raises:
        InputError: for a number that is not legal, or outside of a config that is being run.
    """
    for name, value in (("cases", cases), ("max_epochs", max_epochs)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} of the start on phantoms: {value!r}; legal: a whole number, 1 or more")
    config = running_config()
    if config is None:
        raise InputError("start_on_phantoms: legal: as a component of a config that is being run")
    run = Path(folder) / "run"
    weights = run / "model" / "model.pt"
    goes_on = bool(resume_of(config.get_parsed_content("resume"))) and (run / RECORD_FILE).is_file()
    if not (goes_on and weights.is_file() and _is_finished(run)):
        changes = {
            "datalist": str(Path(folder) / "phantoms" / "datalist.json"),
            "train#trainer#max_epochs": max_epochs,
            "output_dir": str(run),
            "model_dir": str(run / "model"),
            "resume": goes_on,
            "training_run#part_of": config.get_parsed_content("output_dir"),
        }
        logger.info("first of all %d epochs on %d generated phantoms", max_epochs, cases)
        try:
            if is_rank_zero():
                write_phantoms(Path(folder) / "phantoms", training=cases, validation=0, test=0)
            wait_for_all()
            _train(config, changes)
        except BaseException as error:
            config.get_parsed_content("training_run").failed(error)
            raise
    return str(weights)


def _train(config: ConfigParser, changes: dict[str, Any]) -> None:
    """Run the training of a config with these changes, apart from the objects that the config has made so far."""
    seed = config.get_parsed_content("seed") + rank()
    parser = ConfigParser(copy.deepcopy(config.get()))
    parser.update(
        {
            **changes,
            "device": config.get_parsed_content("device"),  # processes have joined each other already
            "pretrained": None,
            "checkpoint": None,
            "progress_file": None,
            "validate_during_training": False,
            "select": "last",
            "training": ["$@model_spec", "$@training_run.begin()", RUN],
        }
    )
    set_determinism(seed)
    parser.get_parsed_content("training")
    del parser
    gc.collect()  # engines and handlers hold each other, and with them a GPU's memory
    torch.cuda.empty_cache()
    set_determinism(seed)
    wait_for_all()  # the weights are written by one process


def _is_finished(run: Path) -> bool:
    try:
        return json.loads((run / RECORD_FILE).read_text(encoding="utf-8"))["status"] == "finished"
    except (OSError, ValueError, KeyError):
        return False
