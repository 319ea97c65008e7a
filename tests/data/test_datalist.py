"""Data lists: what is read from a good one, and what is said about a bad one."""

from __future__ import annotations

import copy
import json
import os

import pytest
from helpers_data import ORGANS, write_json
from swin_umamba.data import load_datalist, save_datalist
from swin_umamba.errors import InputError


def test_items_are_absolute_and_mapped_by_name(listed):
    plain, path = listed
    write_json(path, plain)
    items = load_datalist(path, "validation", {"spleen": 1, "aorta": 2, "liver": 3})
    assert items == [
        {
            "case": case,
            "patient": "p04",
            "image": str(path.parent / f"images/{case}.nii.gz"),
            "label": str(path.parent / f"labels/{case}.nii.gz"),
            "label_ids": {1: 3, 2: 0, 3: 0, 4: 1},
            "labelled": [1, 3],
        }
        for case in ("p04_a", "p04_b")
    ]


def test_own_labels_are_the_default(listed):
    plain, path = listed
    item = load_datalist(write_json(path, plain), "test")[0]
    assert item["label_ids"] == {1: 1, 2: 2, 3: 3, 4: 4}
    assert item["labelled"] == [1, 2, 3, 4]


def test_what_is_not_annotated_is_not_taken_from_the_label_map(listed):
    plain, path = listed
    plain["labelled"] = ["liver", "spleen"]
    plain["training"][0]["labelled"] = ["left kidney"]
    first, second, *_ = load_datalist(write_json(path, plain), "training", {"spleen": 1, "left kidney": 2, "liver": 3})
    assert (first["label_ids"], first["labelled"]) == ({1: 0, 2: 0, 3: 2, 4: 0}, [2])
    assert (second["label_ids"], second["labelled"]) == ({1: 3, 2: 0, 3: 0, 4: 1}, [1, 3])


def test_organs_without_a_training_case_are_told(listed, caplog):
    plain, path = listed
    write_json(path, plain)
    load_datalist(path, "training", {"liver": 1, "spleen": 2})
    load_datalist(path, "test", {"liver": 1, "slpeen": 2})  # a model may know more than a test set
    assert not caplog.records
    load_datalist(path, "training", {"liver": 1, "slpeen": 2})
    assert "no training case annotates slpeen, so nothing can be learnt of it" in caplog.text
    assert ", ".join(ORGANS) in caplog.text


def test_a_case_is_its_own_patient_by_default(listed):
    plain, path = listed
    plain["test"] = [{key: value for key, value in item.items() if key != "patient"} for item in plain["test"]]
    assert [item["patient"] for item in load_datalist(write_json(path, plain), "test")] == ["p05_a", "p05_b"]


def test_dataset_dir_is_where_relative_paths_start(listed, tmp_path):
    plain, path = listed
    elsewhere = write_json(tmp_path / "other" / "data.json", plain)
    items = load_datalist(elsewhere, "test", dataset_dir=path.parent)
    assert items[0]["image"] == str(path.parent / "images/p05_a.nii.gz")
    with pytest.raises(InputError, match=r"4 files do not exist: .*p05_a.nii.gz, .*, …; relative paths start .*other"):
        load_datalist(elsewhere, "test")


def test_labels_may_be_missing_only_when_asked(listed):
    plain, path = listed
    del plain["test"][1]["label"]
    write_json(path, plain)
    with pytest.raises(InputError, match="1 of 2 cases have no label: p05_b"):
        load_datalist(path, "test")
    assert ["label" in item for item in load_datalist(path, "test", need_label=False)] == [True, False]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("val", r"section 'val' does not exist; there are training \(6 cases\), validation \(0 cases\), test \(2"),
        ("labels", "section 'labels' does not exist"),
        ("validation", r"section 'validation' has no cases; there are training \(6 cases\)"),
    ],
)
def test_sections_that_cannot_be_used(listed, section, said):
    plain, path = listed
    del plain["validation"]
    with pytest.raises(InputError, match=said):
        load_datalist(write_json(path, plain), section)


def _first(plain, **change):
    plain["training"][0].update(change)


