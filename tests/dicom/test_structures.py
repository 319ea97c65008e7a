from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers_dicom import COMPLETE, PATIENT, STACKS, complaints, in_ras, write_multiframe, write_series
from helpers_imaging import affine_of, painted_as, ramp
from matplotlib.path import Path as Polygon
from monai.data import MetaTensor
from pydicom.dataset import Dataset
from swin_umamba.case_warnings import collect_case_warnings
from swin_umamba.data.labels import LABEL_TABLES, organ_colour
from swin_umamba.dicom.structures import read_structures, write_structures
from swin_umamba.errors import InputError
from swin_umamba.models import ModelSpec

LABELS = LABEL_TABLES["abdomen_mri"]
SPEC = ModelSpec(name="painter", version="1.2.3", network={"name": "swin_umamba_tiny"}, labels=LABELS)


def series_of(folder: Path, stack: str = "axial ascending") -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Write a series in which the organs 1 to 4 are painted; return its files, the label map and its affine."""
    labels, affine = painted_as(*STACKS[stack])
    return write_series(folder, ramp(labels).astype(float), affine, **COMPLETE), labels, affine


def contours_by_image(dataset: Dataset) -> list[tuple[int, str, np.ndarray]]:
    """Return (number of the region, UID of the image, points (N, 3)) of each contour."""
    return [
        (
            int(region.ReferencedROINumber),
            contour.ContourImageSequence[0].ReferencedSOPInstanceUID,
            np.array(contour.ContourData, float).reshape(-1, 3),
        )
        for region in dataset.ROIContourSequence
        for contour in region.get("ContourSequence", [])
    ]


def in_plane(points: np.ndarray, image: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return points as (column, row) of an image and their distances to its plane, by the image's own header."""
    row, column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    offsets = points - np.array(image.ImagePositionPatient, float)
    pixels = np.stack([offsets @ row / image.PixelSpacing[1], offsets @ column / image.PixelSpacing[0]], axis=1)
    return pixels, np.abs(offsets @ np.cross(row, column))


@pytest.mark.parametrize("stack", STACKS)
def test_label_map_comes_back_voxel_by_voxel(tmp_path: Path, stack: str) -> None:
    files, labels, affine = series_of(tmp_path / "series", stack)
    write_structures(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    found, expected = read_structures(tmp_path / "a.dcm", files), in_ras(MetaTensor(labels[None], affine))
    np.testing.assert_array_equal(in_ras(found)[0], expected[0])
    np.testing.assert_allclose(in_ras(found)[1], expected[1], atol=1e-4)


@pytest.mark.parametrize("stack", STACKS)
def test_contours_lie_on_their_images_and_around_the_organ_s_pixels(tmp_path: Path, stack: str) -> None:
    files, labels, affine = series_of(tmp_path / "series", stack)
    dataset = write_structures(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, files)}
    counts = dict.fromkeys(range(5), 0)
    for number, uid, points in contours_by_image(dataset):
        image = images[uid]
        pixels, distances = in_plane(points, image)
        assert distances.max() < 1e-3  # mm
        rows, columns = np.indices((image.Rows, image.Columns))
        inside = Polygon(pixels).contains_points(np.column_stack([columns.ravel(), rows.ravel()]))
        values = np.round(image.pixel_array * float(image.RescaleSlope) / 100).ravel()[inside]
        assert set(values) == {number}
        counts[number] += int(inside.sum())
    assert counts == {number: int((labels == number).sum()) if number else 0 for number in counts}


