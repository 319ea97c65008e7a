"""Phantoms as files: NIfTI pairs and their data list, made once and found again."""

from __future__ import annotations

import itertools
import json
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from swin_umamba.data.labels import ABDOMEN_MRI, label_table
from swin_umamba.data.phantom import make_phantom
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder, replace_file

logger = logging.getLogger(__name__)

DATALIST = "datalist.json"
VERSION = 2  # raised whenever the same seed gives other voxels
SECTIONS = ("training", "validation", "test")


def write_phantoms(
    folder: str | os.PathLike,
    *,
    training: int = 24,
    validation: int = 2,
    test: int = 4,
    seed: int = 0,
    workers: int | None = None,
) -> str:
    """Generate phantoms with their data list; does nothing when the same ones are there already.

    Args:
        folder: gets `images/`, `labels/` and `datalist.json`.
        training: cases of that section, ≥ 0.
        validation: likewise.
        test: likewise.
        seed: of the first case; the sections never share a case.
        workers: processes that generate; None takes one for each CPU.

    Returns:
        Path of the data list.

    Raises:
        InputError: for a negative number, no case at all, or a folder that cannot be written to.
    """
    counts = {"training": training, "validation": validation, "test": test}
    for name, count in [*counts.items(), ("seed", seed)]:
        if count < 0:
            raise InputError(f"phantoms: {name} is {count}; legal: 0 or more")
    if not sum(counts.values()):
        raise InputError("phantoms: no case in any section; ask for at least one")
    folder = make_writable_folder(folder)
    datalist = _describe(counts, seed)
    path = folder / DATALIST
    if _is_complete(folder, datalist):
        return str(path)
    cases = [case for section in SECTIONS for case in datalist[section]]
    logger.info("generating %d phantoms in %s", len(cases), folder)
    jobs = [(folder, case["seed"], case["image"], case["label"]) for case in cases]
    context = get_context("spawn")  # forking a process that computes in threads can hang
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context) as pool:
        for _ in pool.map(_write_case, jobs):
            pass
    with replace_file(path) as temporary:  # last: the list is there only when all its files are
        temporary.write_text(json.dumps(datalist, indent=1), encoding="utf-8")
    return str(path)


def _describe(counts: dict[str, int], seed: int) -> dict[str, Any]:
    numbers = itertools.count(seed)
    sections = {section: [_case(next(numbers)) for _ in range(counts[section])] for section in SECTIONS}
    return {
        "name": "phantom",
        "description": f"generated abdomen, version {VERSION}, seed {seed}; no patients",
        "modality": "MR",
        "licence": "CC0-1.0",
        "labels": label_table(ABDOMEN_MRI),
        **sections,
    }


def _case(seed: int) -> dict[str, Any]:
    name = f"phantom_{seed:04d}"
    image, label = f"images/{name}.nii.gz", f"labels/{name}.nii.gz"
    return {"case": name, "patient": name, "image": image, "label": label, "seed": seed}


def _is_complete(folder: Path, datalist: dict[str, Any]) -> bool:
    try:
        same = json.loads((folder / DATALIST).read_text(encoding="utf-8")) == datalist
    except (OSError, ValueError):
        return False
    files = (folder / case[key] for section in SECTIONS for case in datalist[section] for key in ("image", "label"))
    return same and all(file.is_file() for file in files)


def _write_case(job: tuple[Path, int, str, str]) -> None:
    folder, seed, image_name, label_name = job
    image, label, affine = make_phantom(seed)
    for array, name in ((image, image_name), (label, label_name)):
        file = nibabel.Nifti1Image(np.ascontiguousarray(array), affine)
        file.header.set_xyzt_units("mm")
        with replace_file(folder / name) as temporary:
            nibabel.save(file, temporary)
