"""Submitted labels as a data list: by name, patients kept apart."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from helpers_bundle import AFFINE, LABELS, SHAPE, volume
from helpers_imaging import write_nifti
from helpers_server import write_studies
from monai.data import MetaTensor
from swin_umamba.errors import InputError

from monailabel_app.cases import Sides, hash_share, patient_of, write_datalist
from monailabel_app.datastore import SafeDatastore
from monailabel_app.history import History
from monailabel_app.meanings import map_by_name
from monailabel_app.settings import AppSettings


def settings_of(folder, **more):
    """Return settings that keep state in a folder."""
    return AppSettings(bundle_root=folder, model_folders=(), data_dir=folder, **more)


@pytest.fixture
def store(tmp_path):
    return SafeDatastore(write_studies(tmp_path / "studies", 3), History(tmp_path / "data"), auto_reload=False)


def submit(store, folder, image, labels, **info):
    """Submit a label."""
    write_nifti(folder / "sent.nii.gz", labels, AFFINE)
    store.save_label(image, str(folder / "sent.nii.gz"), "final", info)


def test_values_are_mapped_by_name():
    label = MetaTensor(torch.tensor([0, 1, 2, 5, 5], dtype=torch.uint8))
    mapped, strangers = map_by_name(
        label, {1: "Spleen", 2: "right_kidney", 5: "tumour"}, {"right kidney": 2, "spleen": 4}
    )
    assert mapped.tolist() == [0, 4, 2, 0, 0]
    assert strangers == ["tumour"]


def test_datalist_of_a_store(store, tmp_path):
    swapped = np.where(volume(100)[1] == 1, 2, np.where(volume(100)[1] == 2, 1, 0)).astype(np.uint8)
    order = [{"name": "spleen", "idx": 1}, {"name": "liver", "idx": 2}]
    submit(store, tmp_path, "case_0", swapped, label_info=order)
    submit(store, tmp_path, "case_1", volume(101)[1])  # without names: the model's own ids
    submit(store, tmp_path, "case_2", np.full(SHAPE, 7, np.uint8))
    report = write_datalist(store, LABELS, settings_of(tmp_path, validation_share=0.0), tmp_path / "run")
    assert report["training"] == ["case_0", "case_1"]
    assert report["validation"] == []
    assert "[7]" in report["left_out"]["case_2"]
    import nibabel as nib

    for number in (0, 1):
        found = np.asarray(nib.load(tmp_path / "run" / "labels" / f"case_{number}.nii.gz").dataobj)
        np.testing.assert_array_equal(found, volume(100 + number)[1])
    items = json.loads((tmp_path / "run" / "datalist.json").read_text())["training"]
    assert items[0]["label"] == "labels/case_0.nii.gz"
    assert items[0]["labelled"] == items[1]["labelled"] == ["liver", "spleen"]


def test_an_organ_that_is_not_named_was_not_looked_for(store, tmp_path):
    submit(store, tmp_path, "case_0", volume(100)[1] // 2, label_info=[{"name": "Spleen", "idx": 1}])
    names = [{"name": "tumour", "idx": 1}, {"name": "cyst", "idx": 2}]
    submit(store, tmp_path, "case_1", volume(101)[1], label_info=names)
    report = write_datalist(store, LABELS, settings_of(tmp_path, validation_share=0.0), tmp_path / "run")
    (item,) = json.loads((tmp_path / "run" / "datalist.json").read_text())["training"]
    assert (item["case"], item["labelled"]) == ("case_0", ["spleen"])
    assert "knows none of tumour, cyst" in report["left_out"]["case_1"]


def test_nothing_to_learn_from(store, tmp_path):
    with pytest.raises(InputError, match="no labelled case"):
        write_datalist(store, LABELS, settings_of(tmp_path), tmp_path / "run")


def test_nobody_changes_sides(tmp_path):
    patients = [f"patient {number}" for number in range(200)]
    sides = Sides(settings_of(tmp_path, validation_share=0.25))
    first = {patient: sides.side_of(patient) for patient in patients}
    assert first[patients[0]] == "training"  # the first is always learnt from
    assert 30 < sum(side == "validation" for side in first.values()) < 70
    again = Sides(settings_of(tmp_path, validation_share=0.9))
    assert {patient: again.side_of(patient) for patient in reversed(patients)} == first


def test_hash_is_the_same_everywhere():
    assert hash_share("patient 1") == 0xFE7592D0 / 2**32  # printf 'patient 1' | sha256sum


def test_patients(tmp_path):
    pattern = settings_of(tmp_path, patient_pattern=re.compile(r"p(\d+)_"))
    assert patient_of("p12_t2", {}, pattern) == "12"
    assert patient_of("other", {"PatientID": "X"}, pattern) == "X"
    assert patient_of("other", {}, settings_of(tmp_path)) == "other"
