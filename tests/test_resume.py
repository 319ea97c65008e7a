"""A training that was killed goes on as if it had never stopped."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from helpers_bundle import ROOT, TINY, flags, training, write_cases
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from swin_umamba.checkpoints import checkpoints_of
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.handlers import loss_of
from swin_umamba.models import load_model
from swin_umamba.runs.folders import is_running

EVERYTHING = {  # all that has a state: average, drop path, schedule, workers, every augmentation
    "ema_decay": 0.9,
    "drop_path_rate": 0.3,
    "learning_rate": 3.0e-3,
    "cosine_epochs": 5,
    "num_workers": 2,
    "iterations_per_epoch": 3,
    "slices_per_volume": 2,
    "train#trainer#max_epochs": 4,
    **{
        f"augmentation#{name}#prob": 0.5
        for name in (
            *("rotate", "zoom", "noise", "blur", "brightness", "contrast", "low_resolution", "gamma", "gamma_inverted"),
            *("region_contrast", "intensity_map", "shallow_network", "bias_field"),
        )
    },
}


ON_DEVICE = {  # batches made on the device, as configs/chaos_mri.yaml makes them, with all that it changes in them
    "overlays": ("chaos_mri.yaml",),
    "labels": {"liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4},
    "network_arguments": {"in_channels": 1},
    "checkpoint": "",
    "num_workers": 0,
    "evaluate_after_training": False,
}


@pytest.fixture(scope="module")
def datalist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("data"), {"training": 3, "validation": 1})


def watched(
    folder: Path, datalist: Path, handlers: Mapping[Any, Callable] = MappingProxyType({}), **overrides: Any
) -> tuple[list[float], ConfigWorkflow]:
    """Return the loss of each iteration of a training in this process, and its workflow."""
    workflow = training(folder, datalist, **{**EVERYTHING, **overrides})
    losses: list[float] = []
    try:
        workflow.trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: losses.append(float(loss_of(engine.state.output)))
        )
        for event, handler in handlers.items():
            workflow.trainer.add_event_handler(event, handler)
        workflow.run()
    except RuntimeError as error:
        raise input_error_of(error) or error from None
    finally:
        workflow.finalize()
    return losses, workflow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, datalist: Path) -> tuple[list[float], Path]:
    """A training of four epochs that nothing interrupts: its losses and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    losses, _ = watched(folder, datalist)
    return losses, folder


def epochs(folder: Path) -> list[dict[str, str]]:
    """Return the learnt part of the record of the epochs."""
    with (folder / "out" / "metrics.csv").open() as file:
        return [
            {key: line[key] for key in ("epoch", "loss", "learning_rate", "val_mean_dice")}
            for line in csv.DictReader(file)
        ]


