from __future__ import annotations

import logging
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from helpers_imaging import affine_of, write_nifti
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.transforms import (
    CheckPaird,
    CheckVolumed,
    InPlaneSpacingd,
    LoadVolumed,
    MapLabelsd,
    in_plane_size,
    spacing_of,
)

AFFINE = affine_of("LPS", (1.5, 1.25, 4.0))
LOADING = Compose([LoadVolumed("image"), EnsureChannelFirstd("image"), CheckVolumed("image")])


def load(item: dict) -> dict:
    """Load an item; raise the `InputError` that the user is told instead of what `Compose` makes of it."""
    try:
        return LOADING(item)
    except RuntimeError as error:
        raise input_error_of(error) or error from None


def volume(shape: tuple[int, ...] = (6, 5, 4)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)


def meta_tensor(array: np.ndarray, affine: np.ndarray = AFFINE) -> MetaTensor:
    return MetaTensor(torch.as_tensor(array)[None], affine=torch.as_tensor(affine), meta={"filename_or_obj": "a.nii"})


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 1), (6, 5), (6, 5, 4, 1)])
def test_volumes_slices_and_a_trailing_axis_of_one_are_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = volume(shape)
    image = load({"image": str(write_nifti(tmp_path / "a.nii.gz", data, AFFINE))})["image"]
    assert image.shape == (1, 6, 5, 4 if len(shape) > 2 and shape[2] == 4 else 1)
    np.testing.assert_array_equal(image[0].numpy(), data.reshape(image.shape[1:]))
    np.testing.assert_allclose(image.affine.numpy(), AFFINE, atol=1e-6)


def test_two_dimensional_image_of_itk_gets_an_affine_of_a_volume() -> None:
    flat = MetaTensor(torch.rand(1, 6, 5), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0], dtype=torch.float64)))
    image = CheckVolumed("image")({"image": flat})["image"]
    assert image.shape == (1, 6, 5, 1)
    assert spacing_of(image.affine) == (2.0, 3.0, 1.0)


BAD_VALUES = [
    ("nan", lambda v: np.where(v == v[0, 0, 0], np.nan, v).astype(np.float32), "NaN or infinite"),
    ("inf", lambda v: np.where(v == v[0, 0, 0], np.inf, v).astype(np.float32), "NaN or infinite"),
    ("4d", lambda v: np.stack([v, v], axis=-1), "2 channels (colour, or a fourth dimension)"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD_VALUES, ids=[case[0] for case in BAD_VALUES])
def test_unusable_voxels_are_refused_by_file_name(tmp_path: Path, name: str, change, message: str) -> None:
    path = write_nifti(tmp_path / f"{name}.nii.gz", change(volume()), AFFINE)
    with pytest.raises(InputError) as caught:
        load({"image": str(path)})
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("spacing", "message"), [((0.0, 1, 1), "no usable affine"), ((1e-4, 1, 1), "spacing"), ((1, 1, 1000.0), "spacing")]
)
def test_unusable_geometry_is_refused(spacing: tuple[float, ...], message: str) -> None:
    image = meta_tensor(volume(), np.diag([*spacing, 1.0]))
    with pytest.raises(InputError, match=message):
        CheckVolumed("image")({"image": image})


def test_non_finite_affine_is_refused() -> None:
    with pytest.raises(InputError, match="no usable affine"):
        CheckVolumed("image")({"image": meta_tensor(volume(), np.diag([np.nan, 1, 1, 1]))})


