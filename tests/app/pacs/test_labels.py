"""Segmentations as labels and labels as segmentations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_dicom import COMPLETE, write_series
from helpers_imaging import write_nifti
from pydicom.dataset import Dataset
from swin_umamba.dicom.segmentation import read_segmentation, write_segmentation
from swin_umamba.errors import InputError
from swin_umamba.models import ModelSpec

from monailabel_app.pacs.labels import all_segments, look_at, made_at, read_label, write_label
from monailabel_app.pacs.records import Found, Records

AFFINE = np.diag([-1.5, -1.25, 4.0, 1.0])
SPEC = ModelSpec(name="m", network={"name": "swin_umamba_tiny"}, labels={"liver": 1, "spleen": 2})
LABELS = np.arange(60).reshape(5, 4, 3) % 4


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "dicom", LABELS.astype(float), AFFINE, **COMPLETE)
    return tmp_path / "dicom"


def seg(series: Path, labels: dict[str, int], **more) -> Dataset:
    spec = ModelSpec(name="w", network={"name": "swin_umamba_tiny"}, labels=labels)
    voxels = np.where(max(labels.values()) >= LABELS, LABELS, 0)
    more = {"algorithm_type": "SEMIAUTOMATIC", "reviewer": "Poe^Ann", **more}
    return write_segmentation(voxels, series, spec, series.parent / "a.dcm", affine=AFFINE, **more)


@pytest.mark.parametrize("info", [{}, {"label_info": [{"name": "Spleen", "idx": 1}, {"name": "cyst", "idx": 3}]}])
def test_nothing_that_was_drawn_is_left_out(series: Path, tmp_path: Path, info: dict) -> None:
    file = write_nifti(tmp_path / "label.nii.gz", LABELS.astype(np.uint8), AFFINE)
    dataset = write_label(file, {**info, "client_id": "Roe"}, series, SPEC, tmp_path / "s.dcm", "SEMIAUTOMATIC", [])
    names = {segment.SegmentLabel: segment.SegmentNumber for segment in dataset.SegmentSequence}
    found = read_segmentation(dataset, series).numpy()[0]
    if info:
        assert names == {"liver": 1, "spleen": 2, "unnamed 2": 3, "cyst": 4}
        expected = np.array([0, 2, 3, 4])[LABELS]
    else:
        assert names == {"liver": 1, "spleen": 2, "unnamed 3": 3}
        expected = LABELS
    np.testing.assert_array_equal(found, expected)
    assert dataset.ContentCreatorName == "Roe"


def test_more_segments_than_a_segmentation_holds_are_refused() -> None:
    with pytest.raises(InputError, match="256 segments; legal: up to 255"):
        all_segments(SPEC, [f"cyst {number}" for number in range(254)])


def test_what_a_person_made_is_seen(series: Path) -> None:
    dataset = seg(series, {"Liver": 1, "cyst": 2})
    found = look_at(dataset, ["liver", "spleen"])
    assert found is not None
    assert (found.instance, found.who, found.made) == (dataset.SOPInstanceUID, "Poe^Ann", made_at(dataset))


@pytest.mark.parametrize("reason", ["automatic", "other organs", "fractional", "no series"])
def test_what_is_no_label_for_us_is_passed_over(series: Path, reason: str) -> None:
    labels = {"prostate": 1} if reason == "other organs" else {"liver": 1}
    dataset = seg(series, labels, algorithm_type="AUTOMATIC" if reason == "automatic" else "SEMIAUTOMATIC")
    if reason == "fractional":
        dataset.SegmentationType = "FRACTIONAL"
    if reason == "no series":
        del dataset.ReferencedSeriesSequence
    assert look_at(dataset, ["liver"]) is None


def test_segments_are_called_by_label_or_code(series: Path) -> None:
    dataset = seg(series, {"spleen": 1, "liver": 2, "cyst": 3})
    dataset.SegmentSequence[1].SegmentLabel = "Segment_2"  # its code is still that of the liver
    label, meaning = read_label(dataset, series, ["liver", "spleen"])
    names = {item["idx"]: item["name"] for item in meaning}
    assert names == {1: "spleen", 2: "liver", 3: "cyst (3)"}
    np.testing.assert_array_equal(label.numpy()[0], LABELS)


def test_records_survive_and_the_latest_time_stays(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.note_sent("1.2", "final", "aa", "1.2.3", "20260102 120500 00000001")
    records.note_sent("1.2", "final", "bb", "1.2.4", "20260102 120100 00000002")  # by a clock that is behind
    assert Records(tmp_path).sent("1.2", "final") == ("bb", "1.2.4", "20260102 120500 00000001")
    assert records.sent("1.2", "original") is None
    found = Found("1.2", "1", "1.3", "1.3.1", "20260102 1 00000001", "Poe")
    records.note_seen("1.3", 2, [found])
    records.refuse("1.3.1", "no binary one")
    assert Records(tmp_path).seen() == {"1.3": (2, [found])}
    assert Records(tmp_path).refused() == {"1.3.1": "no binary one"}
