"""Whether an image is like those that a model has learnt from: modality, plane, spacing, field of view."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from swin_umamba.case_warnings import warn_of_case
from swin_umamba.errors import InputError
from swin_umamba.photographs import is_photograph
from swin_umamba.transforms import file_name, spacing_of

THICK = 1.5  # a spacing in plane this many times that between slices means that another axis was acquired as slices
TOLERANCE = {"spacing": 1.5, "field_of_view": 1.35}  # factor beyond what was seen in training that passes unremarked
PLANES = ("sagittal", "coronal", "axial")  # by the axis, in RAS, along which slices follow each other
AIR_CT = (-1100.0, -900.0)  # HU; no MR image has its background there
DIRECTIONS = ("from left to right", "from front to back", "from head to foot")


def acquired_plane(spacing: tuple[float, float, float]) -> str:
    """Return the plane of the slices of a volume with a spacing in mm along x, y, z in RAS.

    "axial" unless another axis is clearly the coarsest: a volume of nearly cubic voxels can be read in any plane.
    """
    coarse = max(spacing[:2])
    if coarse > THICK * spacing[2] and coarse > THICK * min(spacing[:2]):
        return PLANES[spacing.index(coarse)]
    return "axial"


def describe_images(images: Iterable[MetaTensor], earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the ranges of a training set's images, for `model.yaml`.

    Args:
        images: as loaded, whatever was done to them since: "original_affine" and "spatial_shape" are looked at.
        earlier: a description of images that the model had learnt from before; the ranges include them.

    Returns:
        {"count", "spacing", "field_of_view"}, the latter two a [lowest, highest] in mm for each of x, y, z in RAS; of
        photographs "count" alone.
    """
    images = list(images)
    grids = [_stored_grid(image) for image in images if not is_photograph(file_name(image))]
    count = len(images) + int((earlier or {}).get("count", 0))
    result: dict[str, Any] = {"count": count}
    for index, key in enumerate(TOLERANCE):
        values = np.array([grid[index] for grid in grids], dtype=float).reshape(-1, 3)
        if earlier and key in earlier:
            values = np.vstack([values, np.array(earlier[key], dtype=float).T])
        if len(values):
            ranges = zip(values.min(axis=0), values.max(axis=0), strict=True)
            result[key] = [[round(float(low), 3), round(float(high), 3)] for low, high in ranges]
    return result


class CheckFamiliard(MapTransform):
    """Warn of an image that is unlike a model's training images, and refuse one whose axial slices are none.

    The networks see axial slices. Of a volume acquired in coronal or sagittal slices these are cut across all slices:
    fine lines become blocks as long as the slices are apart. Up to `coarsest` mm that gives a usable result, which is
    marked; beyond it the outlines would be strips, so nothing is given. Photographs pass.

    Args:
        keys: of MetaTensors (C, X, Y, Z) in RAS, before their intensities are changed.
        modality: of the model, as in DICOM.
        trained_on: what `describe_images` said of the training images; None compares nothing.
        coarsest: largest distance in mm between slices that are not axial.
        allow_missing_keys: leave out keys that an item does not have.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        *,
        modality: str = "MR",
        trained_on: Mapping[str, Any] | None = None,
        coarsest: float = 4.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.modality = modality
        self.trained_on = trained_on or {}
        self.coarsest = coarsest

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data as they are.

        Raises:
            InputError: for slices that are not axial and too far apart.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            if is_photograph(file_name(item[key])):  # has no plane and no mm
                continue
            spacing = spacing_of(item[key].affine)
            self._check_plane(spacing)
            self._check_modality(item[key])
            field_of_view = tuple(side * n for side, n in zip(spacing, item[key].shape[1:], strict=True))
            self._compare("spacing", "voxels", spacing)
            self._compare("field_of_view", "a field of view", field_of_view)
        return item

    def _check_plane(self, spacing: tuple[float, float, float]) -> None:
        plane = acquired_plane(spacing)
        if plane == "axial":
            return
        apart = max(spacing[:2])
        if apart > self.coarsest:
            raise InputError(
                f"the image was acquired in {plane} slices {apart:.3g} mm apart, but the model segments axial slices; "
                f"legal: an axial acquisition, or slices up to {self.coarsest:g} mm apart"
            )
        warn_of_case(
            f"the image was not acquired in axial slices but in {plane} ones, {apart:.3g} mm apart: the outlines are "
            "coarse in that direction"
        )

    def _check_modality(self, image: MetaTensor) -> None:
        told = str(image.meta.get("modality") or "")
        low = float(image.min())
        if told and told != self.modality:
            warn_of_case(f"the image's modality is {told}, the model was trained on {self.modality}")
        elif not told and self.modality == "MR" and AIR_CT[0] <= low <= AIR_CT[1]:
            warn_of_case(f"the darkest voxel is {low:.4g}, like air in CT; the model was trained on MR")

    def _compare(self, key: str, what: str, sides: tuple[float, ...]) -> None:
        for side, seen, direction in zip(sides, self.trained_on.get(key, ()), DIRECTIONS, strict=False):
            low, high = seen
            if not low / TOLERANCE[key] <= side <= high * TOLERANCE[key]:
                known = f"{low:.3g} mm" if low == high else f"{low:.3g} to {high:.3g} mm"
                warn_of_case(f"{what} of {side:.3g} mm {direction}: the model was trained on {known}")


def _stored_grid(image: MetaTensor) -> tuple[list[float], list[float]]:
    """Return spacing and field of view in mm along x, y, z in RAS of an image as it was stored."""
    affine = np.asarray(image.meta.get("original_affine", image.affine), dtype=float)
    shape = [int(side) for side in image.meta.get("spatial_shape", image.shape[1:])]
    shape += [1] * (3 - len(shape))  # an image of two axes is one slice
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    order = np.argsort(nib.io_orientation(affine)[:, 0])  # stored axis of x, y, z
    return [float(sides[axis]) for axis in order], [float(sides[axis] * shape[axis]) for axis in order]
