"""AMOS22 as distributed, in small: CT and MRI in one dataset.json, the division that was published."""

from __future__ import annotations

import json

import pytest
from helpers_data import write_json, write_pair
from swin_umamba.data.__main__ import main
from swin_umamba.data.amos import FIRST_MR, TRAINING, VALIDATION, read_amos
from swin_umamba.data.datalist import load_datalist
from swin_umamba.data.labels import label_table
from swin_umamba.errors import InputError

LABELS = {  # as spelt in the distributed file
    "0": "background", "1": "spleen", "2": "right kidney", "3": "left kidney", "4": "gall bladder", "5": "esophagus",
    "6": "liver", "7": "stomach", "8": "arota", "9": "postcava", "10": "pancreas", "11": "right adrenal gland",
    "12": "left adrenal gland", "13": "duodenum", "14": "bladder", "15": "prostate/uterus",
}  # fmt: skip


def write_amos(folder, training=(1, 507, 600), validation=(8, 544), test=(3, 502)):
    """Write the layout with small volumes; the test cases have no label maps."""
    for part, numbers in (("Tr", training), ("Va", validation), ("Ts", test)):
        for number in numbers:
            label = None if part == "Ts" else folder / f"labels{part}/amos_{number:04d}.nii.gz"
            write_pair(folder / f"images{part}/amos_{number:04d}.nii.gz", label, seed=number)
    entry = {
        part: [
            {"image": f"./images{part}/amos_{n:04d}.nii.gz", "label": f"./labels{part}/amos_{n:04d}.nii.gz"} for n in ns
        ]
        for part, ns in (("Tr", training), ("Va", validation), ("Ts", test))
    }
    plain = {
        "name": "AMOS",
        "licence": "CC-BY-SA 4.0",
        "modality": {"0": "CT"},
        "labels": LABELS,
        "numTraining": len(training),
        "training": entry["Tr"],
        "validation": entry["Va"],
        "test": entry["Ts"],
    }
    write_json(folder / "dataset.json", plain)
    return folder


def test_published_division_has_the_published_sizes():
    assert (len(TRAINING), len(VALIDATION)) == (40, 20)
    assert not TRAINING & VALIDATION
    assert FIRST_MR <= min(TRAINING | VALIDATION) <= max(TRAINING | VALIDATION) <= 600


def test_one_command_makes_a_data_list_of_the_mri(tmp_path, capsys):
    folder, output = write_amos(tmp_path / "amos22"), tmp_path / "amos.json"
    assert main(["datalist", "amos", str(folder), "--output", str(output)]) == 0
    plain = json.loads(output.read_text(encoding="utf-8"))
    assert {part: [i["case"] for i in plain[part]] for part in ("training", "validation", "test")} == {
        "training": ["amos_0507", "amos_0600"],
        "validation": ["amos_0544"],
        "test": [],
    }
    assert (plain["modality"], plain["licence"]) == ("MR", "CC-BY-SA 4.0")
    assert plain["labels"] == label_table("amos22")
    assert "1 images without label map" in capsys.readouterr().out
    (item,) = load_datalist(output, "validation", label_table("abdomen_mri"))
    assert item["label_ids"] == {1: 3, 2: 2, 3: 13, 4: 9, 5: 10, 6: 1, 7: 11, 8: 5, 9: 6, 10: 4, 11: 7, 12: 8, 13: 12,
                                 14: 0, 15: 0}  # fmt: skip


def test_unlabelled_test_cases_are_kept_on_demand(tmp_path):
    folder, output = write_amos(tmp_path / "amos22"), tmp_path / "amos.json"
    main(["datalist", "amos", str(folder), "--output", str(output), "--keep_unlabelled"])
    (item,) = json.loads(output.read_text(encoding="utf-8"))["test"]
    assert item == {"case": "amos_0502", "patient": "amos_0502", "image": "amos22/imagesTs/amos_0502.nii.gz"}


def test_a_division_other_than_the_published_one_is_told(tmp_path, caplog):
    read_amos(write_amos(tmp_path, training=(507, 544), validation=(545,)))
    assert "training: dataset.json adds 1 cases of the published division: amos_0544" in caplog.text
    assert "validation: dataset.json lacks 19 cases" in caplog.text


@pytest.mark.parametrize("missing", [("labelsTr/amos_0507.nii.gz", "imagesVa/amos_0544.nii.gz")])
def test_missing_files_are_named_each(tmp_path, missing):
    folder = write_amos(tmp_path / "amos22")
    (folder / "imagesTr/amos_0001.nii.gz").unlink()  # CT: not ours to miss
    for name in missing:
        (folder / name).unlink()
    with pytest.raises(InputError, match="^2 of .* files do not exist") as caught:
        main(["datalist", "amos", str(folder), "--output", str(tmp_path / "amos.json")])
    assert all(str(folder / name) in str(caught.value) for name in missing)
    assert not (tmp_path / "amos.json").exists()


def test_folders_that_are_not_amos(tmp_path):
    with pytest.raises(InputError, match=r"dataset.json' cannot be read: No such file"):
        read_amos(tmp_path)
    with pytest.raises(InputError, match="lists no MRI with a label map; in AMOS22 that is amos_0500 and higher"):
        read_amos(write_amos(tmp_path / "ct", training=(1,), validation=(8,), test=()))
    write_json(tmp_path / "other/dataset.json", {"labels": LABELS, "training": [{"image": "a.nii", "label": "b.nii"}]})
    with pytest.raises(InputError, match=r"lists .*a.nii; legal in AMOS22: amos_<4 digits>.nii.gz"):
        read_amos(tmp_path / "other")
