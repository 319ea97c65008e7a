"""Layouts on disk: what each reader finds, and what it says when something does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers_data import ORGANS, write_json, write_pair
from swin_umamba.data.formats import check_files_exist, read_folder, read_msd, read_nnunet
from swin_umamba.data.label_files import read_labels
from swin_umamba.errors import InputError

CHAOS = "chaos_t2spir"


def cases_of(items: list[dict]) -> list[str]:
    return [item["case"] for item in items]


def change(path: Path, **values: object) -> None:
    plain = json.loads(path.read_text())
    plain.update(values)
    write_json(path, {key: value for key, value in plain.items() if value is not None})


def test_folder_with_images_and_labels(folder):
    source = read_folder(folder, CHAOS)
    assert source.labels == ORGANS
    assert cases_of(source.sections["training"])[:3] == ["p01_a", "p01_b", "p02_a"]
    assert source.sections["training"][9] == {
        "case": "p05_b",
        "image": str(folder / "images/p05_b.nii.gz"),
        "label": str(folder / "labels/p05_b.nii.gz"),
    }
    assert source.unlabelled == []


@pytest.mark.parametrize("suffixes", [("t2", "label"), ("_t2", "_label"), ("_t2.nii.gz", "_label.nii.gz")])
def test_one_folder_with_suffixes(tmp_path, suffixes):
    for case in ("x_01", "x_02"):
        write_pair(tmp_path / f"{case}_t2.nii.gz", tmp_path / f"{case}_label.nii.gz", 1)
    (tmp_path / ".x_03_t2.nii.gz").touch()
    (tmp_path / "x_04_t2.txt").touch()
    source = read_folder(tmp_path, CHAOS, *suffixes)
    assert cases_of(source.sections["training"]) == ["x_01", "x_02"]
    assert source.sections["training"][1]["label"] == str(tmp_path / "x_02_label.nii.gz")


def test_a_suffix_ends_at_a_separator(tmp_path):
    write_pair(tmp_path / "a_t2.nii", tmp_path / "a_label.nii", 1)
    write_pair(tmp_path / "b_not2.nii", None, 1)
    source = read_folder(tmp_path, CHAOS, "t2", "label")
    assert cases_of(source.sections["training"]) == ["a"]
    assert source.unlabelled == []


def test_files_called_by_the_suffix_alone_take_the_folders_name(tmp_path):
    write_pair(tmp_path / "one/image.nii.gz", tmp_path / "one/label.nii.gz", 1)
    assert cases_of(read_folder(tmp_path / "one", CHAOS, "image", "label").sections["training"]) == ["one"]
    write_pair(tmp_path / "two words/image.nii.gz", tmp_path / "two words/label.nii.gz", 1)
    source = read_folder(tmp_path, CHAOS, "image", "label")
    assert cases_of(source.sections["training"]) == ["one", "two_words"]


def test_images_without_label_map_are_set_aside(folder):
    (folder / "labels/p02_b.nii.gz").unlink()
    source = read_folder(folder, CHAOS)
    assert len(source.sections["training"]) == 9
    assert cases_of(source.unlabelled) == ["p02_b"]


def test_label_maps_without_image_are_told(folder):
    (folder / "images/p02_b.nii.gz").unlink()
    with pytest.raises(InputError, match="1 label maps have no image: .*labels/p02_b.nii.gz"):
        read_folder(folder, CHAOS)


def test_folders_that_hold_no_pairs(folder, tmp_path):
    with pytest.raises(InputError, match="missing' is no folder"):
        read_folder(tmp_path / "missing", CHAOS)
    with pytest.raises(InputError, match="has no folder images/; legal: images/ and labels/.*or --image_suffix"):
        read_folder(tmp_path, CHAOS)
    with pytest.raises(InputError, match="give both"):
        read_folder(folder, CHAOS, "t2")
    with pytest.raises(InputError, match="no image has a label map; images: none; label maps: none"):
        read_folder(folder, CHAOS, "t2", "label")
    shutil.copy(folder / "images/p01_a.nii.gz", folder / "images/p01_a.nii")
    with pytest.raises(InputError, match="are both case 'p01_a'; keep one"):
        read_folder(folder, CHAOS)


def test_label_tables_from_files(tmp_path):
    (tmp_path / "a.yaml").write_text("background: 0\nLiver: 3\nkidney_left: 7\n")
    assert read_labels(str(tmp_path / "a.yaml")) == {"liver": 3, "left kidney": 7}
    write_json(tmp_path / "b.json", {"0": "clear", "3": "Liver", "7": "postcava"})
    assert read_labels(str(tmp_path / "b.json")) == {"liver": 3, "inferior vena cava": 7}
    assert read_labels("AMOS22")["spleen"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{liver: 0}", "id of 'liver' is 0; legal"),
        ("{liver: 1, spleen: 1}", "id 1 belongs to both"),
        ("{liver: 1, Liver: 2}", "ids 1 and 2 are both called 'liver'"),
        ("{liver: [1, 2]}", r"label 'liver' is the region \[1, 2\]"),
        ("{liver: 1, ignore: 2}", "the label 'ignore' .2. is not supported"),
        ("{liver: one}", "id of 'liver' is 'one'"),
        ("{background: 0}", "at least one organ"),
        ("[liver]", r"labels are \['liver'\]; legal is {organ: id}"),
        ("{liver: 1", "is neither JSON nor YAML"),
    ],
)
def test_label_files_that_are_no_table(tmp_path, text, said):
    (tmp_path / "labels.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_labels(str(tmp_path / "labels.yaml"))


def test_label_files_that_are_not_there():
    with pytest.raises(InputError, match="--labels 'nothing.json' cannot be read: No such file"):
        read_labels("nothing.json")
    with pytest.raises(InputError, match="--labels: unknown label table 'chaos'.*or a .json or .yaml file"):
        read_labels("chaos")


def test_nnunet(nnunet):
    source = read_nnunet(nnunet)
    assert source.labels == ORGANS
    assert source.about == {"name": "Dataset702_AbdomenMR"}
    assert cases_of(source.sections["training"]) == ["MR_000", "MR_001", "MR_002"]
    assert source.sections["training"][0]["image"] == str(nnunet / "imagesTr/MR_000_0000.nii.gz")
    assert source.sections["test"] == [
        {
            "case": "MR_008",
            "image": str(nnunet / "imagesTs/MR_008_0000.nii.gz"),
            "label": str(nnunet / "labelsTs/MR_008.nii.gz"),
        }
    ]
    assert cases_of(source.unlabelled) == ["test_MR_001"]  # imagesTr has another MR_001


def test_nnunet_without_test_images(nnunet):
    shutil.rmtree(nnunet / "imagesTs")
    assert read_nnunet(nnunet).sections["test"] == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"channel_names": {"0": "T1", "1": "T2"}}, r"2 channels \(T1, T2\); only one channel is supported"),
        ({"labels": {"background": 0, "kidneys": [2, 3]}}, r"label 'kidneys' is the region \[2, 3\]"),
        ({"labels": None}, "labels are None; legal is {organ: id}"),
        ({"numTraining": 60}, "numTraining is 60, but there are 3 pairs"),
        ({"file_ending": ".gif"}, "file_ending '.gif'; legal: .nii.gz, .nii"),
        ({"file_ending": ".nrrd"}, "no image has a label map"),
    ],
)
def test_nnunet_descriptions_that_cannot_be_used(nnunet, values, said):
    change(nnunet / "dataset.json", **values)
    with pytest.raises(InputError, match=said):
        read_nnunet(nnunet)


def test_nnunet_folders_that_do_not_fit(nnunet):
    shutil.copy(nnunet / "imagesTr/MR_000_0000.nii.gz", nnunet / "imagesTr/MR_000_0001.nii.gz")
    with pytest.raises(InputError, match="imagesTr: MR_000_0001.nii.gz: only one channel is supported, <case>_0000"):
        read_nnunet(nnunet)
    shutil.rmtree(nnunet / "imagesTr")
    with pytest.raises(InputError, match="imagesTr' is no folder"):
        read_nnunet(nnunet)
    (nnunet / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="dataset.json' is not JSON"):
        read_nnunet(nnunet)
    (nnunet / "dataset.json").write_text("[]")
    with pytest.raises(InputError, match="holds a list; legal is an object"):
        read_nnunet(nnunet)
    (nnunet / "dataset.json").unlink()
    with pytest.raises(InputError, match="dataset.json' cannot be read: No such file"):
        read_nnunet(nnunet)


def test_msd(msd):
    for given in (msd, msd / "dataset.json"):
        source = read_msd(given)
        assert source.labels == ORGANS
        assert source.about == {"name": "AMOS", "description": "a small one", "licence": "CC-BY 4.0"}
        assert [cases_of(source.sections[s]) for s in ("training", "validation", "test")] == [
            ["a_0501", "a_0001"],
            ["a_0502"],
            [],
        ]
        assert cases_of(source.unlabelled) == ["a_0600", "a_0601"]
        assert source.sections["training"][0]["label"] == str(msd / "labelsTr/a_0501.nii.gz")
        check_files_exist(source)


def test_modality_is_taken_from_the_description(msd):
    change(msd / "dataset.json", modality={"0": "CT"})
    assert read_msd(msd).about["modality"] == "CT"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"modality": {"0": "T2", "1": "ADC"}}, r"2 channels \(T2, ADC\); only one"),
        ({"training": {"a": 1}}, "training is dict; legal is a list"),
        ({"training": [3]}, r"training\[0\] is 3; legal is {\"image\": path"),
        ({"training": [{"label": "x"}]}, r"training\[0\] is {'label': 'x'}"),
        ({"numTraining": 3}, "numTraining is 3, but 2 training cases are listed"),
        ({"labels": {"0": "background", "1": "liver", "2": "Liver"}}, "ids 1 and 2 are both called 'liver'"),
    ],
)
def test_msd_descriptions_that_cannot_be_used(msd, values, said):
    change(msd / "dataset.json", **values)
    with pytest.raises(InputError, match=said):
        read_msd(msd)


def test_missing_files_are_counted_and_named(msd):
    (msd / "labelsTr/a_0001.nii.gz").unlink()
    (msd / "imagesTs/a_0600.nii.gz").unlink()
    with pytest.raises(InputError, match="2 of 8 files do not exist: .*labelsTr/a_0001.nii.gz, .*imagesTs/a_0600"):
        check_files_exist(read_msd(msd))
