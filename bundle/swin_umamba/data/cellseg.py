"""NeurIPS 2022 Cell Segmentation as distributed: images of many formats, and one TIFF with numbered cells for each.

`Training-labeled/images/cell_00001.<png, tif, bmp, …>` goes with `Training-labeled/labels/cell_00001_label.tiff`, and
likewise in `Tuning` and in `Testing`. What a network learns of the cells is their interior and their boundary.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from swin_umamba.data.datalist import SECTIONS
from swin_umamba.data.formats import Source, case_name
from swin_umamba.data.labels import label_table
from swin_umamba.errors import InputError
from swin_umamba.files import replace_file
from swin_umamba.instances import classes_of
from swin_umamba.photographs import is_photograph, read_photograph, size_of

IMAGES, LABELS = "images", "labels"
LABEL_ENDS = ("_label.tiff", "_label.tif", "_label.png")
SECTION_SIGNS = {"validation": ("tuning", "val"), "test": ("test",)}  # in a folder's name, without regard to case


def read_cellseg(folder: str | os.PathLike, label_dir: str | os.PathLike) -> Source:
    """Read the images and cells of the challenge, and write label maps of interior and boundary as PNG.

    Args:
        folder: holds `images` and `labels` at any depth: `Training-labeled`, `Tuning`, `Testing`, or one of them.
        label_dir: gets `<case>.png`, 1 interior and 2 boundary, after all files were found.

    Returns:
        Items with "instances", the file of numbered cells. Folders called like tuning or validation are the validation
        section, those called like a test the test section, others training. Images without a file of cells are
        unlabelled.

    Raises:
        InputError: if there are no such folders, or naming files of cells that have no image, another size, or cannot
            be read.
    """
    root = Path(folder).expanduser().resolve()
    places = sorted(path for path in [root / IMAGES, *root.rglob(f"*/{IMAGES}")] if path.is_dir())
    if not places:
        raise InputError(f"{str(folder)!r} holds no folder {IMAGES}; legal: the NeurIPS cell data as unpacked")
    sections: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    source = Source(labels=label_table("neurips_cellseg"), sections=sections, unlabelled=[], about=_about())
    for place in dict.fromkeys(places):
        section = _section(place.relative_to(root).parts)
        for image in sorted(path for path in place.iterdir() if is_photograph(path)):
            name = image.stem if section == "training" else f"{section}_{image.stem}"
            item = {"case": case_name([name]), "image": str(image)}
            cells = next((file for end in LABEL_ENDS if (file := _cells(image, end)).is_file()), None)
            if cells is None:
                source.unlabelled.append(item)
            else:
                label = Path(label_dir).expanduser().resolve() / f"{item['case']}.png"
                sections[section].append({**item, "label": str(label), "instances": str(cells)})
    items = [item for section in sections.values() for item in section]
    problems = [problem for item in items for problem in _problems(item)] + _without_image(places)
    if problems:
        raise InputError("; ".join(problems))
    if not items:
        raise InputError(f"{str(folder)!r}: no image has a file of cells, {LABELS}/<image>{LABEL_ENDS[0]}")
    for item in tqdm(items, desc="label maps", disable=None, leave=False):
        with replace_file(item["label"]) as temporary:
            Image.fromarray(classes_of(read_photograph(item["instances"]).astype(np.int32))).save(temporary)
    return source


def _about() -> dict[str, str]:
    return {
        "name": "NeurIPS 2022 Cell Segmentation",
        "description": "NeurIPS 2022 Cell Segmentation challenge (Ma et al. 2024), interior and boundary of cells",
        "modality": "GM",
    }


def _section(parts: tuple[str, ...]) -> str:
    """Return the section that a path below the data set's folder stands for."""
    for section, signs in SECTION_SIGNS.items():
        if any(sign in part.lower() for part in parts for sign in signs):
            return section
    return "training"


def _cells(image: Path, end: str) -> Path:
    return image.parent.parent / LABELS / f"{image.stem}{end}"


def _without_image(places: list[Path]) -> list[str]:
    """Return the files of cells that belong to no image."""
    problems = []
    for place in places:
        names = {path.stem for path in place.iterdir() if is_photograph(path)}
        for file in sorted((place.parent / LABELS).glob("*_label.*")):
            if file.name.rsplit("_label.", 1)[0] not in names:
                problems.append(f"{file} has no image in {place}")
    return problems


def _problems(item: dict[str, Any]) -> list[str]:
    """Return what is wrong with an image and its file of cells, by their headers."""
    try:
        size, other = size_of(item["image"]), size_of(item["instances"])
    except InputError as error:
        return [str(error)]
    if size != other:
        return [f"{item['instances']} has {other[0]} x {other[1]} pixels; legal is its image's {size[0]} x {size[1]}"]
    return []
