"""Clean-up of label maps by what organs are like in three dimensions, shy of what a disease may have split or moved.

A network that sees one slice at a time cannot know that the lung above a liver is no liver, or that a speck far from
every kidney is no kidney. What is taken away here is only that, and all of it is told.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage
from scipy.spatial import cKDTree

from swin_umamba.case_warnings import warn_of_case
from swin_umamba.errors import InputError
from swin_umamba.transforms import spacing_of

TOUCHING = np.ones((3, 3, 3), bool)  # slices are thick: diagonal neighbours belong together
AIR = 0.01  # quantile of a volume's intensities that counts as air
MIDDLE = 0.25  # of an organ's slices at either end are left out where its own brightness is measured
TOLD_ML = 1.0  # less is not worth a remark

Voxels = np.ndarray
Box = tuple[slice, ...]  # of a volume, around all of an organ


class CleanLabelsd(MapTransform):
    """Take away specks far from an organ and ends of it that lie in air, and give a kidney's piece the right side.

    Of each organ, in this order:

    - **Ends in air.** From its first and last slice inwards, slices are emptied as long as the organ's median there is
      nearer to air than to the organ: below `air_share` of the way from the volume's air to the median of its middle
      slices. An organ that is dark as a whole keeps all.
    - **Specks.** A piece that touches nothing of the largest one goes if it has at most `speck_share` of its volume
      and lies more than `far_mm` from it. Larger or nearer pieces stay: a tumour or a cyst may have cut them off.
    - **Sides.** Of organs called "left X" and "right X", a piece that touches the largest piece of the other side, and
      not of its own, becomes the other side's. Where one side was not found at all, pieces beyond the body's middle
      from the largest become it.

    Remarks of more than 1 mL go to `swin_umamba.case_warnings`.

    Args:
        keys: of label maps (1, X, Y, Z) in RAS.
        image_key: of their images (1, X, Y, Z), the same grid.
        labels: organ -> id.
        speck_share: of the largest piece's volume, 0 to 1; 0 keeps every piece.
        far_mm: 0 or more.
        air_share: 0 to 1; 0 keeps every end.

    Raises:
        InputError: for a number out of its range.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        *,
        labels: Mapping[str, int],
        image_key: str = "image",
        speck_share: float = 0.05,
        far_mm: float = 15.0,
        air_share: float = 0.3,
    ) -> None:
        super().__init__(keys)
        if not (0 <= speck_share <= 1 and 0 <= air_share <= 1 and far_mm >= 0):
            raise InputError(
                f"speck_share {speck_share}, air_share {air_share}, far_mm {far_mm}: legal: shares from 0 to 1, mm >= 0"
            )
        self.labels, self.image_key = dict(labels), image_key
        self.speck_share, self.far_mm, self.air_share = speck_share, far_mm, air_share

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with clean label maps."""
        item = dict(data)
        image = item[self.image_key]
        for key in self.key_iterator(item):
            found = item[key]
            spacing = spacing_of(image.affine)
            voxels = found.cpu().numpy()[0].astype(np.uint8)  # (1, X, Y, Z) -> (X, Y, Z), a copy
            self._clean(voxels, image.cpu().numpy()[0], spacing)
            result = torch.as_tensor(voxels)[None].to(found.device, found.dtype)
            item[key] = MetaTensor(result, meta=found.meta, applied_operations=getattr(found, "applied_operations", []))
        return item

    def _clean(self, voxels: Voxels, image: Voxels, spacing: tuple[float, float, float]) -> None:
        """Clean a label map (X, Y, Z) in place; each organ is looked at inside a box around it."""
        boxes = _boxes(voxels, self.labels)
        before = {organ: _count(voxels[box], self.labels[organ]) for organ, box in boxes.items()}
        air = float(np.quantile(image[:: max(1, image.shape[0] // 64)], AIR))
        for organ, box in boxes.items():
            number = self.labels[organ]
            if self.air_share:
                _drop_ends_in_air(voxels[box], image[box], number, air, self.air_share)
            if self.speck_share:
                _drop_specks(voxels, number, box, spacing, self.speck_share, self.far_mm)
        removed = {organ: before[organ] - _count(voxels[box], self.labels[organ]) for organ, box in boxes.items()}
        millilitres = float(np.prod(spacing)) / 1000
        for organ, count in removed.items():
            if count * millilitres >= TOLD_ML:
                warn_of_case(f"clean-up took {count * millilitres:.1f} mL off the {organ}: far pieces, or ends in air")
        for pair in paired_organs(self.labels):
            sides = {self.labels[organ]: boxes.get(organ) for organ in pair}
            moved = _sort_sides(voxels, sides, image)
            if moved * millilitres >= TOLD_ML:
                warn_of_case(f"clean-up moved {moved * millilitres:.1f} mL between {pair[0]} and {pair[1]}")


def _boxes(voxels: Voxels, labels: Mapping[str, int]) -> dict[str, Box]:
    """Return the box around each organ that is there."""
    found = ndimage.find_objects(voxels)
    found += [None] * (max(labels.values(), default=0) - len(found))
    return {organ: found[number - 1] for organ, number in labels.items() if found[number - 1] is not None}


def _count(voxels: Voxels, number: int) -> int:
    return int(np.count_nonzero(voxels == number))


def paired_organs(labels: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return the organs that are there twice, as pairs of names "left X" and "right X"."""
    names = [name.removeprefix("left ") for name in labels if name.startswith("left ")]
    return [(f"left {name}", f"right {name}") for name in names if f"right {name}" in labels]


