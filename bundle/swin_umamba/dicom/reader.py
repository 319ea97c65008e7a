"""Reading a DICOM image series as one volume: pixels by ITK, geometry by our own checks of every slice's header."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import itk
import numpy as np
from monai.config import PathLike
from monai.data import ITKReader
from monai.utils import ensure_tuple

from swin_umamba.dicom.series import Stack, planes_of, read_header, series_name, stack_slices
from swin_umamba.errors import InputError
from swin_umamba.readers import LEGAL_IMAGES, SERIES_KEY


class DicomSeriesReader(ITKReader):
    """MONAI's `ITKReader` for the files of one series, in any order, or for one enhanced multi-frame file.

    Slices are ordered by their position along their normal, never by file name or number. ITK decodes the pixels and
    applies each slice's own rescale slope; where the voxels lie is told by `swin_umamba.dicom.series`, which refuses
    series with missing slices and the like. No header field that could name a patient is kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.series, self.modality = "", ""

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Return one volume as an ITK image of float32.

        Args:
            data: the files of one series.
            kwargs: ignored.

        Raises:
            InputError: if a file is no DICOM image, or the files do not make one volume.
        """
        files = [str(file) for file in ensure_tuple(data)]
        headers = [read_header(file) for file in files]
        for file, header in zip(files, headers, strict=True):
            if header is None:
                raise InputError(f"{file} is not an image in shades of grey of any known format; legal: {LEGAL_IMAGES}")
        first: Any = headers[0]
        self.series, self.modality = series_name(first), str(first.get("Modality") or "")
        try:
            stack = stack_slices(itertools.chain(*map(planes_of, files, headers)))
        except InputError as error:
            raise InputError(f"DICOM series {self.series}: {error}") from error
        return _with_geometry(_read_pixels(stack), stack.affine)

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Return the array (column, row, slice) and its metadata, the affine in RAS."""
        array, meta = super().get_data(img)
        return array, {**meta, SERIES_KEY: self.series, "modality": self.modality}

    def _get_meta_dict(self, img: Any) -> dict:
        return {"spacing": np.asarray(img.GetSpacing())}


def _read_pixels(stack: Stack) -> np.ndarray:
    """Return the voxels (slice, row, column) in float32."""
    files = list(dict.fromkeys(plane.file for plane in stack.planes))
    if len(files) == len(stack.planes):
        image = itk.imread(files if len(files) > 1 else files[0], itk.F)
        return itk.array_from_image(image).reshape(len(files), *stack.planes[0].size)
    frames = {file: itk.array_from_image(itk.imread(file, itk.F)) for file in files}  # each (frame, row, column)
    return np.stack([frames[plane.file][plane.frame] for plane in stack.planes])


def _with_geometry(voxels: np.ndarray, affine: np.ndarray) -> Any:
    """Return an ITK image of voxels (slice, row, column) that lie as an affine of (column, row, slice) says, in LPS."""
    image = itk.image_from_array(np.ascontiguousarray(voxels, dtype=np.float32))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(affine[:3, :3] / spacing)))
    return image
