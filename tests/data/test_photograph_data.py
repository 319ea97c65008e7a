"""EndoVis17, the NeurIPS cells and nnU-Net's folders of photographs, as distributed, in small."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from helpers_data import write_json
from helpers_photographs import FRAME, TOOLS, cells_of, frame_of, save, types_of, write_cells, write_endovis
from swin_umamba.data import load_datalist
from swin_umamba.data.__main__ import main
from swin_umamba.data.endovis import instrument_id
from swin_umamba.errors import InputError
from swin_umamba.instances import classes_of
from swin_umamba.photographs import read_photograph


def make(form, source, output, *options):
    assert main(["datalist", form, str(source), "--output", str(output), *map(str, options)]) == 0
    return json.loads(output.read_text(encoding="utf-8"))


def names(plain):
    return {section: [item["case"] for item in plain[section]] for section in ("training", "validation", "test")}


def test_endovis_becomes_types_of_instruments(tmp_path, capsys):
    source, output = write_endovis(tmp_path / "endovis", test_frames=2), tmp_path / "lists" / "endovis.json"
    plain = make("endovis17", source, output, "--validation_patients", "07")
    assert names(plain) == {
        "training": [f"endovis17_0{n}_frame00{k}" for n in (1, 2) for k in (0, 1)],
        "validation": ["endovis17_07_frame000", "endovis17_07_frame001"],
        "test": ["endovis17_01_frame225", "endovis17_01_frame226"],
    }
    assert plain["modality"] == "ES"
    assert plain["test"][0]["patient"] == "01_test"
    for section, sequences in {"training": (1, 1, 2, 2), "validation": (7, 7)}.items():
        for number, (item, sequence) in enumerate(zip(load_datalist(output, section), sequences, strict=True)):
            frame, masks = frame_of(sequence, number % 2)
            np.testing.assert_array_equal(read_photograph(item["image"]), frame)
            np.testing.assert_array_equal(read_photograph(item["label"]), types_of(sequence, masks))
            assert "left_frames" in item["image"]
    test = load_datalist(output, "test")[1]
    np.testing.assert_array_equal(read_photograph(test["label"]), types_of(1, frame_of(1, 6)[1]))
    said = capsys.readouterr().out
    assert "['bundle/configs/train.yaml','configs/endoscopy.yaml']" in said
    assert main(["check", str(output)]) == 0
    assert "no problems" in capsys.readouterr().out


def test_every_instrument_has_the_id_of_the_paper():
    assert {folder: instrument_id(folder) for tools in TOOLS.values() for folder in tools} == {
        folder: number for tools in TOOLS.values() for folder, number in tools.items()
    }
    with pytest.raises(InputError, match="masks in 'Left_Hook_labels': no known instrument; legal: bipolar forceps"):
        instrument_id("Left_Hook_labels")


def test_test_frames_without_types_are_unlabelled(tmp_path, capsys):
    source = write_endovis(tmp_path / "endovis", test_frames=2)
    for file in source.rglob("TypeSegmentation/frame225.png"):
        file.unlink()
    assert len(make("endovis17", source, tmp_path / "a.json")["test"]) == 1
    assert "1 images without label map were left out" in capsys.readouterr().out
    assert len(make("endovis17", source, tmp_path / "b.json", "--keep_unlabelled")["test"]) == 2


def test_bad_endovis_is_named_and_nothing_is_written(tmp_path):
    source = write_endovis(tmp_path / "endovis")
    masks = source / "instrument_1_4_training" / "instrument_dataset_1" / "ground_truth"
    (masks / "Other_labels" / "frame001.png").unlink()
    save(masks / "Left_Prograsp_Forceps_labels" / "frame000.png", np.zeros((30, 30), np.uint8))
    (masks / "Maryland_Bipolar_Forceps_labels" / "frame000.png").write_text("no image")
    with pytest.raises(InputError) as caught:
        make("endovis17", source, tmp_path / "a.json")
    message = str(caught.value)
    assert f"{masks / 'Other_labels' / 'frame001.png'} is missing" in message
    assert "Maryland_Bipolar_Forceps_labels/frame000.png cannot be read" in message
    assert not (tmp_path / "a_labels").exists()
    (masks / "Hook_labels").mkdir()
    with pytest.raises(InputError, match="masks in 'Hook_labels'"):
        make("endovis17", source, tmp_path / "a.json")
    with pytest.raises(InputError, match="holds no instrument_dataset_<n>/left_frames; legal: EndoVis17"):
        make("endovis17", masks, tmp_path / "a.json")


def test_size_of_masks_and_ids_of_types_are_looked_at(tmp_path):
    source = write_endovis(tmp_path / "endovis", test_frames=1)
    place = source / "instrument_1_4_training" / "instrument_dataset_2" / "ground_truth"
    small = save(place / "Monopolar_Curved_Scissors_labels" / "frame000.png", np.zeros((30, 30), np.uint8))
    with pytest.raises(InputError, match=f"{small.name} has 30 x 30 pixels; legal is its frame's 40 x 56"):
        make("endovis17", source, tmp_path / "a.json")
    save(small, np.zeros(FRAME, np.uint8))
    (types,) = source.rglob("TypeSegmentation/*.png")
    save(types, np.full(FRAME, 8, np.uint8))
    with pytest.raises(InputError, match="has the value 8; legal are ids of instruments, 0 to 7"):
        make("endovis17", source, tmp_path / "a.json")


def test_cells_become_interior_and_boundary(tmp_path, capsys):
    source, output = write_cells(tmp_path / "cells"), tmp_path / "cells.json"
    plain = make("cellseg", source, output)
    assert names(plain) == {
        "training": ["cell_00001", "cell_00002", "cell_00003"],
        "validation": ["validation_cell_00001"],
        "test": ["test_cell_00001"],
    }
    assert (plain["modality"], plain["labels"]) == ("GM", {"interior": 1, "boundary": 2})
    for number, item in enumerate(load_datalist(output, "training")):
        cells = cells_of(len("Training-labeled") + number)
        np.testing.assert_array_equal(read_photograph(item["label"]), classes_of(cells.astype(np.int32)))
        np.testing.assert_array_equal(read_photograph(item["instances"]), cells)
    said = capsys.readouterr().out
    assert "configs/microscopy.yaml" in said
    assert "1 images without label map were left out" in said
    assert main(["check", str(output)]) == 0


def test_one_part_of_the_cells_is_training(tmp_path):
    source = write_cells(tmp_path / "cells")
    assert len(make("cellseg", source / "Training-labeled", tmp_path / "a.json")["training"]) == 3


def test_bad_cells_are_named_and_nothing_is_written(tmp_path):
    source = write_cells(tmp_path / "cells")
    labels = source / "Training-labeled" / "labels"
    tifffile.imwrite(labels / "cell_00001_label.tiff", np.zeros((8, 8), np.uint16))
    (labels / "cell_00002_label.tiff").write_text("no image")
    tifffile.imwrite(labels / "cell_00009_label.tiff", np.zeros((8, 8), np.uint16))
    with pytest.raises(InputError) as caught:
        make("cellseg", source, tmp_path / "a.json")
    message = str(caught.value)
    assert "cell_00001_label.tiff has 8 x 8 pixels; legal is its image's 48 x 64" in message
    assert "cell_00002_label.tiff cannot be read" in message
    assert "cell_00009_label.tiff has no image in" in message
    assert not (tmp_path / "a_labels").exists()
    with pytest.raises(InputError, match="holds no folder images"):
        make("cellseg", labels, tmp_path / "a.json")
    with pytest.raises(InputError, match="no image has a file of cells, labels/<image>_label.tiff"):
        make("cellseg", source / "Training-unlabeled", tmp_path / "a.json")


def write_nnunet(root, channels, ending=".png"):
    for number in range(2):
        frame, masks = frame_of(1, number)
        save(root / "imagesTr" / f"frame_{number}_0000.png", frame)
        save(root / "labelsTr" / f"frame_{number}.png", types_of(1, masks))
    labels = {"background": 0, "Bipolar Forceps": 1, "Prograsp Forceps": 2, "Ultrasound Probe": 7}
    plain = {"channel_names": channels, "labels": labels, "numTraining": 2, "file_ending": ending}
    write_json(root / "dataset.json", plain)
    return root


def test_nnunet_folder_of_photographs(tmp_path):
    source = write_nnunet(tmp_path / "Dataset704_Endovis17", {"0": "R", "1": "G", "2": "B"})
    plain = make("nnunet", source, tmp_path / "a.json", "--modality", "ES")
    assert names(plain)["training"] == ["frame_0", "frame_1"]
    assert plain["labels"] == {"bipolar forceps": 1, "prograsp forceps": 2, "ultrasound probe": 7}
    assert main(["check", str(tmp_path / "a.json")]) == 0
    assert make("nnunet", source, tmp_path / "b.json")["modality"] == "XC"


def test_other_channels_and_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"3 channels \(T1, T2, PD\); only one channel is supported"):
        make("nnunet", write_nnunet(tmp_path / "a", {"0": "T1", "1": "T2", "2": "PD"}), tmp_path / "a.json")
    with pytest.raises(InputError, match=r"file_ending '.gif'; legal: .*\.mhd, \.png"):
        make("nnunet", write_nnunet(tmp_path / "b", {"0": "R"}, ".gif"), tmp_path / "a.json")
