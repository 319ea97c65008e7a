"""Whether a label map lies as its image; programs that store DICOM in an order of their own flip or swap its axes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from swin_umamba.errors import InputError
from swin_umamba.label_maps import save_label_map

from monailabel_app.meanings import label_values

GRID_TOLERANCE = 0.01  # mm between the corners of an image and of its label


def check_lies(label: MetaTensor, image: MetaTensor, info: Mapping[str, Any]) -> None:
    """Check that a label map belongs to an image and that its values are explained.

    Raises:
        InputError: for another grid, values that are no whole numbers from 0 to 255, or values that "label_info" does
            not name although it is there.
    """
    if label.shape != image.shape:
        raise InputError(f"label: its shape {tuple(label.shape[1:])} is not the image's, {tuple(image.shape[1:])}")
    distance = distance_of(label, image)
    if not distance <= GRID_TOLERANCE:
        raise InputError(f"label: it lies up to {distance:.3g} mm away from the image; legal: the image's own geometry")
    values = np.unique(np.asarray(label))
    if not np.array_equal(values, values.astype(np.uint8)):
        raise InputError(f"label: values {values[:5].tolist()}…; legal: whole numbers from 0 to 255")
    names = label_values(info)
    unknown = sorted(set(values.astype(int).tolist()) - {0} - set(names))
    if names and unknown:
        raise InputError(f"label: values {unknown} are not in label_info, which names {sorted(names)}")


def distance_of(label: MetaTensor, image: MetaTensor) -> float:
    """Return how far apart, in mm, the corners of two volumes of one shape (1, X, Y, Z) are."""
    corners = np.array(np.meshgrid(*[(0, side) for side in image.shape[1:]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    return float(np.abs((label.affine.numpy() - image.affine.numpy()) @ corners)[:3].max())


def turned_like(label: MetaTensor, image: MetaTensor) -> MetaTensor | None:
    """Return a label map with its axes flipped and swapped as the image's, if it then lies on the image's grid.

    Args:
        label: (1, X, Y, Z), whole numbers from 0 to 255.
        image: (1, X, Y, Z).

    Returns:
        None for one that lies as the image already, and for one that no turn of the axes brings there.
    """
    affine, voxels = image.affine.numpy(), label.numpy()[0]
    if not np.linalg.det(affine):
        return None
    turn = nib.io_orientation(np.linalg.inv(affine) @ label.affine.numpy())  # axes of the label as the image's
    if np.isnan(turn).any() or np.array_equal(turn, [[0, 1], [1, 1], [2, 1]]):
        return None
    turned = np.ascontiguousarray(nib.apply_orientation(voxels, turn))
    affine = label.affine.numpy() @ nib.orientations.inv_ornt_aff(turn, voxels.shape)
    found = MetaTensor(torch.from_numpy(turned[None]), torch.from_numpy(affine))
    if found.shape != image.shape or distance_of(found, image) > GRID_TOLERANCE:
        return None
    return MetaTensor(found.as_tensor(), meta=dict(image.meta))


@contextlib.contextmanager
def written(label: MetaTensor | None, file: str) -> Iterator[str]:
    """Give the file of a label map for as long as the block runs: a new one, or for None the one that it came in."""
    if label is None:
        yield file
        return
    with tempfile.NamedTemporaryFile(suffix=".nii.gz") as place:
        save_label_map(place.name, label)
        yield place.name
