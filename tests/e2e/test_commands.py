"""The commands that a person types, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers_bundle import BUNDLE, TINY, flags, write_cases, write_model
from helpers_commands import run_module
from helpers_imaging import write_nifti
from swin_umamba.models import load_model

pytestmark = pytest.mark.e2e

TRAIN, EVALUATE = "bundle/configs/train.yaml", "['bundle/configs/inference.yaml','bundle/configs/evaluate.yaml']"
SETTINGS = {**TINY, "bundle_root": "bundle"}


def training_flags(folder: Path, **more: object) -> list[str]:
    datalist = write_cases(folder / "data", {"training": 2, "validation": 1, "test": 1})
    places = {"datalist": datalist, "model_dir": folder / "model", "output_dir": folder / "out"}
    return flags({**SETTINGS, **places, **more})


def assert_one_line(run, message: str) -> None:
    """Check that a command failed and that the user reads one line of ours, and no traceback."""
    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.stderr.strip().endswith(line)
    assert message in line


def test_training_answers_a_bad_label_map_with_one_line(tmp_path):
    given = training_flags(tmp_path)
    (tmp_path / "data" / "training0_label.nii.gz").write_bytes(b"no image")
    run = run_module("monai.bundle", "run", "training", "--config_file", TRAIN, *given)
    assert_one_line(run, f"{tmp_path / 'data' / 'training0_label.nii.gz'} cannot be read: ")
    assert "nvImageCodec" not in run.stderr
    assert not list(tmp_path.rglob("model.*"))


def test_evaluation_names_the_model_that_does_not_fit(tmp_path):
    datalist = write_cases(tmp_path / "data", {"test": 1})
    model = write_model(tmp_path / "model")
    (write_model(tmp_path / "other", seed=1) / "model.pt").replace(model / "model.pt")
    places = {"bundle_root": "bundle", "model": model, "datalist": datalist, "output_dir": tmp_path / "out"}
    run = run_module("monai.bundle", "run", "--config_file", EVALUATE, *flags({**places, "device": "cpu"}))
    assert_one_line(run, str(model / "model.pt"))
    assert not (tmp_path / "out").exists()


def test_inference_goes_on_after_a_broken_case_and_ends_with_one_line(tmp_path):
    datalist = write_cases(tmp_path / "data", {"test": 1})
    datalist.with_name("test0_label.nii.gz").unlink()
    write_nifti(datalist.with_name("broken.nii.gz"), torch.zeros(4, 4, 2, 3).numpy(), torch.eye(4).numpy())
    given = {"bundle_root": "bundle", "model": write_model(tmp_path / "model"), "dataset_dir": tmp_path / "data"}
    given |= {"output_dir": tmp_path / "out", "device": "cpu"}
    run = run_module("monai.bundle", "run", "--config_file", "bundle/configs/inference.yaml", *flags(given))
    assert_one_line(run, "1 of 2 cases failed: broken: broken.nii.gz has 3 channels")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"test0_seg.nii.gz", "test0_overlay.png", "report.json", "volumes.csv"}


def test_export_to_torchscript_gives_the_same_logits(tmp_path):
    model = write_model(tmp_path / "model")
    places = {"filepath": tmp_path / "model.ts", "ckpt_file": model / "model.pt", "model": model, "device": "cpu"}
    metadata = {"meta_file": "bundle/configs/metadata.json", "config_file": "bundle/configs/inference.yaml"}
    run = run_module(
        "monai.bundle", "ckpt_export", "network_def", *flags({**places, **metadata}), PYTHONPATH=str(BUNDLE)
    )
    assert run.returncode == 0, run.stderr[-3000:]
    x = torch.rand(1, 1, 40, 32)
    with torch.no_grad():
        expected = load_model(model).network(x)
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(x), expected, rtol=1e-4, atol=1e-4)
