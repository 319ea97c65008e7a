"""A training that begins with one on generated phantoms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_bundle import training, write_cases
from monai.bundle import ConfigParser, ConfigWorkflow
from swin_umamba.data import write_phantoms
from swin_umamba.errors import InputError
from swin_umamba.models import load_model
from swin_umamba.starts import start_on_phantoms
from swin_umamba.training import NetworkAverage

SETTINGS = {"ema_decay": 0.9, "train#trainer#max_epochs": 2, "select": "last", "validate_during_training": False}


@pytest.fixture(scope="module")
def datalist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("data"), {"training": 2})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, datalist: Path) -> Path:
    """The folder of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    begun_on_phantoms(folder, datalist).run()
    return folder


def begun_on_phantoms(folder: Path, datalist: Path, **more: Any) -> ConfigWorkflow:
    start = {
        "_target_": "swin_umamba.starts.start_on_phantoms",
        "folder": str(folder / "out" / "start"),
        "cases": 2,
        "max_epochs": 3,
    }
    return training(folder, datalist, **{**SETTINGS, "checkpoint": start, **more})


def errors_of(workflow: ConfigWorkflow) -> str:
    """Return the messages of the error that a workflow ends with and of what caused it, a line each."""
    with pytest.raises(RuntimeError) as told:
        workflow.run()
    lines, error = [], told.value
    while error is not None:
        lines.append(f"{error}\n")
        error = error.__cause__
    return "".join(lines)


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_model(model).network.state_dict()


def assert_same(one: Path, other: Path) -> None:
    expected, found = weights(one), weights(other)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_one_training_does_what_two_do(tmp_path, datalist, whole):
    phantoms = write_phantoms(tmp_path / "phantoms", training=2, validation=0, test=0)
    training(tmp_path / "first", Path(phantoms), **{**SETTINGS, "train#trainer#max_epochs": 3}).run()
    first = tmp_path / "first" / "model"
    assert_same(first, whole / "out" / "start" / "run" / "model")
    training(tmp_path / "second", datalist, **SETTINGS, checkpoint=str(first / "model.pt")).run()
    assert_same(tmp_path / "second" / "model", whole / "model")
    alone = tmp_path / "alone"
    training(alone, datalist, **SETTINGS).run()
    changed = [not torch.equal(a, b) for a, b in zip(*(weights(x / "model").values() for x in (alone, whole)))]  # noqa: B905
    assert any(changed)


def test_both_are_recorded(whole):
    records = [json.loads((whole / "out" / part / "run.json").read_text()) for part in (".", "start/run")]
    assert [(record["status"], record["epoch"], record["max_epochs"]) for record in records] == [
        ("finished", 2, 2),
        ("finished", 3, 3),
    ]


@pytest.mark.parametrize("step", [3, 8], ids=["in the start", "after the start"])
def test_it_goes_on_where_it_was_interrupted(tmp_path, datalist, whole, monkeypatch, step):
    steps = iter(range(100))
    update = NetworkAverage._update

    def fail(self: NetworkAverage, engine: Any) -> None:
        if next(steps) == step:
            raise RuntimeError("the disk is on fire")
        update(self, engine)

    with monkeypatch.context() as patch:
        patch.setattr(NetworkAverage, "_update", fail)
        assert "the disk is on fire" in errors_of(begun_on_phantoms(tmp_path, datalist))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["status"], record["reason"]) == ("failed", "RuntimeError: the disk is on fire")
    made = tmp_path / "out" / "start" / "run" / "model" / "model.pt"
    assert made.is_file() == (step == 8)
    time = made.stat().st_mtime_ns if made.is_file() else None
    begun_on_phantoms(tmp_path, datalist, resume=True).run()
    assert_same(tmp_path / "model", whole / "model")
    assert time in (None, made.stat().st_mtime_ns)  # a finished start is not made again
    parts = json.loads((tmp_path / "out" / "start" / "run" / "run.json").read_text())["parts"]
    assert len(parts) == (2 if step == 3 else 1)


def test_error_in_the_start_names_the_run_to_go_on_with(tmp_path, datalist, monkeypatch):
    steps = iter(range(100))

    def fail(self: NetworkAverage, engine: Any) -> None:
        if next(steps) == 3:
            raise InputError("no more")

    monkeypatch.setattr(NetworkAverage, "_update", fail)
    errors = errors_of(begun_on_phantoms(tmp_path, datalist))
    assert f"no more; what was learnt up to epoch 00001 is kept: --resume {tmp_path / 'out'}\n" in errors


def test_a_run_that_is_there_is_not_begun_again(datalist, whole):
    assert "holds a run: go on with it by --resume True" in errors_of(begun_on_phantoms(whole, datalist))


@pytest.mark.parametrize(("name", "value"), [("cases", 0), ("max_epochs", True), ("max_epochs", 2.5)])
def test_numbers_that_are_not_legal(tmp_path, name, value):
    with pytest.raises(InputError, match=rf"{name} of the start on phantoms: {value}; legal: a whole number"):
        start_on_phantoms(tmp_path, **{name: value})
    assert not list(tmp_path.iterdir())


def test_outside_of_a_config(tmp_path):
    with pytest.raises(InputError, match="legal: as a component of a config"):
        start_on_phantoms(tmp_path)


def test_it_is_what_the_shipped_recipe_begins_with():
    root = Path(__file__).parents[1]
    config = ConfigParser.load_config_file(root / "configs" / "chaos_mri.yaml")
    assert config["checkpoint"]["_target_"] == "swin_umamba.starts.start_on_phantoms"
    assert (config["checkpoint"]["max_epochs"], config["train#trainer#max_epochs"]) == (12, 50)
