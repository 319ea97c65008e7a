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

import psutil
import pytest
import torch
from helpers_bundle import ROOT, TINY, command, flags, training, write_cases, write_model
from helpers_commands import run_module
from helpers_imaging import write_nifti
from swin_umamba.checkpoints import checkpoints_of
from swin_umamba.models import load_model

pytestmark = pytest.mark.e2e

TRAIN = "['bundle/configs/train.yaml','bundle/configs/multi_gpu_train.yaml']"
ALONE = ("-m", "monai.bundle")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", *ALONE)
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


def test_two_processes_learn_what_one_learns_and_the_first_evaluates_it(tmp_path):
    sections = {"training": 3, "validation": 3, "test": 1}
    datalist = write_cases(tmp_path / "data", sections, labelled=["liver", "spleen"])
    training(tmp_path / "one", datalist, **STEPS).run()
    places = {"datalist": datalist, "model_dir": tmp_path / "two/model", "output_dir": tmp_path / "two/out"}
    given = flags({**TINY, **STEPS, **places, "evaluate_after_training": True})
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
    assert run.stdout.count("model:  ") == 1  # only the first process speaks
    report = json.loads((tmp_path / "two/out/test/metrics.json").read_text(encoding="utf-8"))
    assert [case["case"] for case in report["cases"]] == ["test0"]


def test_two_processes_begin_on_phantoms_together(tmp_path):
    datalist = write_cases(tmp_path / "data", {"training": 3})
    settings = {**STEPS, "train#trainer#max_epochs": 2, "validate_during_training": False}
    for folder in (tmp_path / "one", tmp_path / "two"):
        start = {"_target_": "swin_umamba.starts.start_on_phantoms", "cases": 3, "max_epochs": 2}
        start["folder"] = str(folder / "out" / "start")
        places = {"datalist": datalist, "model_dir": folder / "model", "output_dir": folder / "out"}
        if folder.name == "one":
            training(folder, datalist, **settings, checkpoint=start).run()
            continue
        given = flags({**TINY, **settings, **places, "checkpoint": start})
        run = command("run", "training", "--config_file", TRAIN, *given, program=TORCHRUN)
        assert run.returncode == 0, run.stderr[-3000:]
    for model in ("out/start/run/model", "model"):
        expected, found = (load_model(tmp_path / name / model).network.state_dict() for name in ("one", "two"))
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=f"{model} {key}")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
@pytest.mark.parametrize("graphs", [False, True])
def test_two_gpus_learn_what_one_learns(tmp_path, graphs):
    datalist = write_cases(tmp_path / "data", {"training": 3, "validation": 3}, labelled=["liver", "spleen"])
    shared = {**TINY, **STEPS, "datalist": datalist, "device_name": "cuda", "precision": "float32"}
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, config, program in ((one, TRAIN.split(",")[0] + "]", ALONE), (two, TRAIN, TORCHRUN)):
        places = {"model_dir": folder / "model", "output_dir": folder / "out"}
        given = flags({**shared, **places, "cuda_graphs": graphs and folder == two})
        run = command("run", "training", "--config_file", config, *given, program=program, NVIDIA_TF32_OVERRIDE="0")
        assert run.returncode == 0, run.stderr[-3000:]
    assert ("recording a CUDA graph" in run.stdout + run.stderr) == graphs
    expected, found = steps(one), steps(two)
    assert len(expected) == len(found) == 20
    assert float(expected[0]["loss"]) - float(expected[-1]["loss"]) > 0.05
    for first, second in zip(expected, found, strict=True):
        assert float(second["loss"]) == pytest.approx(float(first["loss"]), abs=1e-4)  # cuDNN sums in another order
    assert json.loads((two / "out/run.json").read_text())["parts"][0]["processes"] == 2


def test_cases_are_shared_out_and_reported_once(tmp_path):
    data = write_cases(tmp_path / "data", {"test": 3})
    data.with_name("test1_label.nii.gz").unlink()
    write_nifti(data.with_name("broken.nii.gz"), torch.zeros(4, 4, 2, 3).numpy(), torch.eye(4).numpy())
    places = {"bundle_root": "bundle", "model": write_model(tmp_path / "model"), "device": "cpu"}
    places |= {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", "picture": False}
    run = run_module("monai.bundle", "run", "--config_file", several("inference"), *flags(places), processes=2)
    assert run.returncode == 1
    told = [line.removeprefix("[rank0]: ") for line in run.stderr.splitlines()]  # PyTorch may say which process it is
    (line,) = [line for line in told if line.startswith("error: ")]
    assert line.startswith("error: 1 of 4 cases failed: broken: broken.nii.gz has 3 channels")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {case["case"]: case["status"] for case in report["cases"]} == {
        "broken": "failed",
        **{f"test{number}": "ok" for number in range(3)},
    }
    assert len(list((tmp_path / "out").glob("*_seg.nii.gz"))) == 3
    assert run.stdout.count("test0: ok") == 1  # one process did it


def test_one_table_for_all_and_processes_without_a_case(tmp_path):
    datalist = write_cases(tmp_path / "data", {"test": 1})
    places = {"bundle_root": "bundle", "model": write_model(tmp_path / "model"), "device": "cpu", "picture": False}
    places |= {"datalist": datalist, "output_dir": tmp_path / "out"}
    configs = several("inference", "evaluate")
    run = run_module("monai.bundle", "run", "--config_file", configs, *flags(places), processes=2)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.count("mean of organs") == 1
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [case["case"] for case in report["cases"]] == ["test0"]


def test_process_that_dies_ends_the_run_with_a_message(tmp_path):
    datalist = write_cases(tmp_path / "data", {"training": 2, "validation": 1})
    places = {"datalist": datalist, "model_dir": tmp_path / "model", "output_dir": tmp_path / "out"}
    given = flags({**TINY, **STEPS, **places, "train#trainer#max_epochs": 100000})
    with (tmp_path / "log").open("w") as log:
        group = subprocess.Popen(
            [sys.executable, *TORCHRUN, "run", "training", "--config_file", TRAIN, *given],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            until = time.monotonic() + 240
            while not checkpoints_of(tmp_path / "out"):
                assert group.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            os.kill(second_process(group.pid), signal.SIGKILL)
            assert group.wait(timeout=120) != 0
        finally:
            group.kill()
    said = (tmp_path / "log").read_text()
    # whichever comes first: the connection breaks, or torchrun ends the process that is left
    assert "lost the others, one of them has died" in said or "ended by torchrun: one of the others has died" in said
    assert f"--resume {tmp_path / 'out'}" in said
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "failed"


def several(*names: str) -> str:
    return str([f"bundle/configs/{name}.yaml" for name in (*names, "multi_gpu_evaluate")]).replace(" ", "")


def second_process(launcher: int) -> int:
    """Return the id of the process of rank 1 that torchrun has started."""
    for child in psutil.Process(launcher).children():
        if child.environ().get("RANK") == "1":
            return child.pid
    raise AssertionError("no process of rank 1")
