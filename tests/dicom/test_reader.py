from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from helpers_dicom import PATIENT, write_multiframe, write_series
from helpers_imaging import ORIENTATIONS, affine_of, painted_in, ramp, write_nifti
from monai.transforms import Compose, EnsureChannelFirstd, Orientationd
from swin_umamba.case_warnings import collect_case_warnings
from swin_umamba.dicom.series import files_of_folder
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.transforms import CheckVolumed, LoadVolumed

TO_RAS = Compose(
    [
        LoadVolumed("image"),
        EnsureChannelFirstd("image"),
        CheckVolumed("image"),
        Orientationd("image", axcodes="RAS", labels=None),
    ]
)


def canonical(image: object) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels (X, Y, Z) in RAS and their affine."""
    try:
        loaded = TO_RAS({"image": image})["image"]
    except RuntimeError as error:
        raise input_error_of(error) or error from None
    return loaded[0].numpy(), loaded.affine.numpy()


def files_of(paths: list[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)


def same_volume(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_allclose(a[0], b[0], atol=1e-3)
    np.testing.assert_allclose(a[1], b[1], atol=1e-4)


@pytest.mark.parametrize("reverse", [False, True], ids=["ascending", "reversed"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_series_lies_where_the_nifti_file_lies(tmp_path: Path, orientation: str, reverse: bool) -> None:
    labels, affine = painted_in(orientation)
    expected = canonical(str(write_nifti(tmp_path / "a.nii.gz", ramp(labels), affine)))
    order = list(range(labels.shape[2]))[:: -1 if reverse else 1]
    files = write_series(tmp_path / "series", ramp(labels).astype(float), affine, keep=order)
    same_volume(canonical(files_of(files)), expected)


def test_file_names_and_instance_numbers_say_nothing_of_the_order(tmp_path: Path) -> None:
    labels, affine = painted_in("LPS")
    order = np.random.default_rng(3).permutation(labels.shape[2]).tolist()
    files = write_series(tmp_path / "shuffled", ramp(labels).astype(float), affine, keep=order, names="{:d}")
    expected = canonical(str(write_nifti(tmp_path / "a.nii.gz", ramp(labels), affine)))
    same_volume(canonical(files_of(files)), expected)
    same_volume(canonical(files_of(files[::-1])), expected)


def test_every_slice_has_its_own_rescale_slope(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 400, (12, 10, 5)).astype(float) * 6
    affine = affine_of("LPS", (1.0, 1.0, 3.0))
    files = write_series(tmp_path, voxels, affine, slope=0.5, slope_step=0.25, intercept=-30.0)
    found, _ = canonical(files_of(files))
    np.testing.assert_allclose(found, voxels[::-1, ::-1], atol=0.8)  # LPS to RAS; half of the largest slope


@pytest.mark.parametrize("order", ["ascending", "reversed", "shuffled"])
def test_enhanced_multi_frame_image_is_read(tmp_path: Path, order: str) -> None:
    labels, affine = painted_in("oblique")
    frames = np.arange(labels.shape[2])
    frames = {"ascending": frames, "reversed": frames[::-1], "shuffled": np.roll(frames[::-1], 4)}[order].tolist()
    file = write_multiframe(tmp_path / "enhanced.dcm", ramp(labels).astype(float), affine, frames, slope=2.0)
    same_volume(canonical(str(file)), canonical(str(write_nifti(tmp_path / "a.nii.gz", ramp(labels), affine))))


def test_one_slice_takes_its_thickness_as_spacing(tmp_path: Path) -> None:
    affine = affine_of("LPS", (1.0, 2.0, 6.0))
    files = write_series(tmp_path, np.arange(20.0).reshape(5, 4, 1), affine)
    image, found = canonical(files_of(files))
    assert image.shape == (5, 4, 1)
    np.testing.assert_allclose(np.linalg.norm(found[:3, :3], axis=0), (1.0, 2.0, 6.0))


VOXELS = np.random.default_rng(0).integers(0, 900, (8, 7, 9)).astype(float)
AXIAL = affine_of("LPS", (1.5, 1.25, 4.0))


def refusal(files: list[Path]) -> str:
    with pytest.raises(InputError) as caught:
        canonical(files_of(files))
    message = str(caught.value)
    assert "DICOM series mr_" in message
    assert PATIENT not in message
    return message


def test_missing_slice_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOXELS, AXIAL, keep=[0, 1, 2, 3, 5, 6, 7, 8])
    assert "about 1 missing slices: slices 4 and 5 of 8 lie 8.00 mm apart, the others 4.00 mm" in refusal(files)


def move(files: list[Path], by: tuple[float, float, float], number: int) -> None:
    header = pydicom.dcmread(files[number])
    header.ImagePositionPatient = [float(a) + b for a, b in zip(header.ImagePositionPatient, by, strict=True)]
    header.save_as(files[number])


def test_uneven_slices_are_refused_or_remarked_upon(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOXELS, AXIAL)
    move(files, (0, 0, 0.1), 4)
    messages: list[str] = []
    with collect_case_warnings(messages):
        canonical(files_of(files))
    assert messages == ["slices lie 3.900 to 4.100 mm apart; they are taken to be even"]
    move(files, (0, 0, 1.0), 4)
    assert "unevenly spaced slices" in refusal(files)


def test_tilted_stack_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOXELS, AXIAL)
    for number in range(len(files)):
        move(files, (0, 0.5 * number, 0), number)
    assert "7.1 degrees off their normal" in refusal(files)


def test_slices_at_one_place_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOXELS, AXIAL, uid="1.2.3")
    files += write_series(tmp_path, VOXELS, AXIAL, uid="1.2.3", names="again{:d}")
    assert "9 of 18 slices lie where another one does" in refusal(files)


def test_slices_of_several_directions_or_sizes_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "a", VOXELS, AXIAL, uid="1.2.3")
    sagittal = write_series(tmp_path / "b", VOXELS, affine_of("PIL", (1.5, 1.25, 4.0)), uid="1.2.3")
    assert "several directions" in refusal(files + sagittal)
    small = write_series(tmp_path / "c", VOXELS[:6], AXIAL, uid="1.2.3")
    assert "slices of 7 x 6 and 7 x 8 pixels" in refusal(files + small)


def test_file_that_is_no_dicom_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("hello")
    with pytest.raises(InputError, match="notes is not an image in shades of grey"):
        canonical(str(tmp_path / "notes"))


def test_metadata_hold_nothing_of_the_patient(tmp_path: Path) -> None:
    files = write_series(tmp_path / PATIENT, VOXELS, AXIAL)
    meta = LoadVolumed("image")({"image": files_of(files)})["image"].meta
    assert PATIENT not in str(meta)
    assert meta["filename_or_obj"].startswith("DICOM series mr_")


def test_affine_of_a_painted_series_is_exact(tmp_path: Path) -> None:
    affine = affine_of("RAS", (1.0, 1.0, 2.0), degrees=25)
    _, found = canonical(files_of(write_series(tmp_path, VOXELS, affine)))
    assert nib.aff2axcodes(found) == ("R", "A", "S")
    np.testing.assert_allclose(found, affine, atol=1e-6)


def test_a_folder_stands_for_the_series_in_it(tmp_path):
    files = write_series(tmp_path / "series", 100 * painted_in("oblique")[0], painted_in("oblique")[1])
    (tmp_path / "series" / "notes.txt").write_text("no image")
    same_volume(canonical(str(tmp_path / "series")), canonical(files_of(files)))


def test_folders_that_hold_no_series_or_several(tmp_path):
    voxels, affine = painted_in("RAS")
    with pytest.raises(InputError, match="holds no DICOM image; legal is a folder with the files of one series"):
        files_of_folder(tmp_path)
    write_series(tmp_path, voxels, affine, names="A{}.dcm")
    write_series(tmp_path, voxels, affine, names="B{}.dcm")
    with pytest.raises(InputError, match="holds 2 DICOM series; legal is a folder with the files of one"):
        files_of_folder(tmp_path)
