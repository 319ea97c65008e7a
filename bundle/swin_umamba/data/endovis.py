"""EndoVis17 as distributed (MICCAI 2017, robotic instruments): frames of videos, one mask for each instrument.

`instrument_dataset_<n>/left_frames/frame000.png` is a frame of 1920×1080 pixels, and `ground_truth/<name>_labels/
frame000.png` beside it marks the parts of one instrument (shaft 10, wrist 20, claspers 30), whose type is in the
folder's name: `Left_Prograsp_Forceps_labels`, `Maryland_Bipolar_Forceps_labels`. Test frames, distributed without, may
have label maps of types in `TypeSegmentation/frame225.png` inside a folder `instrument_dataset_<n>` of the same number.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from swin_umamba.data.formats import Source
from swin_umamba.data.labels import label_table
from swin_umamba.errors import InputError
from swin_umamba.files import replace_file
from swin_umamba.photographs import read_photograph, size_of

SEQUENCE = re.compile(r"instrument_dataset_0*(\d+)", re.IGNORECASE)
FRAMES, MASKS, TYPES = "left_frames", "ground_truth", "TypeSegmentation"
NAMES = {"other": "ultrasound probe"}  # how a folder of masks may call an instrument, beside its own name
PROBLEMS_SHOWN = 10
LABELS = label_table("endovis17")


def read_endovis(folder: str | os.PathLike, label_dir: str | os.PathLike) -> Source:
    """Read the left frames of EndoVis17 and write label maps of instrument types as PNG.

    Args:
        folder: holds `instrument_dataset_<n>` folders at any depth.
        label_dir: gets `endovis17_<n>_<frame>.png`, ids 1 to 7, after all files were found.

    Returns:
        Frames beside a `ground_truth` are training, each sequence one patient; frames with a label map of types are
        test, others unlabelled. The published test frames go on from the training sequences: they are patients of
        their own here, `<n>_test`, because the published division does not keep sequences apart.

    Raises:
        InputError: if there is no such folder, or naming masks that are missing, of another size than their frame, or
            in a folder that no instrument is called like.
    """
    root = Path(folder).expanduser().resolve()
    sequences = _sequences(root, FRAMES)
    if not sequences:
        raise InputError(f"{str(folder)!r} holds no instrument_dataset_<n>/{FRAMES}; legal: EndoVis17 as unpacked")
    types = {(number, file.name): file for number, place in _sequences(root, TYPES) for file in _files(place)}
    source = Source(labels=LABELS, sections={"training": [], "test": []}, unlabelled=[], about=_about())
    drawings: dict[Path, dict[Path, int | None]] = {}  # label map -> {mask: id, or None for ids as they are}
    problems: list[str] = []
    for number, frames in sequences:
        masks = _masks_of(frames.parent / MASKS)
        for frame in _files(frames):
            case = f"endovis17_{number:02d}_{frame.stem}"
            path = Path(label_dir).expanduser().resolve() / f"{case}.png"
            item = {"case": case, "patient": f"{number:02d}" if masks else f"{number:02d}_test", "image": str(frame)}
            parts: dict[Path, int | None] = {place / frame.name: value for place, value in masks.items()}
            if not masks and (number, frame.name) in types:
                parts = {types[number, frame.name]: None}
            if not parts:
                source.unlabelled.append(item)
                continue
            problems += _problems(frame, parts)
            drawings[path] = parts
            source.sections["training" if masks else "test"].append({**item, "label": str(path)})
    if problems:
        more = f"; and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise InputError("; ".join(problems[:PROBLEMS_SHOWN]) + more)
    for path, parts in tqdm(drawings.items(), desc="label maps", disable=None, leave=False):
        with replace_file(path) as temporary:
            Image.fromarray(_label_map(parts)).save(temporary)
    return source


def instrument_id(folder: str) -> int:
    """Return the id of the instrument that a folder of masks is called after.

    Raises:
        InputError: if it is none.
    """
    words = folder.lower().replace("_", " ")
    for name, number in [*LABELS.items(), *((alias, LABELS[name]) for alias, name in NAMES.items())]:
        if name in words:
            return number
    raise InputError(f"masks in {folder!r}: no known instrument; legal: {', '.join(LABELS)}, Other")


def _about() -> dict[str, str]:
    return {
        "name": "EndoVis17",
        "description": "MICCAI EndoVis 2017, robotic instrument segmentation (Allan et al. 2019), types of instruments",
        "modality": "ES",
    }


def _sequences(root: Path, name: str) -> list[tuple[int, Path]]:
    """Return the folders of a name, with the number of the sequence that they belong to, in order."""
    if not root.is_dir():
        raise InputError(f"{str(root)!r} is no folder; legal: EndoVis17 as unpacked")
    found = []
    for place in sorted(path for path in root.rglob(name) if path.is_dir()):
        numbers = [match[1] for part in place.parts if (match := SEQUENCE.fullmatch(part))]
        if numbers:
            found.append((int(numbers[-1]), place))
    return sorted(found)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))


def _masks_of(folder: Path) -> dict[Path, int]:
    """Return the folders of masks of a sequence, with the instrument's id; empty without ground truth."""
    if not folder.is_dir():
        return {}
    masks = {place: instrument_id(place.name) for place in sorted(folder.iterdir()) if place.is_dir()}
    if not masks:
        raise InputError(f"{folder} is empty; legal: a folder of masks for each instrument")
    return masks


def _problems(frame: Path, parts: dict[Path, Any]) -> list[str]:
    """Return what is wrong with the masks of a frame, by their headers."""
    missing = [f"{mask} is missing" for mask in parts if not mask.is_file()]
    if missing:
        return missing
    try:
        size = size_of(frame)
        return [
            f"{mask} has {' x '.join(map(str, size_of(mask)))} pixels; legal is its frame's {size[0]} x {size[1]}"
            for mask in parts
            if size_of(mask) != size
        ]
    except InputError as error:
        return [str(error)]


def _label_map(parts: dict[Path, int | None]) -> np.ndarray:
    """Return the label map (rows, columns) of masks; where two overlap the later one, in the order of names, counts."""
    result: np.ndarray | None = None
    for file, number in parts.items():
        mask = read_photograph(file)
        mask = mask.max(axis=2) if mask.ndim == 3 else mask
        if number is None and mask.max() > len(LABELS):
            raise InputError(f"{file} has the value {mask.max()}; legal are ids of instruments, 0 to {len(LABELS)}")
        result = np.zeros(mask.shape, np.uint8) if result is None else result
        if number is None:
            result[:] = mask
        else:
            result[mask > 0] = number
    assert result is not None
    return result
