"""The check of a data set names every broken file and goes on."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from helpers_data import AFFINE, write_json, write_pair
from helpers_imaging import write_nifti
from swin_umamba.data.check import check_dataset, describe
from swin_umamba.errors import InputError


@pytest.fixture
def good(listed):
    plain, path = listed
    return write_json(path, plain)


def rewrite(path, *, data=None, affine=None, edit=None):
    """Change the voxels or the affine of a NIfTI file."""
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj) if data is None else data
    if edit is not None:
        voxels = voxels.copy()
        edit(voxels)
    write_nifti(path, voxels, image.affine if affine is None else affine)


def put(value):
    def edit(voxels):
        voxels[0, 0, 0] = value

    return edit


def test_a_good_data_set(good):
    report = check_dataset(good)
    assert report.problems == []
    assert report.sections == {"training": (6, 3), "validation": (2, 1), "test": (2, 1)}
    facts = report.facts[0]
    assert (facts.case, facts.orientation, facts.spacing, facts.size) == ("p01_a", "LPS", (1.5, 1.5, 5.0), (8, 7, 5))
    assert facts.voxels == {"liver": 1, "right kidney": 1, "left kidney": 1, "spleen": 1}
    text = describe(report)
    assert "orientation  LPS 10" in text
    assert "axis 3: min / median / max 5 / 5 / 5 mm, 5 / 5 / 5 voxels" in text
    assert text.endswith("no problems")


def test_spread_and_absent_organs_are_told(good):
    folder = good.parent
    rewrite(folder / "labels/p01_a.nii.gz", edit=lambda v: v.__setitem__(v == 4, 0))
    write_pair(folder / "images/p01_b.nii.gz", folder / "labels/p01_b.nii.gz", 7, np.diag([2.0, 2.0, 8.0, 1.0]))
    text = describe(check_dataset(good))
    assert "orientation  LPS 9, RAS 1" in text
    assert "axis 1: min / median / max 1.5 / 1.5 / 2 mm" in text
    assert "1 of 10: p01_a" in next(line for line in text.splitlines() if line.startswith("  spleen"))


def both(image, label, affine):
    rewrite(image, affine=affine)
    rewrite(label, affine=affine)


def shifted(by):
    affine = AFFINE.copy()
    affine[0, 3] += by
    return affine


BROKEN = {  # what is done to (image, label), and what is said
    "nan": (lambda i, _: rewrite(i, data=np.full((8, 7, 5), np.nan, np.float32)), "p01_a.nii.gz has 280 voxels .* NaN"),
    "constant": (lambda i, _: rewrite(i, data=np.full((8, 7, 5), 3, np.int16)), "is constant: every voxel is 3"),
    "four axes": (lambda i, _: rewrite(i, data=np.ones((8, 7, 5, 2), np.int16)), "2 channels"),
    "spacing": (
        lambda i, m: both(i, m, np.diag([40.0, 40, 40, 1])),
        "spacing of 40 x 40 x 40 mm; plausible are",
    ),
    "shape": (lambda _, m: rewrite(m, data=np.ones((8, 7, 4), np.uint8)), r"\(8, 7, 4\) voxels, not \(8, 7, 5\)"),
    "affine": (lambda _, m: rewrite(m, affine=shifted(4)), "corners lie 4 mm away"),
    "affine a little": (
        lambda _, m: rewrite(m, affine=shifted(0.01)),
        "differs from its image.s by up to 0.01; legal: 0.001",
    ),
    "ids": (lambda _, m: rewrite(m, edit=put(9)), r"holds ids \[9\] that its data list does not name: \[1, 2, 3, 4\]"),
    "fractions": (lambda _, m: rewrite(m, data=np.full((8, 7, 5), 0.5, np.float32)), "no whole numbers"),
    "truncated": (lambda i, _: i.write_bytes(i.read_bytes()[:200]), "images/p01_a.nii.gz cannot be read"),
    "no NIfTI": (lambda _, m: m.write_bytes(b"hello"), "labels/p01_a.nii.gz cannot be read"),
    "missing": (lambda i, _: i.unlink(), "images/p01_a.nii.gz does not exist"),
    "same image": (lambda i, _: i.write_bytes((i.parent / "p05_b.nii.gz").read_bytes()), "same image as case 'p01_a'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_and_the_others_are_checked(good, name):
    damage, said = BROKEN[name]
    damage(good.parent / "images/p01_a.nii.gz", good.parent / "labels/p01_a.nii.gz")
    report = check_dataset(good)
    assert len(report.facts) == 9
    (problem,) = report.problems
    with pytest.raises(InputError, match=said):
        raise InputError(problem)
    assert describe(report).endswith("1 problem")


def test_every_broken_file_is_named(good):
    folder = good.parent
    (folder / "images/p01_a.nii.gz").unlink()
    (folder / "labels/p01_a.nii.gz").write_bytes(b"")
    rewrite(folder / "labels/p03_a.nii.gz", edit=put(77))
    rewrite(folder / "images/p05_b.nii.gz", edit=put(1), affine=shifted(9))
    text = describe(check_dataset(good))
    for name in ("images/p01_a", "labels/p01_a", "labels/p03_a", "images/p05_b"):
        assert name in text
    assert text.endswith("4 problems")


def test_only_annotated_organs_are_counted_and_a_label_map_may_be_missing(listed):
    plain, path = listed
    plain["labelled"] = ["liver"]
    del plain["test"][0]["label"]
    report = check_dataset(write_json(path, plain))
    assert report.problems == []
    assert report.facts[0].voxels == {"liver": 1}
    assert next(fact for fact in report.facts if fact.case == "p05_a").voxels == {}
    assert "spleen                    -                             not annotated" in describe(report)


def test_an_empty_list_is_a_problem(listed):
    plain, path = listed
    report = check_dataset(write_json(path, {"labels": plain["labels"]}))
    assert report.problems == [f"{path}: no case in any section"]
