"""Reading photographs: what a pixel is worth, which way the axes run, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from helpers_photographs import save
from monai.transforms import EnsureChannelFirstd
from PIL import Image
from swin_umamba.cases import find_cases
from swin_umamba.errors import InputError
from swin_umamba.photographs import read_photograph, size_of
from swin_umamba.transforms import CheckVolumed, LoadVolumed

COLOURS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
GREY = COLOURS[..., 0]
KINDS = {  # name -> what is stored, what is read
    "colour.png": (Image.fromarray(COLOURS), COLOURS),
    "colour.BMP": (Image.fromarray(COLOURS), COLOURS),
    "grey.png": (Image.fromarray(GREY), GREY),
    "grey16.png": (Image.fromarray(GREY.astype(np.uint16) * 500), GREY.astype(np.uint16) * 500),
    "transparent.png": (Image.fromarray(np.dstack([COLOURS, 255 - GREY])), COLOURS),
    "grey_transparent.png": (Image.fromarray(np.dstack([GREY, GREY])), GREY),
    "binary.png": (Image.fromarray(GREY > 30), 255 * (GREY > 30).astype(np.uint8)),
    "lzw.tif": (Image.fromarray(COLOURS), COLOURS),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_stored_is_read(tmp_path, name):
    stored, expected = KINDS[name]
    stored.save(tmp_path / name, **({"compression": "tiff_lzw"} if name == "lzw.tif" else {}))
    found = read_photograph(tmp_path / name)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert size_of(tmp_path / name) == (4, 6)


TIFFS = {
    "colours of 16 bits": (COLOURS.astype(np.uint16) * 900, {"photometric": "rgb"}, COLOURS.astype(np.uint16) * 900),
    "channels first": (np.moveaxis(COLOURS, 2, 0).astype(np.uint16), {"planarconfig": "separate"}, COLOURS),
    "numbers of 32 bits": (GREY.astype(np.uint32) * 70_000, {"compression": "zlib"}, GREY.astype(np.uint32) * 70_000),
    "five channels": (np.dstack([COLOURS, COLOURS[..., :2]]).astype(np.uint16), {"planarconfig": "contig"}, COLOURS),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_tiff_of_microscopes(tmp_path, kind):
    stored, options, expected = TIFFS[kind]
    if "planarconfig" in options:
        options = {**options, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tiff", stored, **options)
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.tiff"), expected)
    assert size_of(tmp_path / "a.tiff") == (4, 6)


def test_palette_becomes_colours(tmp_path):
    image = Image.fromarray(COLOURS).quantize(8)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


def test_photograph_is_a_volume_of_one_slice_whose_first_axis_runs_along_columns(tmp_path):
    item = {"image": str(save(tmp_path / "a.png", COLOURS)), "label": str(save(tmp_path / "b.png", GREY))}
    keys = ("image", "label")
    item = CheckVolumed(keys, channels=(3, 1))(EnsureChannelFirstd(keys)(LoadVolumed(keys)(item)))
    assert item["image"].shape == (3, 6, 4, 1)
    assert item["label"].shape == (1, 6, 4, 1)
    assert item["image"][:, 5, 2, 0].tolist() == COLOURS[2, 5].tolist()
    assert torch.equal(item["image"].affine, torch.eye(4, dtype=torch.float64))


def loaded(path, channels):
    item = EnsureChannelFirstd("image")(LoadVolumed("image")({"image": str(path)}))
    return CheckVolumed("image", channels=channels)(item)["image"]


def test_grey_gets_three_equal_channels_where_colours_are_wanted(tmp_path):
    path = save(tmp_path / "a.png", GREY)
    assert loaded(path, 1).shape == (1, 6, 4, 1)
    image = loaded(path, 3)
    assert image.shape == (3, 6, 4, 1)
    assert torch.equal(image[0], image[2])
    with pytest.raises(InputError, match="3 channels .* of 6 x 4 voxels; legal is one grey-scale volume"):
        loaded(save(tmp_path / "c.png", COLOURS), 1)


def test_bad_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.tif").write_text("no image")
    whole = save(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:3000])
    frames = [Image.fromarray(GREY) for _ in range(2)]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    for name, message in (
        ("text.png", "text.png cannot be read: it is no such image; legal: .png, .jpg"),
        ("text.tif", "text.tif cannot be read: "),
        ("half.png", "half.png cannot be read: "),
        ("pages.tif", "pages.tif has 2 pages; legal is a photograph of one"),
        ("none.png", "none.png does not exist; legal: .png"),
    ):
        for read in (read_photograph, lambda path: loaded(path, 3)):
            with pytest.raises((InputError, RuntimeError)) as caught:
                read(tmp_path / name)
            cause = caught.value if isinstance(caught.value, InputError) else caught.value.__cause__
            assert message in str(cause)


def test_photographs_are_found_by_models_of_photographs_only(tmp_path):
    for name in ("a/frame.png", "b.JPG", "c.tif", "b_overlay.png", "b_seg.png", "b_instances.tif"):
        save(tmp_path / name, COLOURS)
    (tmp_path / "d.nii.gz").write_bytes(b"")
    (tmp_path / "e.txt").write_text("")
    found = find_cases(tmp_path, photographs=True)
    assert {case["case"]: case["input"] for case in found} == {
        "a_frame": "a/frame.png",
        "b": "b.JPG",
        "c": "c.tif",
    }
    assert [case["case"] for case in find_cases(tmp_path)] == ["d"]
    assert find_cases(tmp_path / "b_seg.png", photographs=True)[0]["case"] == "b_seg"
    for path in (tmp_path / "d.nii.gz", tmp_path / "nothing"):
        with pytest.raises(InputError, match=r"legal: .*\.png, \.jpg"):
            find_cases(path, photographs=True)
