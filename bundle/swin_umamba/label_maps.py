"""A label map as a file, and the volumes of its organs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor

from swin_umamba.files import replace_file
from swin_umamba.readers import NIFTI_SUFFIXES, suffix_of
from swin_umamba.transforms import file_name

FORM_FIELDS = (
    *("sform_code", "srow_x", "srow_y", "srow_z", "qform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "pixdim", "xyzt_units"),
)
DISCLAIMER = "For research; not for clinical use."


def save_label_map(path: str | os.PathLike, labels: MetaTensor) -> None:
    """Write a label map as NIfTI, uint8, with the shape and the geometry of the file that its image came from.

    Of a NIfTI image the sform, the qform and their codes are copied bit by bit; for other formats both are the affine.

    Args:
        path: the file, `.nii.gz`.
        labels: (1, X, Y, Z) whole numbers from 0 to 255, with affine and "filename_or_obj".
    """
    voxels = labels.cpu().numpy()[0].astype(np.uint8, order="F")  # (1, X, Y, Z) -> (X, Y, Z), as NIfTI lays them out
    source = file_name(labels)
    if suffix_of(source) in NIFTI_SUFFIXES and Path(source).is_file():
        original: Any = nib.load(source)
        header = nib.Nifti1Header()
        for field in FORM_FIELDS:
            header[field] = original.header[field]
        header["pixdim"][4:] = 1
        header.set_data_dtype(np.uint8)
        image = nib.Nifti1Image(voxels.reshape(original.shape[:3]), None, header)
    else:
        affine = labels.affine.cpu().numpy()
        image = nib.Nifti1Image(voxels, affine)
        image.set_sform(affine, code="scanner")
        image.set_qform(affine, code="scanner")
        image.header.set_xyzt_units("mm")
    with replace_file(path) as temporary:
        nib.save(image, temporary)


def organ_volumes(labels: MetaTensor, organs: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Return each organ's volume in mL and in voxels, 0 for one that is not there.

    Args:
        labels: label map of whole numbers from 0 to 255, with its affine in mm.
        organs: organ -> id.
    """
    voxels = labels.cpu().numpy()
    voxel_ml = abs(float(np.linalg.det(labels.affine.cpu().numpy()[:3, :3]))) / 1000
    counts = {organ: int(np.count_nonzero(voxels == value)) for organ, value in organs.items()}
    return {organ: {"ml": round(count * voxel_ml, 3), "voxels": count} for organ, count in counts.items()}
