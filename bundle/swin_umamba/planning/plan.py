"""The settings that a data set asks for, each with its reason in words, after the rules of nnU-Net's 2D plans."""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from swin_umamba.errors import InputError
from swin_umamba.inferers import THICK
from swin_umamba.networks import build_network, network_names
from swin_umamba.planning.fingerprint import Fingerprint
from swin_umamba.planning.memory import GIB, TrainingMemory, training_memory
from swin_umamba.transforms import in_plane_size

MULTIPLE = 32  # the encoder halves five times
LARGEST_PATCH, SMALLEST_PATCH = 512, 64
LEAST_BATCH, LARGEST_BATCH = 4, 64
PIXEL_SHARE = 0.05  # of all pixels that one batch may hold, as in nnU-Net: batches of few images repeat themselves
USABLE_MEMORY = 0.85
FEW_PATIENTS = 30
FEW_CASES = 5  # that show an organ
FROM_LARGE_TO_SMALL = ("swin_umamba", "swin_umamba_d", "swin_umamba_small", "swin_umamba_d_small", "swin_umamba_tiny")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One key of `bundle/configs/train.yaml`, its value, and the reason in words."""

    key: str
    value: Any
    reason: str


@dataclasses.dataclass(frozen=True)
class _Network:
    """A network and what it takes: patch, batch, memory."""

    name: str
    roi_size: tuple[int, int]
    batch_size: int
    memory: TrainingMemory


def plan_training(
    fingerprint: Fingerprint,
    *,
    model_name: str,
    memory: float,
    memory_source: str,
    half: bool = True,
    network: str | None = None,
) -> list[Setting]:
    """Return the settings for a data set, to be laid over `bundle/configs/train.yaml`.

    Args:
        fingerprint: of the data set.
        model_name: of the model to train.
        memory: bytes to plan for.
        memory_source: where they are, for the reasons.
        half: train in bfloat16, as on a GPU.
        network: a name of `swin_umamba.networks.network_names`; None chooses by the number of patients.

    Raises:
        InputError: for an unknown network, or if the memory holds no batch of it.
    """
    labels, label_reason = _labels(fingerprint)
    x, y, z = fingerprint.median_spacing()
    spacing = (_rounded(x), _rounded(y))
    size = _median_size(fingerprint, spacing)
    chosen = _choose_network(fingerprint, len(labels) + 1, size, USABLE_MEMORY * memory, half, network)
    settings = [
        Setting("model_name", model_name, "After this file."),
        Setting(
            "description", f"{', '.join(labels)} in {fingerprint.about.get('modality', 'MR')}.", "For whoever uses it."
        ),
        Setting("training_data", fingerprint.about.get("name", fingerprint.source), "As the data set calls itself."),
        Setting("licence", fingerprint.about.get("licence", "unknown"), "The weights inherit the terms of the data."),
        Setting("labels", labels, label_reason),
        Setting("spacing", list(spacing), _spacing_reason(fingerprint)),
        Setting("roi_size", list(chosen.roi_size), _patch_reason(size, chosen)),
        Setting("network_name", chosen.name, _network_reason(fingerprint, network)),
        Setting("batch_size", chosen.batch_size, _batch_reason(chosen, memory, memory_source)),
    ]
    return settings + _schedule(fingerprint, chosen) + _augmentation(labels)


def _labels(fingerprint: Fingerprint) -> tuple[dict[str, int], str]:
    """Return the organs that some case shows, numbered from 1 in the order of the data set's ids."""
    ordered = sorted(fingerprint.labels, key=lambda organ: fingerprint.labels[organ])
    shown = [organ for organ in ordered if fingerprint.organ_cases(organ)]
    if not shown:
        raise InputError(f"{fingerprint.source}: no label map holds any of {', '.join(ordered)}")
    absent = [organ for organ in ordered if organ not in shown]
    rare = [
        f"{organ} ({fingerprint.organ_cases(organ)})" for organ in shown if fingerprint.organ_cases(organ) < FEW_CASES
    ]
    reason = "The organs that were annotated; ids run from 1 without gaps, data are matched by name."
    reason += f" Left out, because no case shows them: {', '.join(absent)}." if absent else ""
    reason += f" Shown by few cases, so expect little of them: {', '.join(rare)}." if rare else ""
    return {organ: number for number, organ in enumerate(shown, start=1)}, reason


def _spacing_reason(fingerprint: Fingerprint) -> str:
    in_plane = [side for case in fingerprint.cases for side in case.spacing[:2]]
    gaps = [case.spacing[2] for case in fingerprint.cases]
    reason = (
        f"Median in plane (x, y), in mm; the cases have {_spread(in_plane)}. Slices stay as they were acquired, "
        f"{_spread(gaps)} mm apart: the network sees one at a time."
    )
    turned = [case.case for case in fingerprint.cases if case.anisotropy < 1 / THICK]
    if turned:
        reason += (
            f" Beware: {len(turned)} cases were not acquired in axial slices ({', '.join(turned[:3])}), yet the "
            "network reads axial ones, which are coarse there."
        )
    return reason


def _median_size(fingerprint: Fingerprint, spacing: tuple[float, float]) -> tuple[int, int]:
    """Return the median size in pixels of slices at the new spacing."""
    sizes = [in_plane_size(case.size[:2], case.spacing[:2], spacing) for case in fingerprint.cases]
    x, y = (round(statistics.median(size[axis] for size in sizes)) for axis in range(2))
    return (x, y)


