"""In which formats inference writes a label map."""

from __future__ import annotations

from collections.abc import Sequence

from swin_umamba.errors import InputError

NIFTI, DICOM_SEG, RTSTRUCT = "nifti", "dicom_seg", "rtstruct"
OUTPUT_FORMATS = {NIFTI: "_seg.nii.gz", DICOM_SEG: "_seg.dcm", RTSTRUCT: "_rtstruct.dcm"}  # format -> end of the name
OF_SERIES = (DICOM_SEG, RTSTRUCT)  # refer to the images of a DICOM series


def output_formats(chosen: str | Sequence[str]) -> tuple[str, ...]:
    """Return the formats to write: those that are named, and no others.

    Args:
        chosen: one or several names of `OUTPUT_FORMATS`, in a sequence or parted by commas.

    Raises:
        InputError: if none is named, or one is unknown.
    """
    names = chosen.split(",") if isinstance(chosen, str) else list(chosen)
    formats = tuple(dict.fromkeys(str(name).strip() for name in names))
    unknown = [name for name in formats if name not in OUTPUT_FORMATS]
    if unknown or not formats:
        raise InputError(
            f"output_format is {','.join(formats)!r}; legal: one or several of {', '.join(OUTPUT_FORMATS)}, parted by "
            "commas"
        )
    return formats


def formats_of_series(chosen: str | Sequence[str]) -> tuple[str, ...]:
    """Return those of the formats to write that only a DICOM series can have."""
    return tuple(name for name in output_formats(chosen) if name in OF_SERIES)


def no_series(formats: Sequence[str], name: str) -> str:
    """Return why an input, called `name`, cannot have results in formats of a series."""
    return f"output_format {','.join(formats)} needs a DICOM series and {name} is none; legal for it: {NIFTI}"
