"""Single objects, such as cells: from the classes of a network and back, and the F1 score of matched objects.

The way is that of the papers around Swin-UMamba (U-Mamba's Microscopy task, after the NeurIPS 2022 Cell Segmentation
challenge): a network tells the interior of cells from their boundary, so that the connected pieces of interior are
single cells; what is found is matched with the true cells where their intersection over union is 0.5 or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from skimage.measure import label as connected_pieces
from skimage.metrics import contingency_table
from skimage.morphology import dilation, disk, remove_small_objects
from skimage.segmentation import clear_border, find_boundaries

from swin_umamba.errors import InputError

INTERIOR, BOUNDARY = 1, 2
SMALLEST_INTERIOR = 16  # pixels; what is smaller is taken for background where classes are made of instances
FRAME = 2  # pixels at the image's edge; objects that reach into them are cut off and do not count
LARGE, TILE = 25_000_000, 2000  # pixels of an image from which on it is scored in tiles, and the side of a tile
MATCH = 0.5  # intersection over union


def instances_of(labels: np.ndarray, number: int) -> np.ndarray:
    """Return the connected pieces of one label, numbered from 1; diagonal neighbours belong together.

    Args:
        labels: label map (rows, columns), or of any other axes.
        number: the label's id.
    """
    return connected_pieces(labels == number).astype(np.int32)


def classes_of(instances: np.ndarray) -> np.ndarray:
    """Return what a network is to learn of numbered objects: 1 interior, 2 boundary, 0 background, as uint8.

    The boundary is each object's outermost pixels and their neighbours on either side; interiors of less than 16 pixels
    are left out.

    Args:
        instances: (rows, columns), 0 background.
    """
    boundary = dilation(find_boundaries(instances, mode="inner"), disk(1))
    interior = remove_small_objects((instances > 0) & ~boundary, max_size=SMALLEST_INTERIOR - 1)
    classes = np.zeros(instances.shape, np.uint8)
    classes[interior] = INTERIOR
    classes[boundary] = BOUNDARY
    return classes


def instance_scores(found: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Score numbered objects of one image by the paper's rules.

    Objects within 2 pixels of the edge do not count. Images of 25 million pixels or more are filled up with background
    and cut into tiles of 2000×2000, whose edges count as edges of the image, and the tiles' numbers are added up.

    Args:
        found: (rows, columns), 0 background.
        truth: likewise, the same size.

    Returns:
        {"f1", "precision", "recall", "matched", "found", "truth"}: F1, precision and recall from 0 to 1, all 0 where
        nothing matches; then numbers of objects.

    Raises:
        InputError: if the sizes differ.
    """
    if found.shape != truth.shape or found.ndim != 2:
        raise InputError(f"instances of {found.shape}, true ones of {truth.shape}; legal: one size (rows, columns)")
    counts = np.zeros(3, np.int64)
    for tile in _tiles(np.stack([found, truth])):
        counts += _count(*tile)
    matched, n_found, n_true = counts.tolist()
    precision, recall = (matched / n if matched else 0.0 for n in (n_found, n_true))
    f1 = 2 * precision * recall / (precision + recall) if matched else 0.0
    return {
        **{name: round(value, 4) for name, value in (("f1", f1), ("precision", precision), ("recall", recall))},
        **{"matched": matched, "found": n_found, "truth": n_true},
    }


def mean_scores(cases: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean over images of F1, precision and recall, the median F1, and the sums of objects."""
    scores = {name: float(np.mean([case[name] for case in cases])) for name in ("f1", "precision", "recall")}
    sums = {name: sum(case[name] for case in cases) for name in ("matched", "found", "truth")}
    return {**scores, "median_f1": float(np.median([case["f1"] for case in cases])), **sums, "images": len(cases)}


def _tiles(images: np.ndarray) -> list[np.ndarray]:
    """Return the parts (2, rows, columns) of a pair of images (2, rows, columns) that are scored one by one."""
    rows, columns = images.shape[1:]
    if rows * columns < LARGE:
        return [images]
    full = np.pad(images, ((0, 0), (0, -rows % TILE), (0, -columns % TILE)))
    return [
        full[:, row : row + TILE, column : column + TILE]
        for row in range(0, rows, TILE)
        for column in range(0, columns, TILE)
    ]


def _count(found: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Return how many objects match, were found, and are true, of one tile."""
    found, truth = _without_cut(found), _without_cut(truth)
    overlap = contingency_table(truth, found, sparse_type="array").tocoo()  # (true objects, found objects) in pixels
    area_true, area_found = (np.asarray(overlap.sum(axis)).ravel() for axis in (1, 0))
    union = area_true[overlap.row] + area_found[overlap.col] - overlap.data
    pair = (overlap.data >= MATCH * union) & (overlap.row > 0) & (overlap.col > 0)
    matches = csr_matrix((pair[pair], (overlap.row[pair], overlap.col[pair])), shape=overlap.shape)
    matched = int((maximum_bipartite_matching(matches, perm_type="column") >= 0).sum())
    return matched, len(np.unique(found[found > 0])), len(np.unique(truth[truth > 0]))


def _without_cut(instances: np.ndarray) -> np.ndarray:
    """Return instances without those that the edge may have cut off."""
    if min(instances.shape) < 2 * FRAME:  # nothing but frame
        return np.zeros_like(instances)
    return clear_border(instances.astype(np.int32), buffer_size=FRAME - 1)
