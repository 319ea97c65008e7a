"""What an evaluation leaves behind: `metrics.json`, `metrics.csv`, a printed table and the figure `metrics.png`."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing

from swin_umamba import __version__
from swin_umamba.distributed import gather_cases, is_rank_zero
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder, replace_file
from swin_umamba.metrics import (
    METRICS,
    check_rules,
    false_positive_ml,
    organ_scores,
    slice_axis_of,
    summarise,
    tolerances_for,
)

TITLES = {"dice": "Dice (DSC)", "nsd": "normalised surface distance (NSD)"}
DEFINITIONS = {
    "mean": "mean over organs of each organ's mean over cases",
    "std": "sample standard deviation over cases (divisor n - 1), null for one case",
    "null": "not scored: by the standard rules an organ that the truth does not hold",
    "nsd": "surface elements weighted by area, within tolerances_mm, in the grid of the image file",
    "false_positive_ml": "predicted volume of organs that the truth does not hold, in mL",
}
Report = dict[str, Any]


class EvaluationReport:
    """Ignite handler that scores each case of an evaluator and writes the report when it is through.

    The evaluator's postprocessing must leave `pred` and `label`, label maps (1, X, Y, Z) with the model's ids, as
    MetaTensors in the grid of the image file. Items of the data list may hold `case`, `patient` and `labelled` (ids).

    Args:
        output_dir: folder that gets metrics.json, metrics.csv and metrics.png.
        labels: the model's organ -> id.
        model: plain data about the model, copied into the report.
        data: plain data about the cases (list, section), copied into the report.
        tolerances: organ -> NSD tolerance in mm where it is not the paper's.
        rules: `standard` or `paper`, see `swin_umamba.metrics`.
    """

    def __init__(
        self,
        *,
        output_dir: str | os.PathLike,
        labels: Mapping[str, int],
        model: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        tolerances: Mapping[str, float] | None = None,
        rules: str = "standard",
    ) -> None:
        self.output_dir = make_writable_folder(output_dir)
        self.scoring: dict[str, Any] = {
            "labels": dict(labels),
            "tolerances": tolerances_for(labels, tolerances),
            "rules": check_rules(rules),
        }
        self.about: dict[str, Any] = {"model": dict(model or {}), "data": dict(data or {})}
        self.cases: list[dict[str, Any]] = []
        self.failed: list[dict[str, str]] = []
        self.report: Report = {}

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Forget the cases of an earlier run."""
        self.cases, self.failed = [], []

    def collect(self, engine: Any) -> None:
        """Score the cases of the batch that the engine has just finished; one that cannot be scored is noted."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            try:
                self.cases.append(case_entry(item, output["pred"], output["label"], **self.scoring))
            except InputError as error:
                self.failed.append({"case": case_name(item, output["label"]), "error": str(error)})

    def finish(self, engine: Engine) -> None:
        """Write and print the report; of several processes the first one does, for all.

        Raises:
            InputError: after that, naming the cases that could not be scored; or if nothing was scored.
        """
        cases, given_up, unscored = map(gather_cases, (self.cases, getattr(engine, "failed", []), self.failed))
        if not is_rank_zero():
            return
        self.report = build_report(cases, failed=[*given_up, *unscored], **self.scoring, **self.about)
        write_report(self.output_dir, self.report)
        print(format_table(self.report), flush=True)
        if unscored:
            reasons = "; ".join(f"{case['case']}: {case['error']}" for case in unscored)
            raise InputError(f"{len(unscored)} cases could not be scored: {reasons}")


def case_entry(
    item: Mapping[str, Any],
    prediction: MetaTensor,
    truth: MetaTensor,
    *,
    labels: Mapping[str, int],
    tolerances: Mapping[str, float],
    rules: str,
) -> dict[str, Any]:
    """Score one case.

    Args:
        item: of the data list: `case`, and where known `patient` and `labelled`.
        prediction: label map, (1, X, Y, Z).
        truth: label map on the same grid, (1, X, Y, Z).
        labels: organ -> id.
        tolerances: organ -> NSD tolerance in mm.
        rules: `standard` or `paper`.

    Returns:
        `case`, `patient` and `image` where known, `organs` (see `organ_scores`), `false_positive_ml`, `spacing_mm`.
    """
    spacing = [float(side) for side in affine_to_spacing(truth.affine)]
    grid: dict[str, Any] = {"spacing": spacing, "labels": labels, "labelled": item.get("labelled")}
    found, true = prediction[0], truth[0]  # (1, X, Y, Z) -> (X, Y, Z)
    axis = slice_axis_of(truth.affine)
    organs = organ_scores(found, true, **grid, tolerances=tolerances, rules=rules, slice_axis=axis)
    surplus = false_positive_ml(found, true, **grid)
    known = {"patient": item.get("patient"), "image": prediction.meta.get("filename_or_obj")}
    return {
        "case": case_name(item, truth),
        **{key: str(value) for key, value in known.items() if value is not None},
        "organs": organs,
        "false_positive_ml": {organ: round(volume, 3) for organ, volume in surplus.items()},
        "spacing_mm": [round(side, 5) for side in spacing],
    }


def case_name(item: Mapping[str, Any], truth: MetaTensor) -> str:
    """Return the item's `case`, or the file name of its label map."""
    return str(item.get("case") or Path(str(truth.meta.get("filename_or_obj", "unnamed"))).name)


