"""What the viewer's panel is told of models and trainings."""

from __future__ import annotations

import pytest
from helpers_bundle import write_model
from monailabel.utils.async_tasks import utils

from monailabel_app import processes
from monailabel_app.overview import about_model
from monailabel_app.versions import ModelStore


def test_a_version_that_was_learnt_waits_until_it_is_served(tmp_path):
    write_model(tmp_path / "models" / "tiny", version="1.2.0", licence="CC BY-NC-SA 4.0")
    store = ModelStore([tmp_path / "models"], tmp_path / "data")
    about = about_model("tiny", store)
    assert (about["version"], about["licence"], about["waits"]) == ("1.2.0", "CC BY-NC-SA 4.0", None)
    dice = {"new": 0.8, "served": 0.9}
    store.add("tiny", write_model(tmp_path / "learnt", seed=1), {"dice": dice})
    assert about_model("tiny", store)["waits"] == {"version": "1.2.1", "dice": dice}
    store.promote("tiny", "1.2.1", by="me")
    about = about_model("tiny", store)
    assert (about["version"], about["waits"]) == ("1.2.1", None)


@pytest.mark.parametrize(
    ("status", "details", "told"),
    [
        ("DONE", ["ValueError: of earlier"], None),
        ("STOPPED", [], None),
        ("ERROR", ["Traceback:", "a.errors.InputError: no case: legal: one", "cleaning up"], "no case: legal: one"),
        ("ERROR", ["[INFO] compiling"], "its process ended without a word"),
    ],
)  # fmt: skip
def test_why_a_training_failed_is_told(monkeypatch, status, details, told):
    monkeypatch.setitem(utils.background_tasks, "train", [{"status": status, "details": details}])
    assert processes.failure("train") == told
