"""What an infer request gets back: a label map in a file that its viewer reads, and plain data about it."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from swin_umamba.dicom.source import LPS_TO_RAS
from swin_umamba.errors import InputError
from swin_umamba.label_maps import save_label_map

EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
DTYPES = ("uint8", "uint16", "int16")


def check_result_options(request: dict[str, Any]) -> tuple[str, str, bool]:
    """Return extension, type and compression of the file that a client asks for.

    Raises:
        InputError: naming the option and what is legal.
    """
    extension = request.get("result_extension") or ".nii.gz"
    dtype = request.get("result_dtype") or "uint8"
    compress = request.get("result_compress", False)
    if extension not in EXTENSIONS:
        raise InputError(f"result_extension {extension!r}: legal: {', '.join(EXTENSIONS)}")
    if dtype not in DTYPES:
        raise InputError(f"result_dtype {dtype!r}: legal: {', '.join(DTYPES)}")
    if not isinstance(compress, bool):
        raise InputError(f"result_compress {compress!r}: legal: true, false")
    return extension, dtype, compress


def write_result(labels: MetaTensor, folder: str | os.PathLike, extension: str, dtype: str, compress: bool) -> str:
    """Write a label map (1, X, Y, Z) on its own grid into a temporary file of a folder and return its path.

    NIfTI keeps the image's sform and qform bit by bit; its type is always uint8.
    """
    handle, name = tempfile.mkstemp(prefix="segmentation_", suffix=extension, dir=folder)
    os.close(handle)
    try:
        if extension == ".nrrd":
            import itk  # only NRRD needs it

            itk.imwrite(_as_itk(labels, np.dtype(dtype)), name, compression=compress)
        else:
            save_label_map(name, labels)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return name


def _as_itk(labels: MetaTensor, dtype: np.dtype) -> Any:
    """Return a label map (1, X, Y, Z) as an ITK image in LPS.

    MONAI's `ITKWriter` sends the label map through its resampler, which fails where an axis of the image is not the
    patient's axis of the same number, as in coronal and sagittal acquisitions.
    """
    import itk

    voxels = labels.cpu().numpy()[0].astype(dtype)
    image = itk.image_from_array(np.ascontiguousarray(voxels.transpose(2, 1, 0)))  # (X, Y, Z) -> (Z, Y, X)
    affine = LPS_TO_RAS @ labels.affine.cpu().numpy()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(affine[:3, :3] / spacing)))
    return image


def parse_slices(text: Any, count: int) -> slice | None:
    """Return the slices that a user names, or None for all.

    Args:
        text: "" (all), "12" (one), or "10-20" (a range with both ends), counted from 0 along the image's third axis.
        count: slices of the image.

    Raises:
        InputError: for anything else, or slices that the image does not have.
    """
    if text is None or str(text).strip() in ("", "all"):
        return None
    match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", str(text))
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last or last >= count:
        raise InputError(
            f"slices {text!r}: legal: empty for all, one such as 3, or a range such as 3-7, 0 to {count - 1}"
        )
    return slice(first, last + 1)


def slices_in_ras(part: slice, image: MetaTensor) -> slice | None:
    """Return where slices of the stored image are in its RAS copy, or None if its slices are not axial.

    Args:
        part: along the third axis of the image as it is stored.
        image: (1, X, Y, Z) in RAS, with the "original_affine" of the stored one.
    """
    axis, direction = nib.io_orientation(np.asarray(image.meta["original_affine"], dtype=float))[2]
    if axis != 2:
        return None
    count = image.shape[-1]
    return part if direction > 0 else slice(count - part.stop, count - part.start)


def replace_slices(labels: MetaTensor, part: slice, before: MetaTensor | None) -> MetaTensor:
    """Return the label map as it was before, with the new one in some of its slices.

    Args:
        labels: new, (1, X, Y, Z).
        part: slices along Z that are taken from it.
        before: on the same grid; None for empty.

    Raises:
        InputError: if the grids differ.
    """
    result = labels.clone() if before is None else _on_grid_of(before, labels)
    if before is None:
        result.zero_()
    result[..., part] = labels[..., part]
    return MetaTensor(result)


def _on_grid_of(before: MetaTensor, labels: MetaTensor) -> MetaTensor:
    same = before.shape == labels.shape and np.allclose(before.affine.cpu(), labels.affine.cpu(), atol=1e-2)
    if not same:
        raise InputError(
            f"slices: the label to be changed, {tuple(before.shape[1:])}, and the image, {tuple(labels.shape[1:])}, "
            "differ in shape or lie elsewhere in space; send no slices to segment the whole volume"
        )
    result = labels.clone()
    result.copy_(before.as_tensor().to(labels.dtype))
    return result