def build_report(
    cases: Sequence[Mapping[str, Any]],
    *,
    failed: Sequence[Mapping[str, str]] = (),
    labels: Mapping[str, int],
    tolerances: Mapping[str, float],
    rules: str,
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Report:
    """Return the report as plain data: `mean`, `organs`, `cases`, then what it was made of.

    Args:
        cases: of `case_entry`.
        failed: `{"case", "error"}` of the cases that could not be segmented or scored.
        labels: organ -> id.
        tolerances: organ -> NSD tolerance in mm.
        rules: `standard` or `paper`.
        model: plain data about the model.
        data: plain data about the cases.

    Raises:
        InputError: if not one organ of one case has a score.
    """
    summary = summarise(case["organs"] for case in cases)
    if summary["mean"]["dice"] is None:
        reason = f"; {failed[0]['case']} failed: {failed[0]['error']}" if failed else ""
        raise InputError(
            f"no scores: none of {len(cases)} cases holds an annotated organ of {', '.join(labels)}{reason}"
        )
    return {
        **summary,
        "cases": list(cases),
        "failed": list(failed),
        "rules": rules,
        "tolerances_mm": dict(tolerances),
        "definitions": DEFINITIONS,
        "model": dict(model or {}),
        "data": dict(data or {}),
        "code_version": __version__,
    }


def write_report(folder: str | os.PathLike, report: Report) -> None:
    """Write metrics.json, metrics.csv and metrics.png into `folder`, each atomically."""
    folder = Path(folder)
    with replace_file(folder / "metrics.json") as path:
        text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    with replace_file(folder / "metrics.csv") as path:
        _write_csv(path, report)
    with replace_file(folder / "metrics.png") as path:
        draw_figure(report).savefig(path, dpi=150)


def format_table(report: Report) -> str:
    """Return the report as aligned text: per organ mean ± standard deviation over n cases, then the mean of organs."""
    rows: list[tuple[str, ...]] = [("organ", "DSC", "NSD", "n")]
    for organ, scores in report["organs"].items():
        rows.append((organ, *(_mean_and_std(scores[metric]) for metric in METRICS), str(scores["dice"]["n"])))
    rows.append(("mean of organs", *(_number(report["mean"][metric]) for metric in METRICS), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:>{widths[3]}}".rstrip()
        for row in rows
    ]
    lines[1:1] = lines[-1:-1] = ["-" * (sum(widths) + 6)]
    extra = [f"{case['case']}: {_surplus(case)}" for case in report["cases"] if case["false_positive_ml"]]
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
        panel.set_title(f"{TITLES[metric]}\nmean of organs {mean:.3f} (dashed)", fontsize=10)
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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _mean_and_std(spread: Mapping[str, float | None]) -> str:
    return _number(spread["mean"]) + ("" if spread["std"] is None else f" ± {spread['std']:.4f}")


def _surplus(case: Mapping[str, Any]) -> str:
    volumes = ", ".join(f"{organ} {volume:.2f} mL" for organ, volume in case["false_positive_ml"].items())
    return f"predicted, but not in the truth: {volumes}"
