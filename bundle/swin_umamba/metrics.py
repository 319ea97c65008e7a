"""Dice (DSC) and normalised surface distance (NSD) per organ, in the grid of the original image.

Three sets of rules (`swin_umamba.rules`) for the corner cases:

* ``standard``: an organ that the truth does not hold has no score (None, left out of every mean); what the prediction
  finds of it is told apart, in mL. An organ that the truth holds and the prediction does not scores 0.
* ``paper``: the rules behind the published tables of Swin-UMamba (arXiv 2402.03302). An organ that neither holds scores
  1, one that only the prediction holds scores 0, and aorta, inferior vena cava and esophagus count only on the slices
  from the first to the last but one of the truth (on a single slice nothing is left: no score). Every value is rounded
  to 4 digits.
* ``per_image``: the paper's rules for endoscopy, made for photographs. What neither the truth nor the prediction holds
  has no score, what only one of them holds scores 0; a case's score is the mean over the rest, rounded to 4 digits, and
  the mean is over cases. Of a map without any background the lowest id does not count, as in the published program.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.utils import convert_to_numpy
from nibabel.orientations import io_orientation
from scipy.ndimage import find_objects

from swin_umamba.errors import InputError
from swin_umamba.rules import (
    PAPER,
    PER_IMAGE,
    SLICES_OF_TRUTH_ONLY,
    STANDARD,
    check_rules,
    labelled_organs,
    tolerances_for,
)
from swin_umamba.surfaces import surface_dice

METRICS = ("dice", "nsd")

Scores = dict[str, "float | None"]
Box = tuple[slice, ...]


def organ_scores(
    prediction: np.ndarray | torch.Tensor,
    truth: np.ndarray | torch.Tensor,
    *,
    spacing: Sequence[float],
    labels: Mapping[str, int],
    tolerances: Mapping[str, float] | None = None,
    labelled: Iterable[int] | None = None,
    rules: str = "standard",
    slice_axis: int = -1,
) -> dict[str, Scores]:
    """Score each organ of one case.

    NSD is that of DeepMind's ``surface-distance``: surface elements weighted by their area in mm².

    Args:
        prediction: label map, (X, Y, Z) or, of a photograph, (X, Y), whole numbers of any dtype.
        truth: label map on the same grid and with the same ids.
        spacing: voxel size in mm along each array axis, in the order of the axes.
        labels: organ -> id, without background (0).
        tolerances: organ -> NSD tolerance in mm; `tolerances_for` says what holds for the others.
        labelled: ids that were annotated at all; organs with other ids are left out of the result. None: all.
        rules: ``standard``, ``paper`` or ``per_image``, see the module.
        slice_axis: array axis across the axial slices, used by the rules ``paper`` only. Their own program takes the
            last voxel axis, which is the same for the axial scans of AbdomenMRI; `slice_axis_of` finds it.

    Returns:
        organ -> ``{"dice": 0..1 or None, "nsd": 0..1 or None}``, in the order of `labels`.

    Raises:
        InputError: for maps that are not on one grid or not of whole numbers, ids without a name, a spacing that is
            not positive, an unknown organ or rules.
    """
    prediction, truth = label_maps(prediction, truth, labels)
    spacing = check_spacing(spacing, truth.ndim)
    tolerances = tolerances_for(labels, tolerances, check_rules(rules))
    organs = labelled_organs(labels, labelled)
    found_boxes, real_boxes = (find_objects(label_map, max(labels.values())) for label_map in (prediction, truth))
    scores = {}
    for organ, index in organs.items():
        found, real = found_boxes[index - 1], real_boxes[index - 1]
        if real is None:
            scores[organ] = _scores_of_absent(found is not None, rules)
            continue
        box = _union(found, real)
        if rules == PAPER and organ in SLICES_OF_TRUTH_ONLY:
            box = _without_last_slice(box, real, slice_axis)
        masks = prediction[box] == index, truth[box] == index
        scores[organ] = _rounded(mask_scores(*masks, spacing=spacing, tolerance=tolerances[organ]), rules)
    if rules == PER_IMAGE:
        counted = {int(index) for label_map in (prediction, truth) for index in np.unique(label_map)[1:]}
        scores = {o: s if organs[o] in counted else dict.fromkeys(METRICS, None) for o, s in scores.items()}
    return scores


def mean_of_organs(organs: Mapping[str, Scores]) -> Scores:
    """Return the mean over a case's scored organs, rounded to 4 digits; None where none is."""
    means = {metric: _spread([scores[metric] for scores in organs.values()])["mean"] for metric in METRICS}
    return _rounded(means, PAPER)


def mask_scores(prediction: np.ndarray, truth: np.ndarray, *, spacing: Sequence[float], tolerance: float) -> Scores:
    """Return DSC and NSD of two masks; None where both are empty, 0 where one is.

    Args:
        prediction: bool, (X, Y, Z).
        truth: bool, (X, Y, Z).
        spacing: mm along each array axis.
        tolerance: mm; a surface element at most this far from the other surface agrees with it.
    """
    sizes = int(prediction.sum()), int(truth.sum())
    if sum(sizes) == 0:
        return {"dice": None, "nsd": None}
    if 0 in sizes:
        return {"dice": 0.0, "nsd": 0.0}
    dice = 2.0 * int((prediction & truth).sum()) / sum(sizes)
    return {"dice": dice, "nsd": surface_dice(prediction, truth, spacing=spacing, tolerance=tolerance)}


