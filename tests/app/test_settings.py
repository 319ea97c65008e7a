"""Where a server looks for models and keeps its state unless it is told."""

from __future__ import annotations

import shutil

import pytest
from helpers_bundle import BUNDLE, write_model
from swin_umamba.errors import InputError

from monailabel_app import settings
from monailabel_app.settings import AppSettings
from monailabel_app.versions import ModelStore


def test_models_are_found_where_they_are_put_and_where_a_training_writes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    shutil.copytree(BUNDLE / "configs", tmp_path / "bundle" / "configs")
    conf = {"bundle_root": str(tmp_path / "bundle")}
    found = AppSettings.from_conf(str(tmp_path), conf)
    store = ModelStore(found.model_folders, found.data_dir)
    assert store.installed() == {}
    write_model(tmp_path / "models" / "put_there", name="one")
    write_model(tmp_path / "bundle" / "models", name="trained")
    assert sorted(store.installed()) == ["one", "trained"]
    assert found.data_dir == tmp_path / ".swin_umamba"


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"model": "x"}, r"unknown keys \['model'\]; legal are"),
        ({"models": "/nowhere"}, "models: '/nowhere' is no folder"),
        ({"bundle_root": "/nowhere"}, "holds no configs/inference.yaml"),
        ({"device": "xx"}, "device 'xx'"),
        ({"validation_share": "1"}, "validation_share '1': legal: a number from 0 to below 1"),
        ({"patient_pattern": "("}, "patient_pattern"),
    ],
)
def test_illegal_settings_are_named(tmp_path, conf, message):
    with pytest.raises(InputError, match=message):
        AppSettings.from_conf(str(tmp_path), conf)