def _drop_ends_in_air(voxels: Voxels, image: Voxels, number: int, air: float, share: float) -> None:
    region = voxels == number
    slices = np.flatnonzero(region.any((0, 1)))
    if len(slices) < 3:
        return
    cut = int(len(slices) * MIDDLE)
    middle = slices[cut : len(slices) - cut]
    own = float(np.median(image[..., middle][region[..., middle]]))
    limit = air + share * (own - air)
    for order in (slices, slices[::-1]):
        for k in order:
            if k in middle or float(np.median(image[..., k][region[..., k]])) >= limit:
                break
            voxels[..., k][region[..., k]] = 0


def _drop_specks(
    voxels: Voxels, number: int, box: Box, spacing: tuple[float, float, float], share: float, far: float
) -> None:
    pieces, largest = _pieces(voxels, number, box)
    if len(pieces) < 2:
        return
    tree = cKDTree(_surface(pieces[largest]) * spacing)
    size = len(pieces[largest])
    for index, piece in enumerate(pieces):
        if index == largest or len(piece) > share * size:
            continue
        if tree.query(piece * spacing, distance_upper_bound=far)[0].min() > far:
            voxels[tuple(piece.T)] = 0


def _sort_sides(voxels: Voxels, sides: Mapping[int, Box | None], image: Voxels) -> int:
    """Give pieces of a paired organ, {left: its box, right: its box}, the side that they lie on, in place.

    Returns how many voxels moved.
    """
    moved, (left, right) = 0, sides
    regions = {number: _pieces(voxels, number, box) for number, box in sides.items()}
    for own, other in ((left, right), (right, left)):
        pieces, largest = regions[own]
        if len(pieces) < 2:
            continue
        others, main = regions[other]
        for index, piece in enumerate(pieces):
            if index == largest:
                continue
            wrong = _touch(piece, others[main]) if others else _across(piece, pieces[largest], image)
            if wrong:
                voxels[tuple(piece.T)] = other
                moved += len(piece)
    return moved


def _across(piece: Voxels, main: Voxels, image: Voxels) -> bool:
    """Return whether a piece lies on the other side of the body's middle than the main piece."""
    body = image > image.mean()
    weights = body.sum((1, 2))
    middle = float((np.arange(len(weights)) * weights).sum() / max(1, weights.sum()))
    return (piece[:, 0].mean() - middle) * (main[:, 0].mean() - middle) < 0


def _pieces(voxels: Voxels, number: int, box: Box | None) -> tuple[list[Voxels], int]:
    """Return the voxels (N, 3) of each connected piece of an organ, and the number of the largest piece.

    Places are those in the whole volume: distances round alike, whatever the box.
    """
    if box is None:
        return [], 0
    numbered, count = ndimage.label(voxels[box] == number, TOUCHING)
    corner = np.array([side.start for side in box])
    pieces = []
    for n, part in enumerate(ndimage.find_objects(numbered)[:count]):
        pieces.append(np.argwhere(numbered[part] == n + 1) + [side.start for side in part] + corner)
    return pieces, int(np.argmax([len(piece) for piece in pieces])) if pieces else 0


def _surface(piece: Voxels) -> Voxels:
    """Return the voxels (N, 3) of a piece that have a neighbour outside of it."""
    low = piece.min(0)
    box = np.zeros(piece.max(0) - low + 3, bool)
    box[tuple((piece - low + 1).T)] = True
    return np.argwhere(box & ~ndimage.binary_erosion(box)) + low - 1


def _touch(piece: Voxels, main: Voxels) -> bool:
    """Return whether two pieces have neighbouring voxels, diagonals included."""
    reach = 1.8  # voxels, more than the diagonal of a cube
    return bool(cKDTree(_surface(main)).query(_surface(piece), distance_upper_bound=reach)[0].min() < reach)