def test_empty_volume_is_refused() -> None:
    with pytest.raises(InputError, match="no voxels"):
        CheckVolumed("image")({"image": meta_tensor(np.zeros((5, 0, 3), np.float32))})


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, suffix: str, damage: str) -> None:
    good = write_nifti(tmp_path / f"good{suffix if 'nii' in suffix else '.nii'}", volume((40, 30, 20)), AFFINE)
    if "nii" not in suffix:
        itk.imwrite(itk.imread(str(good)), str(tmp_path / f"good{suffix}"), compression=False)
    content = (tmp_path / f"good{suffix}").read_bytes()
    bad = tmp_path / f"bad{suffix}"
    bad.write_bytes({"truncated": content[: len(content) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(InputError) as caught:
        load({"image": str(bad)})
    assert str(bad) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"/nowhere/a\.nii\.gz does not exist; legal: \.nii\.gz"):
        load({"image": "/nowhere/a.nii.gz"})


def test_colour_nrrd_is_refused(tmp_path: Path) -> None:
    colour = itk.image_from_array(np.zeros((4, 5, 6, 3), np.uint8), is_vector=True)
    itk.imwrite(colour, str(tmp_path / "colour.nrrd"))
    with pytest.raises(InputError, match="3 channels"):
        load({"image": str(tmp_path / "colour.nrrd")})


def test_nrrd_and_nifti_of_one_image_read_alike(tmp_path: Path) -> None:
    nifti = write_nifti(tmp_path / "a.nii.gz", volume(), affine_of("LAS", (1.5, 1.25, 4.0), 20))
    images = [load({"image": str(nifti)})["image"]]
    for suffix in (".nrrd", ".nhdr", ".mha", ".mhd"):
        itk.imwrite(itk.imread(str(nifti)), str(tmp_path / f"a{suffix}"))
        images.append(load({"image": str(tmp_path / f"a{suffix}")})["image"])
    for image in images[1:]:
        torch.testing.assert_close(image.as_tensor(), images[0].as_tensor(), rtol=0, atol=0)
        torch.testing.assert_close(image.affine, images[0].affine, rtol=0, atol=1e-4)


SIZES = [((320, 260), (1.0, 1.0), (1.25, 1.25), (256, 208)), ((3, 1), (1.0, 1.0), (50.0, 2.0), (1, 1))]


@pytest.mark.parametrize(("size", "spacing", "target", "expected"), SIZES)
def test_in_plane_size_rounds_to_the_nearest_pixel(size, spacing, target, expected) -> None:
    assert in_plane_size(size, spacing, target) == expected


def test_in_plane_spacing_keeps_the_slices_and_the_place_of_the_body() -> None:
    affine = affine_of("RAS", (1.5, 1.25, 4.0))
    x, y, z = np.meshgrid(*[np.arange(n) for n in (40, 36, 5)], indexing="ij")
    item = {"image": meta_tensor((x + 10.0 * y + 500 * z).astype(np.float32), affine)}
    image = InPlaneSpacingd("image", spacing=(2.0, 2.5))(item)["image"]
    assert image.shape == (1, 30, 18, 5)
    np.testing.assert_allclose(spacing_of(image.affine), (2.0, 2.5, 4.0), atol=1e-6)
    inner = image[0, 5:25, 4:14]  # away from the border, a linear image stays linear at every place in the world
    index = np.stack(np.meshgrid(np.arange(5, 25), np.arange(4, 14), np.arange(5), indexing="ij"), -1)
    source = nib.affines.apply_affine(np.linalg.inv(affine) @ image.affine.numpy(), index)
    np.testing.assert_allclose(inner.numpy(), source @ np.array([1.0, 10.0, 500.0]), rtol=1e-4)


def test_in_plane_spacing_keeps_label_ids_and_is_nothing_without_a_spacing() -> None:
    labels = np.zeros((20, 20, 2), np.uint8)
    labels[4:10, 3:9] = 7
    item = {"label": meta_tensor(labels)}
    small = InPlaneSpacingd("label", spacing=(3.0, 2.5), mode="nearest")(item)["label"]
    assert sorted(torch.unique(small.as_tensor()).tolist()) == [0, 7]
    assert int((small == 7).sum()) == 3 * 3 * 2  # each second pixel of 6 x 6, in both slices
    assert InPlaneSpacingd("label", spacing=None, mode="nearest")(item)["label"] is item["label"]


@pytest.mark.parametrize("arguments", [{"spacing": (0, 1)}, {"spacing": (1,)}, {"spacing": (1, 1), "mode": "cubic"}])
def test_in_plane_spacing_refuses_what_it_cannot_do(arguments: dict) -> None:
    with pytest.raises(InputError, match="legal"):
        InPlaneSpacingd("image", **arguments)


def test_labels_are_mapped_by_the_table_of_the_item() -> None:
    label = meta_tensor(np.array([[[0, 5, 9, 9]]], np.float32))
    mapped = MapLabelsd()({"label": label, "label_ids": {"5": 1, 9: 3}})["label"]
    assert mapped.dtype == torch.uint8
    assert mapped.flatten().tolist() == [0, 1, 3, 3]
    torch.testing.assert_close(mapped.affine, label.affine)


def test_labels_without_a_table_stay() -> None:
    label = meta_tensor(np.array([[[0, 5, 9, 9]]], np.float32))
    assert MapLabelsd(dtype="float32")({"label": label})["label"].flatten().tolist() == [0.0, 5.0, 9.0, 9.0]
    assert MapLabelsd()({"label": label})["label"].dtype == torch.uint8


@pytest.mark.parametrize(
    ("values", "message"),
    [([0.0, 0.5], "no whole numbers"), ([0.0, -1.0], "0 to 65535"), ([0.0, 4.0], r"ids \[4\] that its data list")],
)
def test_label_values_that_mean_nothing_are_refused(values: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MapLabelsd()({"label": meta_tensor(np.array([[values]], np.float32)), "label_ids": {1: 1}})


def test_a_label_map_must_lie_on_its_image() -> None:
    image, label = meta_tensor(volume()), meta_tensor(np.zeros((6, 5, 4), np.uint8))
    assert CheckPaird()({"image": image, "label": label})["label"] is label
    shifted = AFFINE.copy()
    shifted[0, 3] += 1.0
    with pytest.raises(InputError, match="1 mm away"):
        CheckPaird()({"image": image, "label": meta_tensor(np.zeros((6, 5, 4), np.uint8), shifted)})
    with pytest.raises(InputError, match="voxels, not"):
        CheckPaird()({"image": image, "label": meta_tensor(np.zeros((6, 5, 3), np.uint8))})


def test_ids_of_a_paired_label_map_must_be_the_models() -> None:
    image, label = meta_tensor(volume()), meta_tensor(np.full((6, 5, 4), 3, np.uint8))
    with pytest.raises(InputError, match=r"ids \[3\]; legal are 0, 1 liver"):
        CheckPaird(labels={"liver": 1})({"image": image, "label": label})
    assert CheckPaird(labels={"liver": 3})({"image": image, "label": label})["image"] is image


def test_monai_does_not_talk_of_decoders_that_nobody_uses(capfd, recwarn, caplog) -> None:
    logger = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = logger.level
    with caplog.at_level(logging.WARNING):
        LoadVolumed(keys="image")
    assert not [warning for warning in recwarn if "nvimgcodec" in str(warning.message).lower()]
    assert "nvImageCodec" not in caplog.text + capfd.readouterr().err
    assert logger.level == level
