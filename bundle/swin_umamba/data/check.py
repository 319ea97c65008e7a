"""Look into every file of a data list before hours of training meet a broken one."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import torch
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirstd
from tqdm import tqdm

from swin_umamba.data.datalist import NAMES_SHOWN, SECTIONS, read_datalist, resolve_item
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.photographs import MODALITIES
from swin_umamba.transforms import CheckPaird, CheckVolumed, LoadVolumed, MapLabelsd, file_name, spacing_of

AFFINE_TOLERANCE = 1e-3  # mm, each entry
PLAUSIBLE_SPACING = (0.1, 25.0)  # mm; beyond it a body's scan has a damaged header or another unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """What a case without problems looks like.

    Args:
        case: its name.
        orientation: axis codes, such as LAS.
        spacing: of its axes in mm.
        size: of its axes in voxels.
        voxels: organ -> voxels in the label map, of the annotated organs; empty without a label map.
    """

    case: str
    orientation: str
    spacing: tuple[float, ...]
    size: tuple[int, ...]
    voxels: dict[str, int]


@dataclasses.dataclass(kw_only=True)
class DatasetReport:
    """What a check found.

    Args:
        datalist: the file that was checked.
        sections: name -> (cases, patients).
        organs: of the data list.
        facts: of the cases without problems.
        problems: one line for each.
    """

    datalist: str
    sections: dict[str, tuple[int, int]]
    organs: list[str]
    facts: list[CaseFacts] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)


def check_dataset(datalist: str | os.PathLike, dataset_dir: str | os.PathLike | None = None) -> DatasetReport:
    """Check every file of a data list; a broken one does not stop the others.

    An image must be one finite, not constant, grey-scale volume of plausible spacing, or, in a list of photographs, in
    grey or colour; its label map must have its shape
    and (within 0.001 mm) its affine, and ids that the list names; no two cases may show the same image.

    Args:
        datalist: the JSON file.
        dataset_dir: folder that relative paths start from; None takes the JSON file's.

    Raises:
        InputError: if the data list itself is not a legal one.
    """
    plain = read_datalist(datalist)
    base = Path(dataset_dir if dataset_dir is not None else Path(datalist).parent).expanduser().resolve()
    sections = {name: (len(plain[name]), len({item["patient"] for item in plain[name]})) for name in SECTIONS}
    report = DatasetReport(datalist=str(datalist), sections=sections, organs=list(plain["labels"]))
    items = [resolve_item(item, plain, plain["labels"], base) for name in SECTIONS for item in plain[name]]
    if not items:
        report.problems.append(f"{datalist}: no case in any section")
    colours = 3 if plain.get("modality") in MODALITIES else 1
    steps = {key: _loading_steps(key, channels) for key, channels in (("image", colours), ("label", 1))}
    seen: dict[str, str] = {}
    for item in tqdm(items, desc="checking", disable=None, leave=False):
        volumes, problems = _load(item, steps)
        if "image" in volumes:
            problems += _image_problems(volumes["image"], item["case"], seen)
        if "label" in volumes:
            problems += _label_problems(volumes, item)
        report.problems += [f"case {item['case']!r}: {problem}" for problem in problems]
        if not problems:
            report.facts.append(_facts(volumes, item, plain["labels"]))
    return report


def describe(report: DatasetReport) -> str:
    """Return a report as text: sections, geometry, organs, and every problem."""
    lines = [f"{report.datalist}: {sum(cases for cases, _ in report.sections.values())} cases"]
    lines += [
        f"  {name:<11}{cases:>5} cases {patients:>5} patients" for name, (cases, patients) in report.sections.items()
    ]
    if report.facts:
        lines += _geometry_lines(report.facts) + _organ_lines(report.facts, report.organs)
    lines += [f"problem: {problem}" for problem in report.problems]
    count = len(report.problems)
    lines.append(f"{count or 'no'} problem{'' if count == 1 else 's'}")
    return "\n".join(lines)


def _loading_steps(key: str, channels: int) -> list[Callable]:
    return [LoadVolumed(keys=key), EnsureChannelFirstd(keys=key), CheckVolumed(keys=key, channels=channels)]


def _load(item: Mapping[str, Any], steps: Mapping[str, Sequence[Callable]]) -> tuple[dict[str, MetaTensor], list[str]]:
    """Return the volumes (1, X, Y, Z) of an item that can be read, and why the others cannot."""
    volumes, problems = {}, []
    for key in (key for key in steps if key in item):
        try:
            loaded = {key: item[key]}
            for step in steps[key]:
                loaded = step(loaded)
            volumes[key] = loaded[key]
        except Exception as error:  # whatever a reader makes of a damaged file
            problems.append(_reason(error, item[key]))
    return volumes, problems


def _image_problems(image: MetaTensor, case: str, seen: dict[str, str]) -> list[str]:
    problems = []
    low, high = PLAUSIBLE_SPACING
    spacing = spacing_of(image.affine)
    if not all(low <= side <= high for side in spacing):
        shown = " x ".join(f"{side:.4g}" for side in spacing)
        problems.append(f"{file_name(image)} has a spacing of {shown} mm; plausible are {low} to {high} mm")
    if bool(image.min() == image.max()):
        problems.append(f"{file_name(image)} is constant: every voxel is {float(image.min()):g}")
    digest = hashlib.sha256(image.as_tensor().contiguous().numpy().tobytes()).hexdigest()
    if seen.setdefault(digest, case) != case:
        problems.append(f"{file_name(image)} shows the same image as case {seen[digest]!r}; keep one of them")
    return problems


def _label_problems(volumes: Mapping[str, MetaTensor], item: Mapping[str, Any]) -> list[str]:
    problems = []
    label = volumes["label"]
    if "image" in volumes:
        try:
            CheckPaird()({"image": volumes["image"], "label": label})
            gap = float((label.affine.double() - volumes["image"].affine.double()).abs().max())
            if gap > AFFINE_TOLERANCE:
                problems.append(
                    f"{file_name(label)} has an affine that differs from its image's by up to {gap:.3g}; legal: "
                    f"{AFFINE_TOLERANCE:g}"
                )
        except InputError as error:
            problems.append(str(error))
    try:
        MapLabelsd()({"label": label, "label_ids": item["label_ids"]})
    except InputError as error:
        problems.append(str(error))
    return problems


def _facts(volumes: Mapping[str, MetaTensor], item: Mapping[str, Any], labels: Mapping[str, int]) -> CaseFacts:
    image = volumes["image"]
    voxels: dict[str, int] = {}
    if "label" in volumes:
        counts = torch.bincount(volumes["label"].as_tensor().long().flatten(), minlength=256)  # (256,)
        voxels = {organ: int(counts[number]) for organ, number in labels.items() if number in item["labelled"]}
    return CaseFacts(
        case=item["case"],
        orientation="".join(nibabel.aff2axcodes(image.affine.numpy())),
        spacing=spacing_of(image.affine),
        size=tuple(image.shape[1:]),
        voxels=voxels,
    )


def _geometry_lines(facts: Sequence[CaseFacts]) -> list[str]:
    orientations = Counter(fact.orientation for fact in facts)
    lines = ["  orientation  " + ", ".join(f"{name} {count}" for name, count in orientations.most_common())]
    for axis, name in enumerate("123"):  # of the file
        spacing, size = ([getattr(fact, key)[axis] for fact in facts] for key in ("spacing", "size"))
        lines.append(f"  axis {name}: min / median / max {_spread(spacing, '.3g')} mm, {_spread(size, '.0f')} voxels")
    return lines


def _organ_lines(facts: Sequence[CaseFacts], organs: Sequence[str]) -> list[str]:
    lines = [f"  {'organ':<26}{'voxels: min / median / max':<30}cases without"]
    for organ in organs:
        counts = {fact.case: fact.voxels[organ] for fact in facts if organ in fact.voxels}
        present = [count for count in counts.values() if count]
        absent = [case for case, count in counts.items() if not count]
        shown = f"{len(absent)} of {len(counts)}" if counts else "not annotated"
        shown += f": {', '.join(absent[:NAMES_SHOWN])}{', …' if len(absent) > NAMES_SHOWN else ''}" if absent else ""
        lines.append(f"  {organ:<26}{_spread(present, '.0f') if present else '-':<30}{shown}")
    return lines


def _spread(values: Sequence[float], form: str) -> str:
    return " / ".join(format(value, form) for value in (min(values), statistics.median(values), max(values)))


def _reason(error: Exception, file: str) -> str:
    cause = input_error_of(error)
    return str(cause) if cause is not None else f"{file} cannot be read: {' '.join(str(error).split()) or type(error)}"
