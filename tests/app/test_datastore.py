"""The data store: what was submitted stays, whatever happens."""

from __future__ import annotations

import json
import os

import nibabel as nib
import numpy as np
import pytest
from helpers_bundle import AFFINE, SHAPE, volume
from helpers_imaging import write_nifti
from helpers_server import write_studies
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException
from swin_umamba.errors import InputError

from monailabel_app.datastore import SafeDatastore, check_name
from monailabel_app.history import History


@pytest.fixture
def make(tmp_path):
    studies = write_studies(tmp_path / "studies", 2)
    return lambda: SafeDatastore(studies, History(tmp_path / "data"), auto_reload=False)


def submit(store, folder, value, suffix=".nii.gz", **info):
    """Submit a label full of a value for case_0."""
    path = folder / f"sent{suffix}"
    write_nifti(folder / "sent.nii.gz", np.full(SHAPE, value, np.uint8), AFFINE)
    if suffix != ".nii.gz":
        import SimpleITK as sitk

        sitk.WriteImage(sitk.ReadImage(str(folder / "sent.nii.gz")), str(path))
    store.save_label("case_0", str(path), "final", info)


def test_every_label_is_kept(make, tmp_path):
    store = make()
    for value in (1, 2, 1, 3):
        submit(store, tmp_path, value)
    kept = [
        int(np.asarray(nib.load(file).dataobj).max()) for file in (tmp_path / "data" / "labels" / "case_0").glob("*.gz")
    ]
    assert sorted(kept) == [1, 2, 3]  # the second 1 is the same file
    assert np.asarray(nib.load(store.get_label_uri("case_0", "final")).dataobj).max() == 3
    assert len((tmp_path / "data" / "audit.jsonl").read_text().splitlines()) == 4


def test_another_format_takes_the_place_of_the_first(make, tmp_path):
    store = make()
    submit(store, tmp_path, 1)
    submit(store, tmp_path, 2, ".nrrd")
    assert sorted(os.listdir(tmp_path / "studies" / "labels" / "final")) == ["case_0.nrrd"]
    again = make()
    assert again.get_label_uri("case_0", "final").endswith("case_0.nrrd")


def test_the_meaning_goes_with_the_file_not_with_the_list(make, tmp_path):
    """A crash between the label and the list must not pair a label with another's names."""
    store = make()
    first, second = [{"name": "liver", "idx": 1}], [{"name": "spleen", "idx": 2}]
    submit(store, tmp_path, 1, label_info=first)
    before = (tmp_path / "studies" / "datastore_v2.json").read_bytes()
    submit(store, tmp_path, 2, label_info=second)
    (tmp_path / "studies" / "datastore_v2.json").write_bytes(before)
    assert make().label_meaning("case_0")["label_info"] == second


def test_an_earlier_label_comes_back_with_its_meaning(make, tmp_path):
    store, names = make(), [{"name": "spleen", "idx": 1}]
    submit(store, tmp_path, 1, label_info=names)
    submit(store, tmp_path, 2, label_info=[{"name": "liver", "idx": 2}])
    (first,) = [f for f in (tmp_path / "data" / "labels" / "case_0").glob("*.gz") if nib.load(f).get_fdata().max() == 1]
    store.save_label("case_0", str(first), "final", {"client_id": "roe"})
    meaning = store.label_meaning("case_0")
    assert (meaning["label_info"], meaning["client_id"]) == (names, "roe")


def test_two_processes_change_one_list(make, tmp_path):
    """A batch and the server: neither undoes what the other has written."""
    server, batch = make(), make()
    submit(server, tmp_path, 1)
    write_nifti(tmp_path / "auto.nii.gz", np.full(SHAPE, 2, np.uint8), AFFINE)
    batch.save_label("case_1", str(tmp_path / "auto.nii.gz"), "original", {"model": "tiny"})
    write_nifti(tmp_path / "new.nii.gz", volume(1)[0], AFFINE)
    server.add_image("", str(tmp_path / "new.nii.gz"), {})
    tags = {image: sorted(entry.labels) for image, entry in make()._datastore.objects.items()}
    assert tags == {"case_0": ["final"], "case_1": ["original"], "new": []}


def test_files_that_are_no_images_of_patients(make, tmp_path):
    for name in ("case_0_seg.nii.gz", ".hidden.nii.gz", "notes.txt"):
        (tmp_path / "studies" / name).touch()
    (tmp_path / "studies" / "Müller, Ä. (2).nii").touch()
    assert sorted(make().list_images()) == ["Müller, Ä. (2)", "case_0", "case_1"]


def test_a_broken_list_is_made_anew(make, tmp_path):
    submit(make(), tmp_path, 1, label_info=[{"name": "liver", "idx": 1}])
    (tmp_path / "studies" / "datastore_v2.json").write_text('{"name": "x", "obj')
    store = make()
    assert sorted(store.list_images()) == ["case_0", "case_1"]
    assert store.get_labeled_images() == ["case_0"]
    assert store.label_meaning("case_0")["label_info"] == [{"name": "liver", "idx": 1}]
    assert list((tmp_path / "studies").glob("datastore_v2.broken-*"))


def test_removed_labels_stay_in_the_history(make, tmp_path):
    store = make()
    submit(store, tmp_path, 1)
    store.remove_label("case_0", "final")
    assert store.get_labeled_images() == []
    assert len(list((tmp_path / "data" / "labels" / "case_0").glob("*.gz"))) == 1
    with pytest.raises(LabelNotFoundException):
        store.remove_label("case_0", "final")


def test_a_full_disk_leaves_the_label_before(make, tmp_path, monkeypatch):
    store = make()
    submit(store, tmp_path, 1)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("monailabel_app.history.shutil.copyfile", full)
    with pytest.raises(InputError, match="No space"):
        submit(store, tmp_path, 2)
    assert np.asarray(nib.load(store.get_label_uri("case_0", "final")).dataobj).max() == 1


def test_unknown_image(make, tmp_path):
    write_nifti(tmp_path / "x.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    with pytest.raises(ImageNotFoundException):
        make().save_label("nobody", str(tmp_path / "x.nii.gz"), "final", {})


def test_images_are_added_under_new_names(make, tmp_path):
    store = make()
    write_nifti(tmp_path / "new.nii.gz", volume(1)[0], AFFINE)
    assert store.add_image("", str(tmp_path / "new.nii.gz"), {}) == "new"
    with pytest.raises(InputError, match="there already"):
        store.add_image("new", str(tmp_path / "new.nii.gz"), {})
    assert (
        json.loads((tmp_path / "studies" / "datastore_v2.json").read_text())["objects"]["new"]["image"]["ext"]
        == ".nii.gz"
    )


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\\b", "x" * 129, "a\0b", "..", "-rf", "a..b"])
def test_names_that_are_paths(name):
    with pytest.raises(InputError, match="image"):
        check_name("image", name)


@pytest.mark.parametrize("name", ["case_0", "1.2.840.1", "Liver case 3", "ä"])
def test_plain_names(name):
    assert check_name("image", name) == name
