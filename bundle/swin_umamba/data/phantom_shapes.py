"""Implicit shapes in millimetres from which the phantom is made: negative inside, about the distance outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

FAR = 1e3
"""Distance (mm) given to points outside a shape's bounding box."""


class Shape(Protocol):
    """A solid with a signed distance."""

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return the approximate signed distance in mm, shape (N,), at `points` (N, 3) in mm; negative inside."""


@dataclass(frozen=True, kw_only=True)
class Ellipsoid:
    """Superellipsoid |x/a|^p + |y/b|^p + |z/c|^p = 1, turned and bent.

    Args:
        centre: centre in mm.
        radii: semi-axes in mm.
        rotation: (3, 3) matrix whose columns are the shape's own axes.
        power: exponent p; 2 is an ellipsoid, larger ones near a box.
        bend: mm by which the shape's first two axes are displaced at both tips of its third (a bean).
    """

    centre: np.ndarray
    radii: np.ndarray
    rotation: np.ndarray
    power: float = 2.0
    bend: tuple[float, float] = (0.0, 0.0)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return the distance along the ray from the centre; see `Shape`."""
        reach = float(np.linalg.norm(self.radii) + np.abs(self.bend).sum()) + MARGIN
        near = _near(points, self.centre - reach, self.centre + reach)
        local = (points[near] - self.centre.astype(np.float32)) @ self.rotation.astype(np.float32)  # (n, 3)
        along = (local[:, 2] / self.radii[2]) ** 2
        local[:, 0] -= self.bend[0] * along
        local[:, 1] -= self.bend[1] * along
        level = (np.abs(local / self.radii.astype(np.float32)) ** self.power).sum(1) ** (1 / self.power)
        length = np.sqrt((local**2).sum(1))
        result = np.full(len(points), FAR, np.float32)
        result[near] = np.where(level > 1e-3, length * (1 - 1 / np.maximum(level, 1e-3)), -self.radii.min())
        return result


@dataclass(frozen=True, kw_only=True)
class Tube:
    """Spheres along a Catmull-Rom spline.

    Args:
        knots: (K, 3) points in mm that the centre line runs through.
        radii: (K,) radius in mm at each knot.
        stretch: factor by which the cross section is longer along x, y and z.
    """

    knots: np.ndarray
    radii: np.ndarray
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return the distance to the nearest sphere; see `Shape`."""
        stretch = np.asarray(self.stretch, np.float32)
        line, radii = _spline(self.knots, self.radii)
        reach = radii[:, None] * stretch + MARGIN
        near = _near(points, (line - reach).min(0), (line + reach).max(0))
        origin = line.mean(0)
        local = (points[near] - origin) / stretch  # (n, 3)
        spheres = (line - origin) / stretch  # (S, 3)
        squared = (local**2).sum(1)[:, None] - 2 * local @ spheres.T + (spheres**2).sum(1)  # (n, S)
        result = np.full(len(points), FAR, np.float32)
        result[near] = (np.sqrt(np.maximum(squared, 0)) - radii).min(1) * stretch.min()
        return result


@dataclass(frozen=True)
class Union:
    """Union of shapes with a smooth seam.

    Args:
        shapes: what is joined.
        blend: width of the seam in mm; 0 for a sharp one.
    """

    shapes: Sequence[Shape]
    blend: float = 0.0

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return the smooth minimum of the distances; see `Shape`."""
        result = self.shapes[0].distance(points)
        for shape in self.shapes[1:]:
            other = shape.distance(points)
            seam = np.maximum(self.blend - np.abs(result - other), 0)
            result = np.minimum(result, other) - (seam**2 / (4 * self.blend) if self.blend else 0)
        return result


@dataclass(frozen=True)
class Difference:
    """`body` without `hole`."""

    body: Shape
    hole: Shape

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return the larger of the body's distance and minus the hole's; see `Shape`."""
        return np.maximum(self.body.distance(points), -self.hole.distance(points))


MARGIN = 8.0
"""Distances are exact up to this far (mm) outside a shape."""


def rotation_matrix(x: float, y: float, z: float) -> np.ndarray:
    """Return the (3, 3) matrix that turns by `x`, `y`, `z` degrees about these axes, x first."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad([x, y, z])), np.sin(np.deg2rad([x, y, z]))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], smoothness: Sequence[float]) -> np.ndarray:
    """Return Gaussian noise, blurred by a Gaussian of `smoothness` voxels per axis, with mean 0 and deviation 1.

    Args:
        rng: source of randomness.
        shape: shape of the result, such as (X, Y, Z).
        smoothness: standard deviation of the blur along each axis in voxels.
    """
    spectrum = np.fft.rfftn(rng.standard_normal(tuple(shape)))
    last = len(shape) - 1
    for axis, (size, sigma) in enumerate(zip(shape, smoothness, strict=True)):
        frequency = np.fft.rfftfreq(size) if axis == last else np.fft.fftfreq(size)
        gain = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
        spectrum *= gain.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    noise = np.fft.irfftn(spectrum, s=tuple(shape), axes=range(len(shape)))
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def _near(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the indices of `points` (N, 3) inside the box."""
    inside = np.ones(len(points), bool)
    for axis in range(3):
        inside &= (points[:, axis] > low[axis]) & (points[:, axis] < high[axis])
    return np.flatnonzero(inside)


def _spline(knots: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points (S, 3) about 3 mm apart on the Catmull-Rom curve through `knots` and the radii (S,) there."""
    values = np.column_stack([knots, radii])  # (K, 4)
    values = np.vstack([2 * values[0] - values[1], values, 2 * values[-1] - values[-2]])
    pieces = []
    for before, start, end, after in zip(values, values[1:], values[2:], values[3:], strict=False):
        steps = max(2, int(np.ceil(np.linalg.norm(end[:3] - start[:3]) / 3)))
        t = np.linspace(0, 1, steps, endpoint=False)[:, None]
        slope_start, slope_end = (end - before) / 2, (after - start) / 2
        cubic = (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * slope_start
        pieces.append(cubic + (3 * t**2 - 2 * t**3) * end + (t**3 - t**2) * slope_end)
    line = np.vstack([*pieces, values[-2:-1]]).astype(np.float32)
    return line[:, :3], np.maximum(line[:, 3], 2)
