"""The image series that a result belongs to: its headers in order, its grid, and label maps on that grid."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset

from swin_umamba.dicom.series import Plane, Stack, is_image, planes_of, series_name, stack_slices
from swin_umamba.errors import InputError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_GRID = 0.1  # of a voxel: largest distance between the voxels of a label map and those of the series

Series = str | os.PathLike | Sequence[str | os.PathLike] | Sequence[Dataset]


@dataclasses.dataclass(frozen=True)
class Source:
    """One volume of one series.

    Args:
        name: of the series, says nothing of the patient.
        headers: by SOP instance UID, in the order of the slices; one for a multi-frame image.
        stack: its slices in order; their `file` is the SOP instance UID.
    """

    name: str
    headers: dict[str, Dataset]
    stack: Stack

    @property
    def planes(self) -> list[Plane]:
        """The slices in the order of their position along the normal."""
        return self.stack.planes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        rows, columns = self.planes[0].size
        return (columns, rows, len(self.planes))

    @property
    def affine(self) -> np.ndarray:
        """The affine (4, 4) of (column, row, slice) in RAS, as `swin_umamba.dicom.reader` gives it."""
        return LPS_TO_RAS @ self.stack.affine

    def voxels_at(self, points: np.ndarray) -> np.ndarray:
        """Return which voxels (N, 3) of (column, row, slice), with fractions, are at points (N, 3) in LPS and mm.

        The fraction of a slice is its distance to the nearest slice, wherever that lies, so that unevenly spaced slices
        are found as well.
        """
        steps = self.stack.affine[:3, :3]
        sides = np.linalg.norm(steps, axis=0)
        places = np.array([plane.position for plane in self.planes])
        heights = (steps[:, 2] / sides[2]) @ places.T
        height = points @ (steps[:, 2] / sides[2])
        nearest = np.clip(np.searchsorted((heights[1:] + heights[:-1]) / 2, height), 0, len(heights) - 1)
        inside = (points - places[nearest]) @ (steps[:, :2] / sides[:2] ** 2)  # (N, 2)
        return np.column_stack([inside, nearest + (height - heights[nearest]) / sides[2]])

    @property
    def first(self) -> Dataset:
        """The header of the first slice."""
        return next(iter(self.headers.values()))


def read_source(series: Series) -> Source:
    """Read the headers of a series and put them in order.

    Args:
        series: a folder that holds one series and may hold other files, one file, or the files or the datasets of one
            series in any order; datasets need no pixels.

    Raises:
        InputError: if there is no image, there are several series, or the slices do not make one volume.
    """
    headers = [header for header in _headers(series) if is_image(header)]
    names = sorted({series_name(header) for header in headers})
    if len(names) != 1:
        found = f"{len(names)} image series ({', '.join(names[:5])})" if names else "no DICOM image"
        raise InputError(f"source series holds {found}; legal: the files of one DICOM image series")
    try:
        stack = stack_slices(plane for header in headers for plane in planes_of(str(header.SOPInstanceUID), header))
    except InputError as error:
        raise InputError(f"DICOM series {names[0]}: {error}") from error
    by_uid = {str(header.SOPInstanceUID): header for header in headers}
    ordered = {plane.file: by_uid[plane.file] for plane in stack.planes}
    return Source(name=names[0], headers=ordered, stack=stack)


def on_grid(label_map: MetaTensor | np.ndarray, affine: np.ndarray | None, source: Source) -> np.ndarray:
    """Return a label map (column, row, slice) as the series has its voxels; axes may be flipped or swapped before.

    Args:
        label_map: whole numbers from 0 to 255, (X, Y, Z) or (1, X, Y, Z).
        affine: (4, 4) in RAS of an array; a `MetaTensor` brings its own.
        source: the series.

    Raises:
        InputError: if the label map has no affine, is not of whole numbers or does not lie on the grid of the series.
    """
    if isinstance(label_map, MetaTensor):
        affine = label_map.affine.cpu().numpy() if affine is None else affine
    if affine is None or np.shape(affine) != (4, 4):
        raise InputError("label map without an affine (4, 4); legal: a MetaTensor, or an array and its affine in RAS")
    tensor = isinstance(label_map, torch.Tensor)
    voxels = label_map.detach().cpu().numpy() if tensor else np.asarray(label_map)  # type: ignore[union-attr]
    voxels = voxels[0] if voxels.ndim == 4 and voxels.shape[0] == 1 else voxels
    if voxels.ndim != 3:
        raise InputError(f"label map of shape {voxels.shape}; legal: (X, Y, Z) or (1, X, Y, Z)")
    inverse = np.linalg.inv(source.affine)
    turn = nib.io_orientation(inverse @ affine)  # axes of the label map as axes of the series
    turned = nib.apply_orientation(voxels, turn)
    lies = inverse @ affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape)  # turned voxel -> voxel of the series
    corners = np.array(np.meshgrid(*((0, n - 1) for n in source.shape), [1], indexing="ij")).reshape(4, -1)
    if turned.shape != source.shape or np.abs(lies @ corners - corners).max() > SAME_GRID:
        size = " x ".join(str(n) for n in source.shape)
        raise InputError(
            f"label map of shape {voxels.shape} does not lie on the grid of DICOM series {source.name}, {size} voxels; "
            "legal: one label for each voxel of the series"
        )
    whole = turned.astype(np.uint8)
    if not np.array_equal(whole, turned):
        raise InputError("label map holds values that are no label ids; legal: whole numbers from 0 to 255")
    return whole


def check_ids(voxels: np.ndarray, labels: Mapping[str, int]) -> None:
    """Check that a label map holds the ids of organs and no others.

    Raises:
        InputError: naming those that are unknown.
    """
    unknown = sorted(set(np.unique(voxels).tolist()) - {0, *labels.values()})
    if unknown:
        raise InputError(f"label map holds the ids {unknown}; legal: 0 and those of the model, 1 to {len(labels)}")


def with_affine(voxels: np.ndarray, source: Source) -> MetaTensor:
    """Return a label map (column, row, slice) as a `MetaTensor` (1, column, row, slice) with the series' affine."""
    name = f"DICOM series {source.name}"
    return MetaTensor(torch.from_numpy(voxels[None]), torch.from_numpy(source.affine), {"filename_or_obj": name})


def read_dataset(file: str | os.PathLike | Dataset, what: str) -> Dataset:
    """Return a dataset as it is, or read it from a file.

    Raises:
        InputError: if the file is no DICOM file; the message calls it `what` and not by its path.
    """
    if isinstance(file, Dataset):
        return file
    try:
        return pydicom.dcmread(file)
    except (pydicom.errors.InvalidDicomError, OSError) as error:
        raise InputError(f"{what} cannot be read as DICOM: {type(error).__name__}") from error


def _headers(series: Series) -> Iterator[Dataset]:
    if isinstance(series, (str, os.PathLike)):
        folder = Path(series)
        if not folder.exists():
            raise InputError("source series does not exist; legal: a folder, or the files of one DICOM image series")
        parts: Sequence[Any] = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else [folder]
    else:
        parts = list(series)
    for part in parts:
        if isinstance(part, Dataset):
            yield part
            continue
        try:
            yield pydicom.dcmread(part, stop_before_pixels=True)
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
