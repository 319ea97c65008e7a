"""Versions of models: complete or absent, chosen and taken back."""

from __future__ import annotations

import shutil

import pytest
from helpers_bundle import write_model
from swin_umamba.errors import InputError
from swin_umamba.models import load_model

from monailabel_app.versions import ModelStore, UnknownModel


@pytest.fixture
def store(tmp_path):
    write_model(tmp_path / "models" / "tiny", version="1.2.0")
    return ModelStore([tmp_path / "models"], tmp_path / "data")


def test_installed_models_are_found_by_their_names(tmp_path, caplog):
    write_model(tmp_path / "models" / "folder_a", name="a")
    write_model(tmp_path / "bundle_models", name="b")
    write_model(tmp_path / "bundle_models" / "again", name="a")
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "model.yaml").write_text("name: [")
    store = ModelStore([tmp_path / "models", tmp_path / "bundle_models"], tmp_path / "data")
    found = store.installed()
    assert found == {"a": tmp_path / "models" / "folder_a", "b": tmp_path / "bundle_models"}
    assert "left out" in caplog.text
    assert "hidden" in caplog.text


def test_models_of_photographs_are_left_out_and_say_why(tmp_path, caplog):
    write_model(tmp_path / "models" / "cells", name="cells", modality="GM")
    write_model(tmp_path / "models" / "tiny")
    store = ModelStore([tmp_path / "models"], tmp_path / "data")
    for _ in range(2):
        assert list(store.installed()) == ["tiny"]
    why = "model 'cells' is for microscopy, and the app serves volumes"
    assert list(store.left_out()) == ["cells"]
    assert store.left_out()["cells"].startswith(why)
    assert caplog.text.count(why) == 1
    with pytest.raises(UnknownModel, match=rf"{why}.*; there are tiny"):
        store.served("cells")


def test_a_learnt_version_waits_until_it_is_promoted(store, tmp_path):
    learnt = write_model(tmp_path / "learnt", seed=1, name="other_name")
    version = store.add("tiny", learnt, {"base": "1.2.0"})
    assert version.spec.version == "1.2.1"
    assert version.spec.name == "tiny"
    assert load_model(version.folder).spec.sha256
    assert store.served("tiny").spec.version == "1.2.0"
    store.promote("tiny", "1.2.1", by="me")
    assert store.served("tiny").folder == version.folder
    assert [(row["version"], row["served"]) for row in store.versions("tiny")] == [("1.2.0", False), ("1.2.1", True)]


def test_rollback_goes_back_step_by_step(store, tmp_path):
    for seed in (1, 2):
        version = store.add("tiny", write_model(tmp_path / f"learnt{seed}", seed=seed), {}).spec.version
        store.promote("tiny", version, by="training")
    assert [store.rollback("tiny", by="me").spec.version for _ in range(2)] == ["1.2.1", "1.2.0"]
    with pytest.raises(InputError, match=r"1\.2\.0 is the first"):
        store.rollback("tiny", by="me")
    assert [entry["version"] for entry in store.history("tiny")] == ["1.2.1", "1.2.2", "1.2.1", "1.2.0"]


def test_promoting_what_is_served_changes_nothing(store, tmp_path):
    store.promote("tiny", "1.2.0", by="me")
    assert store.history("tiny") == []


def test_numbers_go_on_after_ten(store, tmp_path):
    learnt = write_model(tmp_path / "learnt", seed=1)
    assert [store.add("tiny", learnt, {}).spec.version for _ in range(11)][-1] == "1.2.11"


@pytest.mark.parametrize("version", ["9.9.9", "../../x", "1.2", "", "1.2.x"])
def test_unknown_versions(store, version):
    with pytest.raises(UnknownModel, match="version"):
        store.promote("tiny", version, by="me")


def test_unknown_model(store):
    with pytest.raises(UnknownModel, match="there are tiny"):
        store.served("nothing")


def test_other_labels_are_refused(store, tmp_path):
    with pytest.raises(InputError, match="labels"):
        store.add("tiny", write_model(tmp_path / "other", labels={"liver": 1}), {})


def test_half_a_copy_is_no_version(store, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    learnt = write_model(tmp_path / "learnt", seed=1)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full_disk)
        with pytest.raises(OSError, match="No space"):
            store.add("tiny", learnt, {})
    assert len(store.versions("tiny")) == 1
    assert store.add("tiny", learnt, {}).spec.version == "1.2.1"


def test_a_version_whose_folder_is_gone_falls_back_to_the_installed_one(store, tmp_path):
    version = store.add("tiny", write_model(tmp_path / "learnt", seed=1), {})
    store.promote("tiny", "1.2.1", by="me")
    shutil.rmtree(version.folder)
    assert store.served("tiny").spec.version == "1.2.0"
