"""EndoVis17 and the NeurIPS cells as distributed, in small: names, folders and the coding of masks are theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from skimage.draw import disk

FRAME = (40, 56)  # rows, columns
TOOLS = {  # sequence -> folder of masks -> id of its instrument
    1: {"Left_Prograsp_Forceps_labels": 2, "Maryland_Bipolar_Forceps_labels": 1, "Other_labels": 7},
    2: {"Large_Needle_Driver_Left_labels": 3, "Monopolar_Curved_Scissors_labels": 6},
    7: {"Grasping_Retractor_Right_labels": 5, "Vessel_Sealer_labels": 4},
}
PARTS = (10, 20, 30)  # shaft, wrist, claspers
CELLS = (48, 64)


def frame_of(sequence: int, number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return a frame (40, 56, 3) uint8 and the masks (40, 56) of its instruments: a bar for each, of three parts."""
    rng = np.random.default_rng([sequence, number])
    frame = rng.integers(80, 90, (*FRAME, 3)).astype(np.uint8)
    masks = {}
    for place, (folder, tool) in enumerate(TOOLS[sequence].items()):
        mask = np.zeros(FRAME, np.uint8)
        top, left = 2 + 12 * place, 4 + 2 * number
        for part, value in enumerate(PARTS):
            mask[top : top + 8, left + 8 * part : left + 8 * (part + 1)] = value
        frame[mask > 0] = (250 - 30 * tool, 20 * tool, 30 + 30 * tool)
        masks[folder] = mask
    return frame, masks


def types_of(sequence: int, masks: dict[str, np.ndarray]) -> np.ndarray:
    """Return the label map of instrument types."""
    labels = np.zeros(FRAME, np.uint8)
    for folder, mask in masks.items():
        labels[mask > 0] = TOOLS[sequence][folder]
    return labels


def write_endovis(root: Path, frames: int = 2, test_frames: int = 0) -> Path:
    """Write three sequences of training frames, and test frames of the first with label maps of types."""
    for sequence in TOOLS:
        place = root / "instrument_1_4_training" / f"instrument_dataset_{sequence}"
        for number in range(frames):
            frame, masks = frame_of(sequence, number)
            for side in ("left_frames", "right_frames"):
                save(place / side / f"frame{number:03d}.png", frame)
            for folder, mask in masks.items():
                save(place / "ground_truth" / folder / f"frame{number:03d}.png", mask)
        (place / "camera_calibration.txt").write_text("Camera-0-F: 1 1")
    for number in range(225, 225 + test_frames):
        frame, masks = frame_of(1, number - 220)
        save(root / "testing" / "instrument_dataset_1" / "left_frames" / f"frame{number}.png", frame)
        types = root / "testing_label" / "instrument_dataset_1" / "gt" / "TypeSegmentation" / f"frame{number}.png"
        save(types, types_of(1, masks))
    return root


def cells_of(seed: int) -> np.ndarray:
    """Return six numbered cells (48, 64), discs of radius 6 or 7 that do not touch the edge."""
    rng = np.random.default_rng(seed)
    cells = np.zeros(CELLS, np.uint16)
    for number in range(6):
        centre = (12 + 24 * (number // 3), 11 + 20 * (number % 3))
        cells[disk(centre, 6 + int(rng.integers(2)))] = number + 1
    return cells


def write_cells(root: Path, training: int = 3, tuning: int = 1, testing: int = 1) -> Path:
    """Write images of several formats with a TIFF of numbered cells for each, and one image without."""
    places = {"Training-labeled": training, "Tuning": tuning, "Testing/Public": testing}
    formats = (".png", ".tif", ".bmp", ".jpg")
    for place, count in places.items():
        for number in range(count):
            cells = cells_of(len(place) + number)
            rng = np.random.default_rng(number)
            grey = (60 + 120 * (cells > 0) + rng.integers(0, 20, CELLS)).astype(np.uint8)
            name, suffix = f"cell_{number + 1:05d}", formats[number % len(formats)]
            image = grey.astype(np.uint16) * 200 if suffix == ".tif" else np.stack([grey, grey // 2, grey], axis=2)
            save(root / place / "images" / f"{name}{suffix}", image)
            labels = root / place / "labels" / f"{name}_label.tiff"
            labels.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(labels, cells, compression="zlib")
    save(root / "Training-unlabeled" / "images" / "unlabeled_cell_00001.png", np.zeros((*CELLS, 3), np.uint8))
    return root


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
