"""Photographs: two-dimensional images in colour or grey, of an endoscope or a microscope, without a place in a body.

A photograph is a volume of one slice: axis 0 runs along its columns, axis 1 along its rows, and a pixel is 1 wide, so
that nothing else has to know of it. Label maps of photographs are PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from monai.config import PathLike
from monai.data import ImageReader
from PIL import Image, UnidentifiedImageError

from swin_umamba.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
TIFF_SUFFIXES = (".tif", ".tiff")
LEGAL_PHOTOGRAPHS = ", ".join(SUFFIXES)
MODALITIES = {
    "ES": "endoscopy",
    "GM": "microscopy",
    "SM": "slide microscopy",
    "OP": "photography of the eye",
    "XC": "photography",
}
"""DICOM's modalities whose images are photographs."""
PLAIN_MODES = {"1": "L", "P": "RGB", "LA": "L", "PA": "RGB", "RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
LARGEST = 400_000_000  # pixels; Pillow's own limit stops at whole slides


def is_photograph(path: PathLike) -> bool:
    """Tell by a file's name whether it is a photograph."""
    return photograph_suffix(path) != ""


def photograph_suffix(path: PathLike) -> str:
    """Return the suffix of a photograph's file name in lower case, or "" when it is none."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in SUFFIXES else ""


def read_photograph(path: PathLike) -> np.ndarray:
    """Read a photograph, or a label map, as it is stored; transparency is left out, a palette becomes colours.

    Args:
        path: a file of `SUFFIXES`.

    Returns:
        Array (rows, columns) or (rows, columns, 3) in the file's own type; of more channels the first three.

    Raises:
        InputError: if it does not exist, is damaged, larger than `LARGEST` pixels, or has several pages.
    """
    Image.MAX_IMAGE_PIXELS = LARGEST
    pixels = _read_tiff(path) if photograph_suffix(path) in TIFF_SUFFIXES else None
    if pixels is None:
        pixels = _read_with_pillow(path)
    if pixels.ndim == 3 and pixels.shape[2] in (1, 2):
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise _cannot_read(path, f"its array is {pixels.shape}, not (rows, columns) or (rows, columns, channels)")
    return pixels[..., :3] if pixels.ndim == 3 else pixels


def size_of(path: PathLike) -> tuple[int, int]:
    """Return (rows, columns) of a photograph without decoding it, if the format allows.

    Raises:
        InputError: as `read_photograph`.
    """
    try:
        with Image.open(path) as image:
            return (image.height, image.width)
    except (OSError, SyntaxError, ValueError):
        rows, columns = read_photograph(path).shape[:2]
        return (rows, columns)


def _read_with_pillow(path: PathLike) -> np.ndarray:
    try:
        with Image.open(path) as image:
            _check_pages(path, getattr(image, "n_frames", 1))
            return np.asarray(image.convert(PLAIN_MODES[image.mode]) if image.mode in PLAIN_MODES else image)
    except UnidentifiedImageError as error:
        raise _cannot_read(path, "it is no such image") from error
    except Image.DecompressionBombError as error:
        raise _cannot_read(path, f"it has more than {2 * LARGEST} pixels") from error
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _cannot_read(path, getattr(error, "strerror", None) or str(error)) from error


def _read_tiff(path: PathLike) -> np.ndarray | None:
    """Read a TIFF, which may have 16 bits a colour; None for one that has a palette or is packed in Pillow's ways only.

    Channels come last.
    """
    try:
        with tifffile.TiffFile(path) as file:
            _check_pages(path, len(file.pages))
            if file.pages[0].photometric == tifffile.PHOTOMETRIC.PALETTE:  # type: ignore[union-attr]
                return None
            pixels, axes = file.series[0].asarray(), file.series[0].axes
    except InputError:
        raise
    except (OSError, ValueError, IndexError, tifffile.TiffFileError):  # no TIFF at all, or packed by LZW or JPEG
        return None
    return np.moveaxis(pixels, 0, -1) if axes in ("SYX", "CYX") else pixels


def _check_pages(path: PathLike, pages: int) -> None:
    if pages > 1:
        raise InputError(f"{path} has {pages} pages; legal is a photograph of one")


def _cannot_read(path: PathLike, reason: str) -> InputError:
    if not Path(path).exists():
        return InputError(f"{path} does not exist; legal: {LEGAL_PHOTOGRAPHS}")
    return InputError(f"{path} cannot be read: {reason}; legal: {LEGAL_PHOTOGRAPHS}")


class PhotographReader(ImageReader):
    """MONAI's reader of one photograph: array (columns, rows) or (columns, rows, 3), pixels 1 wide."""

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Return True: every file is tried."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> np.ndarray:
        """Open one file; see `read_photograph`."""
        return read_photograph(data if isinstance(data, (str, Path)) else list(data)[0])  # type: ignore[arg-type]

    def get_data(self, img: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the array of what `read` opened, and its metadata."""
        pixels = np.ascontiguousarray(img.swapaxes(0, 1))  # (rows, columns, …) -> (columns, rows, …)
        channel_dim = float("nan") if pixels.ndim == 2 else -1
        shape = np.asarray(pixels.shape[:2])
        return pixels, {"affine": np.eye(4), "spatial_shape": shape, "original_channel_dim": channel_dim}