def ball(with_hole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return a ball of radius 14 voxels, perhaps with a hole of radius 6, and a spot of 3 x 3 x 1 voxels beside it."""
    distance = np.linalg.norm(np.indices((40, 40, 40)) - 17.3, axis=0)
    labels = (distance < 14).astype(np.uint8)
    labels[distance < 6] = 0 if with_hole else 1
    labels[35:38, 35:38, 17] = 1
    return labels, affine_of("LPS", (1.2, 0.9, 2.0), 25)


@pytest.mark.parametrize("with_hole", [False, True])
def test_volume_inside_the_contours_is_the_organ_s(tmp_path: Path, with_hole: bool) -> None:
    labels, affine = ball(with_hole)
    files = write_series(tmp_path / "series", labels.astype(float), affine, **COMPLETE)
    dataset = write_structures(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, files)}
    volume = 0.0
    for _, uid, points in contours_by_image(dataset):
        x, y = in_plane(points, images[uid])[0].T
        volume += abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2  # pixels: signed areas of keyholes leave out holes
    assert volume == pytest.approx(labels.sum(), rel=0.02)
    found = read_structures(dataset, files).numpy()[0]
    np.testing.assert_array_equal(found, labels)
    on_spot = [uid for _, uid, _ in contours_by_image(dataset)].count(pydicom.dcmread(files[17]).SOPInstanceUID)
    assert on_spot == 2  # a contour for each part, none for the hole


def test_absent_organ_has_no_region_and_shifts_nobody(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    labels[labels == 2] = 0
    dataset = write_structures(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    names = {item.ROINumber: item.ROIName for item in dataset.StructureSetROISequence}
    assert names == {1: "liver", 3: "spleen", 4: "pancreas"}
    for sequence in (dataset.ROIContourSequence, dataset.RTROIObservationsSequence):
        assert [item.ReferencedROINumber for item in sequence] == [1, 3, 4]
    np.testing.assert_array_equal(
        in_ras(read_structures(dataset, files))[0], in_ras(MetaTensor(labels[None], affine))[0]
    )


def test_regions_say_what_they_are(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    dataset = write_structures(
        labels, files, SPEC, tmp_path / "a.dcm", affine=affine, algorithm_type="SEMIAUTOMATIC", reviewer="Grün^Eva"
    )
    found, source = pydicom.dcmread(tmp_path / "a.dcm"), pydicom.dcmread(files[0])
    for item in found.ROIContourSequence:
        organ = next(o for o, number in LABELS.items() if number == item.ReferencedROINumber)
        assert list(item.ROIDisplayColor) == list(organ_colour(organ))
        assert {contour.ContourGeometricType for contour in item.ContourSequence} == {"CLOSED_PLANAR"}
        assert all(len(c.ContourData) == 3 * c.NumberOfContourPoints for c in item.ContourSequence)
    kidney = found.RTROIObservationsSequence[1]
    kind = kidney.RTROIIdentificationCodeSequence[0]
    assert (kind.CodeValue, kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == ("64033007", "Right")
    assert (kidney.RTROIInterpretedType, kidney.ROIInterpreter) == ("ORGAN", "Grün^Eva")
    assert {item.ROIGenerationAlgorithm for item in found.StructureSetROISequence} == {"SEMIAUTOMATIC"}
    (frame,) = found.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == found.FrameOfReferenceUID == source.FrameOfReferenceUID
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert len(series.ContourImageSequence) == len(files)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
        assert found.get(keyword) == source.get(keyword), keyword
    assert (found.SeriesNumber, found.ApprovalStatus, found.Modality) == (591, "UNAPPROVED", "RTSTRUCT")
    assert found.SOPInstanceUID == dataset.SOPInstanceUID != source.SOPInstanceUID
    assert "for research, not for clinical use" in found.SeriesDescription
    assert "painter 1.2.3: for research" in found.StructureSetDescription


def test_empty_label_map_describes_every_organ_without_contours(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    dataset = write_structures(np.zeros_like(labels), files, SPEC, tmp_path / "a.dcm", affine=affine)
    assert {item.ROIName: item.ROINumber for item in dataset.StructureSetROISequence} == LABELS
    assert contours_by_image(dataset) == []
    assert not read_structures(tmp_path / "a.dcm", files).any()
    assert complaints(tmp_path / "a.dcm") == []


@pytest.mark.parametrize("stack", ["axial descending", "sagittal", "oblique"])
def test_file_keeps_to_the_standard(tmp_path: Path, stack: str) -> None:
    files, labels, affine = series_of(tmp_path / "series", stack)
    first = write_structures(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    write_structures(labels, files, SPEC, tmp_path / "b.dcm", affine=affine, reviewer="Roe^J", supersedes=[first])
    assert complaints(tmp_path / "a.dcm") == []
    assert complaints(tmp_path / "b.dcm") == []


def test_multi_frame_source_is_referenced_by_frame(tmp_path: Path) -> None:
    labels, affine = painted_as("LPS", 17.0)
    order = np.roll(np.arange(labels.shape[2])[::-1], 4).tolist()
    file = write_multiframe(tmp_path / "enhanced.dcm", ramp(labels).astype(float), affine, order, **COMPLETE)
    dataset = write_structures(labels, file, SPEC, tmp_path / "a.dcm", affine=affine)
    frames = pydicom.dcmread(file).PerFrameFunctionalGroupsSequence
    normal = np.cross(affine[:3, 0], affine[:3, 1]) * (-1, -1, 1)
    normal /= np.linalg.norm(normal)
    for region in dataset.ROIContourSequence:
        for contour in region.ContourSequence:
            frame = frames[contour.ContourImageSequence[0].ReferencedFrameNumber - 1]
            position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert np.abs((points - position) @ normal).max() < 1e-3
    np.testing.assert_array_equal(
        in_ras(read_structures(dataset, file))[0], in_ras(MetaTensor(labels[None], affine))[0]
    )
    assert [line for line in complaints(tmp_path / "a.dcm") if line.startswith("Error")] == []


def test_regions_of_another_program_are_matched_by_name_and_holes_by_exclusive_or(tmp_path: Path) -> None:
    labels, affine = np.zeros((20, 20, 3), np.uint8), affine_of("LPS", (1.0, 1.0, 2.0))
    labels[2:18, 2:18, 1] = 1
    files = write_series(tmp_path / "series", labels.astype(float), affine, **COMPLETE)
    spec = ModelSpec(name="other", network={"name": "swin_umamba_tiny"}, labels={"SPLEEN": 1})
    dataset = write_structures(labels, files, spec, tmp_path / "a.dcm", affine=affine)
    contours = dataset.ROIContourSequence[0].ContourSequence
    hole, point = Dataset(), Dataset()
    first = np.array(pydicom.dcmread(files[1]).ImagePositionPatient, float)
    hole.ContourGeometricType = "CLOSED_PLANAR"
    corners = [(5, 5), (11, 5), (11, 9), (5, 9), (5, 5)]  # closed once more, as some programs do
    hole.ContourData = [value for c, r in corners for value in (first + (c - 0.5, r - 0.5, 0)).tolist()]
    point.ContourGeometricType, point.ContourData = "POINT", first.tolist()
    contours.extend([hole, point])
    labels[5:11, 5:9, 1] = 0
    found = read_structures(dataset, files, LABELS)
    np.testing.assert_array_equal(in_ras(found)[0], in_ras(MetaTensor(labels[None] * LABELS["spleen"], affine))[0])
    with pytest.raises(InputError, match="region 1 is called 'SPLEEN'; legal: liver"):
        read_structures(dataset, files, {"liver": 1})


def test_overlapping_regions_are_remarked_upon(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    dataset = write_structures(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    dataset.ROIContourSequence[1].ContourSequence = dataset.ROIContourSequence[0].ContourSequence
    messages: list[str] = []
    with collect_case_warnings(messages):
        read_structures(dataset, files)
    assert messages == [f"regions overlap in {(labels == 1).sum()} voxels; the later region has them"]


def test_structure_set_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    other, _, _ = series_of(tmp_path / "other", "coronal")
    dataset = write_structures(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    with pytest.raises(InputError, match="a contour lies in no slice of DICOM series mr_"):
        read_structures(dataset, other)
    with pytest.raises(InputError, match="structure set is of the kind 'MR'; legal: a DICOM RTSTRUCT"):
        read_structures(files[0], files)


BAD = {
    "unknown id": ({"labels": 14}, r"label map holds the ids \[14\]"),
    "algorithm": ({"algorithm_type": "MANUAL"}, "algorithm_type is 'MANUAL'"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_and_nothing_is_written(tmp_path: Path, bad: str) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    given: dict[str, Any] = dict(BAD[bad][0])
    labels[labels == 4] = given.pop("labels", 4)
    with pytest.raises(InputError, match=BAD[bad][1]) as caught:
        write_structures(labels, files, SPEC, tmp_path / "a.dcm", affine=affine, **given)
    assert PATIENT not in str(caught.value)
    assert not (tmp_path / "a.dcm").exists()
