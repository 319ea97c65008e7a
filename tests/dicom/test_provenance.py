from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers_dicom import COMPLETE, write_series
from helpers_imaging import affine_of
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage
from swin_umamba.dicom.provenance import find_earlier, place_of, text
from swin_umamba.dicom.segmentation import write_segmentation
from swin_umamba.dicom.source import read_source
from swin_umamba.dicom.structures import write_structures
from swin_umamba.errors import InputError
from swin_umamba.models import ModelSpec

AFFINE = affine_of("LPS", (1.0, 1.0, 2.0))
VOXELS = np.zeros((6, 5, 4), np.uint8)
VOXELS[1:5, 1:4, 1:3] = 1


def spec_of(**more: object) -> ModelSpec:
    return ModelSpec(**{"name": "m", "network": {"name": "swin_umamba_tiny"}, "labels": {"liver": 1}, **more})


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "series", VOXELS.astype(float), AFFINE, **COMPLETE)


@pytest.fixture
def write(tmp_path: Path, files: list[Path]) -> Callable[..., Dataset]:
    """Return a function that writes a segmentation of the series and reads the file."""
    numbers = iter(range(100))

    def write_one(spec: ModelSpec | None = None, **more: object) -> Dataset:
        path = tmp_path / f"{next(numbers)}.dcm"
        write_segmentation(VOXELS, files, spec or spec_of(), path, affine=AFFINE, **more)
        return pydicom.dcmread(path)

    return write_one


def test_earlier_results_are_found_among_others(
    tmp_path: Path, files: list[Path], write: Callable[..., Dataset]
) -> None:
    first, second = write(), write(spec_of(version="2.0.0"))
    another_model, foreign = write(spec_of(name="n")), write()
    foreign.Manufacturer = "somebody else"
    structures = write_structures(VOXELS, files, spec_of(), tmp_path / "r.dcm", affine=AFFINE)
    elsewhere = write_series(tmp_path / "other", VOXELS.astype(float), AFFINE, **COMPLETE)
    of_other_series = write_segmentation(VOXELS, elsewhere, spec_of(), tmp_path / "o.dcm", affine=AFFINE)
    archive = [second, another_model, foreign, structures, of_other_series, first, pydicom.dcmread(files[0]), Dataset()]
    assert find_earlier(archive, files, spec_of()) == [first, second]
    assert find_earlier(archive, files, None) == [first, second, another_model]
    assert find_earlier(archive, tmp_path / "series", spec_of(), RTStructureSetStorage) == [structures]
    assert find_earlier(archive, elsewhere, spec_of()) == [of_other_series]


def test_another_volume_of_the_series_is_another_source(tmp_path: Path) -> None:
    uid = "1.2.3"
    echoes = [write_series(tmp_path / n, VOXELS.astype(float), AFFINE, uid=uid, **COMPLETE) for n in "ab"]
    for file in echoes[1]:
        header = pydicom.dcmread(file)
        header.StudyInstanceUID = pydicom.dcmread(echoes[0][0]).StudyInstanceUID
        header.save_as(file)
    datasets = [write_segmentation(VOXELS, e, spec_of(), tmp_path / "s.dcm", affine=AFFINE) for e in echoes]
    assert find_earlier(datasets, echoes[1], spec_of()) == [datasets[1]]


def test_new_result_joins_the_series_of_the_one_that_it_supersedes(write: Callable[..., Dataset]) -> None:
    first = write()
    second = write(supersedes=[first])
    third = write(supersedes=[second, first])
    assert first.SeriesInstanceUID == second.SeriesInstanceUID == third.SeriesInstanceUID
    assert first.SeriesNumber == second.SeriesNumber == third.SeriesNumber == 590
    assert [int(d.InstanceNumber) for d in (first, second, third)] == [1, 2, 3]
    assert len({d.SOPInstanceUID for d in (first, second, third)}) == 3
    earlier = {item.ReferencedSOPInstanceUID for item in third.ReferencedImageSequence}
    assert earlier == {first.SOPInstanceUID, second.SOPInstanceUID}
    source, own = third.ReferencedSeriesSequence  # the source first: readers take the first for the images
    assert source.SeriesInstanceUID != own.SeriesInstanceUID == third.SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in own.ReferencedInstanceSequence} == earlier
    assert "ReferencedImageSequence" not in first


@pytest.mark.parametrize(
    ("spec", "more"),
    [(spec_of(version="2.0.0"), {}), (spec_of(sha256="cd" * 32), {}), (spec_of(), {"series_description": "corrected"})],
    ids=["version", "weights", "description"],
)
def test_series_holds_results_of_one_model_and_description(
    write: Callable[..., Dataset], spec: ModelSpec, more: dict[str, str]
) -> None:
    first = write()
    second = write(spec, supersedes=[first], **more)
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert second.InstanceNumber == 2
    assert second.ReferencedImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_structure_set_names_its_predecessor(tmp_path: Path, files: list[Path]) -> None:
    first = write_structures(VOXELS, files, spec_of(), tmp_path / "a.dcm", affine=AFFINE)
    second = write_structures(VOXELS, files, spec_of(), tmp_path / "b.dcm", affine=AFFINE, supersedes=[first])
    third = write_structures(VOXELS, files, spec_of(), tmp_path / "c.dcm", affine=AFFINE, supersedes=[second, first])
    (predecessor,) = third.PredecessorStructureSetSequence
    assert predecessor.ReferencedSOPInstanceUID == second.SOPInstanceUID
    assert first.SeriesInstanceUID == third.SeriesInstanceUID
    assert third.InstanceNumber == 3


def test_result_of_another_kind_or_study_is_not_superseded(
    tmp_path: Path, files: list[Path], write: Callable[..., Dataset]
) -> None:
    structures = write_structures(VOXELS, files, spec_of(), tmp_path / "r.dcm", affine=AFFINE)
    elsewhere = write_series(tmp_path / "other", VOXELS.astype(float), AFFINE, **COMPLETE)
    foreign = write_segmentation(VOXELS, elsewhere, spec_of(), tmp_path / "o.dcm", affine=AFFINE)
    for earlier in (structures, foreign):
        with pytest.raises(InputError, match="supersedes holds a result of another kind or study"):
            write(supersedes=[earlier])


@pytest.mark.parametrize(
    ("number", "expected"), [(5, 590), (501, 50190), (None, 90), (0, 90), (-3, 90), (2**31 - 1, 90)]
)
def test_series_number_follows_the_source(files: list[Path], number: int | None, expected: int) -> None:
    source = read_source(files)
    source.first.SeriesNumber = number
    assert place_of(SegmentationStorage, source, spec_of(), "d", []).series_number == expected


def test_text_is_what_dicom_takes() -> None:
    assert text("a\\b\nc ") == "a b c"
    assert text("x" * 70) == "x" * 64
    assert text("Grün^Eva") == "Grün^Eva"
