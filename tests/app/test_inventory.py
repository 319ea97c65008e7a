"""The list of a folder against its files: what comes, goes and stays, and what readers see meanwhile."""

from __future__ import annotations

import os
import time

import pytest
from helpers_server import write_studies
from monailabel.datastore.local import DataModel, ImageLabelModel

from monailabel_app.checks import id_of
from monailabel_app.datastore import SafeDatastore
from monailabel_app.history import History
from monailabel_app.inventory import brought_up_to_date, files_in, is_hidden


def split(file):
    return id_of(file), file[len(id_of(file)) :]


def entry(ext=".nii.gz", **labels):
    return ImageLabelModel(image=DataModel(ext=ext), labels={tag: DataModel(ext=kind) for tag, kind in labels.items()})


LISTED = {"a": entry(final=".nii.gz"), "b": entry(), "c": entry(ext=".nrrd", original=".nii.gz")}
IMAGES = ["a.nii.gz", "b.nii.gz", "c.nrrd"]
LABELS = {"final": ["a.nii.gz"], "original": ["c.nii.gz"]}


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (IMAGES, LABELS, None),
        (["a.nii.gz", "c.nrrd"], LABELS, {"a": {"final"}, "c": {"original"}}),
        ([*IMAGES, "d.nii"], LABELS, {"a": {"final"}, "b": set(), "c": {"original"}, "d": set()}),
        (IMAGES, {**LABELS, "final": []}, {"a": set(), "b": set(), "c": {"original"}}),
        (IMAGES, {"final": ["a.nii.gz", "b.nrrd", "x.nii.gz"]}, {"a": {"final"}, "b": {"final"}, "c": set()}),
        (["a.nrrd"], {}, {"a": set()}),  # another file of that name
    ],
)
def test_what_comes_and_goes(images, labels, expected):
    before = {image: found.model_copy(deep=True) for image, found in LISTED.items()}
    result = brought_up_to_date(LISTED, images, labels, split)
    assert (result and {image: set(found.labels) for image, found in result.items()}) == expected
    assert before == LISTED  # who reads it meanwhile sees all of it
    if result and "c" in result:
        assert result["c"].image is LISTED["c"].image
    if result and "d" in result:
        assert (result["d"].image.ext, result["d"].image.info["name"]) == (".nii", "d.nii")


def test_hidden_files_folders_and_links_to_nothing_are_no_images(tmp_path):
    for name in ("a.nii.gz", ".b.nii.gz", "c.txt", "d.nrrd"):
        (tmp_path / name).touch()
    (tmp_path / "e.nii.gz").mkdir()
    (tmp_path / "f.nii.gz").symlink_to(tmp_path / "nothing")
    assert sorted(files_in(tmp_path, (".nii.gz", ".nrrd"))) == ["a.nii.gz", "d.nrrd"]
    assert is_hidden(tmp_path / ".state" / "a.nii.gz", tmp_path)
    assert not is_hidden(tmp_path / "labels" / "a.nii.gz", tmp_path)


def test_a_file_that_gets_its_name_at_the_end_is_seen(tmp_path):
    """As rsync brings files: under a hidden name first."""
    studies = write_studies(tmp_path / "studies", 1)
    store = SafeDatastore(studies, History(tmp_path / "data"), auto_reload=True)
    (studies / ".new.nii.gz.x1").write_bytes((studies / "case_0.nii.gz").read_bytes())
    os.rename(studies / ".new.nii.gz.x1", studies / "new.nii.gz")
    end = time.monotonic() + 20
    while not store.knows("new"):
        assert time.monotonic() < end
        time.sleep(0.02)
    store._observer.stop()
