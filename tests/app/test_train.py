"""What is told of a training while it runs and when it is over."""

from __future__ import annotations

import json
import os

import pytest
from helpers_bundle import BUNDLE, write_model

from monailabel_app.app import SwinUMambaApp
from monailabel_app.settings import AppSettings
from monailabel_app.train import FineTuneTask
from monailabel_app.versions import ModelStore


@pytest.fixture
def tasks(tmp_path):
    for name in ("a", "b"):
        write_model(tmp_path / "models" / name, name=name)
    settings = AppSettings(bundle_root=BUNDLE, model_folders=(tmp_path / "models",), data_dir=tmp_path)
    store = ModelStore(settings.model_folders, tmp_path)
    return {name: FineTuneTask(name, store, settings) for name in ("a", "b")}


def write_progress(task, **progress):
    task.folder.mkdir(parents=True, exist_ok=True)
    task.progress_file.write_text(json.dumps({"total_epochs": 3, "total_time": 7.5, "loss": 0.5, **progress}))


def shown_by_slicer(stats):
    """Return epochs and accuracy as the module of 3D Slicer works them out."""
    epoch = 0 if stats.get("total_time") else stats.get("epoch", 1)
    return epoch, stats.get("total_epochs", 1), 100 * stats.get("best_metric", 0)


def test_slicer_shows_epochs_and_accuracy(tasks):
    task = tasks["a"]
    assert task.stats() == {}
    assert shown_by_slicer(task.stats()) == (1, 1, 0)
    write_progress(task, epoch=2, best_metric=None)
    assert shown_by_slicer(task.stats()) == (2, 3, 0)
    write_progress(task, epoch=2, best_metric=0.75)
    assert shown_by_slicer(task.stats()) == (2, 3, 75)
    assert "total_time" not in task.stats()
    write_progress(task, epoch=3, best_metric=0.75)
    assert (task.stats()["total_time"], task.stats()["seconds"]) == (7.5, 7.5)


@pytest.mark.parametrize("text", ["", "[]", '{"epoch": 1}', "{"])
def test_half_a_progress_file_is_none(tasks, text):
    write_progress(tasks["a"])
    tasks["a"].progress_file.write_text(text)
    assert tasks["a"].stats() == {}


def test_the_latest_training_comes_first(tasks):
    """Slicer shows the first one only."""
    for number, name in enumerate(("a", "b")):
        write_progress(tasks[name], epoch=1)
        os.utime(tasks[name].progress_file, (1000 + number, 1000 + number))
    assert list(SwinUMambaApp.training_stats(tasks)) == ["b", "a"]
