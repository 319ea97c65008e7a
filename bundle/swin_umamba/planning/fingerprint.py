"""What the images of a data set are like: geometry, intensities, how much of each organ there is."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirstd, Orientationd
from tqdm import tqdm

from swin_umamba.data.datalist import check_datalist, read_datalist, resolve_item
from swin_umamba.data.formats import check_files_exist, read_layout
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.transforms import CheckPaird, CheckVolumed, LoadVolumed, MapLabelsd, spacing_of

PERCENTILES = (0.5, 50.0, 99.5)
LOOKED_AT = ("training", "validation")  # never the test cases: their images must not shape the training


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseFingerprint:
    """One case; axes are those of the body, x from left to right, y from back to front, z from feet to head.

    Args:
        case: its name.
        patient: whose it is.
        orientation: axis codes of the file.
        spacing: (x, y, z) in mm.
        size: (x, y, z) in voxels.
        intensity: of all voxels: "mean", "std", "min", "max", and percentiles as "p0.5".
        voxels: organ -> voxels, of the annotated organs.
        slices: organ -> axial slices that show it.
    """

    case: str
    patient: str
    orientation: str
    spacing: tuple[float, float, float]
    size: tuple[int, int, int]
    intensity: dict[str, float]
    voxels: dict[str, int]
    slices: dict[str, int]

    @property
    def anisotropy(self) -> float:
        """Distance between slices by the larger spacing in plane."""
        return self.spacing[2] / max(self.spacing[:2])


@dataclasses.dataclass(kw_only=True)
class Fingerprint:
    """What is known of a data set's cases for training and validation.

    Args:
        source: the data list or the folder.
        about: name, description, modality and licence, as far as they are known.
        labels: {organ: id in the label files}.
        sections: section -> number of cases, of all sections.
        cases: those of training and validation.
    """

    source: str
    about: dict[str, str]
    labels: dict[str, int]
    sections: dict[str, int]
    cases: list[CaseFingerprint]

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len({case.patient for case in self.cases})

    def median_spacing(self) -> tuple[float, float, float]:
        """Return the median (x, y, z) in mm."""
        x, y, z = (statistics.median(case.spacing[axis] for case in self.cases) for axis in range(3))
        return (x, y, z)

    def orientations(self) -> Counter[str]:
        """Return how many files have which axis codes."""
        return Counter(case.orientation for case in self.cases)

    def organ_cases(self, organ: str) -> int:
        """Return how many cases show an organ."""
        return sum(case.voxels.get(organ, 0) > 0 for case in self.cases)

    def organ_share(self, organ: str) -> float:
        """Return the share of an organ in the voxels of the cases that annotate it."""
        annotated = [case for case in self.cases if organ in case.voxels]
        total = sum(int(np.prod(case.size)) for case in annotated)
        return sum(case.voxels[organ] for case in annotated) / total if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a JSON file."""
        plain = dataclasses.asdict(self)
        plain["cases"] = [
            {**case, "spacing": list(case["spacing"]), "size": list(case["size"])} for case in plain["cases"]
        ]
        return plain


def fingerprint_dataset(
    source: str | os.PathLike, labels: str | None = None, dataset_dir: str | os.PathLike | None = None
) -> Fingerprint:
    """Look at every image and label map for training and validation.

    Args:
        source: a data list, or a folder in a layout that `swin_umamba.data.formats.read_layout` knows.
        labels: for a plain folder, its label table; see `swin_umamba.data.label_files.read_labels`.
        dataset_dir: folder that relative paths of a data list start from; None takes the JSON file's.

    Raises:
        InputError: if there is nothing to train on, or naming each case that cannot be read or does not fit.
    """
    plain, base = _plain(source, labels, dataset_dir)
    items = [resolve_item(item, plain, plain["labels"], base) for part in LOOKED_AT for item in plain[part]]
    if not any("label" in item for item in items):
        raise InputError(f"{str(source)!r} has no case with a label map to train on")
    steps = _steps()
    cases, problems = [], []
    for item in tqdm([item for item in items if "label" in item], desc="looking", disable=None, leave=False):
        try:
            cases.append(_fingerprint(item, plain["labels"], steps))
        except Exception as error:  # whatever a reader makes of a damaged file
            problems.append(f"case {item['case']!r}: {input_error_of(error) or error}")
    if problems:
        raise InputError(f"{len(problems)} of {len(items)} cases cannot be used: {'; '.join(problems)}")
    about = {key: plain[key] for key in ("name", "description", "modality", "licence") if plain.get(key)}
    sections = {part: len(plain[part]) for part in ("training", "validation", "test")}
    return Fingerprint(source=str(source), about=about, labels=dict(plain["labels"]), sections=sections, cases=cases)


def _plain(
    source: str | os.PathLike, labels: str | None, dataset_dir: str | os.PathLike | None
) -> tuple[dict[str, Any], Path]:
    """Return a data list as plain data, and the folder that its paths start from."""
    path = Path(source).expanduser().resolve()
    if not path.is_dir():
        if labels is not None:
            raise InputError(f"--labels {labels!r}: a data list has its own; legal only for a folder")
        return read_datalist(source), Path(dataset_dir).resolve() if dataset_dir is not None else path.parent
    found = read_layout(path, labels)
    check_files_exist(found)
    return check_datalist({**found.about, "labels": found.labels, **found.sections}, str(source)), path


def _steps() -> list[Callable]:
    keys = ["image", "label"]
    return [LoadVolumed(keys=keys), EnsureChannelFirstd(keys=keys), CheckVolumed(keys=keys), CheckPaird(), MapLabelsd()]


def _fingerprint(item: Mapping[str, Any], labels: Mapping[str, int], steps: list[Callable]) -> CaseFingerprint:
    loaded: Any = dict(item)
    for step in steps:
        loaded = step(loaded)
    orientation = "".join(nibabel.aff2axcodes(loaded["image"].affine.numpy()))
    loaded = Orientationd(keys=["image", "label"], axcodes="RAS", labels=None)(loaded)
    image: MetaTensor = loaded["image"]
    label = loaded["label"].as_tensor()[0].long()  # (1, X, Y, Z) -> (X, Y, Z)
    organs = {organ: number for organ, number in labels.items() if number in item["labelled"]}
    counts = torch.bincount(label.flatten(), minlength=256)  # (256,)
    return CaseFingerprint(
        case=item["case"],
        patient=item["patient"],
        orientation=orientation,
        spacing=spacing_of(image.affine),
        size=(int(image.shape[1]), int(image.shape[2]), int(image.shape[3])),
        intensity=_intensity(image.as_tensor().numpy()),
        voxels={organ: int(counts[number]) for organ, number in organs.items()},
        slices={organ: int((label == number).any(0).any(0).sum()) for organ, number in organs.items()},
    )


def _intensity(voxels: np.ndarray) -> dict[str, float]:
    values = {"mean": voxels.mean(dtype=np.float64), "std": voxels.std(dtype=np.float64)}
    values |= {"min": voxels.min(), "max": voxels.max()}
    values |= {f"p{p:g}": value for p, value in zip(PERCENTILES, np.percentile(voxels, PERCENTILES), strict=True)}
    return {key: float(f"{float(value):.6g}") for key, value in values.items()}
