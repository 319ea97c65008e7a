"""Several processes learn what one process learns, and none waits for one that has died."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers_bundle import ROOT, TINY, command, flags, training, write_cases
from swin_umamba.models import load_model

pytestmark = pytest.mark.e2e

TRAIN = "['bundle/configs/train.yaml','bundle/configs/multi_gpu_train.yaml']"
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "monai.bundle")
STEPS = {  # one step an epoch, so that the record of the epochs holds every loss
    "batch_size": 4,
    "iterations_per_epoch": 1,
    "train#trainer#max_epochs": 20,
    "val_interval": 20,
    "learning_rate": 1.0e-3,
    "ema_decay": 0.9,
    "select": "last",
    "checkpoint_interval": 10,
    "augmentation#foreground": 0.5,
}


def steps(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_processes_learn_what_one_learns(tmp_path):
    datalist = write_cases(tmp_path / "data", {"training": 3, "validation": 3}, labelled=["liver", "spleen"])
    training(tmp_path / "one", datalist, **STEPS).run()
    places = {"datalist": datalist, "model_dir": tmp_path / "two/model", "output_dir": tmp_path / "two/out"}
    given = flags({**TINY, **STEPS, **places})
    run = command("run", "training", "--config_file", TRAIN, *given, program=TORCHRUN)
    assert run.returncode == 0, run.stderr[-3000:]
    one, two = steps(tmp_path / "one"), steps(tmp_path / "two")
    assert len(one) == len(two) == 20
    assert float(one[0]["loss"]) - float(one[-1]["loss"]) > 0.05  # it learns
    for expected, found in zip(one, two, strict=True):
        assert float(found["loss"]) == pytest.approx(float(expected["loss"]), abs=1e-5)
    assert float(two[-1]["val_mean_dice"]) == pytest.approx(float(one[-1]["val_mean_dice"]), abs=1e-4)
    expected, found = (load_model(tmp_path / name / "model").network.state_dict() for name in ("one", "two"))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)
    assert json.loads((tmp_path / "two/out/run.json").read_text())["parts"][0]["processes"] == 2
