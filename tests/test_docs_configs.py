"""docs/configs.md has every key of the configs, and its default."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from helpers_bundle import ROOT

SECTIONS = {
    "Training": "train",
    "Inference": "inference",
    "Evaluation": "evaluate",
    "Training on several GPUs": "multi_gpu_train",
    "Evaluation and inference on several GPUs": "multi_gpu_evaluate",
}
OPENED = ("augmentation", "displayable_configs", "train", "validate")  # whose keys have lines of their own
TEXT = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")
COMPUTED, LONG = "computed", "see the file"


def documented(section: str) -> dict[str, str]:
    """Return key -> default of the tables of a section."""
    body = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert body, section
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \| (.+?) \|$", body[1], re.MULTILINE)
    assert len({key for key, _, _ in rows}) == len(rows), "a key is there twice"
    return {key: default for key, default, _ in rows}


def keys_of(name: str) -> dict[str, Any]:
    """Return path key -> value of a config."""
    config = yaml.safe_load((ROOT / "bundle" / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for key, value in config.items():
        inner = value.items() if key in OPENED else ()
        found.update({f"{key}#{part}": v for part, v in inner} or {key: value})
    return found


def is_plain(value: Any) -> bool:
    """Tell whether a value is data, and short, and not an expression or an object."""
    text = json.dumps(value)
    return "_target_" not in text and not re.search(r'"[$@%]', text) and len(text) < 60


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_there_and_no_other(section):
    assert set(documented(section)) == set(keys_of(SECTIONS[section]))


@pytest.mark.parametrize("section", SECTIONS)
def test_defaults_are_those_of_the_files(section):
    values = keys_of(SECTIONS[section])
    for key, default in documented(section).items():
        if is_plain(values[key]):
            assert yaml.safe_load(default.strip("`")) == values[key], key
        else:
            assert default in (COMPUTED, LONG), key
