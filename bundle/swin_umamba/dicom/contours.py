"""Contours of a mask in its slice, in pixels, and the mask back from contours.

A contour runs half way between the centers of pixels inside and outside and cuts corners (marching squares). So every
center of a pixel is on the same side as the pixel, and filling the contours by centers gives back the very mask; the
area inside is that of the pixels less half a pixel for each part, plus half a pixel for each hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from skimage.draw import polygon
from skimage.measure import find_contours, points_in_poly

CLEARANCE = 0.1  # pixels between a channel and the centers of pixels
Ring = np.ndarray  # (N, 2) of (column, row); the last point is joined to the first one


def contours_of(mask: np.ndarray) -> list[Ring]:
    """Return the contours of a mask, one for each of its parts.

    Pixels that touch only at a corner are parts of their own. A hole is joined to the contour of its part by a channel
    without width (a keyhole), which the standard names for contours of the type CLOSED_PLANAR and which every reader
    fills rightly; an island in the hole is a part of its own again.

    Args:
        mask: (row, column), true inside.
    """
    found = find_contours(np.pad(mask, 1).astype(np.uint8), 0.5)  # each closed, of (row, column)
    rings = [_with_middles(ring[:-1, ::-1] - 1) for ring in found]
    areas = [signed_area(ring) for ring in rings]
    if not rings:
        return []
    outward = np.sign(areas[int(np.abs(areas).argmax())])  # the largest ring of all is no hole
    parts = {i: rings[i] for i in range(len(rings)) if areas[i] * outward > 0}
    for i, ring in enumerate(rings):
        if i in parts:
            continue
        around = [k for k in parts if points_in_poly(ring[:1], rings[k])[0]]
        owner = min(around, key=lambda k: abs(areas[k]))
        parts[owner] = _with_hole(parts[owner], ring)
    return [_without_needless_points(ring) for ring in parts.values()]


def fill(rings: Iterable[Ring], shape: tuple[int, int]) -> np.ndarray:
    """Return the mask (row, column) of the pixels whose centers lie inside an odd number of rings.

    Args:
        rings: of one organ and one slice.
        shape: rows and columns.
    """
    mask = np.zeros(shape, dtype=bool)
    for ring in rings:
        rows, columns = polygon(ring[:, 1], ring[:, 0], shape)
        mask[rows, columns] ^= True
    return mask


def signed_area(ring: Ring) -> float:
    """Return the area inside a ring in pixels, below 0 when it runs the other way round."""
    x, y = ring[:, 0], ring[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _with_hole(outer: Ring, hole: Ring) -> Ring:
    """Return one ring that runs around the outer one, over to the hole, around it, and back the same way.

    The channel is the shortest one that no center of a pixel is near: programs differ in what they take a point on a
    line for.
    """
    distances = ((outer[:, None] - hole[None]) ** 2).sum(-1)  # (outer, hole)
    ways = (np.unravel_index(way, distances.shape) for way in np.argsort(distances, axis=None))
    a, b = next((a, b) for a, b in ways if _distance_to_centers(outer[a], hole[b]) > CLEARANCE)
    return np.concatenate([outer[: a + 1], hole[b:], hole[: b + 1], outer[a:]])


def _with_middles(ring: Ring) -> Ring:
    """Return a ring with a point more in the middle of each of its sides."""
    middles = (ring + np.roll(ring, -1, axis=0)) / 2
    return np.stack([ring, middles], axis=1).reshape(-1, 2)


def _distance_to_centers(start: np.ndarray, end: np.ndarray) -> float:
    """Return how near a straight line gets to any center of a pixel."""
    low, high = np.floor(np.minimum(start, end)), np.ceil(np.maximum(start, end))
    centers = np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True))), -1).reshape(-1, 2)
    way = end - start
    part = np.clip((centers - start) @ way / max(way @ way, 1e-12), 0, 1)
    return float(np.linalg.norm(start + part[:, None] * way - centers, axis=1).min())


def _without_needless_points(ring: Ring) -> Ring:
    """Return a ring without the points that lie on the straight way between their neighbors."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    straight = np.isclose(before[:, 0] * after[:, 1], before[:, 1] * after[:, 0]) & ((before * after).sum(1) > 0)
    return ring[~straight]


def ring_at(points: Sequence[np.ndarray] | np.ndarray) -> Ring:
    """Return points (N, 2) as a ring, without a last one that repeats the first."""
    ring = np.asarray(points, dtype=float)
    return ring[:-1] if len(ring) > 1 and np.allclose(ring[0], ring[-1]) else ring