def _choose_network(
    fingerprint: Fingerprint, classes: int, size: tuple[int, int], available: float, half: bool, name: str | None
) -> _Network:
    """Return the named network or the largest that suits, with the largest patch that leaves room for a batch."""
    if name is not None and name not in network_names():
        raise InputError(f"--network {name!r}: legal: {', '.join(network_names())}")
    start = FROM_LARGE_TO_SMALL.index("swin_umamba_small") if fingerprint.patients < FEW_PATIENTS else 0
    for candidate in [name] if name is not None else FROM_LARGE_TO_SMALL[start:]:
        network = build_network(candidate, in_channels=1, out_channels=classes, deep_supervision=True)
        found = _fitting(candidate, training_memory(network, 1, half), fingerprint, size, available)
        if found is not None:
            return found
    raise InputError(
        f"{available / GIB:.2f} GiB of memory hold no batch of {LEAST_BATCH} slices of {SMALLEST_PATCH} x "
        f"{SMALLEST_PATCH} of {name or FROM_LARGE_TO_SMALL[-1]}; legal: more --memory_gb, or a smaller --network"
    )


def _fitting(
    name: str, memory: TrainingMemory, fingerprint: Fingerprint, size: tuple[int, int], available: float
) -> _Network | None:
    patch = [min(LARGEST_PATCH, max(SMALLEST_PATCH, math.ceil(side / MULTIPLE) * MULTIPLE)) for side in size]
    while memory.batch_size((patch[0], patch[1]), available) < LEAST_BATCH:
        longer = int(np.argmax(patch))
        if patch[longer] <= SMALLEST_PATCH:
            return None
        patch[longer] -= MULTIPLE
    roi_size = (patch[0], patch[1])
    pixels = size[0] * size[1] * sum(case.size[2] for case in fingerprint.cases)
    share = int(PIXEL_SHARE * pixels / (patch[0] * patch[1]))
    batch = min(memory.batch_size(roi_size, available), max(LEAST_BATCH, share), LARGEST_BATCH)
    return _Network(name, roi_size, batch - batch % 2, memory)


def _patch_reason(size: tuple[int, int], chosen: _Network) -> str:
    whole = [side <= patch for side, patch in zip(size, chosen.roi_size, strict=True)]
    reason = f"The median slice has {size[0]} x {size[1]} pixels at this spacing; rounded to multiples of {MULTIPLE}"
    if all(whole):
        return reason + ", so that most slices are seen whole."
    return (
        reason
        + f" and made smaller until {LEAST_BATCH} fit into the memory, at most {LARGEST_PATCH}: slices go in windows."
    )


def _network_reason(fingerprint: Fingerprint, asked: str | None) -> str:
    if asked is not None:
        return "As asked for."
    if fingerprint.patients < FEW_PATIENTS:
        return (
            f"{fingerprint.patients} patients, fewer than {FEW_PATIENTS}, do not fill the published sizes. With "
            "weights to start from (--pretrained) swin_umamba may do better: plan anew with --network swin_umamba."
        )
    return (
        f"The largest that fits, for {fingerprint.patients} patients. Its encoder starts best from ImageNet weights: "
        "give --pretrained (python -m swin_umamba.weights fetch vmamba_tiny)."
    )


def _batch_reason(chosen: _Network, memory: float, memory_source: str) -> str:
    needed = chosen.memory.needed(chosen.roi_size, chosen.batch_size) / GIB
    fits = chosen.memory.batch_size(chosen.roi_size, USABLE_MEMORY * memory)
    reason = f"{memory / GIB:.1f} GiB ({memory_source}) hold {fits} slices, of this size about {needed:.1f} GiB"
    if chosen.batch_size < fits - 1:
        reason += (
            f"; no more than {PIXEL_SHARE:.0%} of the data set's pixels, and {LARGEST_BATCH} slices, are in one batch"
        )
    return reason + "."


def _schedule(fingerprint: Fingerprint, chosen: _Network) -> list[Setting]:
    slices = sum(case.size[2] for case in fingerprint.cases)
    iterations = int(min(250, max(50, math.ceil(slices / chosen.batch_size))))
    settings = [
        Setting(
            "iterations_per_epoch", iterations, f"{slices} slices: an epoch sees each about once (50 to 250 steps)."
        ),
        Setting(
            "train#trainer#max_epochs", 100, "As in the paper; watch the validation Dice, it may be enough sooner."
        ),
        Setting("cosine_epochs", "@train#trainer#max_epochs", "The learning rate reaches its end with the last epoch."),
        Setting(
            "ema_decay", 0.999, "A running average of the weights is validated and kept; it evens out small batches."
        ),
    ]
    if fingerprint.patients < FEW_PATIENTS:
        reason = "Two slices of each volume that is drawn, because there are few."
        settings.append(Setting("slices_per_volume", 2, reason))
    if chosen.name not in ("swin_umamba", "swin_umamba_d"):
        settings.append(
            Setting(
                "learning_rate", 7.0e-4, "For small networks from scratch; the paper's 1e-4 is for pretrained ones."
            )
        )
    if not fingerprint.sections.get("validation"):
        reason = "The data set has no validation cases; with some, the best epoch is kept instead of the last."
        settings.append(Setting("validate_during_training", False, reason))
    return settings


def _augmentation(labels: dict[str, int]) -> list[Setting]:
    sided = [organ for organ in labels if re.search(r"\b(left|right)\b", organ)]
    if not sided:
        return []
    what = f"{', '.join(sided[:4])}{', …' if len(sided) > 4 else ''}"
    return [
        Setting(
            "augmentation#flip#prob_x", 0.0, f"Left and right differ ({what}); mirror images would teach the opposite."
        ),
        Setting("augmentation#flip#prob_y", 0.0, "Patients lie on their backs."),
        Setting("augmentation#rotate#degrees", 20, "For the same reason; a half turn would swap the sides."),
    ]


def _spread(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
