"""A generated abdomen that looks like MRI: 13 organs, noise, bias field, anisotropic voxels. No download needed.

The same seed gives the same voxels. Organs share one range of intensities that is drawn anew for every case, and the
whole patient is moved, turned and scaled, so that intensity and position together do not tell the organs apart (a
test holds a voxel classifier below a mean Dice of 0.5): shape, texture and neighbours do. It is for tests,
demonstrations and continuous integration; scores on it say nothing about patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np

from swin_umamba.data.labels import ABDOMEN_MRI, label_table
from swin_umamba.data.phantom_anatomy import WALL, Anatomy
from swin_umamba.data.phantom_shapes import rotation_matrix, smooth_noise

ORIENTATIONS = ("RAS", "LPS", "LAS", "RPS")
"""Orientations in which cases are stored; the slice axis is always the last one."""

GRID = (96, 96, 32)
"""Voxels of a case along its own axes."""

_RIM = 2.6  # mm of fat drawn between an organ and what lies next to it
_EDGE = 1.1  # mm over which an edge fades (partial volume)


@dataclass(frozen=True)
class _Tissues:
    """Mean intensities of one case; 1 is the brightest parenchyma."""

    fat: float
    muscle: float
    bone: float
    fluid: float
    air: float
    lung: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Tissues:
        return cls(
            fat=rng.uniform(0.08, 0.22),
            muscle=rng.uniform(0.25, 0.4),
            bone=rng.uniform(0.3, 0.7),
            fluid=rng.uniform(0.85, 1.1),
            air=rng.uniform(0.0, 0.05),
            lung=rng.uniform(0.0, 0.08),
        )


def make_phantom(
    seed: int, *, grid: tuple[int, int, int] = GRID, orientation: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make one case.

    Args:
        seed: any non-negative integer; the same one gives the same case.
        grid: voxels along the case's own axes; the field of view stays about 325 x 325 x 195 mm.
        orientation: one of `ORIENTATIONS`; None draws one.

    Returns:
        image: (X, Y, Z) int16, from 0 to about 100-2000, the scale drawn per case.
        label: (X, Y, Z) uint8, ids of the AbdomenMRI table, 0 elsewhere.
        affine: (4, 4) from voxels to the patient's RAS+ millimetres.
    """
    rng = np.random.default_rng([seed, 702])
    drawn = ORIENTATIONS[rng.integers(len(ORIENTATIONS))]
    affine = _affine(rng, grid)
    points = _patient_points(rng, grid, affine)
    anatomy = Anatomy(rng)
    picture, label = _paint(rng, anatomy, points, grid)
    image = _scan(rng, picture.reshape(grid), affine)
    return _store(image, label.reshape(grid), affine, orientation or drawn)


def _affine(rng: np.random.Generator, grid: tuple[int, int, int]) -> np.ndarray:
    """Return the RAS affine of a scan whose centre lies near the origin; spacing and level vary."""
    in_plane, thickness = rng.uniform(3.15, 3.55), rng.uniform(5.7, 6.4)
    spacing = np.array([in_plane * 96 / grid[0], in_plane * 96 / grid[1], thickness * 32 / grid[2]])
    affine = np.diag([*spacing, 1.0])
    centre = np.array([rng.uniform(-8, 8), rng.uniform(-8, 8), 12 + rng.uniform(-11, 11)])
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(grid) - 1) / 2
    return affine


def _store(
    image: np.ndarray, label: np.ndarray, affine: np.ndarray, orientation: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, label and affine with the axes running as `orientation` says; no voxel moves in the patient."""
    turn = nib.orientations.axcodes2ornt(tuple(orientation))  # from RAS: some axes run the other way
    stored = [np.ascontiguousarray(nib.orientations.apply_orientation(array, turn)) for array in (image, label)]
    return stored[0], stored[1], affine @ nib.orientations.inv_ornt_aff(turn, image.shape)


def _patient_points(rng: np.random.Generator, grid: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """Return each voxel's place where the anatomy is drawn, (N, 3) mm: moved, turned, scaled, warped."""
    voxels = np.stack(np.meshgrid(*(np.arange(size) for size in grid), indexing="ij"), -1)  # (X, Y, Z, 3)
    points = voxels.reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]  # (N, 3)
    turn = rotation_matrix(*rng.uniform([-8, -8, -20], [8, 8, 20]))
    scale = rng.uniform(0.84, 1.06) * rng.uniform(0.95, 1.05, 3)
    points = (points - rng.uniform([-16, -14, -16], [16, 14, 16])) @ turn / scale
    spacing = np.diag(affine)[:3]
    for axis in range(3):
        points[:, axis] += 3.0 * smooth_noise(rng, grid, list(38 / spacing)).reshape(-1)
    return points.astype(np.float32)


