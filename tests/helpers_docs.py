"""The commands that the documents show, and running them in this process."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
from fire.parser import DefaultParseValue
from helpers_bundle import ROOT

DOCUMENTS = ["README.md", "models/chaos_mri/README.md"]
DOCUMENTS += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
SMALL = {  # a training of one step
    "network_name": "swin_umamba_d_tiny",
    "device_name": "cpu",
    "drop_path_rate": 0.0,
    "roi_size": [32, 32],
    "batch_size": 2,
    "slices_per_volume": 1,
    "iterations_per_epoch": 1,
    "val_interval": 1,
    "num_workers": 0,
    "cache_workers": 1,
    "precision": "float32",
    "train#trainer#max_epochs": 1,
}
NOT_HERE = ("pretrained",)  # a file of 90 MB; tests/test_weights.py loads its like


def blocks_of(document: str, language: str = "") -> list[str]:
    """Return the fenced blocks of a language, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^[ ]*```(\w*)\n(.*?)^[ ]*```", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in blocks if name == language]


def commands_of(document: str) -> list[str]:
    """Return the commands of a document, each in one line, without the remarks behind them."""
    lines = "\n".join(blocks_of(document)).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in ([line] if line.startswith("(") else line.split(" && "))]
    return [" ".join(re.sub(r"(^|\s+)# .*$", "", part).split()) for part in parts if part.strip()]


def run(command: str, changes: Mapping[str, str]) -> None:
    """Run a Python command of a document in this process and folder, in small.

    Args:
        command: begins with `python`, perhaps after settings of the environment.
        changes: what stands in the document -> what is taken here.
    """
    for there, here in changes.items():
        command = command.replace(there, here)
    words = shlex.split(command.replace("\\$", "$"))
    while "=" in words[0]:
        words.pop(0)
    assert words.pop(0) == "python", command
    if words[0] != "-m":
        program = words[0] if Path(words[0]).is_file() else str(ROOT / words[0])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [program, *words[1:]])
            runpy.run_path(program, run_name="__main__")
    elif words[1] == "monai.bundle":
        _run_bundle(words[2:])
    else:
        module = importlib.import_module(f"{words[1]}.__main__" if _is_package(words[1]) else words[1])
        assert module.main(words[2:]) in (0, None), command


def _is_package(name: str) -> bool:
    return hasattr(importlib.import_module(name), "__path__")


def _run_bundle(words: list[str]) -> None:
    """Call the function behind `python -m monai.bundle`, whose values fire parses."""
    name, positional, flags = words[0], [], {}
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("--"):
            flags[word[2:]] = DefaultParseValue(next(rest))
        else:
            positional.append(word)
    if name == "run":
        flags = _in_small(positional[0] if positional else "run", flags)
    getattr(monai.bundle, name)(*positional, **flags)


def _in_small(target: str, flags: dict[str, Any]) -> dict[str, Any]:
    """Return the flags of a run with those that make it small; every one of them must be a key of the config."""
    files = flags["config_file"]
    config = monai.bundle.ConfigParser.load_config_files(files)
    unknown = {key.split("#")[0] for key in flags} - set(config) - {"config_file", "imports"}
    assert not unknown, f"no such key: {unknown}"
    flags = {key: value for key, value in flags.items() if key not in NOT_HERE}
    small = SMALL if target == "training" else {"device": "cpu"}
    own_network = {"network_name"} if "network_name" in flags else set()
    flags = {**flags, **{key: value for key, value in small.items() if key not in own_network}, "logging_file": False}
    if target == "training" and "chaos_mri" in str(files) and "checkpoint" not in flags:
        flags |= {"checkpoint#cases": 2, "checkpoint#max_epochs": 1}
    if target == "training" and "quickstart" in str(files):
        flags["datalist"] = "data.json"
    return flags
