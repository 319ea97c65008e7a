"""Volumes with a known content for the tests of reading, inference and writing."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

BACKGROUND, STEP = 0.0, 100.0  # intensity of label k in a painted volume is k * STEP
PAINTED = {"right": 1, "left": 2, "front": 3, "feet": 4}

ORIENTATIONS = {  # axis codes of the file, and a turn in degrees about (1, 2, 3) that makes it oblique
    "RAS": ("RAS", 0.0),
    "LPS": ("LPS", 0.0),
    "LAS": ("LAS", 0.0),
    "SPR": ("SPR", 0.0),
    "PIL": ("PIL", 0.0),
    "oblique": ("LPS", 17.0),
    "oblique coronal": ("LSA", 12.0),
}


def painted_volume(shape: tuple[int, int, int] = (40, 36, 12)) -> np.ndarray:
    """Return an asymmetric label map (X, Y, Z) in RAS: a blob near each of four named sides, all of different size."""
    x, y, z = shape
    labels = np.zeros(shape, dtype=np.uint8)
    labels[x - 8 : x - 2, y // 2 : y // 2 + 7, 3:8] = PAINTED["right"]  # x grows to the right in RAS
    labels[2:5, y // 2 - 3 : y // 2 + 5, 2:7] = PAINTED["left"]
    labels[x // 2 : x // 2 + 9, y - 6 : y - 1, 5:9] = PAINTED["front"]
    labels[x // 2 - 2 : x // 2 + 4, 3:12, 0:2] = PAINTED["feet"]
    return labels


def affine_of(axcodes: str, spacing: tuple[float, float, float], degrees: float = 0.0) -> np.ndarray:
    """Return an affine (4, 4) whose axes point to `axcodes`, turned as a whole by `degrees` about (1, 2, 3)."""
    affine = np.eye(4)
    for axis, (code, side) in enumerate(zip(axcodes, spacing, strict=True)):
        world = next(i for i, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[:3, axis] = 0
        affine[world, axis] = side if code in "RAS" else -side
    affine[:3, :3] = turn(degrees) @ affine[:3, :3]
    affine[:3, 3] = (11.5, -23.25, 7.75)
    return affine


def turn(degrees: float, about: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> np.ndarray:
    """Return the rotation (3, 3) by `degrees` about an axis (Rodrigues)."""
    k = np.asarray(about) / np.linalg.norm(about)
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def painted_in(
    orientation: str, spacing: tuple[float, float, float] = (1.5, 1.25, 4.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Return a painted label map stored in an orientation of `ORIENTATIONS`, and its affine.

    `spacing` is that of the RAS axes, so that every orientation shows the same body.
    """
    return painted_as(*ORIENTATIONS[orientation], spacing)


def painted_as(
    axcodes: str, degrees: float = 0.0, spacing: tuple[float, float, float] = (1.5, 1.25, 4.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Return a painted label map whose axes point to `axcodes`, turned by `degrees`, and its affine."""
    canonical = painted_volume()
    transform = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes)
    )
    stored = nib.orientations.apply_orientation(canonical, transform)
    world = ["LR".find, "PA".find, "IS".find]
    sides = [next(s for find, s in zip(world, spacing, strict=True) if find(code) >= 0) for code in axcodes]
    return np.ascontiguousarray(stored), affine_of(axcodes, tuple(sides), degrees)


def write_nifti(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    """Write a NIfTI file whose sform and qform are both `affine`."""
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def ramp(labels: np.ndarray) -> np.ndarray:
    """Return the image that `ThresholdNetwork` reads `labels` back from: intensity k * STEP, as int16."""
    return (labels.astype(np.float32) * STEP).astype(np.int16)


class ThresholdNetwork(nn.Module):
    """Tell labels from intensity: the nearest of the levels; exact for an image made by `ramp` and any affine of it.

    Args:
        levels: intensity of each class, background first.
    """

    def __init__(self, levels: list[float]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, H, W) to logits (B, K, H, W)."""
        return -((x - self.levels) ** 2)


def threshold_network(labels: np.ndarray, normalised: bool = True) -> ThresholdNetwork:
    """Return the network that paints `labels` from `ramp(labels)`, z-scored or as it is."""
    image = ramp(labels).astype(np.float64)
    mean, std = (image.mean(), image.std()) if normalised else (0.0, 1.0)
    return ThresholdNetwork([(k * STEP - mean) / std for k in range(int(labels.max()) + 1)])
