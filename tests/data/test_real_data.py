"""Real MRI, where it is: data lists, geometry and sides. Nothing of it is kept."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from helpers_data import real_data as real
from swin_umamba.data import load_datalist
from swin_umamba.data.__main__ import main
from swin_umamba.data.labels import ABDOMEN_MRI, label_table

pytestmark = pytest.mark.data


def world_x(item: dict, number: int) -> float:
    """Return the mean x in mm, to the patient's right, of a label."""
    label = nibabel.load(item["label"])
    voxels = np.argwhere(np.asarray(label.dataobj) == number)
    return float((voxels @ label.affine[0, :3] + label.affine[0, 3]).mean())


@pytest.fixture
def chaos(tmp_path):
    """A data list of CHAOS, split as its users do."""
    options = ["--image_suffix", "t2spir", "--label_suffix", "label", "--labels", "chaos_t2spir"]
    split = ["--validation_patients", "10,21,37", "--test_patients", "15,22,39", "--patient_pattern", r"chaos_(\d+)"]
    output = tmp_path / "chaos.json"
    assert main(["datalist", "folder", str(real("chaos_t2spir")), *options, *split, "--output", str(output)]) == 0
    return output


def test_chaos_is_listed_and_sound(chaos, capsys):
    plain = json.loads(chaos.read_text())
    assert [item["patient"] for item in plain["validation"] + plain["test"]] == ["10", "21", "37", "15", "22", "39"]
    assert len(plain["training"]) == 10
    assert main(["check", str(chaos)]) == 0
    assert "orientation  LAS 16" in capsys.readouterr().out


def test_chaos_maps_by_name_and_its_sides_are_the_patients(chaos):
    for section in ("training", "validation", "test"):
        for item in load_datalist(chaos, section, label_table(ABDOMEN_MRI)):
            assert item["label_ids"] == {1: 1, 2: 2, 3: 13, 4: 3}
            assert item["labelled"] == [1, 2, 3, 13]
            liver, right_kidney, left_kidney, spleen = (world_x(item, number) for number in (1, 2, 3, 4))
            assert right_kidney > left_kidney
            assert liver > spleen


def test_one_pair_of_totalsegmentator(tmp_path, capsys):
    folder = real("totalseg_mr")
    table = tmp_path / "labels.json"
    table.write_text(json.dumps({**label_table("totalsegmentator_mr"), "left lung": 10, "right lung": 11}))
    options = ["--image_suffix", "image", "--label_suffix", "label", "--labels", str(table)]
    output = tmp_path / "ts.json"
    assert main(["datalist", "folder", str(folder), *options, "--output", str(output)]) == 0
    assert main(["check", str(output)]) == 0
    assert "orientation  LPS 1" in capsys.readouterr().out
    (item,) = load_datalist(output, "training", label_table(ABDOMEN_MRI))
    assert item["case"] == "totalseg_mr"
    assert item["labelled"] == list(range(1, 14))
    assert item["label_ids"][3] == 13
    assert world_x(item, 2) > world_x(item, 3)
