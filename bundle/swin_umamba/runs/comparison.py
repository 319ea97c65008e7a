"""Runs side by side: a table of how they stand and what came of them, what was set differently, and their curves."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from swin_umamba.errors import InputError
from swin_umamba.files import replace_file
from swin_umamba.runs.folders import CONFIG_FILE, METRICS_FILE, RECORD_FILE, is_running, runs_in
from swin_umamba.runs.record import differences

COLUMNS = ("run", "status", "epochs", "loss", "best validation Dice", "test Dice", "slices/s", "hours")
SCORE = "val_mean_dice"
NOT_COMPARED = (  # places, and what follows from other settings
    *("_meta_", "bundle_root", "model_dir", "runs_dir", "run_name", "run_folder", "output_dir", "resume"),
    *("progress_file", "model_spec", "training_run", "model_saver", "save_execute_config"),
)
CHANGES_SHOWN = 12  # settings that differ, for each run
Run = dict[str, Any]


def find_runs(places: Iterable[str | os.PathLike]) -> list[Run]:
    """Read the runs that are named, and those in the folders that are named.

    Args:
        places: folders of runs, or folders that hold such folders.

    Returns:
        For each run "name", "folder", "record" (run.json), "config" (config.yaml) and "epochs" (metrics.csv).

    Raises:
        InputError: for a folder that neither is a run nor holds one, or a run that cannot be read.
    """
    folders: list[Path] = []
    for place in map(Path, places):
        found = [place] if (place / RECORD_FILE).is_file() else runs_in(place)
        if not found:
            raise InputError(f"{str(place)!r} is no run and holds none; legal: a folder with {RECORD_FILE}, or of such")
        folders += [folder for folder in found if folder not in folders]
    names = _short_names(folders)
    return [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def read_run(folder: Path, name: str) -> Run:
    """Read one run.

    Raises:
        InputError: naming the file that cannot be read.
    """
    run: Run = {"name": name, "folder": folder, "config": {}, "epochs": [], "test": None}
    path = folder / RECORD_FILE
    try:
        run["record"] = json.loads(path.read_text(encoding="utf-8"))
        path = folder / CONFIG_FILE
        if path.is_file():
            run["config"] = yaml.safe_load(path.read_text(encoding="utf-8"))
        path = folder / METRICS_FILE
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                run["epochs"] = [_numbers(line) for line in csv.DictReader(file)]
        path = folder / "test" / "metrics.json"
        if path.is_file():
            run["test"] = json.loads(path.read_text(encoding="utf-8"))["mean"]["dice"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return run


def row_of(run: Run) -> dict[str, str]:
    """Return a run's line of the table, by column; "-" for what is not known."""
    epochs, record = run["epochs"], run["record"]
    scored = [epoch for epoch in epochs if not math.isnan(epoch.get(SCORE, math.nan))]
    best = max(scored, key=lambda epoch: epoch[SCORE], default=None)
    seconds = sum(epoch.get("seconds", 0.0) for epoch in epochs)
    speeds = [epoch["slices_per_second"] for epoch in epochs if "slices_per_second" in epoch]
    return {
        "run": run["name"],
        "status": status_of(run),
        "epochs": f"{len(epochs)}/{record.get('max_epochs', '-')}",
        "loss": f"{epochs[-1]['loss']:.4f}" if epochs else "-",
        "best validation Dice": f"{best[SCORE]:.4f} (epoch {best['epoch']:.0f})" if best else "-",
        "test Dice": "-" if run["test"] is None else f"{run['test']:.4f}",
        "slices/s": f"{sum(speeds) / len(speeds):.1f}" if speeds else "-",
        "hours": f"{seconds / 3600:.2f}",
    }


def status_of(run: Run) -> str:
    """Return finished, running, failed, interrupted, or stopped: it was killed."""
    status = run["record"].get("status", "-")
    return "stopped" if status == "running" and not is_running(run["folder"]) else status


def format_comparison(runs: Sequence[Run]) -> str:
    """Return the table of the runs and, for each but the first, what was set otherwise than in the first."""
    rows = [dict(zip(COLUMNS, COLUMNS, strict=True)), *map(row_of, runs)]
    widths = {column: max(len(row[column]) for row in rows) for column in COLUMNS}
    lines = ["  ".join(f"{row[column]:<{widths[column]}}" for column in COLUMNS).rstrip() for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    for run in runs:
        if status_of(run) == "failed":
            lines.append(f"{run['name']} failed: {run['record'].get('reason')}")
    for run in runs[1:]:
        lines += ["", f"{run['name']}, set otherwise than {runs[0]['name']}:", *_changes(runs[0], run)]
    return "\n".join(lines)


def draw_curves(runs: Sequence[Run]) -> Figure:
    """Draw the loss and the validation Dice of the runs over their epochs."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, key, title in zip(panels, ("loss", SCORE), ("training loss", "validation Dice"), strict=True):
        for run in runs:
            points = [
                (epoch["epoch"], epoch[key]) for epoch in run["epochs"] if not math.isnan(epoch.get(key, math.nan))
            ]
            panel.plot(*zip(*points, strict=True) if points else ([], []), label=run["name"], marker=".", markersize=3)
        panel.set(xlabel="epoch", title=title)
        panel.grid(alpha=0.3)
    panels[1].set_ylim(0, 1)
    panels[0].legend(fontsize="small")
    return figure


def write_comparison(runs: Sequence[Run], picture: str | os.PathLike) -> None:
    """Draw the curves into a file (.png, .pdf, .svg), atomically.

    Raises:
        InputError: for another kind of file.
    """
    if Path(picture).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"output {str(picture)!r}: legal: a file that ends in .png, .pdf or .svg")
    with replace_file(picture) as path:
        draw_curves(runs).savefig(path, dpi=150)


def _changes(first: Run, other: Run) -> list[str]:
    changed = sorted(differences(first["config"], other["config"], but=NOT_COMPARED).items())
    lines = [f"  {key}: {new!r} instead of {old!r}" for key, (old, new) in changed]
    lines += [
        f"  {what}: {_of(other, what)} instead of {_of(first, what)}"
        for what in ("commit", "torch", "gpus", "processes")
        if _of(first, what) != _of(other, what)
    ]
    if len(lines) > CHANGES_SHOWN:
        lines[CHANGES_SHOWN:] = [f"  and {len(lines) - CHANGES_SHOWN} more"]
    return lines or ["  nothing"]


def _of(run: Run, what: str) -> Any:
    """Return a fact of the last time that a run was begun or continued."""
    part: Mapping[str, Any] = (run["record"].get("parts") or [{}])[-1]
    if what == "commit":
        return (part.get("git") or {}).get("commit")
    return part.get("versions", {}).get(what) if what == "torch" else part.get(what)


def _short_names(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _numbers(line: Mapping[str, str]) -> dict[str, float]:
    return {key: float(value) if value else math.nan for key, value in line.items()}
