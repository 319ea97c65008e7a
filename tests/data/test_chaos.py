"""CHAOS as distributed, in small: DICOM and PNG of a body whose sides are known, numbered from feet and from head."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pydicom
import pytest
from helpers_dicom import write_series
from helpers_imaging import PAINTED, STEP, affine_of, painted_volume
from monai.transforms import Orientation
from PIL import Image
from pydicom.uid import generate_uid
from swin_umamba.data.__main__ import main
from swin_umamba.data.chaos import read_chaos
from swin_umamba.data.check import check_dataset
from swin_umamba.data.datalist import load_datalist
from swin_umamba.errors import InputError
from swin_umamba.transforms import LoadVolumed

GREY = np.array([0, 63, 126, 189, 252], np.uint8)
SHAPE = (24, 20, 6)
SPACING = (1.5, 1.25, 7.7)
IMAGES = {"t2spir": "T2SPIR/DICOM_anon", "t1_in": "T1DUAL/DICOM_anon/InPhase", "t1_out": "T1DUAL/DICOM_anon/OutPhase"}


def body(patient: int) -> np.ndarray:
    """Return a label map (X, Y, Z) in LPS, another one for each patient."""
    labels = np.zeros(SHAPE, np.uint8)
    ras = painted_volume((40, 36, 12))[::2, ::2, ::2]  # (20, 18, 6)
    labels[:20, :18] = ras[::-1, ::-1]
    labels[:patient, 19, 0] = 1
    return labels


def write_chaos(root, patients=(1, 10), head_first=False, own_uids=False, **images):
    """Write patients as distributed: names run with the slices, from feet to head or from head to feet.

    T1-DUAL numbers its echoes in turns: odd is out of phase, even in phase, and PNGs are called after the latter.
    """
    for patient in patients:
        labels = body(patient)
        affine = affine_of("LPS", SPACING)
        order = list(range(SHAPE[2]))[:: -1 if head_first else 1]
        for name, place in (images or IMAGES).items():
            first, step = {"t2spir": (1, 1), "t1_in": (2, 2), "t1_out": (1, 2)}[name]
            folder = root / "MR" / str(patient) / place
            files = write_series(folder, STEP * labels, affine, keep=order, names="part{:05d}.dcm")
            for number, (file, k) in enumerate(zip(files, order, strict=True)):
                target = file.with_name(f"IMG-0004-{first + step * number:05d}.dcm")
                file.rename(target)
                if own_uids:
                    give_own_series(target)
                if name != "t1_out":
                    ground = root / "MR" / str(patient) / place.split("/")[0] / "Ground"
                    ground.mkdir(exist_ok=True)
                    Image.fromarray(GREY[labels[:, :, k].T]).save(ground / f"{target.stem}.png")
    return root


def give_own_series(file):
    header = pydicom.dcmread(file)
    header.SeriesInstanceUID = generate_uid()
    header.save_as(file)


def make(root, output, *options):
    return main(["datalist", "chaos", str(root), "--output", str(output), *options])


@pytest.mark.parametrize("head_first", [False, True])
@pytest.mark.parametrize("sequence", list(IMAGES))
def test_label_maps_lie_on_the_image(tmp_path, sequence, head_first):
    """Image and label map were painted from one body, so that they agree voxel by voxel, and with the body's sides."""
    output = tmp_path / "chaos.json"
    make(write_chaos(tmp_path / "Train_Sets", head_first=head_first), output, "--sequence", sequence)
    report = check_dataset(output)
    assert report.problems == []
    items = load_datalist(output, "training")
    assert [item["case"] for item in items] == [f"chaos_01_{sequence}", f"chaos_10_{sequence}"]
    for item in items:
        loaded = LoadVolumed(keys=["image", "label"], ensure_channel_first=True)(item)
        np.testing.assert_array_equal(loaded["image"].numpy(), STEP * loaded["label"].numpy())
        ras = Orientation("RAS", labels=None)(loaded["label"]).numpy()[0]
        np.testing.assert_array_equal(ras, body(int(item["patient"]))[::-1, ::-1])
        assert np.argwhere(ras == PAINTED["feet"])[:, 2].max() <= 1
        assert np.argwhere(ras == PAINTED["right"])[:, 0].mean() > np.argwhere(ras == PAINTED["left"])[:, 0].mean()


