from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pydicom
import pydicom_seg
import pytest
from helpers_dicom import COMPLETE, PATIENT, STACKS, complaints, in_ras, write_multiframe, write_series
from helpers_imaging import affine_of, painted_as, ramp
from monai.data import MetaTensor
from pydicom.dataset import Dataset
from swin_umamba.case_warnings import collect_case_warnings
from swin_umamba.data.labels import LABEL_TABLES, organ_colour
from swin_umamba.dicom.segmentation import read_segmentation, write_segmentation
from swin_umamba.errors import InputError
from swin_umamba.models import ModelSpec
from swin_umamba.transforms import LoadVolumed

LABELS = LABEL_TABLES["abdomen_mri"]
NETWORK = {"name": "swin_umamba_tiny"}
SPEC = ModelSpec(name="painter", version="1.2.3", network=NETWORK, labels=LABELS, sha256="ab" * 32)
SEGIMAGE2ITKIMAGE = Path(sys.executable).with_name("segimage2itkimage")


def series_of(folder: Path, stack: str = "axial ascending", **tags: Any) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Write a series in which the organs 1 to 4 are painted; return its files, the label map and its affine."""
    labels, affine = painted_as(*STACKS[stack])
    return write_series(folder, ramp(labels).astype(float), affine, **{**COMPLETE, **tags}), labels, affine


def same(found: MetaTensor, labels: np.ndarray, affine: np.ndarray) -> None:
    expected = in_ras(MetaTensor(labels[None], affine))
    np.testing.assert_array_equal(in_ras(found)[0], expected[0])
    np.testing.assert_allclose(in_ras(found)[1], expected[1], atol=1e-4)


@pytest.mark.parametrize("stack", STACKS)
def test_label_map_comes_back_voxel_by_voxel(tmp_path: Path, stack: str) -> None:
    files, labels, affine = series_of(tmp_path / "series", stack)
    write_segmentation(labels, tmp_path / "series", SPEC, tmp_path / "a.dcm", affine=affine)
    found = read_segmentation(tmp_path / "a.dcm", files)
    same(found, labels, affine)
    image = LoadVolumed("image")({"image": tuple(map(str, files))})["image"]
    assert found.shape[1:] == image.shape
    np.testing.assert_allclose(found.affine, image.affine, atol=1e-6)


@pytest.mark.parametrize("stack", STACKS)
def test_orientation_of_the_label_map_does_not_matter(tmp_path: Path, stack: str) -> None:
    files, labels, affine = series_of(tmp_path / "series", stack)
    voxels, ras = in_ras(MetaTensor(labels[None], affine))
    write_segmentation(MetaTensor(voxels[None], ras), files[::-1], SPEC, tmp_path / "a.dcm")
    same(read_segmentation(tmp_path / "a.dcm", files), labels, affine)


@pytest.mark.parametrize("absent", [1, 2, 4])
def test_absent_organ_shifts_nobody(tmp_path: Path, absent: int) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    labels[labels == absent] = 0
    dataset = write_segmentation(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    assert {segment.SegmentLabel: segment.SegmentNumber for segment in dataset.SegmentSequence} == LABELS
    frames = [
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for frame in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert set(frames) == {1, 2, 3, 4} - {absent}
    same(read_segmentation(tmp_path / "a.dcm", files), labels, affine)


def test_order_of_label_ids_in_the_model_does_not_matter(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    spec = ModelSpec(name="painter", network=NETWORK, labels=dict(sorted(LABELS.items())))
    dataset = write_segmentation(labels, files, spec, tmp_path / "a.dcm", affine=affine)
    assert {segment.SegmentLabel: segment.SegmentNumber for segment in dataset.SegmentSequence} == LABELS


def test_segments_say_what_they_are(tmp_path: Path) -> None:
    labels, affine = painted_as("LPS")
    write_series(tmp_path / "series", ramp(labels).astype(float), affine, **COMPLETE)
    spec = ModelSpec(
        name="painter", network=NETWORK, labels={"left kidney": 1, "liver": 2, "prostate/uterus": 3, "x" * 70: 4}
    )
    kidney, liver, other, long = write_segmentation(
        labels, tmp_path / "series", spec, tmp_path / "a.dcm", affine=affine, algorithm_type="SEMIAUTOMATIC"
    ).SegmentSequence
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("64033007", "SCT", "Kidney")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    assert "SegmentedPropertyTypeModifierCodeSequence" not in liver.SegmentedPropertyTypeCodeSequence[0]
    assert other.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Organ"
    assert other.SegmentLabel == "prostate/uterus"
    assert long.SegmentLabel == "x" * 64
    assert liver.RecommendedDisplayCIELabValue == [41663, 41166, 40794]
    algorithm = liver.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("painter", "0.1.0")
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert (liver.SegmentAlgorithmType, liver.SegmentAlgorithmName) == ("SEMIAUTOMATIC", "painter")


def test_patient_study_and_images_are_those_of_the_source(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series", "axial descending")
    write_segmentation(labels, files, SPEC, tmp_path / "a.dcm", affine=affine, reviewer="Grün^Eva")
    found, source = pydicom.dcmread(tmp_path / "a.dcm"), [pydicom.dcmread(file) for file in files]
    kept = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime")
    for keyword in (*kept, "StudyID", "StudyDescription", "AccessionNumber", "FrameOfReferenceUID"):
        assert found.get(keyword) == source[0].get(keyword), keyword
    (series,) = found.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source[0].SeriesInstanceUID
    uids = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert uids == {image.SOPInstanceUID for image in source}
    by_position = {tuple(image.ImagePositionPatient): image.SOPInstanceUID for image in source}
    for frame in found.PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        position = tuple(frame.PlanePositionSequence[0].ImagePositionPatient)
        assert image.ReferencedSOPInstanceUID == by_position[position]
    assert (found.Modality, found.SegmentationType, found.SegmentsOverlap) == ("SEG", "BINARY", "NO")
    assert (found.SeriesNumber, found.InstanceNumber) == (590, 1)
    assert (found.Manufacturer, found.ManufacturerModelName) == ("Swin-UMamba for MONAI", "painter")
    assert found.SoftwareVersions[0] == "model 1.2.3"
    assert found.DeviceSerialNumber == "ab" * 32
    assert found.ContentCreatorName == "Grün^Eva"
    assert "for research, not for clinical use" in found.SeriesDescription
    assert "for research, not for clinical use" in found.ContentDescription


def test_description_is_the_user_s_and_the_content_still_says_for_research(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    spec = ModelSpec(name="m" * 64, network=NETWORK, labels=LABELS)
    named = write_segmentation(labels, files, spec, tmp_path / "a.dcm", affine=affine, series_description="a\\b" * 30)
    assert named.SeriesDescription == ("a b" * 30)[:64]
    assert named.ContentDescription == "m" * 28 + ": for research, not for clinical use"
    plain = write_segmentation(labels, files, spec, tmp_path / "a.dcm", affine=affine)
    assert plain.SeriesDescription == "m" * 28 + ": for research, not for clinical use"


def test_every_file_has_uids_of_its_own(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    first, second = (
        write_segmentation(labels, files, SPEC, tmp_path / f"{i}.dcm", affine=affine, reviewer="Jane Roe")
        for i in (0, 1)
    )
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert str(first.ContentCreatorName) == "Jane Roe"


def test_empty_label_map_is_a_result_with_an_empty_frame_for_each_organ(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series", "coronal")
    dataset = write_segmentation(np.zeros_like(labels), files, SPEC, tmp_path / "a.dcm", affine=affine)
    assert dataset.NumberOfFrames == len(dataset.SegmentSequence) == 13
    assert not dataset.pixel_array.any()
    assert len(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(files)
    same(read_segmentation(tmp_path / "a.dcm", files), np.zeros_like(labels), affine)


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize("empty", [False, True])
def test_multi_frame_source_is_referenced_by_frame(tmp_path: Path, order: str, empty: bool) -> None:
    labels, affine = painted_as("LPS", 17.0)
    count = np.arange(labels.shape[2])
    frames = {"ascending": count, "descending": count[::-1], "shuffled": np.roll(count[::-1], 4)}[order].tolist()
    file = write_multiframe(tmp_path / "enhanced.dcm", ramp(labels).astype(float), affine, frames, **COMPLETE)
    labels = labels * (not empty)
    write_segmentation(labels, file, SPEC, tmp_path / "a.dcm", affine=affine)
    same(read_segmentation(tmp_path / "a.dcm", file), labels, affine)
    found, source = pydicom.dcmread(tmp_path / "a.dcm"), pydicom.dcmread(file)
    for frame in found.PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        number = image.get("ReferencedFrameNumber", 1)
        there = source.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0].ImagePositionPatient
        assert frame.PlanePositionSequence[0].ImagePositionPatient == there
    assert [line for line in complaints(tmp_path / "a.dcm") if line.startswith("Error")] == []


ODD = {
    "nothing": {keyword: None for keyword in COMPLETE},
    "illegal": {"PatientSex": "U", "PatientBirthDate": "ANON", "StudyTime": "25", "StudyDate": "2024.1.1"},
    "lossy": {"LossyImageCompression": "01"},  # without its ratio and method
    "characters": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen"},
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:.*is not.*valid")
@pytest.mark.parametrize("odd", ODD)
def test_incomplete_and_illegal_headers_give_a_legal_file(tmp_path: Path, odd: str) -> None:
    labels, affine = painted_as("LPS")
    tags = {k: v for k, v in {**COMPLETE, **ODD[odd]}.items() if v is not None}
    files = write_series(tmp_path / "series", ramp(labels).astype(float), affine, **tags)
    messages: list[str] = []
    with collect_case_warnings(messages):
        write_segmentation(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    assert bool(messages) == (odd == "nothing")
    found = pydicom.dcmread(tmp_path / "a.dcm")
    assert str(found.PatientName) == ODD[odd].get("PatientName", PATIENT)
    assert found.FrameOfReferenceUID
    assert found.LossyImageCompression == ("01" if odd == "lossy" else "00")
    same(read_segmentation(found, files), labels, affine)
    assert [line for line in complaints(tmp_path / "a.dcm") if line.startswith("Error")] == []


@pytest.mark.parametrize("stack", ["axial ascending", "coronal", "oblique"])
@pytest.mark.parametrize("empty", [False, True])
def test_file_keeps_to_the_standard(tmp_path: Path, stack: str, empty: bool) -> None:
    files, labels, affine = series_of(tmp_path / "series", stack)
    labels[labels == 2] = 0
    dataset = write_segmentation(labels * (not empty), files, SPEC, tmp_path / "a.dcm", affine=affine, reviewer="Roe^J")
    write_segmentation(labels, files, SPEC, tmp_path / "b.dcm", affine=affine, supersedes=[dataset])
    assert complaints(tmp_path / "a.dcm") == []
    assert complaints(tmp_path / "b.dcm") == []


@pytest.mark.parametrize("stack", STACKS)
def test_dcmqi_reads_the_same_segments(tmp_path: Path, stack: str) -> None:
    if not SEGIMAGE2ITKIMAGE.exists():
        pytest.skip("dcmqi is not installed")
    files, labels, affine = series_of(tmp_path / "series", stack)
    labels[labels == 2] = 0
    write_segmentation(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    command = [str(SEGIMAGE2ITKIMAGE), "--inputDICOM", "a.dcm", "--outputDirectory", ".", "--outputType", "nrrd"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    described = [part[0] for part in json.loads((tmp_path / "meta.json").read_text())["segmentAttributes"]]
    assert {part["SegmentLabel"]: part["labelID"] for part in described} == LABELS
    assert all(part["recommendedDisplayRGBValue"] == list(organ_colour(part["SegmentLabel"])) for part in described)
    found = np.zeros_like(labels)
    for number in LABELS.values():
        image = itk.imread(str(tmp_path / f"{number}.nrrd"))
        step = np.asarray(itk.array_from_matrix(image.GetDirection())) * np.asarray(image.GetSpacing())
        indices = np.argwhere(itk.array_from_image(image))[:, ::-1]  # (slice, row, column) -> ITK's order
        points = (indices @ step.T + np.asarray(image.GetOrigin())) * (-1, -1, 1)  # LPS -> RAS
        voxels = np.linalg.solve(affine, np.column_stack([points, np.ones(len(points))]).T)[:3]
        np.testing.assert_allclose(voxels, np.round(voxels), atol=1e-3)
        found[tuple(np.round(voxels).astype(int))] = number
    np.testing.assert_array_equal(found, labels)


def test_pydicom_seg_reads_the_same_segments(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    labels[labels == 2] = 0
    write_segmentation(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    found = pydicom_seg.SegmentReader().read(pydicom.dcmread(tmp_path / "a.dcm"))
    for number in LABELS.values():
        segment = found.segment_data(number)  # (slice, row, column) from the lowest slice that has an organ
        lowest = round((found.origin[2] - affine[2, 3]) / affine[2, 2])
        expected = (labels == number).transpose(2, 1, 0)[lowest : lowest + len(segment)]
        np.testing.assert_array_equal(segment, expected)


def test_segments_of_another_program_are_matched_by_name_or_code(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    spec = ModelSpec(name="a", network=NETWORK, labels={"spleen": 1, "liver": 2, "right kidney": 3, "aorta": 4})
    dataset = write_segmentation(labels, files, spec, tmp_path / "a.dcm", affine=affine)
    dataset.SegmentSequence[0].SegmentLabel = "SPLEEN"
    dataset.SegmentSequence[2].SegmentLabel = "Segment_3"  # its codes still say what it is
    expected = np.array([0, LABELS["spleen"], LABELS["liver"], LABELS["right kidney"], LABELS["aorta"]])[labels]
    same(read_segmentation(dataset, files, LABELS), expected.astype(np.uint8), affine)
    dataset.SegmentSequence[1].SegmentLabel = "tumor"
    dataset.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeValue = "108369006"
    with pytest.raises(InputError, match="segment 2 is called 'tumor'; legal: liver, right kidney"):
        read_segmentation(dataset, files, LABELS)


def test_overlapping_segments_are_remarked_upon(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    dataset = write_segmentation(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    groups, pixels = dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array.copy()
    second = next(i for i, g in enumerate(groups) if g.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 2)
    groups[second].PlanePositionSequence, pixels[second] = groups[0].PlanePositionSequence, pixels[0]
    dataset.PixelData = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    messages: list[str] = []
    with collect_case_warnings(messages):
        read_segmentation(dataset, files)
    assert messages == [f"segments overlap in {pixels[0].sum()} voxels; the later segment has them"]


def shifted(dataset: Dataset) -> None:
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        position = frame.PlanePositionSequence[0]
        position.ImagePositionPatient = [position.ImagePositionPatient[0] + 0.4, *position.ImagePositionPatient[1:]]


def unplaced(dataset: Dataset) -> None:
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence


def fractional(dataset: Dataset) -> None:
    dataset.SegmentationType = "FRACTIONAL"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shifted, "segmentation does not lie on the grid of DICOM series mr_"),
        (unplaced, "segmentation has a frame without PlanePositionSequence"),
        (fractional, "segmentation is of the kind 'FRACTIONAL'; legal: a DICOM SEG of type BINARY"),
    ],
)
def test_segmentation_that_does_not_fit_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    dataset = write_segmentation(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    spoil(dataset)
    with pytest.raises(InputError, match=message):
        read_segmentation(dataset, files)


def test_segmentation_of_another_series_is_refused(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    other, _, _ = series_of(tmp_path / "other", "coronal")
    write_segmentation(labels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    with pytest.raises(InputError, match="does not lie on the grid"):
        read_segmentation(tmp_path / "a.dcm", other)
    with pytest.raises(InputError, match="segmentation is of the kind 'MR'"):
        read_segmentation(files[0], files)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="segmentation cannot be read as DICOM"):
        read_segmentation(tmp_path / "text", files)


BAD_LABEL_MAPS = {
    "unknown id": (lambda a, m: (np.where(a == 4, 14, a), m), r"label map holds the ids \[14\]; legal: 0 and those"),
    "fraction": (lambda a, m: (a + 0.5, m), "values that are no label ids"),
    "no affine": (lambda a, m: (a, None), "label map without an affine"),
    "cropped": (lambda a, m: (a[1:], m), "does not lie on the grid of DICOM series mr_"),
    "shifted": (lambda a, m: (a, m @ affine_of("RAS", (1, 1, 1))), "does not lie on the grid"),
    "two channels": (lambda a, m: (np.stack([a, a]), m), r"label map of shape \(2, 40, 36, 12\)"),
}


@pytest.mark.parametrize("bad", BAD_LABEL_MAPS)
def test_label_map_that_does_not_fit_is_refused(tmp_path: Path, bad: str) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    spoil, message = BAD_LABEL_MAPS[bad]
    voxels, affine = spoil(labels, affine)
    with pytest.raises(InputError, match=message) as caught:
        write_segmentation(voxels, files, SPEC, tmp_path / "a.dcm", affine=affine)
    assert PATIENT not in str(caught.value)
    assert not (tmp_path / "a.dcm").exists()


def test_algorithm_type_is_checked(tmp_path: Path) -> None:
    files, labels, affine = series_of(tmp_path / "series")
    with pytest.raises(InputError, match="algorithm_type is 'MANUAL'; legal: AUTOMATIC, SEMIAUTOMATIC"):
        write_segmentation(labels, files, SPEC, tmp_path / "a.dcm", affine=affine, algorithm_type="MANUAL")