def killed_after(folder: Path, datalist: Path, epoch: int, overlays: Sequence[str] = (), **overrides: Any) -> None:
    """Start a training as a user does and kill it, with its workers, in the epoch after this one."""
    places = {"datalist": datalist, "model_dir": folder / "model", "output_dir": folder / "out"}
    files = ["bundle/configs/train.yaml", *(f"configs/{name}" for name in overlays)]
    command = ["-m", "monai.bundle", "run", "training", "--config_file", str(files)]
    settings = {**TINY, **EVERYTHING, **overrides, **places, "train#trainer#max_epochs": 1000}
    process = subprocess.Popen(
        [sys.executable, *command, *flags(settings)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    try:
        until = time.monotonic() + 240
        while not any(path.stem >= f"epoch_{epoch:05d}" for path in checkpoints_of(folder / "out")):
            assert process.poll() is None, "the training ended by itself"
            assert time.monotonic() < until
            time.sleep(0.005)
        assert is_running(folder / "out")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not is_running(folder / "out")


@pytest.mark.e2e
def test_killed_training_goes_on_bit_by_bit(tmp_path, datalist, whole):
    losses, reference = whole
    killed_after(tmp_path, datalist, epoch=1)
    (tmp_path / "out" / "checkpoints" / ".half.part.pt").write_bytes(b"what a kill leaves of a file")
    done = int(checkpoints_of(tmp_path / "out")[-1].stem.removeprefix("epoch_"))
    assert 1 <= done <= 3
    again, _ = watched(tmp_path, datalist, resume=True)
    assert again == losses[3 * done :]
    assert epochs(tmp_path) == epochs(reference)
    assert_same_models(tmp_path / "model", reference / "model")
    assert_same_models(tmp_path / "out" / "model", reference / "model")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["status"], record["epoch"], len(record["parts"])) == ("finished", 4, 2)


@pytest.mark.e2e
def test_killed_training_with_batches_of_the_device_goes_on_bit_by_bit(tmp_path, datalist):
    whole, _ = watched(tmp_path / "whole", datalist, **ON_DEVICE)
    assert len(set(whole)) == 12
    killed_after(tmp_path, datalist, epoch=1, **ON_DEVICE)
    done = int(checkpoints_of(tmp_path / "out")[-1].stem.removeprefix("epoch_"))
    assert 1 <= done <= 3
    again, _ = watched(tmp_path, datalist, resume=True, **ON_DEVICE)
    assert again == whole[3 * done :]
    assert epochs(tmp_path) == epochs(tmp_path / "whole")
    assert_same_models(tmp_path / "model", tmp_path / "whole" / "model")


def test_loss_scale_goes_on(tmp_path, datalist, monkeypatch):
    """A scale far too high is halved, step by step left out, until it fits: a run that forgot it would do that anew.

    The scaler is PyTorch's for the CPU in place of the GPU's; both have the same state.
    """

    def scale(handler: Any, trainer: Any) -> None:
        trainer.amp, trainer.scaler = True, torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=7)

    monkeypatch.setattr("swin_umamba.training.LossScaling.__call__", scale)
    settings = {"num_workers": 0, "deep_supervision_weights": [8, 4, 2, 0]}  # a loss too high for this scale
    whole, workflow = watched(tmp_path / "whole", datalist, **settings)
    assert 2.0**100 < workflow.trainer.scaler.get_scale() < 2.0**127
    first, _ = watched(tmp_path, datalist, **settings, **{"train#trainer#max_epochs": 2})
    again, resumed = watched(tmp_path, datalist, **settings, resume=True)
    assert first + again == whole
    assert resumed.trainer.scaler.state_dict() == workflow.trainer.scaler.state_dict()


def assert_same_models(folder: Path, reference: Path) -> None:
    found, expected = load_model(folder), load_model(reference)
    for key, value in expected.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[key], value), key
    for key in ("epoch", "validation_mean_dice"):
        assert found.spec.training[key] == expected.spec.training[key]


@pytest.mark.parametrize("workers", [0, 3])
def test_number_of_workers_changes_nothing(tmp_path, datalist, whole, workers):
    losses, _ = watched(tmp_path, datalist, num_workers=workers, **{"train#trainer#max_epochs": 1})
    assert losses == whole[0][:3]


def test_other_seed_is_another_training(tmp_path, datalist, whole):
    losses, _ = watched(tmp_path, datalist, num_workers=0, seed=1, **{"train#trainer#max_epochs": 1})
    assert not set(losses) & set(whole[0])


def test_finished_run_is_finished(tmp_path, datalist, whole):
    folder = copy_of(whole[1], tmp_path)
    (tmp_path / "model" / "model.pt").write_bytes(b"half written")
    assert watched(folder, datalist, resume=True)[0] == []
    assert_same_models(tmp_path / "model", whole[1] / "model")


def test_longer_training_goes_on_from_a_finished_one(tmp_path, datalist, whole):
    losses, workflow = watched(copy_of(whole[1], tmp_path), datalist, resume=True, **{"train#trainer#max_epochs": 5})
    assert len(losses) == 3
    assert workflow.trainer.state.epoch == 5
    assert epochs(tmp_path)[:4] == epochs(whole[1])


