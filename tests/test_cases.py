from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers_dicom import PATIENT, write_multiframe, write_series
from helpers_imaging import affine_of, write_nifti
from swin_umamba.cases import find_cases
from swin_umamba.errors import InputError

AFFINE = affine_of("LPS", (1.5, 1.25, 4.0))
VOXELS = np.arange(4 * 3 * 5.0).reshape(4, 3, 5)


def nifti(path: Path) -> Path:
    return write_nifti(path, VOXELS.astype(np.int16), AFFINE)


def names(folder: Path) -> dict[str, str]:
    return {case["case"]: case["input"] for case in find_cases(folder)}


def test_files_are_called_by_their_path_without_the_suffix(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii", "c.v2.nrrd", "D E.mha", "one/image.nii.gz", "two/deep/image.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"read later")
    assert names(tmp_path) == {
        "D_E": "D E.mha",
        "a": "a.nii.gz",
        "b": "b.nii",
        "c.v2": "c.v2.nrrd",
        "one_image": "one/image.nii.gz",
        "two_deep_image": "two/deep/image.nii.gz",
    }


def test_one_file_is_one_case_even_when_it_is_called_like_a_label_map(tmp_path: Path) -> None:
    file = nifti(tmp_path / "patient_seg.nii.gz")
    assert find_cases(file) == [{"case": "patient_seg", "input": "patient_seg.nii.gz", "image": str(file)}]


@pytest.mark.parametrize(
    "ignored",
    ["a_seg.nii.gz", "a_seg_v2.nrrd", "label.nii.gz", "chaos_01_label.nii.gz", "x-mask.nii", ".hidden.nii.gz", "p.png"]
    + [".git/a.nii.gz", "~a.nii.gz", "notes.txt", "a.raw", "README", "volumes.csv"],
)
def test_what_is_no_image_is_left_out(tmp_path: Path, ignored: str) -> None:
    nifti(tmp_path / "a.nii.gz")
    (tmp_path / ignored).parent.mkdir(exist_ok=True)
    (tmp_path / ignored).write_bytes(b"something")
    assert list(names(tmp_path)) == ["a"]


def test_what_is_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.nii.gz", "a_seg.nii.gz"):
        nifti(tmp_path / name)
    (tmp_path / "p.png").touch()
    (tmp_path / "README").touch()
    with caplog.at_level("INFO"):
        find_cases(tmp_path)
    assert "1 files ignored, called like a label map" in caplog.text
    assert "1 files ignored, no images" in caplog.text
    assert "1 files ignored, neither images nor DICOM images: ['README']" in caplog.text


def test_names_that_say_of_segments_or_labelled_people_are_images(tmp_path: Path) -> None:
    for name in ("segovia.nii.gz", "labelled.nii.gz", "masked01.nii.gz"):
        nifti(tmp_path / name)
    assert len(names(tmp_path)) == 3


def test_cases_of_one_name_are_told_apart_in_the_same_way_every_time(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.nii", "x_b.nii", "x/b.nii", "x/B.nii", "c.nii"):
        nifti(tmp_path / name)
    (tmp_path / "a.nrrd").touch()
    found = names(tmp_path)
    assert len(found) == len({name.casefold() for name in found}) == 7
    assert "c" in found
    assert sum(bool(re.fullmatch(r"a_[0-9a-f]{6}", name)) for name in found) == 3
    assert found == names(tmp_path)


def test_series_of_one_folder_are_cases_that_do_not_tell_the_patient(tmp_path: Path) -> None:
    folder = tmp_path / PATIENT
    for uid in ("1.2.3", "1.2.4"):
        write_series(folder, VOXELS, AFFINE, uid=uid, names=f"{PATIENT}-{uid}-{{:d}}")
    write_series(folder / "scout", VOXELS[:, :, :1], AFFINE, uid="1.2.5")
    nifti(tmp_path / "other.nii.gz")
    cases = find_cases(tmp_path)
    images = [case for case in cases if "image" in case]
    assert [len(case["image"]) if isinstance(case["image"], tuple) else 1 for case in images] == [1, 5, 5]
    assert all(re.fullmatch(r"other|mr_[0-9a-f]{8}", case["case"]) for case in cases)
    assert [case["skipped"] for case in cases if "skipped" in case] == ["one slice alone (a scout?)"]
    assert not any(PATIENT in text for case in cases for text in (case["case"], case["input"]))
    assert find_cases(folder)[0]["case"] in {case["case"] for case in cases}  # the same name from another place


def test_localizer_and_objects_without_a_place_are_skipped(tmp_path: Path) -> None:
    for code in ("LPS", "PIL"):
        write_series(tmp_path / "localizer" / code, VOXELS, affine_of(code, (1, 1, 1)), uid="1.2.3")
    write_series(tmp_path / "volume", VOXELS, AFFINE)
    write_series(tmp_path / "colour", VOXELS, AFFINE, SamplesPerPixel=3)
    write_series(tmp_path / "segmentation", VOXELS, AFFINE, Modality="SEG")
    cases = find_cases(tmp_path)
    assert sorted(case.get("skipped", "") for case in cases) == ["", "slices of several directions (a localizer?)"]


@pytest.mark.parametrize("attribute", [("EchoTime", 2.3, 4.6), ("AcquisitionNumber", 1, 2), ("ImageType", "W", "F")])
def test_echoes_of_one_series_are_cases_of_their_own(tmp_path: Path, attribute: tuple) -> None:
    keyword, *values = attribute
    for value in values:
        tag = {keyword: ["DERIVED", "PRIMARY", value] if keyword == "ImageType" else value}
        write_series(tmp_path / str(value), VOXELS, AFFINE, uid="1.2.3", **tag)
    cases = find_cases(tmp_path)
    assert [case["case"][-2:] for case in cases] == ["_1", "_2"]
    assert [len(case["image"]) for case in cases] == [5, 5]
    assert not set(cases[0]["image"]) & set(cases[1]["image"])


def test_one_dicom_file_is_taken_when_it_is_named(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path / "a", VOXELS[:, :, :1], AFFINE)
    frames = write_multiframe(tmp_path / "b" / "frames.dcm", VOXELS, AFFINE, [0, 1, 2, 3, 4])
    assert find_cases(file)[0]["image"] == (str(file),)
    assert find_cases(frames)[0]["image"] == (str(frames),)
    assert [case["image"] for case in find_cases(tmp_path) if "image" in case] == [(str(frames),)]


def test_what_cannot_be_used_is_named_with_what_is_legal(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere' does not exist; legal: .*\.nii\.gz"):
        find_cases(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no image in dataset_dir .*legal: \.nii\.gz"):
        find_cases(tmp_path)
    (tmp_path / "p.png").touch()
    with pytest.raises(InputError, match="no image in dataset_dir"):
        find_cases(tmp_path / "p.png")
    for uid in ("1.2.3", "1.2.4"):
        write_series(tmp_path / uid, VOXELS[:, :, :1], AFFINE, uid=uid)
    with pytest.raises(InputError, match="was skipped: one slice alone"):
        find_cases(tmp_path)
