"""Headers of a series as highdicom takes them: complete, of one geometry, and legal where the source's are not."""

from __future__ import annotations

import re

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pydicom.valuerep import DSfloat

from swin_umamba.case_warnings import warn_of_case
from swin_umamba.dicom.provenance import UTF8
from swin_umamba.dicom.source import Source
from swin_umamba.errors import InputError

MAY_BE_EMPTY = (  # of patient and study: must be there, may be empty
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
LEGAL = {  # what else is emptied: anonymizers and old devices leave much behind
    "PatientBirthDate": r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
    "StudyDate": r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
    "StudyTime": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
    "PatientSex": "[MFO]",
}
GROUPS = ("PixelMeasuresSequence", "PlaneOrientationSequence")
FRAME_OF_REFERENCE = "swin-umamba frame of reference of "  # entropy of the UID that stands in for a missing one


def prepare_headers(source: Source) -> list[Dataset]:
    """Return the headers of a source, in the order of its slices; the source's own stay as they are.

    What patient and study have to say is there, empty when it is missing or illegal. All have one frame of reference:
    that of the source or, when that says none, one made of its series UID, the same each time, with a warning. The
    spacing between slices is the one that was measured.

    Raises:
        InputError: if a UID is missing, or the volume is spread over several multi-frame files.
    """
    if len(source.headers) > 1 and any("NumberOfFrames" in header for header in source.headers.values()):
        raise InputError(f"DICOM series {source.name} has several multi-frame files; legal: one, or one file per slice")
    uid = source.first.get("FrameOfReferenceUID")
    if not uid:
        uid = generate_uid(entropy_srcs=[FRAME_OF_REFERENCE, str(source.first.SeriesInstanceUID)])
        warn_of_case("the series has no frame of reference; its DICOM result has one of its own")
    return [_prepare(header, source, UID(uid)) for header in source.headers.values()]


def _prepare(header: Dataset, source: Source, frame_of_reference: UID) -> Dataset:
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"):
        if not header.get(keyword):
            raise InputError(f"a slice of DICOM series {source.name} has no {keyword}; legal are complete DICOM files")
    prepared = Dataset()
    prepared.update({element.tag: element for element in header})
    prepared.decode()
    prepared.SpecificCharacterSet = UTF8
    for keyword in MAY_BE_EMPTY:
        value = prepared.get(keyword)
        if value is None or not re.fullmatch(LEGAL.get(keyword, "(?s).*"), str(value)):
            setattr(prepared, keyword, "")
    if not (prepared.get("LossyImageCompressionRatio") and prepared.get("LossyImageCompressionMethod")):
        prepared.pop("LossyImageCompression", None)  # highdicom wants all three or none
    prepared.FrameOfReferenceUID = frame_of_reference
    if int(header.get("NumberOfFrames") or 1) == 1 and "PerFrameFunctionalGroupsSequence" not in header:
        prepared.pop("NumberOfFrames", None)
        _set_measures(prepared, source)
    else:
        prepared.SharedFunctionalGroupsSequence = [_shared_groups(prepared, source)]
    return prepared


def _set_measures(item: Dataset, source: Source) -> None:
    """Set the spacing between slices as measured, and write all measures with the 16 characters that are legal."""
    item.SpacingBetweenSlices = float(np.linalg.norm(source.stack.affine[:3, 2]))
    item.SliceThickness = item.get("SliceThickness") or item.SpacingBetweenSlices
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        setattr(item, keyword, DSfloat(float(item.get(keyword)), auto_format=True))
    item.PixelSpacing = [DSfloat(float(side), auto_format=True) for side in item.PixelSpacing]


def _shared_groups(header: Dataset, source: Source) -> Dataset:
    """Return the shared functional groups, with the geometry that each frame of some devices' files repeats."""
    shared = Dataset()
    if header.get("SharedFunctionalGroupsSequence"):
        shared.update({element.tag: element for element in header.SharedFunctionalGroupsSequence[0]})
    for keyword in GROUPS:
        if not shared.get(keyword):
            shared[keyword] = header.PerFrameFunctionalGroupsSequence[0][keyword]
    measures = Dataset()
    measures.update({element.tag: element for element in shared.PixelMeasuresSequence[0]})
    _set_measures(measures, source)
    shared.PixelMeasuresSequence = [measures]
    return shared
