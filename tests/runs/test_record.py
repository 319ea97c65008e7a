"""What a run is made of."""

from __future__ import annotations

import subprocess

from monai.bundle import ConfigParser
from swin_umamba.runs.record import differences, git_state, resolved_config, running_config, uncommitted_changes

CONFIG = {
    "rate": 0.1,
    "twice": "$@rate * 2",
    "names": ["@rate", {"inner": "@twice"}],
    "generator": {"_target_": "torch.Generator", "device": "@place"},
    "place": "cpu",
    "seed": "$@generator.initial_seed()",
    "unset": "@nowhere",
    "training": ["$@rate", "$1 / 0"],
}


def test_references_to_plain_data_become_values_and_components_stay():
    assert resolved_config(ConfigParser({**CONFIG, "unset": None})) == {
        **CONFIG,
        "unset": None,
        "twice": 0.2,
        "names": [0.1, {"inner": 0.2}],
        "generator": {"_target_": "torch.Generator", "device": "cpu"},
    }


def test_config_that_is_being_run_is_found():
    parser = ConfigParser({"step": {"_target_": "swin_umamba.runs.record.running_config"}})
    assert parser.get_parsed_content("step") is parser
    assert running_config() is None


def test_differences():
    old = {"rate": 1, "gone": 1, "labels": {"liver": 1}, "num_workers": 1, "run": 1, "step": {"_target_": "a", "lr": 1}}
    new = {"rate": 2, "new": 1, "labels": {"liver": 2}, "num_workers": 2, "run": 2, "step": {"_target_": "b", "lr": 2}}
    assert differences(old, new) == {"rate": (1, 2), "labels#liver": (1, 2), "step#_target_": ("a", "b")}
    assert set(differences(old, new, but=["labels", "step"])) == {"rate", "num_workers"}


def test_state_of_a_repository(tmp_path):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    file = tmp_path / "code.py"
    file.write_text("1\n")
    assert git_state(file) is None
    git("init", "-b", "trunk")
    git("add", ".")
    git("commit", "-m", "one")
    assert git_state(file)["branch"] == "trunk"
    assert (git_state(file)["changed"], uncommitted_changes(file)) == ([], "")
    file.write_text("2\n")
    assert git_state(file)["changed"] == [" M code.py"]
    assert uncommitted_changes(file).endswith("-1\n+2\n")
    other = tmp_path / "installed.py"
    other.write_text("")
    assert git_state(other) is None  # inside of somebody's repository, and no part of it
