"""Which DICOM files make one volume, and where its voxels lie, from headers alone.

Nothing that names a patient leaves this module: a series is called by its modality and a digest of its UID.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from swin_umamba.case_warnings import warn_of_case
from swin_umamba.errors import InputError

NOT_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "REG", "FID", "DOC")
VOLUMES_APART_BY = ("ImageType", "EchoTime", "TemporalPositionIdentifier", "DiffusionBValue", "AcquisitionNumber")
FRAME_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TAGS = [
    *("Modality", "SeriesInstanceUID", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *VOLUMES_APART_BY,
    *FRAME_GROUPS,
]
SAME_DIRECTION = 1e-2  # largest difference of direction cosines within one stack
SAME_PLACE = 1e-3  # mm
IRREGULAR, UNEVEN = 0.1, 0.01  # deviation of a gap between slices from the others: refused, and remarked upon
LARGEST_TILT = 0.5  # degrees between the stack's axis and the slices' normal


@dataclasses.dataclass(frozen=True)
class Plane:
    """One slice: its file and frame, and where it lies.

    Args:
        file: that holds it.
        frame: its number in the file, from 0.
        position: (3,) of the centre of its first pixel, mm in LPS.
        directions: (2, 3) cosines of a row and of a column, in LPS.
        pixel_spacing: (2,) between rows and between columns, mm.
        size: rows and columns.
        thickness: to the next slice where there is none to measure to, mm.
        contrast: what parts volumes that share their slice positions, see `VOLUMES_APART_BY`, and the file.
    """

    file: str
    frame: int
    position: np.ndarray
    directions: np.ndarray
    pixel_spacing: np.ndarray
    size: tuple[int, int]
    thickness: float
    contrast: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Stack:
    """Slices in the order of their position along the normal, and the affine (4, 4) of (column, row, slice) in LPS."""

    planes: list[Plane]
    affine: np.ndarray


def read_header(file: str | Path) -> Any | None:
    """Return the header of a DICOM image without its pixels; None for anything that is not a grey-scale image."""
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS)
    except (pydicom.errors.InvalidDicomError, OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return header if is_image(header) else None


def is_image(header: Any) -> bool:
    """Tell whether a header is that of an image in shades of grey, which a segmentation or a structure set is not."""
    grey = "Rows" in header and int(header.get("SamplesPerPixel") or 1) == 1
    return grey and "SeriesInstanceUID" in header and header.get("Modality") not in NOT_IMAGES


def files_of_folder(folder: str | Path) -> list[str]:
    """Return the DICOM images that lie in a folder itself, for one that holds a single volume.

    Raises:
        InputError: if there is none, or if they belong to several series. Files that each have a series of their own
            pass for one volume: some anonymizers give every file a new UID.
    """
    files = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    series: dict[str, list[str]] = {}
    for file in files:
        header = read_header(file)
        if header is not None:
            series.setdefault(str(header.SeriesInstanceUID), []).append(str(file))
    found = [file for part in series.values() for file in part]
    if not found:
        raise InputError(f"{folder} holds no DICOM image; legal is a folder with the files of one series")
    if 1 < len(series) < len(found):
        raise InputError(f"{folder} holds {len(series)} DICOM series; legal is a folder with the files of one")
    return sorted(found)


def series_name(header: Any) -> str:
    """Return a name that says nothing of the patient: `<modality>_<8 hex digits of a digest of the series' UID>`."""
    modality = "".join(c for c in str(header.get("Modality") or "image").lower() if c.isalnum())
    return f"{modality}_{hashlib.sha256(str(header.SeriesInstanceUID).encode()).hexdigest()[:8]}"


def planes_of(file: str, header: Any) -> list[Plane]:
    """Return the slices of one file: one, or the frames of an enhanced multi-frame image.

    Raises:
        InputError: if a slice does not say where it lies.
    """
    frames = header.get("PerFrameFunctionalGroupsSequence") or [None] * int(header.get("NumberOfFrames") or 1)
    contrast = {name: str(header.get(name)) for name in VOLUMES_APART_BY}
    thickness = header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0
    return [
        Plane(
            file=file,
            frame=index,
            position=_geometry(header, frame, "PlanePositionSequence", "ImagePositionPatient"),
            directions=_geometry(header, frame, "PlaneOrientationSequence", "ImageOrientationPatient").reshape(2, 3),
            pixel_spacing=_geometry(header, frame, "PixelMeasuresSequence", "PixelSpacing"),
            size=(int(header.Rows), int(header.Columns)),
            thickness=abs(float(thickness)) or 1.0,
            contrast={**contrast, "file": file},
        )
        for index, frame in enumerate(frames)
    ]


def split_volumes(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Part the slices of one series into volumes, where echoes, time points or contrasts share slice positions.

    Returns:
        The volumes in a fixed order; all slices together when no attribute parts them into stacks of one size.
    """
    if not _share_places(planes):
        return [list(planes)]
    for attribute in (*VOLUMES_APART_BY, "file"):
        parts: dict[str, list[Plane]] = {}
        for plane in planes:
            parts.setdefault(plane.contrast[attribute], []).append(plane)
        sizes = {len(part) for part in parts.values()}
        if len(sizes) == 1 and min(sizes) > 1 and not any(_share_places(part) for part in parts.values()):
            return [parts[value] for value in sorted(parts)]
    return [list(planes)]


