"""Runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from swin_umamba.errors import InputError
from swin_umamba.runs.__main__ import main
from swin_umamba.runs.comparison import draw_curves, find_runs, row_of, status_of
from swin_umamba.runs.folders import lock_run, unlock_run

METRICS = """epoch,loss,learning_rate,seconds,slices_per_second,val_mean_dice
1,1.5,0.001,1800.0,10.0,
2,1.25,0.001,1800.0,20.0,0.5
3,1.0,0.001,3600.0,30.0,0.25
"""


def write_run(folder: Path, status: str = "finished", rate: float = 0.001, **record: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": status, "max_epochs": 4, **record}))
    config = {
        "learning_rate": rate,
        "labels": {"liver": 1},
        "output_dir": str(folder),
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": rate},
        "run": [str(folder)],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(METRICS)
    return folder


def test_line_of_a_run(tmp_path):
    (run,) = find_runs([write_run(tmp_path / "first")])
    assert row_of(run) == {
        "run": "first",
        "status": "finished",
        "epochs": "3/4",
        "loss": "1.0000",
        "best validation Dice": "0.5000 (epoch 2)",
        "test Dice": "-",
        "slices/s": "20.0",
        "hours": "2.00",
    }


def test_run_without_an_epoch_and_one_with_a_test(tmp_path):
    early = write_run(tmp_path / "early", status="failed", reason="no data")
    (early / "metrics.csv").unlink()
    (early / "config.yaml").unlink()
    tested = write_run(tmp_path / "tested")
    (tested / "test").mkdir()
    (tested / "test" / "metrics.json").write_text('{"mean": {"dice": 0.75}}')
    rows = {row["run"]: row for row in map(row_of, find_runs([tmp_path]))}
    assert rows["tested"]["test Dice"] == "0.7500"
    assert (rows["early"]["epochs"], rows["early"]["loss"], rows["early"]["slices/s"]) == ("0/4", "-", "-")


def test_killed_run_is_not_running(tmp_path):
    (run,) = find_runs([write_run(tmp_path / "run", status="running")])
    claim = lock_run(run["folder"])
    assert status_of(run) == "running"
    unlock_run(claim)
    assert status_of(run) == "stopped"


def test_command_tells_what_was_set_otherwise_and_draws(tmp_path, capsys):
    folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b", status="failed", rate=0.01, reason="disk full")]
    main([*map(str, folders), "--output", str(tmp_path / "curves.png")])
    said = capsys.readouterr().out
    assert "b failed: disk full" in said
    changes = said.split("b, set otherwise than a:\n")[1].split("\n\n")[0]
    assert changes == "  learning_rate: 0.01 instead of 0.001"  # not the optimizer's lr, which follows from it
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_curves_leave_out_epochs_without_validation(tmp_path):
    loss, dice = draw_curves(find_runs([write_run(tmp_path / "run")])).axes
    assert loss.lines[0].get_ydata().tolist() == [1.5, 1.25, 1.0]
    assert dice.lines[0].get_xdata().tolist() == [2, 3]


def test_what_is_no_run(tmp_path):
    with pytest.raises(InputError, match=r"'.*' is no run and holds none; legal: a folder with run.json, or of such"):
        find_runs([tmp_path])
    run = write_run(tmp_path / "run")
    with pytest.raises(InputError, match="curves.txt': legal: a file that ends in .png, .pdf or .svg"):
        main([str(run), "--output", str(tmp_path / "curves.txt")])
    (run / "metrics.csv").write_text("epoch,loss\n1,low\n")
    with pytest.raises(InputError, match=r"metrics.csv cannot be read: could not convert string to float: 'low'"):
        find_runs([run])


def test_runs_of_one_name_are_called_by_their_folders(tmp_path):
    folders = [write_run(tmp_path / "a" / "out"), write_run(tmp_path / "b" / "out")]
    assert [run["name"] for run in find_runs(folders)] == [str(folder) for folder in folders]
