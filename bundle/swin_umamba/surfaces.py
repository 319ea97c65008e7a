"""Normalised surface distance of two masks, in a time that does not grow with how bad the prediction is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics.utils import get_mask_edges
from scipy.spatial import KDTree


def surface_dice(prediction: np.ndarray, truth: np.ndarray, *, spacing: Sequence[float], tolerance: float) -> float:
    """Return the share of both surfaces that lies within `tolerance` of the other one (NSD; Nikolov et al. 2018).

    Surface elements and their areas are MONAI's, which follow DeepMind's ``surface-distance``. MONAI's own
    `compute_surface_dice` gives the same number, but measures every distance to its end: minutes for a prediction that
    is scattered over a volume, where it is enough to know what lies within the tolerance.

    Args:
        prediction: bool, (X, Y, Z), not empty; or (X, Y), whose outline is its surface.
        truth: bool, of the same shape, not empty.
        spacing: mm along each array axis.
        tolerance: mm.
    """
    masks = (torch.from_numpy(np.ascontiguousarray(mask)) for mask in (prediction, truth))
    found, real, found_area, real_area = (array.numpy() for array in get_mask_edges(*masks, spacing=tuple(spacing)))
    places = [np.argwhere(edges) * np.asarray(spacing, np.float64) for edges in (found, real)]  # (elements, 3) in mm
    areas = [found_area[found], real_area[real]]
    near = [_near(places[0], places[1], tolerance), _near(places[1], places[0], tolerance)]
    within = sum(float(area[close].sum(dtype=np.float64)) for area, close in zip(areas, near, strict=True))
    return within / sum(float(area.sum(dtype=np.float64)) for area in areas)


def _near(places: np.ndarray, others: np.ndarray, tolerance: float) -> np.ndarray:
    """Tell which of `places`, (n, 3) in mm, have one of `others` at most `tolerance` mm away."""
    bound = tolerance * (1 + 1e-5)  # the search leaves out what lies on its bound
    distances, _ = KDTree(others, leafsize=32).query(places, distance_upper_bound=bound)
    return distances.astype(np.float32) <= np.float32(tolerance)