def are_parallel(planes: Sequence[Plane]) -> bool:
    """Tell whether all slices have one direction; those of a localizer do not."""
    return all(np.abs(plane.directions - planes[0].directions).max() <= SAME_DIRECTION for plane in planes)


def stack_slices(planes: Iterable[Plane]) -> Stack:
    """Put the slices of one volume in order and find its geometry.

    Args:
        planes: of one volume, in any order.

    Raises:
        InputError: for slices of several directions or sizes, several at one place, missing or unevenly spaced ones.
    """
    planes = list(planes)
    _check_alike(planes)
    directions = planes[0].directions / np.linalg.norm(planes[0].directions, axis=1, keepdims=True)
    normal = np.cross(directions[0], directions[1])
    planes.sort(key=lambda plane: float(plane.position @ normal))
    affine = np.eye(4)
    affine[:3, 0] = directions[0] * planes[0].pixel_spacing[1]  # along a row the column changes
    affine[:3, 1] = directions[1] * planes[0].pixel_spacing[0]
    affine[:3, 2] = normal * _slice_spacing(planes, normal)
    affine[:3, 3] = planes[0].position
    return Stack(planes=planes, affine=affine)


def _check_alike(planes: Sequence[Plane]) -> None:
    if not are_parallel(planes):
        raise InputError("slices of several directions (a localizer?); legal is one stack of parallel slices")
    sizes = sorted({plane.size for plane in planes})
    spacings = np.array([plane.pixel_spacing for plane in planes])  # (S, 2)
    if len(sizes) > 1 or np.ptp(spacings, axis=0).max() > SAME_PLACE:
        raise InputError(
            f"slices of {' and '.join(f'{rows} x {columns}' for rows, columns in sizes)} pixels of "
            f"{spacings.min():.4g} to {spacings.max():.4g} mm; legal is one size"
        )


def _slice_spacing(planes: Sequence[Plane], normal: np.ndarray) -> float:
    """Return the distance in mm of a slice to the next, after checking that it is one and that nothing is missing."""
    if len(planes) == 1:
        return planes[0].thickness
    places = np.array([plane.position for plane in planes])  # (S, 3)
    gaps = np.diff(places @ normal)
    if gaps.min() < SAME_PLACE:
        raise InputError(
            f"{int((gaps < SAME_PLACE).sum())} of {len(planes)} slices lie where another one does: several echoes, "
            "time points or contrasts in one series; legal is one volume"
        )
    usual = float(np.median(gaps))
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > IRREGULAR * usual:
        missing = round(gaps[worst] / usual) - 1
        raise InputError(
            f"{f'about {missing} missing slices' if missing > 0 else 'unevenly spaced slices'}: slices {worst + 1} "
            f"and {worst + 2} of {len(planes)} lie {gaps[worst]:.2f} mm apart, the others {usual:.2f} mm; legal is one "
            "spacing"
        )
    if abs(gaps[worst] - usual) > UNEVEN * usual:
        warn_of_case(f"slices lie {gaps.min():.3f} to {gaps.max():.3f} mm apart; they are taken to be even")
    step = (places[-1] - places[0]) / (len(planes) - 1)
    tilt = np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
    if tilt > LARGEST_TILT:
        raise InputError(f"slices are stacked {tilt:.1f} degrees off their normal; legal is up to {LARGEST_TILT}")
    return float(step @ normal)


def _share_places(planes: Sequence[Plane]) -> bool:
    return len({tuple(np.round(plane.position / SAME_PLACE)) for plane in planes}) < len(planes)


def _geometry(header: Any, frame: Any | None, group: str, keyword: str) -> np.ndarray:
    """Return an attribute of the geometry: the frame's own, what all frames share, or the header's."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    for groups in (frame, shared):
        for item in (groups.get(group) if groups is not None else None) or []:
            if item.get(keyword) is not None:
                return np.array(item.get(keyword), dtype=np.float64)
    if header.get(keyword) is None:
        raise InputError(f"a slice has no {keyword}, so that its place is unknown; legal are slices of an image series")
    return np.array(header.get(keyword), dtype=np.float64)
