"""The files of an evaluation, `metrics.json`, `.csv` and `.png` and `instances.csv`, and the table that is printed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from swin_umamba.files import replace_file
from swin_umamba.metrics import METRICS
from swin_umamba.rules import PER_IMAGE

TITLES = {"dice": "Dice (DSC)", "nsd": "normalised surface distance (NSD)"}
Report = dict[str, Any]


def write_report(folder: str | os.PathLike, report: Report) -> None:
    """Write metrics.json, metrics.csv, metrics.png and, of single objects, instances.csv, each atomically."""
    folder = Path(folder)
    with replace_file(folder / "metrics.json") as path:
        text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    with replace_file(folder / "metrics.csv") as path:
        _write_csv(path, report)
    if "instances" in report:
        with replace_file(folder / "instances.csv") as path:
            _write_objects(path, report)
    with replace_file(folder / "metrics.png") as path:
        draw_figure(report).savefig(path, dpi=150)


def format_table(report: Report) -> str:
    """Return the report as aligned text: per organ mean ± standard deviation over n cases, then the mean of organs."""
    rows: list[tuple[str, ...]] = [("organ", "DSC", "NSD", "n")]
    for organ, scores in report["organs"].items():
        rows.append((organ, *(_mean_and_std(scores[metric]) for metric in METRICS), str(scores["dice"]["n"])))
    rows.append((_mean_name(report), *(_number(report["mean"][metric]) for metric in METRICS), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:>{widths[3]}}".rstrip()
        for row in rows
    ]
    lines[1:1] = lines[-1:-1] = ["-" * (sum(widths) + 6)]
    extra = [_objects_in_words(report["instances"])] if "instances" in report else []
    extra += [f"{case['case']}: {_surplus(case)}" for case in report["cases"] if case["false_positive_ml"]]
    extra += [f"{case['case']}: failed: {case['error']}" for case in report["failed"]]
    return "\n".join([f"rules: {report['rules']}; DSC and NSD as mean ± std over n cases", *lines, *extra])


def draw_figure(report: Report) -> Figure:
    """Draw DSC and NSD of each organ: a box over the cases, and each case as a point."""
    organs = list(report["organs"])
    figure = Figure(figsize=(10, 1.6 + 0.36 * len(organs)), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for panel, metric in zip(panels, METRICS, strict=True):
        values = [_values(report, organ, metric) for organ in organs]
        _draw_panel(panel, values)
        mean = report["mean"][metric]
        panel.axvline(mean, color="#d95f02", linewidth=1, linestyle="--")
        panel.set_title(f"{TITLES[metric]}\n{_mean_name(report)} {mean:.3f} (dashed)", fontsize=10)
    counts = [report["organs"][organ]["dice"]["n"] for organ in organs]
    panels[0].set_yticks(range(len(organs)), [f"{organ} ({n})" for organ, n in zip(organs, counts, strict=True)])
    panels[0].set_ylabel("organ (cases)")
    panels[0].invert_yaxis()
    name = report["model"].get("name")
    figure.suptitle(" · ".join(filter(None, [name, f"{len(report['cases'])} cases", f"{report['rules']} rules"])))
    return figure


def _draw_panel(panel: Any, values: Sequence[Sequence[float]]) -> None:
    """Draw the values of each row as a box, where there are enough, and as points."""
    rows = [row for row, scores in enumerate(values) if len(scores) > 2]
    if rows:
        panel.boxplot(
            [values[row] for row in rows],
            positions=rows,
            orientation="horizontal",
            widths=0.6,
            showfliers=False,
            medianprops={"color": "#1b4f72", "linewidth": 1.5},
            boxprops={"color": "#5d8aa8"},
            whiskerprops={"color": "#5d8aa8"},
            capprops={"color": "#5d8aa8"},
            manage_ticks=False,
        )
    for row, scores in enumerate(values):
        offsets = [((index * 0.618) % 1 - 0.5) * 0.4 for index in range(len(scores))]  # spreads points, always alike
        panel.scatter(scores, [row + offset for offset in offsets], s=14, color="#1f77b4", alpha=0.6, zorder=3)
    panel.set_xlim(-0.02, 1.02)
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)


def _values(report: Report, organ: str, metric: str) -> list[float]:
    scores = [case["organs"].get(organ, {}).get(metric) for case in report["cases"]]
    return [score for score in scores if score is not None]


def _write_csv(path: Path, report: Report) -> None:
    """Write one row per case and organ; an empty field where there is no score."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "organ", *METRICS, "false_positive_ml"])
        for case in report["cases"]:
            for organ, scores in case["organs"].items():
                surplus = case["false_positive_ml"].get(organ)
                writer.writerow([case["case"], case.get("patient"), organ, *map(scores.get, METRICS), surplus])


def _write_objects(path: Path, report: Report) -> None:
    """Write one row per image with the scores and numbers of its objects."""
    names = ["f1", "precision", "recall", "matched", "found", "truth"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", *names])
        writer.writerows([case["case"], *map(case["instances"].get, names)] for case in report["cases"])


def _objects_in_words(scores: Mapping[str, Any]) -> str:
    return (
        f"objects: F1 {scores['f1']:.4f}, precision {scores['precision']:.4f}, recall {scores['recall']:.4f} as means "
        f"over {scores['images']} images; {scores['matched']} of {scores['truth']} found, "
        f"{scores['found'] - scores['matched']} too many"
    )


def _mean_name(report: Report) -> str:
    return "mean of images" if report["rules"] == PER_IMAGE else "mean of organs"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _mean_and_std(spread: Mapping[str, float | None]) -> str:
    return _number(spread["mean"]) + ("" if spread["std"] is None else f" ± {spread['std']:.4f}")


def _surplus(case: Mapping[str, Any]) -> str:
    volumes = ", ".join(f"{organ} {volume:.2f} mL" for organ, volume in case["false_positive_ml"].items())
    return f"predicted, but not in the truth: {volumes}"