def _paint(
    rng: np.random.Generator, anatomy: Anatomy, points: np.ndarray, grid: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return intensities (N,) float32 and labels (N,) uint8 of the anatomy at `points` (N, 3)."""
    tissues = _Tissues.draw(rng)
    texture = _Texture(rng, grid)
    depth = -anatomy.body.distance(points)  # mm inside the skin
    dome = _dome(points, rng)
    picture = _blend(np.zeros(len(points), np.float32), -depth, tissues.fat * 1.3)
    picture = _blend(picture, np.abs(depth - 13) - 4.0, tissues.muscle)
    picture = _blend(picture, WALL - depth, tissues.fat)
    picture = _blend(picture, np.maximum(dome, WALL + 2 - depth), tissues.lung)
    for muscle in anatomy.muscles:
        picture = _blend(picture, np.maximum(muscle.distance(points), 6 - depth), tissues.muscle)
    spine = anatomy.spine.distance(points)
    discs = 1 - 0.35 * (np.abs((points[:, 2] + 500) % 34 - 17) > 12)
    picture = _blend(picture, spine, tissues.bone * discs)
    picture = _blend(picture, anatomy.canal.distance(points), tissues.fluid)

    bounds = np.maximum(WALL + 3 - depth, -spine - 30)
    for loop in anatomy.bowel:
        distance = np.maximum(loop.distance(points), bounds)
        picture = _blend(picture, distance - _RIM, tissues.fat)
        picture = _blend(picture, distance, texture.hollow(distance, rng.uniform(0.35, 0.9), rng.uniform(0.1, 1.0), 4))
    label = np.zeros(len(points), np.uint8)
    ids = label_table(ABDOMEN_MRI)
    for organ, shape in anatomy.organs.items():
        distance = np.maximum(shape.distance(points), np.maximum(bounds, 2 - dome))
        if organ in ("aorta", "inferior vena cava", "esophagus"):  # these run on above the diaphragm
            distance = np.maximum(shape.distance(points), bounds)
        picture = _blend(picture, distance - _RIM, tissues.fat)
        picture = _blend(picture, distance, texture.of(organ, distance, points, tissues))
        label[distance < 0] = ids[organ]
    return picture, label


def _dome(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return how far (mm) points lie below the diaphragm; negative in the lungs, which reach lower behind."""
    height = rng.uniform(102, 112)
    side = np.where(points[:, 0] > 0, 0, -8)
    ellipse = ((np.abs(points[:, 0]) - 62) / 75) ** 2 + ((points[:, 1] - 8) / 92) ** 2
    middle = np.exp(-((points[:, 0] / 26) ** 2)) * 40  # no lung in front of the spine
    return height + side + middle - 55 * ellipse - points[:, 2]


def _blend(picture: np.ndarray, distance: np.ndarray, value: np.ndarray | float) -> np.ndarray:
    """Paint `value` where `distance` (mm) is negative, with an edge that fades."""
    share = np.clip(0.5 - distance / (2 * _EDGE), 0, 1)
    return picture + share * (value - picture)


class _Texture:
    """Looks of the organs of one case; every mean intensity is drawn from one range that all organs share."""

    def __init__(self, rng: np.random.Generator, grid: tuple[int, int, int]) -> None:
        self._rng = rng
        self._noise = {sigma: smooth_noise(rng, grid, (sigma, sigma, 0.5)).reshape(-1) for sigma in (0.7, 1.2, 2.0)}

    def of(self, organ: str, distance: np.ndarray, points: np.ndarray, tissues: _Tissues) -> np.ndarray | float:
        """Return the intensities (N,) that `organ` is painted with; `distance` (N,) and `points` (N, 3) in mm."""
        mean = self._rng.uniform(0.45, 0.85)
        if organ == "liver":
            vessels = self._noise[1.2] > 1.5
            return mean + 0.03 * self._noise[0.7] + self._rng.choice([-0.2, 0.2]) * vessels
        if organ == "spleen":
            return mean + 0.04 * self._noise[2.0]
        if organ.endswith("kidney"):
            inner = np.clip((-distance - 7) / 3, 0, 1)
            return mean - 0.22 * inner * (1 + 0.4 * self._noise[1.2])
        if organ == "pancreas":
            return mean + 0.13 * self._noise[0.7]
        if organ == "gallbladder":
            return mean + 0.1 * np.clip(-distance / 10, 0, 1)
        if organ == "stomach":
            level = points[:, 1] > 40 + self._rng.uniform(-12, 12)  # gas floats in front of the content
            content = np.where(level, tissues.air + 0.1, self._rng.uniform(0.4, 0.9) + 0.08 * self._noise[2.0])
            return np.where(distance > -5, mean, content)
        if organ == "duodenum":
            return self.hollow(distance, mean, self._rng.uniform(0.2, 1.0), 4) + 0.08 * self._noise[0.7]
        if organ == "esophagus":
            return self.hollow(distance, mean, mean - 0.3, 5)
        return mean

    def hollow(self, distance: np.ndarray, wall: float, content: float, thickness: float) -> np.ndarray:
        """Return a wall of `thickness` mm around content."""
        return wall + (content - wall) * np.clip((-distance - thickness) / 2 + 0.5, 0, 1)


def _scan(rng: np.random.Generator, picture: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the picture (X, Y, Z) as a scanner gives it: shading by the coil, Rician noise, arbitrary units, int16."""
    spacing = np.abs(np.diag(affine)[:3])
    bias = np.exp(rng.uniform(0.08, 0.16) * smooth_noise(rng, picture.shape, 70 / spacing))
    noise = rng.uniform(0.012, 0.028)
    real = picture * bias + noise * rng.standard_normal(picture.shape)
    magnitude = np.hypot(real, noise * rng.standard_normal(picture.shape))
    return np.round(magnitude * rng.uniform(150, 1500)).astype(np.int16)
