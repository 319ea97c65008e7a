"""Label maps slice by slice: found by name, whole, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_dicom import COMPLETE, STACKS, write_multiframe, write_series
from helpers_imaging import painted_as, ramp
from swin_umamba.dicom.source import read_source
from swin_umamba.errors import InputError

from monailabel_app import slices
from monailabel_app.slices import SliceGrid, decode_runs, decode_slices, encode_runs, encode_slices

GRID = SliceGrid((("1.1", 1), ("1.2", 1), ("1.3", 1)), rows=2, columns=3, voxel_ml=0.5)
VOXELS = np.zeros((3, 2, 3), np.uint8)  # (column, row, slice)
VOXELS[2, 0, 0], VOXELS[:, 1, 2] = 1, 2
ENTRIES = [
    {"uid": "1.1", "frame": 1, "runs": [2, 0, 1, 1, 3, 0]},
    {"uid": "1.2", "frame": 1, "runs": [6, 0]},
    {"uid": "1.3", "frame": 1, "runs": [3, 0, 3, 2]},
]


def test_slices_are_runs_row_after_row():
    assert encode_slices(VOXELS, GRID) == ENTRIES
    assert encode_slices(VOXELS, GRID, [2]) == ENTRIES[2:]
    assert encode_runs(np.array([[0, 0], [0, 7]], np.uint8)) == [3, 0, 1, 7]


def test_slices_come_back_in_any_order():
    np.testing.assert_array_equal(decode_slices(ENTRIES[::-1], GRID, {1, 2}), VOXELS)
    without_frame = [{"uid": entry["uid"], "runs": entry["runs"]} for entry in ENTRIES]
    np.testing.assert_array_equal(decode_slices(without_frame, GRID, {1, 2}), VOXELS)


@pytest.mark.parametrize("stack", STACKS)
def test_grid_is_that_of_the_series(tmp_path, stack):
    labels, affine = painted_as(*STACKS[stack])
    files = write_series(tmp_path, ramp(labels).astype(float), affine, **COMPLETE)
    grid, source = SliceGrid.of(tmp_path), read_source(files)
    assert grid.shape == source.shape
    assert [uid for uid, _ in grid.keys] == list(source.headers)
    assert grid.voxel_ml == pytest.approx(1.5 * 1.25 * 4 / 1000)


def test_headers_are_read_once_until_the_files_change(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(slices, "read_source", lambda folder: read.append(folder) or read_source(folder))
    labels, affine = painted_as("LPS")
    files = write_series(tmp_path, ramp(labels).astype(float), affine, **COMPLETE)
    assert SliceGrid.of(tmp_path) is SliceGrid.of(str(tmp_path))
    assert len(read) == 1
    max(files).unlink()
    assert len(SliceGrid.of(tmp_path).keys) == len(files) - 1
    assert len(read) == 2


def test_frames_of_one_image_are_told_apart(tmp_path):
    labels, affine = painted_as("LPS")
    order = list(range(labels.shape[2]))[::-1]
    write_multiframe(tmp_path / "image.dcm", ramp(labels).astype(float), affine, order)
    grid = SliceGrid.of(tmp_path)
    assert len({uid for uid, _ in grid.keys}) == 1
    assert sorted(frame for _, frame in grid.keys) == list(range(1, len(order) + 1))
    assert grid.position({"uid": grid.keys[3][0], "frame": grid.keys[3][1]}) == 3


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("runs", "slices: legal: a list"),
        ([*ENTRIES, {"uid": "9.9", "runs": [6, 0]}], "no slice '9.9', frame 1; legal: the SOP instance UIDs of its 3"),
        ([*ENTRIES[:2], {**ENTRIES[2], "frame": 2}], "no slice '1.3', frame 2"),
        ([*ENTRIES, "1.1"], "no slice 'None'"),
        ([*ENTRIES[:2], {"uid": ["1.3"], "runs": []}], "no slice"),
        ([*ENTRIES, ENTRIES[0]], "slice 1.1 is there twice"),
        (ENTRIES[:2], "1 of 3 are missing, such as 1.3"),
        ([*ENTRIES[:2], {"uid": "1.3"}], "runs of slice 1.3: legal"),
    ],
)
def test_other_slices_are_named(entries, message):
    with pytest.raises(InputError, match=message):
        decode_slices(entries, GRID, {1, 2})


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([5, 0], "are 5 pixels; legal: 6"),
        ([7, 0], "are 7 pixels; legal: 6"),
        ([6, 3], r"labels \[3\] are no segments; legal: \[0, 1, 2\]"),
        ([6], "legal: \\[count, label"),
        ([6, -1], "legal: \\[count"),
        ([6.0, 0], "legal: \\[count"),
        ([True, 0, 5, 0], "legal: \\[count"),
        ([10**30, 0], "legal: \\[count"),
        ("60", "legal: \\[count"),
        (None, "legal: \\[count"),
    ],
)
def test_runs_that_do_not_fill_a_slice_are_named(runs, message):
    with pytest.raises(InputError, match=message):
        decode_runs(runs, 6, {1, 2}, "slice 1.1")
