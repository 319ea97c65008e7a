"""Transforms of whole volumes that MONAI does not have: checks that speak plainly, in-plane spacing, label ids."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.data.utils import affine_to_spacing, to_affine_nd
from monai.transforms import LoadImaged, MapTransform, Resize
from monai.utils import ensure_tuple_rep
from torch import Tensor

from swin_umamba.errors import InputError
from swin_umamba.photographs import is_photograph
from swin_umamba.readers import SERIES_KEY, VolumeReader, quiet_about_decoders

SPACING_RANGE = (0.01, 100.0)  # mm; outside of it a header is damaged or in another unit
INTERPOLATION = {"bilinear": "trilinear", "nearest": "nearest-exact"}  # torch's names; the third axis keeps its size
ALIGNMENT = 0.25  # of the smallest voxel side: how far a label map's corners may lie from its image's


class LoadVolumed(LoadImaged):
    """MONAI's `LoadImaged` with our `VolumeReader`: a file that cannot be read is an `InputError` that names it.

    Args:
        keys: of the items that hold a file name, or a tuple of the files of one DICOM series.
        kwargs: further arguments of `LoadImaged`, except `reader`.
    """

    def __init__(self, keys: KeysCollection, **kwargs: Any) -> None:
        with quiet_about_decoders():
            super().__init__(keys, **kwargs)
        self.reader = VolumeReader()

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Return a copy of `data` with a MetaTensor under each key."""
        item = super().__call__(data, reader or self.reader)  # a reader named at the call is the only one tried
        for key in self.key_iterator(item):
            series = item[key].meta.pop(SERIES_KEY, None)
            if series is not None:  # folders and files of DICOM are often called by the patient's name
                item[key].meta["filename_or_obj"] = f"DICOM series {series}"
        return item


