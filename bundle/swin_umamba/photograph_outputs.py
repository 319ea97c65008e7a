"""What inference leaves behind of a photograph: label map, numbered objects, a picture, tables of pixels and counts."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from monai.data import MetaTensor
from PIL import Image

from swin_umamba.files import replace_file
from swin_umamba.instances import instances_of
from swin_umamba.photographs import read_photograph
from swin_umamba.pictures import draw_photograph, save_picture
from swin_umamba.transforms import file_name

LABELS_END, INSTANCES_END, PICTURE_END = "_seg.png", "_instances.tif", "_overlay.png"
AREAS_FILE, COUNTS_FILE = "areas.csv", "counts.csv"


def write_photograph_results(
    folder: str | os.PathLike,
    case: str,
    labels: MetaTensor,
    names: Mapping[str, int],
    *,
    instances: str | None = None,
    picture: bool = True,
) -> dict[str, Any]:
    """Write the label map of a photograph as PNG, ids as grey values, and what goes with it; all files or none.

    Args:
        folder: for the files.
        case: the beginning of their names.
        labels: label map (1, X, Y, 1), whole numbers from 0 to 255; "filename_or_obj" is the photograph.
        names: label -> id.
        instances: label whose connected pieces are numbered, in `<case>_instances.tif`; None: none is.
        picture: draw `<case>_overlay.png` too.

    Returns:
        For the report: "output", "outputs" {"png", "instances"}, "overlay" if there is one, "areas" {label: pixels},
        and of objects "objects" {"count", "median_pixels"}.
    """
    found = labels.cpu().numpy()[0, ..., 0].T.astype(np.uint8)  # (1, X, Y, 1) -> (rows, columns)
    areas = {name: int(np.count_nonzero(found == value)) for name, value in names.items()}
    name = f"{case}{LABELS_END}"
    record: dict[str, Any] = {"output": name, "outputs": {"png": name}, "areas": areas}
    objects = None
    with contextlib.ExitStack() as together:

        def place(end: str) -> Path:
            return together.enter_context(replace_file(Path(folder) / f"{case}{end}"))

        Image.fromarray(found).save(place(LABELS_END))
        if instances is not None:
            objects = instances_of(found, names[instances])
            numbers = objects.astype(np.uint16 if objects.max() < 2**16 else np.uint32)
            tifffile.imwrite(place(INSTANCES_END), numbers, compression="zlib")
            record["outputs"]["instances"] = f"{case}{INSTANCES_END}"
            record["objects"] = _count(objects)
        if picture:
            record["overlay"] = f"{case}{PICTURE_END}"
            pixels = read_photograph(file_name(labels))
            figure = draw_photograph(case, pixels, found, names, areas, objects)
            save_picture(figure, place(PICTURE_END))
    return record


def write_photograph_tables(folder: str | os.PathLike, cases: Iterable[Mapping[str, Any]]) -> None:
    """Write `areas.csv`, a line for each photograph and label, and of objects `counts.csv`, atomically."""
    cases = [case for case in cases if "areas" in case]
    rows = []
    for case in cases:
        sure = case.get("confidence", {}).get("organs", {})
        rows += [[case["case"], name, count, sure.get(name, "")] for name, count in case["areas"].items()]
    _write(Path(folder) / AREAS_FILE, ["case", "label", "pixels", "confidence"], rows)
    counted = [[case["case"], *case["objects"].values()] for case in cases if "objects" in case]
    if counted:
        _write(Path(folder) / COUNTS_FILE, ["case", "count", "median_pixels"], counted)


def _count(objects: np.ndarray) -> dict[str, Any]:
    sizes = np.bincount(objects.ravel())[1:]
    return {"count": len(sizes), "median_pixels": float(np.median(sizes)) if len(sizes) else None}


def _write(path: Path, head: list[str], rows: list[list[Any]]) -> None:
    with replace_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
