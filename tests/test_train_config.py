"""The training config as a whole: two iterations on cases of noise."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import sqlite3
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers_bundle import LABELS, training, volume, write_cases
from helpers_imaging import write_nifti
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.handlers import loss_of
from swin_umamba.models import load_model
from swin_umamba.runs.record import git_state
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture(scope="module")
def datalist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("data"), {"training": 2, "validation": 1})


def run(folder: Path, datalist: Path | None, **overrides: Any) -> ConfigWorkflow:
    workflow = training(folder, datalist, **overrides)
    run_reporting(workflow)
    return workflow


def run_reporting(workflow: ConfigWorkflow) -> None:
    try:
        workflow.run()
    except RuntimeError as error:
        raise input_error_of(error) or error from None
    finally:
        workflow.finalize()


def losses(folder: Path, datalist: Path, **overrides: Any) -> list[float]:
    """Return the loss of each iteration."""
    workflow = training(folder, datalist, **overrides)
    found: list[float] = []
    workflow.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: found.append(float(loss_of(engine.state.output)))
    )
    workflow.run()
    return found


def test_workflow_has_the_properties_that_monai_asks_for(tmp_path, datalist):
    assert training(tmp_path, datalist).check_properties() == []


@pytest.mark.parametrize("run_id", ["run", "training"])
def test_training_leaves_a_model_and_its_curves(tmp_path, datalist, run_id, capsys):
    run(tmp_path, datalist, run_id=run_id)
    model = load_model(tmp_path / "model")
    assert model.spec.labels == LABELS
    assert model.spec.roi_size == (32, 32)
    assert model.spec.mirror_axes == (0, 1)
    assert model.spec.training["epoch"] == 1
    assert 0 <= model.spec.training["validation_mean_dice"] <= 1
    assert model.network(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)
    curves = EventAccumulator(str(tmp_path / "out")).Reload().Tags()["scalars"]
    assert curves
    assert str(tmp_path / "model" / "model.pt") in capsys.readouterr().out


@pytest.mark.parametrize("network", ["swin_umamba_tiny", "swin_umamba_d_tiny"])
def test_training_sees_every_head_and_validation_one_map(tmp_path, datalist, network):
    workflow = training(tmp_path, datalist, network_name=network)
    heads: list[int] = []
    workflow.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: heads.append(len(engine.state.output[0]["pred"]))
    )
    shapes: list[tuple[int, ...]] = []
    workflow.evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: shapes.append(tuple(engine.state.output[0]["pred"].shape))
    )
    workflow.run()
    assert heads == [4, 4]
    assert shapes == [(3, 40, 36, 5)]  # one-hot, on the volume's own grid


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")], ids=["text", "torch"])
def test_overrides_of_monai_label(tmp_path, device):
    items = []
    for number in range(2):
        image, labels = volume(number)
        item = {"image": tmp_path / f"{number}.nii.gz", "label": tmp_path / f"{number}_label.nii.gz"}
        for key, voxels in (("image", image), ("label", labels)):
            write_nifti(item[key], voxels, np.diag([1.5, 1.5, 4.0, 1.0]))
        items.append({key: str(path) for key, path in item.items()})
    overrides = {"train#dataset#data": items[:1], "validate#dataset#data": items[1:], "train#trainer#max_epochs": 2}
    workflow = run(tmp_path, None, run_id="run", device=device, **overrides)
    assert workflow.trainer.state.epoch == 2
    assert load_model(tmp_path / "model").spec.training["max_epochs"] == 2


def test_one_seed_gives_one_first_loss(tmp_path, datalist):
    first, again, other = (losses(tmp_path / str(n), datalist, seed=seed) for n, seed in enumerate((3, 3, 4)))
    assert len(first) == 2
    assert first[0] == pytest.approx(again[0], rel=1e-5)
    assert first[0] != pytest.approx(other[0], rel=1e-3)


def test_partial_labels_reach_the_loss(tmp_path):
    partial = write_cases(tmp_path / "data", {"training": 1, "validation": 1}, labelled=["liver"])
    workflow = training(tmp_path, partial, **{"augmentation#foreground": 1.0})
    batches: list[Any] = []
    workflow.trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: batches.append(engine.state.batch))
    workflow.run()
    assert batches[0]["labelled"].tolist() == [[True, True, False]] * 2
    found = {int(value) for batch in batches for value in torch.unique(batch["label"])}
    assert found == {0, LABELS["liver"]}  # the spleen is not annotated: its voxels in the file are no truth


def test_average_resampling_and_several_slices_of_a_volume(tmp_path, datalist):
    run(tmp_path, datalist, ema_decay=0.9, spacing=[2.0, 2.5], slices_per_volume=2)
    assert load_model(tmp_path / "model").spec.spacing == (2.0, 2.5)


def test_training_goes_on_from_a_checkpoint(tmp_path, datalist):
    run(tmp_path / "first", datalist)
    weights = tmp_path / "first" / "model" / "model.pt"
    workflow = training(tmp_path / "second", datalist, checkpoint=str(weights))
    for key, value in torch.load(weights, weights_only=True).items():
        assert torch.equal(workflow.parser.get_parsed_content("network").state_dict()[key], value), key


def test_a_training_that_ends_before_its_first_validation_keeps_its_weights(tmp_path, datalist, caplog):
    run(tmp_path, datalist, val_interval=10)
    assert load_model(tmp_path / "model").spec.training["epoch"] == 1
    assert "no validation gave a score" in caplog.text


def test_data_without_validation_cases(tmp_path):
    lone = write_cases(tmp_path / "data", {"training": 1})
    with pytest.raises(InputError, match=r"section 'validation' has no cases"):
        run(tmp_path / "refused", lone)
    run(tmp_path / "taken", lone, validate_during_training=False)
    assert "validation_mean_dice" not in load_model(tmp_path / "taken" / "model").spec.training
    with pytest.raises(InputError, match="select 'best' needs a validator"):
        run(tmp_path / "best", lone, validate_during_training=False, select="best")


@pytest.mark.parametrize("ends", ["as it should", "with an error"])
def test_no_process_and_no_open_file_is_left_behind(tmp_path, datalist, ends):
    """The workflow is still there, as in a notebook: nothing waits for the garbage collector."""
    before = set(threading.enumerate())
    workflow = training(tmp_path, datalist, num_workers=2)
    if ends == "with an error":
        workflow.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), fail)
    with pytest.raises(InputError, match="out of luck") if ends == "with an error" else nullcontext():
        run_reporting(workflow)
    assert not multiprocessing.active_children()
    assert "_AsyncWriterThread" not in {type(thread).__name__ for thread in set(threading.enumerate()) - before}


def fail(engine: object) -> None:
    raise InputError("out of luck")


def test_tracking_with_mlflow(tmp_path, datalist):
    pytest.importorskip("mlflow")
    run(tmp_path, datalist, tracking="mlflow")
    with sqlite3.connect(tmp_path / "out" / "mlruns.db") as database:
        keys = {key for (key,) in database.execute("select distinct key from metrics")}
    assert {"train_loss", "val_mean_dice"} <= keys
    assert not list((tmp_path / "out").glob("config_*.json"))  # the run's own config.yaml says more


def test_every_run_has_a_folder_that_says_what_it_is(tmp_path, datalist):
    run(
        tmp_path,
        datalist,
        **{"cosine_epochs": "@train#trainer#max_epochs", "output_dir": "@run_folder"},
        runs_dir=str(tmp_path),
    )
    (folder,) = tmp_path.glob("swin_umamba_2*")
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["epoch"], record["max_epochs"], record["seed"]) == ("finished", 1, 1, 0)
    (part,) = record["parts"]
    assert part["versions"]["torch"] == torch.__version__
    assert part["git"] == git_state()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["cosine_epochs"], config["labels"], config["optimizer"]["lr"]) == (1, LABELS, 1e-4)
    assert config["optimizer"]["params"] == "$@network.parameters()"
    (epoch,) = csv.DictReader((folder / "metrics.csv").open())
    assert math.isfinite(float(epoch["loss"]))
    assert 0 <= float(epoch["val_mean_dice"]) <= 1
    assert float(epoch["seconds_waiting_for_data"]) <= float(epoch["seconds"])
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["epoch_00001.pt"]
    for name in ("model.pt", "model.yaml"):
        assert (folder / "model" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


BAD_SETTINGS = [
    ({"network_name": "swin_umambo"}, "unknown network 'swin_umambo' (did you mean swin_umamba?)"),
    ({"network_arguments": {"in_chanels": 1}}, "swin_umamba_d_tiny has no argument 'in_chanels'; it takes in_channels"),
    ({"network_arguments": {"in_channels": 3}}, "40 x 36 x 5 voxels; legal is a photograph of 3 channels, or grey"),
    ({"scan_backend": "fast"}, "scan_backend must be one of auto, cpu, cuda, triton, mamba_ssm, reference, not 'fast'"),
    ({"device_name": "cuda:99"}, "device 'cuda:99' is not in this machine; legal here: auto, cpu"),
    ({"precision": "half"}, "precision 'half' is unknown; legal: auto, bfloat16, float16, float32"),
    ({"labels": {"liver": 1, "spleen": 3}}, "labels: ids must be 1 to 2 without gaps, not [1, 3]"),
    ({"labels": {"heart": 1}}, "heart"),
    ({"roi_size": [16, 32]}, "roi_size.0: 16 is less than the minimum of 32"),
    ({"roi_size": [32]}, "roi_size: [32] is too short"),
    ({"spacing": [0, 1]}, "spacing.0: 0 is less than or equal to the minimum of 0"),
    ({"batch_size": 0}, "batch_size 0: legal: a whole number, 1 or more"),
    ({"batch_size": 3, "slices_per_volume": 2}, "batch size 3: 1 processes cannot share it evenly, 2 slices of each"),
    ({"iterations_per_epoch": 0}, "iterations_per_epoch 0: legal: a whole number, 1 or more"),
    ({"train#trainer#max_epochs": 0}, "max_epochs 0: legal: a whole number, 1 or more"),
    ({"val_interval": 0.5}, "val_interval 0.5: legal: a whole number, 1 or more"),
    ({"num_workers": -1}, "num_workers -1: legal: a number, 0 or more"),
    ({"learning_rate": -1.0}, "learning_rate -1.0: legal: a number, 0 or more"),
    ({"learning_rate": 1e30}, "the loss became nan in iteration 2 of epoch 1: lower the learning rate"),
    ({"select": "first"}, "select of the saved model: 'first'; legal: 'best', 'last'"),
    ({"deep_supervision_weights": [1, 1]}, "2 weights of deep supervision for 4 heads; give one for each"),
    ({"checkpoint": "/nowhere/model.pt"}, "/nowhere/model.pt"),
]


@pytest.mark.parametrize(("setting", "message"), BAD_SETTINGS, ids=[str(setting) for setting, _ in BAD_SETTINGS])
def test_bad_settings_are_refused_and_nothing_is_written(tmp_path, datalist, setting, message):
    with pytest.raises(InputError) as caught:
        run(tmp_path, datalist, **setting)
    assert message in str(caught.value)
    assert not list(tmp_path.rglob("model.*"))


@pytest.mark.parametrize("key", ["model_dir", "output_dir"])
def test_folders_that_cannot_be_written_to_are_refused_before_training(tmp_path, datalist, key):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"folder '.*file' cannot be written to"):
        run(tmp_path, datalist, **{key: str(tmp_path / "file")})
    assert (tmp_path / "file").read_text() == "in the way"
