"""What is told of a training while it runs and when it is over, when it is served, and what a full disk leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil

import pytest
from helpers_bundle import AFFINE, BUNDLE, LABELS, volume, write_model
from helpers_imaging import write_nifti
from helpers_server import write_studies
from swin_umamba.errors import input_error_of
from swin_umamba.models import read_spec

from monailabel_app.app import SwinUMambaApp
from monailabel_app.datastore import SafeDatastore
from monailabel_app.history import History
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
    write_progress(task, epoch=2, metric=None)
    assert shown_by_slicer(task.stats()) == (2, 3, 0)
    write_progress(task, epoch=2, metric=0.75, best_metric=0.9)
    assert shown_by_slicer(task.stats()) == (2, 3, 75)
    assert "total_time" not in task.stats()
    write_progress(task, epoch=3, metric=0.75, best_metric=0.9)
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


def submit(store, tmp_path, number):
    """Submit a label of a case."""
    info = [{"name": name, "idx": value} for name, value in LABELS.items()]
    path = write_nifti(tmp_path / f"label_{number}.nii.gz", volume(seed=100 + number)[1], AFFINE)
    store.save_label(f"case_{number}", str(path), "final", {"label_info": info})


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """Give a data store with labelled cases; the test's own process trains, at its usual priority."""
    monkeypatch.setattr("monailabel_app.train.lower_priority", lambda niceness: None)

    def make(cases):
        store = SafeDatastore(write_studies(tmp_path / "studies", cases), History(tmp_path / "data"), auto_reload=False)
        for number in range(cases):
            submit(store, tmp_path, number)
        return store

    return make


def versions_of(task):
    """Return [(version, whether it is served)]."""
    return [(row["version"], row["served"]) for row in task.store.versions(task.name)]


@pytest.mark.parametrize(
    ("served", "new", "promote", "not_worse", "answers"),
    [
        (0.8, 0.81, "if not worse", True, "0.1.1"),
        (0.8, 0.8, "if not worse", True, "0.1.1"),
        (0.8, 0.79, "if not worse", False, "0.1.0"),
        (0.8, 0.9, "never", True, "0.1.0"),
        (None, None, "if not worse", None, "0.1.0"),  # none of the held-out cases shows an organ
    ],
)
def test_what_is_worse_on_held_out_patients_waits(
    tasks, labelled, monkeypatch, served, new, promote, not_worse, answers
):
    task = tasks["a"]

    def write_datalist(datastore, labels, settings, run):
        return {"datalist": run / "x", "training": ["a"], "validation": ["b"], "left_out": {}, "warnings": []}

    def train(version, cases, options, run):
        shutil.copytree(version.folder, run / "model")

    def evaluate_model(*, model, section, **_):
        assert section == "validation"
        return {"mean": {"dice": served if model == task.store.served("a").folder else new}}

    monkeypatch.setattr("monailabel_app.train.write_datalist", write_datalist)
    monkeypatch.setattr("monailabel_app.train.evaluate_model", evaluate_model)
    monkeypatch.setattr(task, "_train", train)
    record = task({"promote": promote, "device": "cpu"}, labelled(1))
    assert (record["not_worse"], record["served"]) == (not_worse, answers == "0.1.1")
    assert task.store.served("a").spec.version == answers
    assert [version for version, _ in versions_of(task)] == ["0.1.0", "0.1.1"]  # kept in any case


def test_a_full_disk_leaves_what_is_served_and_one_case_is_enough(tasks, labelled):
    one_case = labelled(1)
    task, options = tasks["a"], {"max_epochs": 1, "iterations_per_epoch": 1, "device": "cpu"}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(Exception, match="trainer") as refused:
            task(options, one_case)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be written: File too large" in str(input_error_of(refused.value))
    assert versions_of(task) == [("0.1.0", True)]
    record = task(options, one_case)  # nobody is held out, so the result waits
    assert (record["version"], record["served"], record["training"]) == ("0.1.1", False, ["case_0"])
    assert versions_of(task) == [("0.1.0", True), ("0.1.1", False)]


def test_held_out_patients_do_not_choose_the_epoch(tasks, labelled, monkeypatch):
    """They decide what is served, so the weights after the last epoch are what is judged, however good others were."""
    task, seen = tasks["a"], [0.9, 0.4]  # Dice after the epochs
    task.settings = dataclasses.replace(task.settings, validation_share=0.999)  # the first patient is trained on
    monkeypatch.setattr("monai.handlers.MeanDice.compute", lambda metric: seen.pop(0))
    record = task({"max_epochs": 2, "iterations_per_epoch": 1, "device": "cpu"}, labelled(2))
    assert (record["training"], record["validation"], seen) == (["case_0"], ["case_1"], [])
    learnt = read_spec(task.store.base / "a" / "versions" / "0.1.1")
    assert (learnt.training["epoch"], learnt.training["validation_mean_dice"]) == (2, 0.4)
    assert task.stats()["best_metric"] == 0.4
