"""What an evaluation finds, as plain data; `swin_umamba.report_files` writes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing

from swin_umamba import __version__
from swin_umamba.distributed import gather_cases, is_rank_zero
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder
from swin_umamba.instances import instance_scores, instances_of, mean_scores
from swin_umamba.metrics import false_positive_ml, mean_of_organs, organ_scores, slice_axis_of, summarise
from swin_umamba.photographs import is_photograph, read_photograph
from swin_umamba.report_files import Report, format_table, write_report
from swin_umamba.rules import PER_IMAGE, STANDARD, check_rules, tolerances_for
from swin_umamba.transforms import file_name

DEFINITIONS = {
    "mean": "mean over organs of each organ's mean over cases",
    "std": "sample standard deviation over cases (divisor n - 1), null for one case",
    "null": "not scored: by the standard rules an organ that the truth does not hold",
    "nsd": "surface elements weighted by area, within tolerances_mm, in the grid of the image file",
    "false_positive_ml": "predicted volume of organs that the truth does not hold, in mL",
}
PER_IMAGE_MEAN = "mean over images of each image's mean over the labels that truth or prediction holds; mm are pixels"
INSTANCES = "objects matched at an intersection over union of 0.5; see swin_umamba.instances"


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
        rules: `standard`, `paper` or `per_image`, see `swin_umamba.metrics`.
        instances: label whose connected pieces are single objects, which are matched and scored too; None: none is. The
            true objects are those of the item's file `instances`, numbered, or without one the pieces of the truth.
    """

    def __init__(
        self,
        *,
        output_dir: str | os.PathLike,
        labels: Mapping[str, int],
        model: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        tolerances: Mapping[str, float] | None = None,
        rules: str = STANDARD,
        instances: str | None = None,
    ) -> None:
        self.output_dir = make_writable_folder(output_dir)
        self.scoring: dict[str, Any] = {
            "labels": dict(labels),
            "tolerances": tolerances_for(labels, tolerances, check_rules(rules)),
            "rules": rules,
        }
        self.instances = None if instances is None else labels[instances]
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
                entry = case_entry(item, output["pred"], output["label"], **self.scoring)
                if self.instances is not None:
                    entry["instances"] = scores_of_objects(item, output["pred"], output["label"], self.instances)
                self.cases.append(entry)
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
        rules: `standard`, `paper` or `per_image`.

    Returns:
        `case`, `patient` and `image` where known, `organs` (see `organ_scores`), `false_positive_ml`, `spacing_mm`; by
        the rules `per_image` also their `mean`. Nothing of a photograph is in mL.
    """
    spacing = [float(side) for side in affine_to_spacing(truth.affine)]
    found, true = prediction[0], truth[0]  # (1, X, Y, Z) -> (X, Y, Z)
    photograph = is_photograph(file_name(prediction))
    if photograph and rules == STANDARD:
        found, true, spacing = found[..., 0], true[..., 0], spacing[:2]  # (X, Y, 1) -> (X, Y)
    grid: dict[str, Any] = {"spacing": spacing, "labels": labels, "labelled": item.get("labelled")}
    axis = slice_axis_of(truth.affine)
    organs = organ_scores(found, true, **grid, tolerances=tolerances, rules=rules, slice_axis=axis)
    surplus = {} if photograph else false_positive_ml(found, true, **grid)
    known = {"patient": item.get("patient"), "image": prediction.meta.get("filename_or_obj")}
    return {
        "case": case_name(item, truth),
        **{key: str(value) for key, value in known.items() if value is not None},
        "organs": organs,
        **({"mean": mean_of_organs(organs)} if rules == PER_IMAGE else {}),
        "false_positive_ml": {organ: round(volume, 3) for organ, volume in surplus.items()},
        "spacing_mm": [round(side, 5) for side in spacing],
    }


def scores_of_objects(
    item: Mapping[str, Any], prediction: MetaTensor, truth: MetaTensor, number: int
) -> dict[str, Any]:
    """Match the single objects of one photograph with the true ones.

    Args:
        item: of the data list; its `instances` is the file with the true objects' numbers.
        prediction: label map, (1, X, Y, 1).
        truth: label map, (1, X, Y, 1).
        number: id of the label whose connected pieces are objects.

    Raises:
        InputError: if the file cannot be read, or has another size.
    """
    maps = [labels.cpu().numpy()[0, ..., 0].T for labels in (prediction, truth)]  # (1, X, Y, 1) -> (rows, columns)
    found, true = (instances_of(labels, number) for labels in maps)
    if item.get("instances"):
        true = read_photograph(item["instances"])
        if true.ndim != 2:
            raise InputError(f"{item['instances']} has colours; legal are numbers of objects")
    return instance_scores(found, true.astype(np.int32))


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
        rules: `standard`, `paper` or `per_image`.
        model: plain data about the model.
        data: plain data about the cases.

    Raises:
        InputError: if not one organ of one case has a score.
    """
    summary = summarise((case["organs"] for case in cases), rules)
    objects = [case["instances"] for case in cases if "instances" in case]
    if summary["mean"]["dice"] is None:
        reason = f"; {failed[0]['case']} failed: {failed[0]['error']}" if failed else ""
        raise InputError(
            f"no scores: none of {len(cases)} cases holds an annotated organ of {', '.join(labels)}{reason}"
        )
    return {
        **summary,
        **({"instances": mean_scores(objects)} if objects else {}),
        "cases": list(cases),
        "failed": list(failed),
        "rules": rules,
        "tolerances_mm": dict(tolerances),
        "definitions": {
            **DEFINITIONS,
            **({"mean": PER_IMAGE_MEAN} if rules == PER_IMAGE else {}),
            **({"instances": INSTANCES} if objects else {}),
        },
        "model": dict(model or {}),
        "data": dict(data or {}),
        "code_version": __version__,
    }