def test_all_sequences_of_a_patient_stay_together(tmp_path, capsys):
    output = tmp_path / "chaos.json"
    root = write_chaos(tmp_path / "CHAOS" / "Train_Sets", patients=(1, 2, 3, 10))
    make(tmp_path / "CHAOS", output, "--sequence", "t2spir,t1_in,t1_out", "--folds", "2")
    assert "6 cases     2 patients" in capsys.readouterr().out
    plain = json.loads((tmp_path / "chaos_fold1.json").read_text(encoding="utf-8"))
    assert (plain["labels"], plain["licence"]) == (
        {"liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4},
        "CC BY-NC-SA 4.0",
    )
    assert sorted(path.name for path in (tmp_path / "chaos_labels").iterdir()) == sorted(
        f"chaos_{p}_{s}.nii.gz" for p in ("01", "02", "03", "10") for s in IMAGES
    )
    assert (root / "MR/1/T2SPIR/Ground").is_dir()


def test_files_that_each_have_a_series_of_their_own(tmp_path):
    make(write_chaos(tmp_path / "Train_Sets", patients=(1,), own_uids=True), tmp_path / "chaos.json")
    assert check_dataset(tmp_path / "chaos.json").problems == []


def test_the_test_set_has_no_label_maps(tmp_path, capsys):
    write_chaos(tmp_path / "Train_Sets", patients=(1,))
    root = write_chaos(tmp_path / "Test_Sets", patients=(4,))
    for ground in list(root.rglob("Ground")):
        shutil.rmtree(ground)
    make(tmp_path, tmp_path / "chaos.json", "--keep_unlabelled")
    plain = json.loads((tmp_path / "chaos.json").read_text(encoding="utf-8"))
    assert [item["case"] for item in plain["test"]] == ["chaos_04_t2spir"]
    assert "label" not in plain["test"][0]


def test_each_offending_file_is_named(tmp_path):
    root = write_chaos(tmp_path / "Train_Sets", patients=(1, 10), t2spir=IMAGES["t2spir"])
    first, second = (root / "MR" / name / "T2SPIR" for name in ("1", "10"))
    (first / "Ground/IMG-0004-00002.png").unlink()
    (first / "Ground/IMG-0004-00003.png").rename(first / "Ground/IMG-0004-00033.png")
    Image.fromarray(np.full((20, 24), 80, np.uint8)).save(second / "Ground/IMG-0004-00001.png")
    Image.fromarray(np.zeros((20, 23), np.uint8)).save(second / "Ground/IMG-0004-00002.png")
    (second / "Ground/IMG-0004-00003.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        make(root, tmp_path / "chaos.json")
    said = str(caught.value)
    for part in (
        f"{first}/Ground/IMG-0004-00002.png is missing",
        f"{first}/Ground/IMG-0004-00003.png is missing",
        f"{first}/Ground/IMG-0004-00033.png has no DICOM file of its name",
        f"{second}/Ground/IMG-0004-00001.png has grey values [80]; legal are 0, 63, 126, 189, 252",
        f"{second}/Ground/IMG-0004-00002.png has 20 x 23 pixels; legal is its image's 20 x 24",
        f"{second}/Ground/IMG-0004-00003.png cannot be read",
    ):
        assert part in said
    assert not (tmp_path / "chaos.json").exists()
    assert not (tmp_path / "chaos_labels").exists()


def test_a_training_patient_without_label_maps_is_named(tmp_path):
    root = write_chaos(tmp_path / "Train_Sets", patients=(1, 2), t2spir=IMAGES["t2spir"])
    shutil.rmtree(root / "MR/2/T2SPIR/Ground")
    with pytest.raises(InputError, match=r"^.*MR/2/T2SPIR/Ground is missing$"):
        make(root, tmp_path / "chaos.json")


def test_missing_slices_are_noticed(tmp_path):
    root = write_chaos(tmp_path / "Train_Sets", patients=(1,), t2spir=IMAGES["t2spir"])
    (root / "MR/1/T2SPIR/DICOM_anon/IMG-0004-00003.dcm").unlink()
    with pytest.raises(InputError, match=r"MR/1/T2SPIR/DICOM_anon: about 1 missing slices"):
        make(root, tmp_path / "chaos.json")
    root = write_chaos(tmp_path / "Other", patients=(1,), t2spir=IMAGES["t2spir"])
    (root / "MR/1/T2SPIR/DICOM_anon/IMG-0004-00001.dcm").unlink()  # the first one leaves no gap
    with pytest.raises(InputError, match=r"Ground/IMG-0004-00001.png has no DICOM file of its name"):
        make(root, tmp_path / "chaos.json")


def test_an_echo_without_its_other(tmp_path):
    root = write_chaos(tmp_path / "Train_Sets", patients=(1,))
    (root / "MR/1/T1DUAL/DICOM_anon/InPhase/IMG-0004-00012.dcm").unlink()
    with pytest.raises(InputError, match=r"OutPhase/IMG-0004-00011.dcm has no slice of the other echo at its place"):
        make(root, tmp_path / "chaos.json", "--sequence", "t1_out")


def test_folders_and_sequences_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="--sequence 't3'; legal are t2spir, t1_in, t1_out"):
        read_chaos(tmp_path, tmp_path / "labels", ("t3",))
    with pytest.raises(InputError, match="holds no MR/<number> folders"):
        read_chaos(tmp_path, tmp_path / "labels", ("t2spir",))
    with pytest.raises(InputError, match="is no folder; legal: Train_Sets or Test_Sets"):
        read_chaos(tmp_path / "nothing", tmp_path / "labels", ("t2spir",))
    (tmp_path / "MR/1/T2SPIR/Ground").mkdir(parents=True)
    with pytest.raises(InputError, match="MR/1/T2SPIR/DICOM_anon is missing"):
        read_chaos(tmp_path / "MR", tmp_path / "labels", ("t2spir",))
