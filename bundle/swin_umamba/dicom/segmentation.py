"""DICOM Segmentation objects (SEG): writing a label map as one, and reading one back on the grid of its images.

**A segment's number is the label's id.** Every organ of the model is described as a segment, in every file; one that
was not found has no frames. So an absent organ never shifts another one's number, and the numbers run from 1 without
gaps, as the standard asks of binary segmentations (PS3.3 C.8.20.2.4) and highdicom insists on.

**An empty label map** is a result and no error: all organs are described, and each has one frame without a pixel on the
first slice, because a multi-frame image must have frames.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import highdicom
import numpy as np
from monai.data import MetaTensor
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage, generate_uid

from swin_umamba.case_warnings import warn_of_case
from swin_umamba.dicom.codes import ARTIFICIAL_INTELLIGENCE, cielab_color, label_of, organ_code, organ_of
from swin_umamba.dicom.prepare import prepare_headers
from swin_umamba.dicom.provenance import (
    MANUFACTURER,
    UTF8,
    check_algorithm_type,
    describe_content,
    describe_series,
    equipment,
    place_of,
    record_earlier,
    text,
)
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


def write_segmentation(
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
    """Write a label map as a binary DICOM SEG, atomically.

    Args:
        label_map: (X, Y, Z) or (1, X, Y, Z) of the model's label ids, on the grid of the series, in any orientation.
        source_series: the images, see `swin_umamba.dicom.source.read_source`; patient and study are taken from them.
        spec: of the model; its labels name the segments, its name and version the algorithm.
        path: the file.
        affine: (4, 4) in RAS of a label map that is an array; a `MetaTensor` brings its own.
        algorithm_type: "AUTOMATIC", or "SEMIAUTOMATIC" after a person changed it.
        reviewer: name of that person, at best as DICOM writes it, `Family^Given`; recorded as the content's creator.
        series_description: up to 64 characters; default is the model's name and that it is for research only, which
            the content's description says in any case.
        supersedes: earlier segmentations of the series, see `swin_umamba.dicom.provenance.find_earlier`.

    Returns:
        What was written.

    Raises:
        InputError: if the label map is not on the grid of the series or holds an id that the model does not have, or
            the images cannot be referenced by one segmentation.
    """
    source = read_source(source_series)
    voxels = on_grid(label_map, affine, source)
    check_ids(voxels, spec.labels)
    headers = prepare_headers(source)
    description = describe_series(spec, series_description)
    place = place_of(SegmentationStorage, source, spec, description, supersedes or [])
    frames, positions = _frames(voxels, source, headers)
    with warnings.catch_warnings():  # highdicom remarks upon names without a caret, which are legal
        warnings.filterwarnings("ignore", message="The string .* is unlikely to represent the intended person name")
        dataset = highdicom.seg.Segmentation(
            source_images=headers,
            pixel_array=frames,
            plane_positions=positions,
            segmentation_type="BINARY",
            segment_descriptions=_descriptions(spec, check_algorithm_type(algorithm_type)),
            series_instance_uid=place.series_uid,
            series_number=place.series_number,
            sop_instance_uid=generate_uid(),
            instance_number=place.instance_number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name="",
            software_versions="",
            device_serial_number="",
            content_label="SEGMENTATION",
            content_description=describe_content(spec),
            content_creator_name=text(reviewer) if reviewer else None,
            series_description=description,
            omit_empty_frames=bool(frames.any()),
        )
    for keyword, value in equipment(spec).items():
        setattr(dataset, keyword, value)
    dataset.SpecificCharacterSet = UTF8
    if source.first.get("LossyImageCompression") == "01":
        dataset.LossyImageCompression = "01"
    record_earlier(dataset, supersedes or [])
    with replace_file(path) as temporary:
        dataset.save_as(temporary, write_like_original=False)
    return dataset


def read_segmentation(
    dataset: Dataset | str | os.PathLike, source_series: Series, labels: Mapping[str, int] | None = None
) -> MetaTensor:
    """Read a DICOM SEG of any program back as a label map.

    Args:
        dataset: a binary SEG, or its file, whose frames lie on slices of the series, in any order.
        source_series: the images, see `swin_umamba.dicom.source.read_source`.
        labels: organ -> id; segments are then matched by their label or, failing that, their codes. Without it a
            segment's number is the id, as `write_segmentation` has it.

    Returns:
        (1, column, row, slice) as uint8 with the affine in RAS of the series.

    Raises:
        InputError: if it is no binary segmentation, a segment has no place in `labels`, or a frame does not lie on the
            grid of the series.
    """
    dataset = read_dataset(dataset, "segmentation")
    if dataset.get("SOPClassUID") != SegmentationStorage or dataset.get("SegmentationType") != "BINARY":
        kind = dataset.get("SegmentationType") or dataset.get("Modality")
        raise InputError(f"segmentation is of the kind {kind!r}; legal: a DICOM SEG of type BINARY")
    source = read_source(source_series)
    ids = {int(item.SegmentNumber): _label_id(item, labels) for item in dataset.SegmentSequence}
    voxels = np.zeros(source.shape, np.uint8)
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    overlaps = 0
    for frame, group in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        label = ids[int(_of_frame(dataset, group, "SegmentIdentificationSequence").ReferencedSegmentNumber)]
        rows, columns = np.nonzero(frame)
        place = tuple(_voxels_of(rows, columns, _frame_affine(dataset, group), source).T)
        overlaps += int(np.count_nonzero((voxels[place] != 0) & (voxels[place] != label)))
        voxels[place] = label
    if overlaps:
        warn_of_case(f"segments overlap in {overlaps} voxels; the later segment has them")
    return with_affine(voxels, source)


def segment_names(segment: Dataset) -> list[str]:
    """Return what a segment is called: by its label, and our name of the organ that its codes mean."""
    kind = (segment.get("SegmentedPropertyTypeCodeSequence") or [Dataset()])[0]
    sides = [item.get("SegmentedPropertyTypeModifierCodeSequence") for item in (kind, segment)]  # old files: the latter
    side = next((str(found[0].CodeValue) for found in sides if found), None)
    names = (str(segment.get("SegmentLabel") or ""), organ_of(str(kind.get("CodeValue")), side))
    return [name for name in names if name]


def _frames(voxels: np.ndarray, source: Source, headers: Sequence[Dataset]) -> tuple[np.ndarray, Any]:
    """Return frames (frame, row, column) in the order of the images, and where they lie: None for all of them."""
    planes = voxels.transpose(2, 1, 0)  # (column, row, slice) -> (slice, row, column)
    if "NumberOfFrames" in headers[0]:
        ordered = np.zeros_like(planes)
        ordered[[plane.frame for plane in source.planes]] = planes
        planes = ordered
    if planes.any():
        return planes, None
    first = next((p for p in source.planes if p.frame == 0), source.planes[0])
    position = highdicom.PlanePositionSequence("PATIENT", first.position.tolist())
    return planes[:1], [position]


def _descriptions(spec: ModelSpec, algorithm_type: str) -> list[highdicom.seg.SegmentDescription]:
    """Return what is said of each organ, in the order of the ids."""
    described = []
    for organ, number in sorted(spec.labels.items(), key=lambda item: item[1]):
        code = organ_code(organ)
        segment = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=text(organ),
            segmented_property_category=code.category,
            segmented_property_type=code.type,
            algorithm_type=algorithm_type,
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name=text(spec.name), family=ARTIFICIAL_INTELLIGENCE, version=spec.version, source=MANUFACTURER
            ),
        )
        if code.laterality is not None:
            side = highdicom.sr.CodedConcept.from_code(code.laterality)
            segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
        segment.RecommendedDisplayCIELabValue = cielab_color(organ)
        described.append(segment)
    return described


def _label_id(segment: Dataset, labels: Mapping[str, int] | None) -> int:
    if labels is None:
        return int(segment.SegmentNumber)
    return label_of(f"segment {segment.SegmentNumber}", segment_names(segment), labels)


def _of_frame(dataset: Dataset, group: Dataset, keyword: str) -> Dataset:
    """Return what a frame says of itself, or what all frames share."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    items = group.get(keyword) or shared.get(keyword)
    if not items:
        raise InputError(f"segmentation has a frame without {keyword}, so that its place is unknown")
    return items[0]