def test_damaged_checkpoint_is_passed_over(tmp_path, datalist, whole, caplog):
    newest = checkpoints_of(copy_of(whole[1], tmp_path) / "out")[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert watched(tmp_path, datalist, resume=True)[0] == whole[0][9:]  # from epoch 3: the last two are kept
    assert f"{newest} cannot be read" in caplog.text
    for path in checkpoints_of(tmp_path / "out"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no usable checkpoint: .*epoch_00004.pt cannot be read"):
        watched(tmp_path, datalist, resume=True)


def test_run_does_not_go_on_in_another_way(tmp_path, datalist, whole):
    folder = copy_of(whole[1], tmp_path)
    with pytest.raises(InputError, match=r"holds a run: go on with it by --resume True, or choose another folder"):
        watched(folder, datalist)
    changed = {"learning_rate": 1e-3, "augmentation#flip#prob_x": 0.0}
    with pytest.raises(
        InputError, match=r"augmentation#flip#prob_x was 0.5, is 0.0; learning_rate was 0.003, is 0.001;"
    ):
        watched(folder, datalist, resume=True, **changed)
    other = write_cases(tmp_path / "data", {"training": 2, "validation": 1})
    with pytest.raises(InputError, match="was trained on other cases than the data list holds now"):
        watched(folder, other, resume=True)
    with pytest.raises(InputError, match="resume '/nowhere' and output_dir '.*': legal: one of them, or the same"):
        watched(folder, datalist, resume="/nowhere")


def test_one_training_at_a_time_writes_to_a_run(tmp_path, datalist):
    def second(engine):
        with pytest.raises(InputError, match="another training is writing to"):
            watched(tmp_path, datalist, resume=True, num_workers=0)

    workflow = training(tmp_path, datalist, **{**EVERYTHING, "num_workers": 0, "train#trainer#max_epochs": 1})
    workflow.trainer.add_event_handler(Events.EPOCH_COMPLETED, second)
    workflow.run()
    assert not is_running(tmp_path / "out")


def test_training_that_never_began_begins(tmp_path, datalist, whole):
    losses, _ = watched(tmp_path, datalist, resume=True, num_workers=0, **{"train#trainer#max_epochs": 1})
    assert losses == whole[0][:3]


def spoil(engine) -> None:
    next(iter(engine.network.parameters())).data.fill_(float("nan"))


def fill_the_disk(engine) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


TROUBLES = {
    "nan": (spoil, {}, "the loss became nan in iteration 7 of epoch 3"),
    "full disk": (fill_the_disk, {}, "cannot be written: File too large"),
    "data gone": (None, {"cache_rate": 0.0}, "training0.nii.gz does not exist"),
}


@pytest.mark.parametrize(("trouble", "settings", "message"), TROUBLES.values(), ids=TROUBLES)
def test_training_that_cannot_go_on_says_why_and_can_be_resumed(tmp_path, datalist, whole, trouble, settings, message):
    data = copy_of(datalist.parent, tmp_path / "data")

    def hide_data(engine) -> None:
        for file in data.glob("training*"):
            file.rename(file.with_suffix(".hidden"))

    def strike(engine) -> None:
        (trouble or hide_data)(engine)

    events = {Events.EPOCH_STARTED(once=3): strike}
    settings = {**settings, "num_workers": 1}
    try:
        with pytest.raises(InputError) as caught:
            watched(tmp_path, data / "datalist.json", events, **settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert message in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert str(caught.value).endswith(f"what was learnt up to epoch 00002 is kept: --resume {tmp_path / 'out'}")
    assert not list((tmp_path / "out" / "checkpoints").glob(".*"))
    for file in data.glob("*.hidden"):
        file.rename(file.with_suffix(".gz"))
    losses, _ = watched(tmp_path, data / "datalist.json", resume=True, **settings)
    assert losses == whole[0][6:]
    assert epochs(tmp_path) == epochs(whole[1])


def copy_of(folder: Path, place: Path) -> Path:
    shutil.copytree(folder, place, dirs_exist_ok=True)
    return place
