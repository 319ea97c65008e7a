"""Overlays change only what the base config has: MONAI accepts a misspelt key in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

ROOT = Path(__file__).parent.parent
BASE = ROOT / "bundle/configs/train.yaml"
OVERLAYS = sorted((ROOT / "configs").glob("*.yaml")) + [ROOT / "bundle/configs/multi_gpu_train.yaml"]


def unknown_keys(overlay: dict, base: dict) -> list[str]:
    """Return the overlay's keys that are no path in the base."""
    unknown = []
    for key in overlay:
        part = base
        for name in key.removeprefix("+").split("#"):
            if isinstance(part, list) and name.isdigit() and int(name) < len(part):
                part = part[int(name)]
            elif isinstance(part, dict) and name in part:
                part = part[name]
            else:
                unknown.append(key)
                break
    return unknown


def test_keys_of_evaluation_on_several_gpus_exist_in_inference():
    overlay = ConfigParser.load_config_file(ROOT / "bundle/configs/multi_gpu_evaluate.yaml")
    assert unknown_keys(overlay, ConfigParser.load_config_file(ROOT / "bundle/configs/inference.yaml")) == []


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.name)
def test_overlay_keys_exist_in_the_base(path):
    overlay = ConfigParser.load_config_file(path)
    assert overlay
    assert unknown_keys(overlay, ConfigParser.load_config_file(BASE)) == []


def test_misspelt_keys_are_found():
    base = {"train": {"trainer": {"max_epochs": 1}, "list": [1]}}
    overlay = {
        "train#trainer#max_epoch": 2,
        "trian": 1,
        "train#trainer#max_epochs": 3,
        "train#list#0": 1,
        "train#list#1": 1,
    }
    assert unknown_keys(overlay, base) == ["train#trainer#max_epoch", "trian", "train#list#1"]
