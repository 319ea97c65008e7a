"""DICOM RT Structure Sets (RTSTRUCT): writing a label map as contours on its slices, and filling contours again.

**A region's number is the label's id**; an organ that was not found has no region. When no organ was found, all are
described without contours, because the standard asks for at least one region.

Holes are keyholes and parts are contours of their own, see `swin_umamba.dicom.contours`; the type is CLOSED_PLANAR.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Mapping, Sequence

import highdicom
import numpy as np
from highdicom.base import SOPClass
from monai.data import MetaTensor
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from swin_umamba.case_warnings import warn_of_case
from swin_umamba.data.labels import organ_colour
from swin_umamba.dicom.codes import label_of, organ_code
from swin_umamba.dicom.contours import Ring, contours_of, fill, ring_at
from swin_umamba.dicom.prepare import prepare_headers
from swin_umamba.dicom.provenance import (
    SHORT_STRING,
    UTF8,
    Place,
    check_algorithm_type,
    describe_content,
    describe_series,
    equipment,
    latest_of,
    place_of,
    reference_to,
    text,
)
from swin_umamba.dicom.series import Plane
from swin_umamba.dicom.source import (
    SAME_GRID,
    Series,
    Source,
    check_ids,
    on_grid,
    read_dataset,
    read_source,
    with_affine,
)
from swin_umamba.errors import InputError
from swin_umamba.files import replace_file
from swin_umamba.models import ModelSpec

STUDY = "1.2.840.10008.3.1.2.3.1"  # the SOP class that structure sets reference a study by
DECIMALS = 4  # of a coordinate in mm


def write_structures(
    label_map: MetaTensor | np.ndarray,
    source_series: Series,
    spec: ModelSpec,
    path: str | os.PathLike,
    *,
    affine: np.ndarray | None = None,
    algorithm_type: str = "AUTOMATIC",
    reviewer: str | None = None,
    series_description: str | None = None,
    supersedes: Sequence[Dataset] | None = None,
) -> Dataset:
    """Write a label map as a DICOM RTSTRUCT, atomically.

    Args:
        label_map: (X, Y, Z) or (1, X, Y, Z) of the model's label ids, on the grid of the series, in any orientation.
        source_series: the images, see `swin_umamba.dicom.source.read_source`; patient and study are taken from them.
        spec: of the model; its labels name the regions.
        path: the file.
        affine: (4, 4) in RAS of a label map that is an array; a `MetaTensor` brings its own.
        algorithm_type: "AUTOMATIC", or "SEMIAUTOMATIC" after a person changed it.
        reviewer: name of that person, at best as DICOM writes it, `Family^Given`; recorded as operator and interpreter.
        series_description: up to 64 characters; default is the model's name and that it is for research only, which
            the structure set's description says in any case.
        supersedes: earlier structure sets of the series, see `swin_umamba.dicom.provenance.find_earlier`; the latest is
            recorded as the predecessor.

    Returns:
        What was written; it is never approved.

    Raises:
        InputError: as `swin_umamba.dicom.segmentation.write_segmentation`.
    """
    source = read_source(source_series)
    voxels = on_grid(label_map, affine, source)
    check_ids(voxels, spec.labels)
    check_algorithm_type(algorithm_type)
    headers = prepare_headers(source)
    found = {organ: number for organ, number in spec.labels.items() if (voxels == number).any()} or spec.labels
    description = describe_series(spec, series_description)
    place = place_of(RTStructureSetStorage, source, spec, description, supersedes or [])
    dataset = _new_set(spec, headers, place, description, text(reviewer) if reviewer else "")
    if supersedes:
        dataset.PredecessorStructureSetSequence = [reference_to(latest_of(supersedes))]
    dataset.StructureSetROISequence = [
        _region(organ, number, headers[0].FrameOfReferenceUID, algorithm_type, spec) for organ, number in found.items()
    ]
    dataset.ROIContourSequence = [_contours(voxels == number, organ, number, source) for organ, number in found.items()]
    dataset.RTROIObservationsSequence = [
        _observation(organ, number, dataset.OperatorsName) for organ, number in found.items()
    ]
    with replace_file(path) as temporary:
        dataset.save_as(temporary, write_like_original=False)
    return dataset


def read_structures(
    dataset: Dataset | str | os.PathLike, source_series: Series, labels: Mapping[str, int] | None = None
) -> MetaTensor:
    """Read a DICOM RTSTRUCT of any program back as a label map: the pixels whose centers lie inside the contours.

    Contours of one region on one slice are combined by exclusive or, which is right for keyholes, for parts, and for
    programs that write a hole as a contour inside another one.

    Args:
        dataset: a structure set, or its file, whose contours lie in slices of the series.
        source_series: the images, see `swin_umamba.dicom.source.read_source`.
        labels: organ -> id; regions are then matched by their name. Without it a region's number is the id.

    Returns:
        (1, column, row, slice) as uint8 with the affine in RAS of the series.

    Raises:
        InputError: if it is no structure set, a region has no place in `labels`, or a contour lies in no slice.
    """
    dataset = read_dataset(dataset, "structure set")
    if dataset.get("SOPClassUID") != RTStructureSetStorage:
        raise InputError(f"structure set is of the kind {dataset.get('Modality')!r}; legal: a DICOM RTSTRUCT")
    source = read_source(source_series)
    names = {int(item.ROINumber): str(item.get("ROIName", "")) for item in dataset.StructureSetROISequence}
    voxels = np.zeros(source.shape, np.uint8)
    columns, rows, _ = source.shape
    overlaps = 0
    for region in dataset.get("ROIContourSequence") or []:
        number = int(region.ReferencedROINumber)
        label = number if labels is None else label_of(f"region {number}", [names[number]], labels)
        for index, rings in _rings_by_slice(region.get("ContourSequence") or [], source).items():
            mask = fill(rings, (rows, columns)).T  # (row, column) -> (column, row)
            overlaps += int(np.count_nonzero(voxels[:, :, index][mask]))
            voxels[:, :, index][mask] = label
    if overlaps:
        warn_of_case(f"regions overlap in {overlaps} voxels; the later region has them")
    return with_affine(voxels, source)


def _new_set(spec: ModelSpec, headers: Sequence[Dataset], place: Place, description: str, operator: str) -> Dataset:
    """Return a structure set of a patient, a study and images, without regions."""
    dataset = SOPClass(
        study_instance_uid=headers[0].StudyInstanceUID,
        series_instance_uid=place.series_uid,
        series_number=place.series_number,
        sop_instance_uid=generate_uid(),
        sop_class_uid=RTStructureSetStorage,
        instance_number=place.instance_number,
        modality="RTSTRUCT",
        series_description=description,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    dataset.copy_patient_and_study_information(headers[0])
    dataset.SpecificCharacterSet = UTF8
    for keyword, value in equipment(spec).items():
        setattr(dataset, keyword, value)
    dataset.OperatorsName = operator
    dataset.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
    dataset.PositionReferenceIndicator = headers[0].get("PositionReferenceIndicator") or ""
    now = datetime.datetime.now()
    dataset.StructureSetLabel = text(spec.name, SHORT_STRING)
    dataset.StructureSetName = text(spec.name)
    dataset.StructureSetDescription = describe_content(spec)
    dataset.StructureSetDate, dataset.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S.%f")
    dataset.ApprovalStatus = "UNAPPROVED"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = headers[0].SeriesInstanceUID
    series.ContourImageSequence = [reference_to(header) for header in headers]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY, headers[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    return dataset


def _region(organ: str, number: int, frame_of_reference: str, algorithm_type: str, spec: ModelSpec) -> Dataset:
    item = Dataset()
    item.ROINumber, item.ReferencedFrameOfReferenceUID = number, frame_of_reference
    item.ROIName, item.ROIGenerationAlgorithm = text(organ), algorithm_type
    item.ROIGenerationDescription = text(f"{spec.name} {spec.version}")
    return item


def _observation(organ: str, number: int, interpreter: str) -> Dataset:
    code, item = organ_code(organ), Dataset()
    item.ObservationNumber, item.ReferencedROINumber = number, number
    item.SegmentedPropertyCategoryCodeSequence = [highdicom.sr.CodedConcept.from_code(code.category)]
    kind = highdicom.sr.CodedConcept.from_code(code.type)
    if code.laterality is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [highdicom.sr.CodedConcept.from_code(code.laterality)]
    item.RTROIIdentificationCodeSequence = [kind]
    item.RTROIInterpretedType, item.ROIInterpreter = "ORGAN", interpreter
    return item


def _contours(mask: np.ndarray, organ: str, number: int, source: Source) -> Dataset:
    """Return the contours of an organ's mask (column, row, slice), slice after slice."""
    item, contours = Dataset(), []
    item.ReferencedROINumber, item.ROIDisplayColor = number, list(organ_colour(organ))
    for index in np.flatnonzero(mask.any(axis=(0, 1))):
        plane = source.planes[index]
        for ring in contours_of(mask[:, :, index].T):  # (column, row) -> (row, column)
            image = reference_to(source.headers[plane.file])
            if len(source.headers) == 1 and "NumberOfFrames" in source.first:
                image.ReferencedFrameNumber = plane.frame + 1
            contour = Dataset()
            contour.ContourImageSequence = [image]
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(ring)
            contour.ContourData = np.round(_points_of(ring, plane), DECIMALS).ravel().tolist()
            contours.append(contour)
    if contours:
        item.ContourSequence = contours
    return item


def _points_of(ring: Ring, plane: Plane) -> np.ndarray:
    """Return points (N, 3) in LPS and mm of a ring in pixels."""
    directions = plane.directions / np.linalg.norm(plane.directions, axis=1, keepdims=True)
    return plane.position + (ring * plane.pixel_spacing[::-1]) @ directions


def _rings_by_slice(contours: Iterable[Dataset], source: Source) -> dict[int, list[Ring]]:
    found: dict[int, list[Ring]] = {}
    for contour in contours:
        if contour.ContourGeometricType not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
            continue  # points and open lines have no inside
        exact = source.voxels_at(np.array(contour.ContourData, dtype=float).reshape(-1, 3))
        slices = np.round(exact[:, 2])
        if np.ptp(slices) or np.abs(exact[:, 2] - slices).max() > SAME_GRID or not 0 <= slices[0] < source.shape[2]:
            raise InputError(f"a contour lies in no slice of DICOM series {source.name}; legal: planar, on its slices")
        found.setdefault(int(slices[0]), []).append(ring_at(exact[:, :2]))
    return found