BAD = {
    "no labels": (lambda p: p.pop("labels"), "the file: 'labels' is a required property; legal keys are name"),
    "misspelt section": (
        lambda p: p.update(val=[]),
        r"'val' was unexpected.*legal keys are .*validation, test",
    ),
    "misspelt key": (lambda p: _first(p, labeled=["liver"]), r"training\[0\]: .*'labeled' was unexpected.*labelled"),
    "no image": (lambda p: p["training"][2].pop("image"), r"training\[2\]: 'image' is a required property"),
    "number for a path": (lambda p: _first(p, image=3), r"training\[0\].image: 3 is not of type 'string'"),
    "section is no list": (lambda p: p.update(test={}), "test: {} is not of type 'array'"),
    "illegal id": (lambda p: p["labels"].update(liver=300), "labels: the id of 'liver' is 300; legal"),
    "id twice": (lambda p: p["labels"].update(liver=2), "labels: the id 2 belongs to both"),
    "unknown organ": (lambda p: p.update(labelled=["lever"]), "labelled: unknown organ 'lever' .did you mean 'liver'"),
    "unknown organ of a case": (
        lambda p: _first(p, labelled=["lung"]),
        "p01_a: unknown organ 'lung'; legal: liver",
    ),
    "nothing annotated": (lambda p: p.update(labelled=[]), r"labelled: \[\] "),
    "case twice": (lambda p: _first(p, case="p01_b"), "case 'p01_b' is there twice, in training; names must be unique"),
    "case in two sections": (lambda p: _first(p, case="p05_a"), "case 'p05_a' is there twice, in training and test"),
    "patient in two sections": (lambda p: _first(p, patient="p04"), "patient 'p04' is in both training and validation"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lists_are_refused_with_the_place_and_what_is_legal(listed, name):
    plain, path = copy.deepcopy(listed[0]), listed[1]
    change, said = BAD[name]
    change(plain)
    write_json(path, plain)
    with pytest.raises(InputError, match=said):
        load_datalist(path, "training")
    with pytest.raises(InputError, match=said):
        save_datalist(path, plain)


def test_files_that_are_no_data_list(tmp_path):
    with pytest.raises(InputError, match="nothing.json' cannot be read: No such file.*swin_umamba.data datalist"):
        load_datalist(tmp_path / "nothing.json", "training")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_datalist(tmp_path, "training")
    (tmp_path / "bad.json").write_text("{'labels': 1")
    with pytest.raises(InputError, match="bad.json' is not JSON: .*line 1"):
        load_datalist(tmp_path / "bad.json", "training")
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not JSON"):
        load_datalist(tmp_path / "bad.json", "training")
    with pytest.raises(InputError, match=r"the file: \[\] is not of type 'object'"):
        load_datalist(write_json(tmp_path / "list.json", []), "training")


def test_a_model_with_other_organs_is_told(listed):
    plain, path = listed
    write_json(path, plain)
    with pytest.raises(InputError, match="case 'p01_a': .*none of the model's organs: files liver.*; model heart"):
        load_datalist(path, "training", {"heart": 1})
    with pytest.raises(InputError, match="id of 'liver' is 0"):
        load_datalist(path, "training", {"liver": 0})


def test_saved_paths_are_relative_below_the_list_and_absolute_elsewhere(listed, tmp_path):
    plain, path = listed
    absolute = copy.deepcopy(plain)
    for section in ("training", "validation", "test"):
        for item in absolute[section]:
            item.update(image=str(path.parent / item["image"]), label=str(path.parent / item["label"]))
    assert save_datalist(path, absolute) == str(path)
    assert json.loads(path.read_text(encoding="utf-8")) == plain
    far = tmp_path / "far" / "data.json"
    save_datalist(far, absolute)
    assert os.path.isabs(json.loads(far.read_text())["test"][0]["image"])
    assert load_datalist(far, "test") == load_datalist(path, "test")


def test_a_failed_save_leaves_the_old_list(listed):
    plain, path = listed
    save_datalist(path, plain)
    before = path.read_bytes()
    with pytest.raises(InputError):
        save_datalist(path, {**plain, "labels": {}})
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["data.json", "images", "labels"]
    assert plain["labels"] == ORGANS
