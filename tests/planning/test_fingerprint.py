"""What is found in images of a known content."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers_data import write_json, write_pair
from helpers_imaging import PAINTED, affine_of, painted_in, painted_volume, write_nifti
from swin_umamba.errors import InputError
from swin_umamba.planning import fingerprint_dataset


def write_painted(folder, orientations, **sections):
    """Write painted volumes in several orientations and their data list."""
    items = []
    for number, name in enumerate(orientations):
        labels, affine = painted_in(name)
        write_nifti(folder / f"{number}.nii.gz", (100.0 * labels + number).astype(np.float32), affine)
        write_nifti(folder / f"{number}_label.nii.gz", labels, affine)
        items.append({"case": str(number), "patient": f"p{number // 2}", "image": f"{number}.nii.gz",
                      "label": f"{number}_label.nii.gz"})  # fmt: skip
    return write_json(folder / "data.json", {"labels": PAINTED, "training": items, **sections})


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SPR", "oblique coronal"])
def test_facts_do_not_depend_on_how_the_file_is_stored(tmp_path, orientation):
    (case,) = fingerprint_dataset(write_painted(tmp_path, [orientation])).cases
    labels = painted_volume()
    assert case.size == (40, 36, 12)
    np.testing.assert_allclose(case.spacing, (1.5, 1.25, 4.0), rtol=1e-5)
    np.testing.assert_allclose(case.anisotropy, 4 / 1.5, rtol=1e-5)
    assert case.voxels == {organ: int((labels == number).sum()) for organ, number in PAINTED.items()}
    assert case.slices == {"right": 5, "left": 5, "front": 4, "feet": 2}
    assert (case.intensity["min"], case.intensity["max"], case.intensity["p50"]) == (0, 400, 0)
    np.testing.assert_allclose(case.intensity["mean"], 100 * labels.mean(), rtol=1e-4)


def test_a_data_set_as_a_whole(tmp_path):
    found = fingerprint_dataset(write_painted(tmp_path, ["RAS", "RAS", "LPS"], name="painted", licence="CC0-1.0"))
    assert (found.patients, found.about) == (2, {"name": "painted", "licence": "CC0-1.0"})
    assert found.orientations() == {"RAS": 2, "LPS": 1}
    assert found.organ_cases("feet") == 3
    np.testing.assert_allclose(found.organ_share("feet"), (painted_volume() == PAINTED["feet"]).mean())
    assert json.loads(json.dumps(found.as_dict()))["cases"][2]["orientation"] == "LPS"


def test_test_cases_are_not_looked_at(tmp_path):
    datalist = write_painted(tmp_path, ["RAS"], test=[{"case": "t", "image": "gone.nii.gz", "label": "gone.nii.gz"}])
    found = fingerprint_dataset(datalist)
    assert [case.case for case in found.cases] == ["0"]
    assert found.sections == {"training": 1, "validation": 0, "test": 1}


def test_folders_need_no_data_list(tmp_path):
    for name in ("a", "b"):
        write_pair(tmp_path / f"plain/images/{name}.nii.gz", tmp_path / f"plain/labels/{name}.nii.gz", seed=0)
        write_pair(tmp_path / f"nn/imagesTr/{name}_0000.nii.gz", tmp_path / f"nn/labelsTr/{name}.nii.gz", seed=0)
        write_pair(tmp_path / f"msd/imagesTr/{name}.nii.gz", tmp_path / f"msd/labelsTr/{name}.nii.gz", seed=0)
    labels = {"background": 0, "liver": 1, "right_kidney": 2, "left_kidney": 3, "spleen": 4}
    common = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
    write_json(tmp_path / "nn/dataset.json", common)
    pairs = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in ("a", "b")]
    write_json(tmp_path / "msd/dataset.json", {**common, "training": pairs})
    for folder, table in (("plain", "chaos_t2spir"), ("nn", None), ("msd", None)):
        found = fingerprint_dataset(tmp_path / folder, table)
        assert [case.case for case in found.cases] == ["a", "b"]
        assert found.labels == {"liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4}


def test_data_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="has no layout that is known: dataset.json, or images/ and labels/"):
        fingerprint_dataset(tmp_path)
    for name in ("a", "b", "c"):
        write_pair(tmp_path / f"images/{name}.nii.gz", tmp_path / f"labels/{name}.nii.gz", seed=0)
    with pytest.raises(InputError, match="does not say what its labels mean; give --labels"):
        fingerprint_dataset(tmp_path)
    (tmp_path / "images/a.nii.gz").write_bytes(b"no image")
    write_nifti(tmp_path / "labels/b.nii.gz", np.zeros((4, 4, 4), np.uint8), affine_of("RAS", (1, 1, 1)))
    with pytest.raises(
        InputError, match="^2 of 3 cases cannot be used: case 'a': .* cannot be read.*; case 'b': label map"
    ):
        fingerprint_dataset(tmp_path, "chaos_t2spir")
    datalist = write_painted(tmp_path / "list", ["RAS"])
    with pytest.raises(InputError, match="--labels 'amos22': a data list has its own"):
        fingerprint_dataset(datalist, "amos22")
    write_json(datalist, {"labels": PAINTED, "test": [{"case": "t", "image": "0.nii.gz"}]})
    with pytest.raises(InputError, match="has no case with a label map to train on"):
        fingerprint_dataset(datalist)
