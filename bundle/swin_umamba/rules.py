"""By which rules a segmentation is scored, and how far off a surface may lie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from swin_umamba.errors import InputError

STANDARD, PAPER, PER_IMAGE = RULES = ("standard", "paper", "per_image")
DEFAULT_TOLERANCE_MM = 3.0
TOLERANCE_PIXELS = 2.0  # by the rules per_image
TOLERANCES_MM = {
    "liver": 5.0,
    "right kidney": 3.0,
    "spleen": 3.0,
    "pancreas": 5.0,
    "aorta": 2.0,
    "inferior vena cava": 2.0,
    "right adrenal gland": 2.0,
    "left adrenal gland": 2.0,
    "gallbladder": 2.0,
    "esophagus": 3.0,
    "stomach": 5.0,
    "duodenum": 7.0,
    "left kidney": 3.0,
}
SLICES_OF_TRUTH_ONLY = ("aorta", "inferior vena cava", "esophagus")


def tolerances_for(
    labels: Mapping[str, int], overrides: Mapping[str, float] | None = None, rules: str = STANDARD
) -> dict[str, float]:
    """Return organ -> NSD tolerance in mm: `overrides`, else the paper's, else 3 mm (`DEFAULT_TOLERANCE_MM`).

    By the rules `per_image` the default is 2 pixels (`TOLERANCE_PIXELS`) for all.

    Raises:
        InputError: if an override is for an organ that neither `labels` nor the paper has, or not a positive number.
    """
    overrides = dict(overrides or {})
    for organ, tolerance in overrides.items():
        if organ not in labels and organ not in TOLERANCES_MM:
            raise InputError(f"tolerance for unknown organ {organ!r}; legal: {', '.join(labels)}")
        if not (_is_number(tolerance) and 0 < tolerance < math.inf):
            raise InputError(f"tolerance of {organ} is {tolerance!r}; legal: a positive number of mm")
    if rules == PER_IMAGE:
        return {organ: float(overrides.get(organ, TOLERANCE_PIXELS)) for organ in labels}
    merged = {**TOLERANCES_MM, **overrides}
    return {organ: float(merged.get(organ, DEFAULT_TOLERANCE_MM)) for organ in labels}


def check_rules(rules: str) -> str:
    """Return `rules`.

    Raises:
        InputError: if they are none of `RULES`.
    """
    if rules not in RULES:
        raise InputError(f"rules is {rules!r}; legal: {', '.join(RULES)}")
    return rules


def labelled_organs(labels: Mapping[str, int], labelled: Iterable[int] | None) -> dict[str, int]:
    """Return the part of `labels` whose ids are in `labelled` (None: all of it).

    Raises:
        InputError: if `labelled` holds an id that `labels` does not.
    """
    if labelled is None:
        return dict(labels)
    ids = {int(index) for index in labelled}
    if unknown := ids - set(labels.values()):
        raise InputError(f"annotated label id {min(unknown)} is unknown; legal: {sorted(labels.values())}")
    return {organ: index for organ, index in labels.items() if index in ids}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