def false_positive_ml(
    prediction: np.ndarray | torch.Tensor,
    truth: np.ndarray | torch.Tensor,
    *,
    spacing: Sequence[float],
    labels: Mapping[str, int],
    labelled: Iterable[int] | None = None,
) -> dict[str, float]:
    """Return the predicted volume, in mL, of each annotated organ that the truth does not hold but the prediction does.

    Args and errors as for `organ_scores`.
    """
    prediction, truth = label_maps(prediction, truth, labels)
    voxel_ml = math.prod(check_spacing(spacing, truth.ndim)) / 1000.0
    length = max(labels.values()) + 1
    found, real = (np.bincount(label_map.ravel(), minlength=length) for label_map in (prediction, truth))
    organs = labelled_organs(labels, labelled)
    return {o: float(found[i] * voxel_ml) for o, i in organs.items() if real[i] == 0 and found[i] > 0}


def summarise(cases: Iterable[Mapping[str, Scores]], rules: str = STANDARD) -> dict[str, Any]:
    """Return means and spread over cases.

    Args:
        cases: the result of `organ_scores` of each case; cases may hold different organs.
        rules: by which they were scored.

    Returns:
        ``{"mean": {"dice", "nsd"}, "organs": {organ: {"dice": {"mean", "std", "n"}, "nsd": {...}}}}``: the mean over
        cases of each organ (n of them have a score), its sample standard deviation (divisor n - 1; None for n = 1), and
        the mean of these organ means, each organ counting the same. None where nothing was scored. By the rules
        ``per_image`` "mean" is that of `mean_of_organs` over cases.
    """
    cases = list(cases)
    names = dict.fromkeys(organ for case in cases for organ in case)
    organs = {
        organ: {metric: _spread([case[organ][metric] for case in cases if organ in case]) for metric in METRICS}
        for organ in names
    }
    if rules == PER_IMAGE:
        means = {metric: [mean_of_organs(case)[metric] for case in cases] for metric in METRICS}
    else:
        means = {metric: [scores[metric]["mean"] for scores in organs.values()] for metric in METRICS}
    return {"mean": {metric: _spread(means[metric])["mean"] for metric in METRICS}, "organs": organs}


def slice_axis_of(affine: np.ndarray | torch.Tensor) -> int:
    """Return the voxel axis (0, 1 or 2) closest to the patient's inferior-superior axis.

    Args:
        affine: (4, 4), voxel -> mm in RAS.
    """
    return int(np.flatnonzero(io_orientation(convert_to_numpy(affine))[:, 0] == 2)[0])


def check_spacing(spacing: Sequence[float], dimensions: int = 3) -> tuple[float, ...]:
    """Return `spacing` as floats.

    Raises:
        InputError: unless it is one positive number of mm for each array axis.
    """
    values = tuple(float(value) for value in spacing)
    if len(values) != dimensions or not all(0 < value < math.inf for value in values):
        raise InputError(f"spacing is {values}; legal: {dimensions} positive numbers of mm")
    return values


def label_maps(prediction: Any, truth: Any, labels: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return both label maps as integer arrays, (X, Y, Z) or (X, Y).

    Raises:
        InputError: if they are not 2D or 3D, differ in shape, or hold anything but 0 and the ids of `labels`; or if
            those are not distinct positive whole numbers.
    """
    ids = list(labels.values())
    if not ids or len(set(ids)) != len(ids) or not all(isinstance(i, int | np.integer) and i > 0 for i in ids):
        raise InputError(f"labels is {dict(labels)}; legal: organ -> id, ids distinct whole numbers from 1")
    arrays = {"prediction": convert_to_numpy(prediction), "truth": convert_to_numpy(truth)}
    shapes = [array.shape for array in arrays.values()]
    if shapes[0] != shapes[1] or len(shapes[0]) not in (2, 3):
        raise InputError(f"prediction has shape {shapes[0]}, truth {shapes[1]}; legal: one and the same 3D or 2D shape")
    found, true = (_whole_numbers(array, name, ids) for name, array in arrays.items())
    return found, true


def _whole_numbers(array: np.ndarray, name: str, ids: Sequence[int]) -> np.ndarray:
    """Return `array` in the smallest fitting integer type; refuse values other than 0 and `ids`."""
    values = np.unique(array)
    illegal = values[~np.isin(values, [0, *ids])]
    if illegal.size:
        raise InputError(f"{name} holds the value {illegal[0].item()}; legal: whole numbers, 0 and {sorted(ids)}")
    return array.astype(np.min_scalar_type(max(ids)))


def _scores_of_absent(predicted: bool, rules: str) -> Scores:
    if rules == STANDARD or (rules == PER_IMAGE and not predicted):
        return dict.fromkeys(METRICS, None)
    return dict.fromkeys(METRICS, float(not predicted))


def _union(first: Box | None, second: Box) -> Box:
    if first is None:
        return second
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))


def _without_last_slice(box: Box, truth: Box, axis: int) -> Box:
    """Return `box` cut to the slices of the truth, the upper one excluded (empty for an organ on one slice)."""
    cut = list(box)
    cut[axis] = slice(truth[axis].start, truth[axis].stop - 1)
    return tuple(cut)


def _rounded(scores: Scores, rules: str) -> Scores:
    if rules != PAPER:
        return scores
    return {metric: None if value is None else round(value, 4) for metric, value in scores.items()}


def _spread(values: Iterable[float | None]) -> dict[str, float | int | None]:
    scored = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(scored)) if scored else None,
        "std": float(np.std(scored, ddof=1)) if len(scored) > 1 else None,
        "n": len(scored),
    }
