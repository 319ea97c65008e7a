"""The commands of docs/training.md name files and keys that exist; tests/e2e and test_resume.py run their kind."""

from __future__ import annotations

import ast
import re
import shlex

import pytest
from helpers_bundle import ROOT
from helpers_docs import commands_of
from monai.bundle import ConfigParser

TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = commands_of("docs/training.md")
BUNDLE_COMMANDS = [command for command in COMMANDS if "monai.bundle" in command]


def test_there_are_commands_of_every_kind():
    kinds = (
        "--run_name",
        "--resume",
        "swin_umamba.runs",
        "multi_gpu_train",
        "multi_gpu_evaluate",
        "benchmarks/loader.py",
    )
    assert [kind for kind in kinds if not any(kind in command for command in COMMANDS)] == []


@pytest.mark.parametrize("command", BUNDLE_COMMANDS)
def test_configs_and_keys_exist(command):
    words = shlex.split(command)
    start = words.index("run")
    flags = dict(zip(words[start:], words[start + 1 :], strict=False))
    files = [ROOT / name for name in ast.literal_eval(flags["--config_file"])]
    config = ConfigParser.load_config_files([str(file) for file in files])
    keys = {word[2:] for word in words[start:] if word.startswith("--")} - {"config_file"}
    assert keys <= set(config)
    assert words[start + 1] in config or words[start + 1].startswith("--")


def test_keys_that_the_text_names_exist():
    config = ConfigParser.load_config_file(ROOT / "bundle/configs/train.yaml")
    for key in re.findall(r"`--?-?([a-z_]+) ?[A-Za-z]*`", TEXT):
        assert key in config or key == "tracking", key
