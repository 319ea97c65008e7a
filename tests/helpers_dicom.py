"""DICOM series of a known content, written with pydicom."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.data import MetaTensor
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR_IMAGE, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
PATIENT = "DOE^JANE"
COMPLETE = {  # what a scanner writes into every file, and anonymizers leave out
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.1234",
    "PositionReferenceIndicator": "",
    "StudyDate": "20240229",
    "StudyTime": "101112",
    "StudyID": "7",
    "StudyDescription": "Abdomen",
    "AccessionNumber": "A1",
    "ReferringPhysicianName": "",
    "PatientBirthDate": "19700101",
    "PatientSex": "F",
    "SeriesNumber": 5,
}
STACKS = {  # axis codes of columns, rows and slices as the files are numbered, and a turn in degrees
    "axial ascending": ("LPS", 0.0),
    "axial descending": ("LPI", 0.0),
    "coronal": ("LIP", 0.0),
    "sagittal": ("PIL", 0.0),
    "oblique": ("LPS", 17.0),
    "oblique coronal": ("LIA", 12.0),
}
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_series(
    folder: Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    *,
    uid: str | None = None,
    slope: float = 1.0,
    intercept: float = 0.0,
    keep: list[int] | None = None,
    names: str = "IM{:04d}.dcm",
    **tags: Any,
) -> list[Path]:
    """Write a volume as one file per slice.

    Args:
        folder: for the files.
        voxels: (column, row, slice), what the stored numbers mean after rescaling.
        affine: of `voxels`, RAS.
        uid: of the series.
        slope: rescale slope of all slices, or of slice k `slope + k * tags["slope_step"]`.
        intercept: of the rescaling.
        keep: slices to write, in the order of file names and instance numbers; all by default.
        names: of the files, by number in that order.
        tags: further attributes of every file by keyword.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, uid = generate_uid(), uid or generate_uid()
    step = tags.pop("slope_step", 0.0)
    lps = RAS_TO_LPS @ affine
    files = []
    for number, k in enumerate(range(voxels.shape[2]) if keep is None else keep):
        header = _header(MR_IMAGE, study, uid, {"InstanceNumber": number + 1, "ImageType": ["ORIGINAL", "PRIMARY"]})
        _place(header, lps, voxels.shape, k)
        header.RescaleSlope, header.RescaleIntercept = slope + k * step, intercept
        stored = (voxels[:, :, k].T - intercept) / (slope + k * step)  # (column, row) -> (row, column)
        _pixels(header, np.round(stored).astype(np.int16))
        for keyword, value in tags.items():
            setattr(header, keyword, value)
        files.append(folder / names.format(number))
        header.save_as(files[-1], write_like_original=False)
    return files


def write_multiframe(
    path: Path, voxels: np.ndarray, affine: np.ndarray, order: list[int], slope: float = 1.0, **tags: Any
) -> Path:
    """Write a volume (column, row, slice) as one enhanced MR image whose frames are its slices in `order`."""
    lps = RAS_TO_LPS @ affine
    header = _header(ENHANCED_MR, generate_uid(), generate_uid(), {"NumberOfFrames": len(order), **tags})
    shared, measures, direction, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = _decimal([np.linalg.norm(lps[:3, 1]), np.linalg.norm(lps[:3, 0])])
    measures.SliceThickness = np.linalg.norm(lps[:3, 2])  # with more characters than are legal, as some devices write
    direction.ImageOrientationPatient = _cosines(lps)
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, 0.0, "US"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [direction]
    shared.PixelValueTransformationSequence = [rescale]
    header.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in order:
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = _decimal(lps[:3, 3] + k * lps[:3, 2])
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    header.PerFrameFunctionalGroupsSequence = frames
    _pixels(header, np.round(voxels[:, :, order].transpose(2, 1, 0) / slope).astype(np.int16))  # (frame, row, column)
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, write_like_original=False)
    return path


def complaints(path: Path) -> list[str]:
    """Return what dicom3tools' dciodvfy finds wrong with a file; skip the test where there is none."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return [line for line in run.stderr.splitlines() if line.startswith(("Error", "Warning"))]


def in_ras(label_map: MetaTensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels (X, Y, Z) of a label map (1, ...) in RAS, and their affine."""
    image = nib.as_closest_canonical(nib.Nifti1Image(label_map.numpy()[0], label_map.affine.numpy()))
    return np.ascontiguousarray(image.dataobj), image.affine


def _header(kind: str, study: str, uid: str, tags: dict[str, Any]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    header.is_little_endian, header.is_implicit_VR = True, False
    header.SOPClassUID, header.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    header.PatientName, header.PatientID, header.Modality = PATIENT, "4711", "MR"
    header.StudyInstanceUID, header.SeriesInstanceUID = study, uid
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    return header


def _place(header: Dataset, lps: np.ndarray, shape: tuple[int, ...], k: int) -> None:
    header.ImagePositionPatient = _decimal(lps[:3, 3] + k * lps[:3, 2])
    header.ImageOrientationPatient = _cosines(lps)
    header.PixelSpacing = _decimal([np.linalg.norm(lps[:3, 1]), np.linalg.norm(lps[:3, 0])])
    header.SliceThickness = float(f"{np.linalg.norm(lps[:3, 2]):.10g}")


def _pixels(header: Dataset, stored: np.ndarray) -> None:
    header.Rows, header.Columns = stored.shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.PixelData = np.ascontiguousarray(stored).tobytes()


def _cosines(lps: np.ndarray) -> list[float]:
    return _decimal([*(lps[:3, 0] / np.linalg.norm(lps[:3, 0])), *(lps[:3, 1] / np.linalg.norm(lps[:3, 1]))])


def _decimal(values: Any) -> list[float]:
    """Return numbers that fit into the 16 characters of a DICOM decimal string."""
    return [float(f"{value:.9g}") for value in values]
