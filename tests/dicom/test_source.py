from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from helpers_dicom import PATIENT, write_multiframe, write_series
from helpers_imaging import affine_of
from monai.data import MetaTensor
from swin_umamba.dicom.prepare import prepare_headers
from swin_umamba.dicom.source import on_grid, read_source, with_affine
from swin_umamba.errors import InputError

VOXELS = np.arange(6 * 5 * 4, dtype=float).reshape(6, 5, 4)
AFFINE = affine_of("LPI", (1.5, 1.25, 4.0), 20)


def test_folder_files_and_datasets_are_one_source(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", VOXELS, AFFINE)
    (tmp_path / "series" / "notes.txt").write_text("hello")
    (tmp_path / "series" / "inner").mkdir()
    datasets = [pydicom.dcmread(file) for file in files[::-1]]
    sources = [read_source(series) for series in (tmp_path / "series", str(tmp_path / "series"), files, datasets)]
    for source in sources:
        assert source.shape == (6, 5, 4)
        assert list(source.headers) == [d.SOPInstanceUID for d in datasets]  # slices go down as they are numbered
        np.testing.assert_allclose(source.affine, sources[0].affine)


def test_points_are_found_in_the_voxels_that_they_lie_in(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOXELS, AFFINE)
    header = pydicom.dcmread(files[1])
    normal = np.cross(AFFINE[:3, 0], AFFINE[:3, 1]) * (-1, -1, 1)
    step = 0.3 * normal / np.linalg.norm(normal)  # mm: unevenly spaced slices
    header.ImagePositionPatient = [float(f"{v:.9g}") for v in np.array(header.ImagePositionPatient, float) + step]
    header.save_as(files[1])
    source = read_source(files)
    for index, plane in enumerate(source.planes):
        directions, spacing = plane.directions, plane.pixel_spacing
        point = plane.position + 2 * spacing[1] * directions[0] + 3 * spacing[0] * directions[1]
        np.testing.assert_allclose(source.voxels_at(point[None]), [[2, 3, index]], atol=1e-6)


def test_one_slice_and_one_file_are_sources(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path, VOXELS[:, :, :1], AFFINE)
    source = read_source(file)
    assert source.shape == (6, 5, 1)
    np.testing.assert_allclose(source.voxels_at(source.planes[0].position[None]), [[0, 0, 0]], atol=1e-9)
    frames = write_multiframe(tmp_path / "enhanced.dcm", VOXELS, AFFINE, [2, 0, 1, 3])
    assert read_source(frames).shape == (6, 5, 4)


def test_what_is_no_single_series_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / PATIENT / "a", VOXELS, AFFINE)
    files = write_series(tmp_path / PATIENT / "b", VOXELS, AFFINE)
    (tmp_path / "empty").mkdir()
    for series, message in (
        (tmp_path / PATIENT, "source series holds 2 image series"),
        (tmp_path / "empty", "source series holds no DICOM image"),
        ([], "source series holds no DICOM image"),
        (tmp_path / PATIENT / "nowhere", "source series does not exist"),
        (files[:1] + files[2:], "DICOM series mr_[0-9a-f]+: unevenly spaced slices"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_source(series)
        assert PATIENT not in str(caught.value)


def test_label_map_is_turned_onto_the_grid(tmp_path: Path) -> None:
    source = read_source(write_series(tmp_path, VOXELS, AFFINE))
    stored = VOXELS.astype(np.uint8)
    expected = stored[:, :, ::-1]  # the series is sorted upwards
    np.testing.assert_array_equal(on_grid(stored, AFFINE, source), expected)
    swapped = AFFINE[:, [2, 0, 1, 3]]
    np.testing.assert_array_equal(on_grid(stored.transpose(2, 0, 1), swapped, source), expected)
    tensor = MetaTensor(torch.from_numpy(stored[None]).float(), torch.from_numpy(AFFINE))
    np.testing.assert_array_equal(on_grid(tensor, None, source), expected)
    back = with_affine(expected.copy(), source)
    np.testing.assert_array_equal(on_grid(back, None, source), expected)
    assert back.shape == (1, 6, 5, 4)


def test_frame_of_reference_that_is_missing_is_the_same_each_time(tmp_path: Path) -> None:
    source = read_source(write_series(tmp_path, VOXELS, AFFINE))
    first, again = prepare_headers(source), prepare_headers(source)
    assert len({header.FrameOfReferenceUID for header in first + again}) == 1
    assert "FrameOfReferenceUID" not in source.first
    assert "PatientSex" not in source.first


def test_several_multi_frame_files_and_incomplete_ones_are_refused(tmp_path: Path) -> None:
    parts = [
        write_multiframe(tmp_path / "a.dcm", VOXELS, AFFINE, [0, 1]),
        write_multiframe(tmp_path / "b.dcm", VOXELS, AFFINE, [2, 3]),
    ]
    datasets = [pydicom.dcmread(part) for part in parts]
    datasets[1].SeriesInstanceUID = datasets[0].SeriesInstanceUID
    with pytest.raises(InputError, match="has several multi-frame files"):
        prepare_headers(read_source(datasets))
    source = read_source(write_series(tmp_path / "series", VOXELS, AFFINE))
    del source.first.StudyInstanceUID
    with pytest.raises(InputError, match="a slice of DICOM series mr_[0-9a-f]+ has no StudyInstanceUID"):
        prepare_headers(source)


def test_geometry_that_each_frame_repeats_is_shared(tmp_path: Path) -> None:
    image = pydicom.dcmread(write_multiframe(tmp_path / "a.dcm", VOXELS, AFFINE, [0, 1, 2, 3]))
    shared = image.SharedFunctionalGroupsSequence[0]
    for frame in image.PerFrameFunctionalGroupsSequence:
        for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            frame[keyword] = shared[keyword]
    del shared.PixelMeasuresSequence, shared.PlaneOrientationSequence
    (prepared,) = prepare_headers(read_source([image]))
    found = prepared.SharedFunctionalGroupsSequence[0]
    assert found.PixelMeasuresSequence[0].SpacingBetweenSlices == pytest.approx(4.0)
    assert len(found.PlaneOrientationSequence[0].ImageOrientationPatient) == 6
