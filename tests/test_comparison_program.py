"""`benchmarks/comparison.py`: one table of several networks, which goes on where it was stopped."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from helpers_bundle import ROOT, TINY, write_cases
from swin_umamba.errors import InputError

PROGRAM = ROOT / "benchmarks" / "comparison.py"
NETWORKS = ("dynunet", "unetr")
OWN = ("bundle_root", "device_name", "network_name")  # the program's


def compare(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    settings = {**{key: value for key, value in TINY.items() if key not in OWN}, "validate_during_training": False}
    given = ["--overlay", "--device", "cpu", "--datalist", str(folder / "data/datalist.json")]
    given += ["--output", str(folder / "out"), "--networks", *NETWORKS, *more]
    given += ["--set", *(f"{key}={json.dumps(value)}" for key, value in settings.items())]
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), *given])
    runpy.run_path(str(PROGRAM), run_name="__main__")


def test_a_table_of_networks_that_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    write_cases(tmp_path / "data", {"training": 1, "test": 1})
    compare(tmp_path, monkeypatch)
    lines = capsys.readouterr().out.splitlines()[-len(NETWORKS) - 2 :]
    assert lines[0].split() == ["network", "DSC", "NSD", "parameters", "GFLOPs", "images/s", "GiB", "minutes"]
    assert lines[-1] == "2 steps of 2 slices each; so few say nothing of how good a network is"
    for name, line in zip(NETWORKS, lines[1:-1], strict=True):
        assert line.split()[0] == name
        dice, nsd, *sizes = (float(text.replace(",", "")) for text in line.split()[1:])
        assert 0 <= dice <= 1
        assert 0 <= nsd <= 1
        assert min(sizes[0], sizes[2]) > 0
    path = tmp_path / "out" / "comparison.json"
    plain = json.loads(path.read_text())
    before = plain["networks"].pop("unetr")
    path.write_text(json.dumps(plain))
    models = {name: (tmp_path / "out" / name / "model/model.pt").read_bytes() for name in NETWORKS}
    shutil.rmtree(tmp_path / "out" / "unetr" / "test")  # stopped in the evaluation
    compare(tmp_path, monkeypatch)
    after = json.loads(path.read_text())["networks"]
    assert {name: row["dice"] for name, row in after.items()} == {
        **{name: row["dice"] for name, row in plain["networks"].items()},
        "unetr": before["dice"],
    }
    assert before["memory"] == after["unetr"]["memory"] > 16 * before["parameters"]
    assert {name: (tmp_path / "out" / name / "model/model.pt").read_bytes() for name in NETWORKS} == models
    with pytest.raises(InputError, match=r"comparison\.json is of another seed; legal: what it was"):
        compare(tmp_path, monkeypatch, "--seed", "1")