class CheckVolumed(MapTransform):
    """Check that each item is one three-dimensional, finite image with a usable geometry.

    A two-dimensional image becomes a volume of one slice, and a grey photograph gets equal channels where colours are
    wanted.

    Args:
        keys: of channel-first MetaTensors (C, X, Y, Z) or (C, X, Y).
        channels: that images have, one number or one per key: 1, or 3 for photographs in colour.
        allow_missing_keys: leave out keys that an item does not have.
    """

    def __init__(
        self, keys: KeysCollection = "image", channels: int | Sequence[int] = 1, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.channels = ensure_tuple_rep(channels, len(self.keys))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with MetaTensors (C, X, Y, Z).

        Raises:
            InputError: naming the file, what is wrong with it and what is legal.
        """
        item = dict(data)
        for key, channels in self.key_iterator(item, self.channels):
            item[key] = _as_volume(item[key], channels)
            _check_geometry(item[key])
            _check_values(item[key])
        return item


class InPlaneSpacingd(MapTransform):
    """Resample axial slices to a spacing and leave the slice axis as it is; the affine follows.

    The training-time twin of what `swin_umamba.inferers.AxialSliceInferer` does slab by slab: the same size and the
    same interpolation, linear between pixel centres without smoothing, as in nnU-Net's 2D configuration.

    Args:
        keys: of MetaTensors (C, X, Y, Z) in RAS.
        spacing: (x, y) in mm that the slices get; None leaves every image as it is.
        mode: of interpolation, "bilinear" or "nearest" (the nearest pixel centre), one or one per key.
        allow_missing_keys: leave out keys that an item does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float] | None,
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing = check_spacing(spacing)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        for name in self.mode:
            if name not in INTERPOLATION:
                raise InputError(f"mode {name!r} of InPlaneSpacingd: legal are {', '.join(INTERPOLATION)}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` whose images have the spacing in plane."""
        item = dict(data)
        for key, mode in self.key_iterator(item, self.mode):
            image = item[key]  # (C, X, Y, Z)
            size = in_plane_size(image.shape[1:3], spacing_of(image.affine)[:2], self.spacing)
            if size != tuple(image.shape[1:3]):
                item[key] = Resize((*size, image.shape[3]), mode=INTERPOLATION[mode])(image)
        return item


class MapLabelsd(MapTransform):
    """Translate the ids of a label file into the model's, by the table that its data list gives.

    Args:
        keys: of label maps; an item's table is under "label_ids", {id in the file: id of the model}. Without one the
            ids are taken to be the model's already.
        dtype: of the result; the losses take uint8 and float32.
        allow_missing_keys: leave out keys that an item does not have.
    """

    def __init__(
        self, keys: KeysCollection = "label", dtype: str | torch.dtype = torch.uint8, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the model's ids.

        Raises:
            InputError: for a value that is no whole number from 0 to 65535 or that the table does not name.
        """
        item = dict(data)
        table = item.get("label_ids")
        for key in self.key_iterator(item):
            label = item[key]
            ids = _whole_numbers(label)
            if table is not None:
                ids = _translate(ids, {int(k): int(v) for k, v in table.items()}, file_name(label))
            out = ids.to(self.dtype)
            item[key] = MetaTensor(out, meta=label.meta) if isinstance(label, MetaTensor) else out
        return item


class CheckPaird(MapTransform):
    """Check that a label map lies on its image's grid and holds legal ids only.

    Args:
        keys: of the image and its label map, MetaTensors (1, X, Y, Z).
        labels: the model's {organ: id}; None leaves the ids unchecked.
    """

    def __init__(self, keys: KeysCollection = ("image", "label"), labels: Mapping[str, int] | None = None) -> None:
        super().__init__(keys)
        self.labels = labels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` as it is.

        Raises:
            InputError: naming both files when they do not fit, or the ids that no organ has.
        """
        image, label = (data[key] for key in self.keys)
        names = f"label map {file_name(label)} does not fit image {file_name(image)}"
        if image.shape[1:] != label.shape[1:]:
            raise InputError(f"{names}: {tuple(label.shape[1:])} voxels, not {tuple(image.shape[1:])}")
        gap = _corner_distance(image, label)
        if gap > ALIGNMENT * min(spacing_of(image.affine)):
            raise InputError(f"{names}: its corners lie {gap:.3g} mm away; legal is the image's own affine")
        if self.labels is not None:
            unknown = sorted(set(torch.unique(label.as_tensor()).tolist()) - {0, *self.labels.values()})
            if unknown:
                legal = ", ".join(f"{value} {name}" for name, value in self.labels.items())
                raise InputError(f"label map {file_name(label)} holds ids {unknown[:8]}; legal are 0, {legal}")
        return dict(data)


def check_spacing(spacing: Sequence[float] | None) -> tuple[float, float] | None:
    """Return an in-plane spacing as two numbers of mm, or None.

    Raises:
        InputError: if it is not two numbers within `SPACING_RANGE`.
    """
    if spacing is None:
        return None
    low, high = SPACING_RANGE
    values = tuple(float(value) for value in spacing)
    if len(values) != 2 or not all(low <= value <= high for value in values):
        raise InputError(f"spacing {list(spacing)}: legal are two numbers (x, y) from {low} to {high} mm, or null")
    return values


def spacing_of(affine: Tensor) -> tuple[float, float, float]:
    """Return the spacing in mm of a volume's three axes, from its affine (4, 4)."""
    return tuple(affine_to_spacing(affine, r=3).tolist())


def in_plane_size(size: Sequence[int], spacing: Sequence[float], target: Sequence[float] | None) -> tuple[int, int]:
    """Return how many pixels a slice has once it is resampled.

    Args:
        size: (x, y) in pixels.
        spacing: (x, y) in mm that it has.
        target: (x, y) in mm that it gets; None keeps its own.

    Returns:
        The nearest whole number of pixels, at least 1, along each axis.
    """
    if target is None:
        return (int(size[0]), int(size[1]))
    x, y = (max(1, int(np.floor(n * old / new + 0.5))) for n, old, new in zip(size, spacing, target, strict=True))
    return (x, y)


def file_name(image: Any) -> str:
    """Return the file that an image was read from, for a message."""
    return str(getattr(image, "meta", {}).get("filename_or_obj", "image"))


def _as_volume(image: MetaTensor, channels: int) -> MetaTensor:
    if image.shape[0] == 1 and channels > 1 and is_photograph(file_name(image)):
        grey = image.repeat(channels, *[1] * (image.ndim - 1))  # (1, X, Y) -> (C, X, Y)
        image = MetaTensor(grey, meta=image.meta)
    if image.shape[0] != channels or image.ndim not in (3, 4):
        axes = " x ".join(str(n) for n in image.shape[1:])
        found = f"{image.shape[0]} channels (colour, or a fourth dimension) of " if image.shape[0] != 1 else ""
        legal = "one grey-scale volume of 3 axes" if channels == 1 else f"a photograph of {channels} channels, or grey"
        raise InputError(f"{file_name(image)} has {found}{axes} voxels; legal is {legal}")
    if 0 in image.shape:
        raise InputError(f"{file_name(image)} has no voxels: {tuple(image.shape[1:])}")
    if image.ndim == 3:
        affine = to_affine_nd(3, image.affine)
        image = MetaTensor(image.unsqueeze(-1), meta={**image.meta, "affine": affine})  # (C, X, Y) -> (C, X, Y, 1)
    return image


def _check_geometry(image: MetaTensor) -> None:
    affine = image.affine
    low, high = SPACING_RANGE
    if not torch.isfinite(affine).all() or abs(torch.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(f"{file_name(image)} has no usable affine: {_rounded(affine.tolist())}; legal: invertible")
    if not all(low <= side <= high for side in spacing_of(image.affine)):
        raise InputError(
            f"{file_name(image)} has a spacing of {_rounded(spacing_of(image.affine))}; legal: {low} to {high} mm"
        )


def _check_values(image: MetaTensor) -> None:
    if not torch.isfinite(image.sum(dtype=torch.float64)):  # one pass without a mask; the count only when it fails
        wrong = int((~torch.isfinite(image)).sum())
        raise InputError(f"{file_name(image)} has {wrong} voxels that are NaN or infinite; legal: finite values")


def _whole_numbers(label: Tensor) -> Tensor:
    values = label.as_tensor() if isinstance(label, MetaTensor) else torch.as_tensor(label)
    ids = values.to(torch.int32) if values.is_floating_point() else values.int()
    if values.is_floating_point() and not torch.equal(ids.to(values.dtype), values):
        raise InputError(f"label map {file_name(label)} has values that are no whole numbers; legal: ids of organs")
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) <= 65535:
        raise InputError(
            f"label map {file_name(label)} has ids {int(ids.min())} to {int(ids.max())}; legal: 0 to 65535"
        )
    return ids


def _translate(ids: Tensor, table: dict[int, int], name: str) -> Tensor:
    counts = torch.bincount(ids.flatten())
    present = counts.nonzero().flatten().tolist()
    unknown = [value for value in present if value != 0 and value not in table]
    if unknown:
        raise InputError(f"label map {name} holds ids {unknown[:8]} that its data list does not name: {sorted(table)}")
    lookup = torch.zeros(len(counts), dtype=torch.int32)
    for value in present:
        lookup[value] = table.get(value, 0)
    return lookup[ids.long()]


def _corner_distance(image: MetaTensor, label: MetaTensor) -> float:
    """Return the largest distance in mm between the corners of two volumes of one shape."""
    sides = [(0.0, float(n - 1)) for n in image.shape[1:]]
    corners = torch.tensor([[*corner, 1.0] for corner in itertools.product(*sides)], dtype=torch.float64)  # (8, 4)
    difference = (image.affine.cpu().double() - label.affine.cpu().double()) @ corners.T  # (4, 8)
    return float(torch.linalg.vector_norm(difference, dim=0).max())


def _rounded(values: Any) -> Any:
    return [_rounded(value) for value in values] if isinstance(values, (list, tuple)) else float(f"{values:.4g}")