def _frame_affine(dataset: Dataset, group: Dataset) -> np.ndarray:
    """Return (3, 3) in LPS: the steps to the next column and the next row, and the position of the first pixel."""
    directions = np.array(_of_frame(dataset, group, "PlaneOrientationSequence").ImageOrientationPatient, float)
    spacing = np.array(_of_frame(dataset, group, "PixelMeasuresSequence").PixelSpacing, float)
    position = np.array(_of_frame(dataset, group, "PlanePositionSequence").ImagePositionPatient, float)
    return np.stack([directions[:3] * spacing[1], directions[3:] * spacing[0], position], axis=1)


def _voxels_of(rows: np.ndarray, columns: np.ndarray, frame: np.ndarray, source: Source) -> np.ndarray:
    """Return which voxels (N, 3) of the series the pixels of a frame are."""
    points = np.stack([columns, rows, np.ones_like(rows)], axis=1) @ frame.T  # (N, 3) in LPS
    exact = source.voxels_at(points)
    voxels = np.round(exact).astype(int)
    if len(voxels) and (
        np.abs(exact - voxels).max() > SAME_GRID or not np.all((voxels >= 0) & (voxels < source.shape))
    ):
        raise InputError(
            f"segmentation does not lie on the grid of DICOM series {source.name}; legal: frames on its slices, pixel "
            "on pixel"
        )
    return voxels
