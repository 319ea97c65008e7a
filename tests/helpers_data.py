"""Small data sets for the tests of data lists."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers_imaging import write_nifti

AFFINE = np.diag([-1.5, -1.5, 5.0, 1.0])
REAL = Path(os.environ.get("SWIN_UMAMBA_DATA") or Path(__file__).parents[2] / "shared" / "data")
ORGANS = {"liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4}


def write_pair(image: Path, label: Path | None, seed: int, affine: np.ndarray = AFFINE) -> None:
    """Write an image of noise and a label map with the ids 0 to 4."""
    rng = np.random.default_rng(seed)
    write_nifti(image, rng.integers(0, 900, (8, 7, 5)).astype(np.int16), affine)
    if label is not None:
        labels = np.zeros((8, 7, 5), np.uint8)
        labels[1:5, 2, 2] = (1, 2, 3, 4)
        write_nifti(label, labels, affine)


def write_json(path: Path, plain: object) -> Path:
    """Write plain data; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain), encoding="utf-8")
    return path


def real_data(name: str) -> Path:
    """Return a folder of real MRI; skip the test where there is none."""
    folder = REAL / name
    if not folder.is_dir():
        pytest.skip(f"no real MRI at {folder}; SWIN_UMAMBA_DATA names the folder")
    return folder
