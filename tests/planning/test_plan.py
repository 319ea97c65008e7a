"""Plans: hand-made fingerprints with known answers, memory that was counted, overlays that train."""

from __future__ import annotations

import pytest
import torch
import yaml
from helpers_bundle import BUNDLE, training, write_cases
from monai.bundle import ConfigParser
from swin_umamba.errors import InputError
from swin_umamba.models import read_spec
from swin_umamba.networks import build_network
from swin_umamba.planning import (
    CaseFingerprint,
    Fingerprint,
    memory_at_hand,
    plan_training,
    training_memory,
    write_overlay,
)
from swin_umamba.planning.__main__ import main
from swin_umamba.planning.memory import GIB, check_memory
from test_overlays import unknown_keys
from torch import nn

BASE = ConfigParser.load_config_file(BUNDLE / "configs" / "train.yaml")
LABELS = {"spleen": 7, "left kidney": 3, "bladder": 9}


def case(number: int, spacing=(1.0, 1.0, 5.0), size=(300, 260, 20), **voxels) -> CaseFingerprint:
    voxels = {"spleen": 900, "left kidney": 80, "bladder": 0, **voxels}
    return CaseFingerprint(
        case=f"c{number}", patient=f"p{number}", orientation="RAS", spacing=spacing, size=size,
        intensity={"p50": 100.0 * number, "mean": 1.0}, voxels=voxels, slices=dict.fromkeys(voxels, 2),
    )  # fmt: skip


def fingerprint(*cases: CaseFingerprint, validation: int = 1) -> Fingerprint:
    sections = {"training": len(cases), "validation": validation, "test": 0}
    about = {"name": "ours", "licence": "CC0-1.0", "modality": "MR"}
    return Fingerprint(source="data.json", about=about, labels=LABELS, sections=sections, cases=list(cases))


def plan(found: Fingerprint, gigabytes: float = 8.0, **more):
    """Return the plan as {key: (value, reason)}."""
    more = {"network": "swin_umamba_d_tiny", **more}
    settings = plan_training(found, model_name="mine", memory=gigabytes * GIB, memory_source="test", **more)
    assert len({setting.key for setting in settings}) == len(settings)
    assert all(setting.reason.endswith(".") for setting in settings)
    return {setting.key: (setting.value, setting.reason) for setting in settings}


def test_spacing_is_the_median_and_the_patch_the_median_slice():
    found = fingerprint(
        case(1, (1.0, 2.0, 5.0), (300, 150, 20)),
        case(2, (1.5, 1.5, 6.0), (200, 200, 20)),
        case(3, (2.0, 1.0, 7.0), (150, 300, 20)),
    )
    planned = plan(found)
    value, reason = planned["spacing"]
    assert value == [1.5, 1.5]
    assert "1 to 2" in reason
    assert "5 to 7 mm apart" in reason
    assert planned["roi_size"][0] == [224, 224]  # 200 x 200 pixels at 1.5 mm, up to multiples of 32
    assert planned["licence"][0] == "CC0-1.0"


def test_organs_that_no_case_shows_are_left_out():
    value, reason = plan(fingerprint(case(1), case(2)))["labels"]
    assert value == {"left kidney": 1, "spleen": 2}  # by the ids of the files
    assert "no case shows them: bladder" in reason
    assert "left kidney (2), spleen (2)" in reason
    with pytest.raises(InputError, match="no label map holds any of left kidney, spleen, bladder"):
        plan(fingerprint(case(1, spleen=0, **{"left kidney": 0})))


def test_sides_are_not_mirrored():
    planned = plan(fingerprint(case(1)))
    assert planned["augmentation#flip#prob_x"] == (
        0.0,
        "Left and right differ (left kidney); mirror images would teach the opposite.",
    )
    assert "augmentation#flip#prob_x" not in plan(fingerprint(case(1, **{"left kidney": 0})))


def test_slices_that_are_not_axial_are_told():
    assert "Beware" not in plan(fingerprint(case(1)))["spacing"][1]
    assert "Beware: 1 cases were not acquired in axial slices (c2)" in plan(
        fingerprint(case(1), case(2, (1.0, 6.0, 1.0), (300, 40, 260)))
    )["spacing"][1]  # fmt: skip


def test_batch_follows_memory_and_data():
    """At most 5 % of the pixels: 40 slices of 300 x 260 make 1.59 patches of 320 x 288 and thus the least, 4."""
    few = fingerprint(case(1), case(2))
    assert plan(few, 8.0)["batch_size"][0] == 4
    many = fingerprint(*(case(n, size=(300, 260, 60)) for n in range(40)))
    large, small = (plan(many, gigabytes)["batch_size"][0] for gigabytes in (8.0, 0.5))
    assert large == 64
    assert 4 <= small < large
    memory = training_memory(build_network("swin_umamba_d_tiny", in_channels=1, out_channels=3), 1, half=True)
    assert memory.needed((320, 288), small) <= 0.85 * 0.5 * GIB < memory.needed((320, 288), small + 2)


def test_patch_shrinks_before_the_batch_does():
    planned = plan(fingerprint(*(case(n, size=(300, 260, 60)) for n in range(40))), 0.12)
    assert planned["batch_size"][0] == 4
    assert planned["roi_size"][0] < [320, 288]
    assert "slices go in windows" in planned["roi_size"][1]
    with pytest.raises(
        InputError, match="0.01 GiB of memory hold no batch of 4 slices of 64 x 64 of swin_umamba_d_tiny"
    ):
        plan(fingerprint(case(1)), 0.01)


def test_network_follows_the_number_of_patients():
    planned = plan(fingerprint(case(1), case(2)), network=None)
    assert planned["network_name"][0] == "swin_umamba_small"
    assert planned["network_name"][1].startswith("2 patients, fewer than 30")
    assert (planned["learning_rate"][0], planned["slices_per_volume"][0]) == (7e-4, 2)
    with pytest.raises(InputError, match="--network 'unet': legal: swin_umamba, "):
        plan(fingerprint(case(1)), network="unet")


def test_without_validation_cases():
    assert plan(fingerprint(case(1), validation=0))["validate_during_training"][0] is False
    assert "validate_during_training" not in plan(fingerprint(case(1)))


def test_memory_is_what_autograd_keeps():
    """A 1x1 convolution keeps its input, ReLU its output; float32, and bytes for each pixel of a batch."""
    network = nn.Sequential(nn.Conv2d(1, 5, 1), nn.ReLU())
    memory = training_memory(network, 1, half=False)
    assert memory.per_pixel == pytest.approx(1.35 * (4 * 1 + 4 * 5))
    assert memory.fixed == pytest.approx(16 * 10)
    assert memory.batch_size((10, 10), memory.needed((10, 10), 7)) == 7
    assert memory.batch_size((10, 10), 0) == 0


def test_memory_at_hand():
    amount, source = memory_at_hand()
    assert amount > 0
    assert ("no GPU" in source) != torch.cuda.is_available()
    assert check_memory(2) == 2 * GIB
    with pytest.raises(InputError, match="--memory_gb -1: legal: a number above 0"):
        check_memory(-1)


def test_overlay_is_read_by_people_and_by_monai(tmp_path):
    settings = plan_training(
        fingerprint(case(1)), model_name="mine", memory=GIB, memory_source="test", network="swin_umamba_d_tiny"
    )
    overlay, facts = write_overlay(tmp_path / "mine.yaml", settings, fingerprint(case(1)))
    plain = ConfigParser.load_config_file(overlay)
    assert unknown_keys(plain, BASE) == []
    assert plain == {setting.key: setting.value for setting in settings}
    text = overlay.read_text(encoding="utf-8")
    assert "# spleen                             0.0577%       1       2" in text
    assert all(len(line) <= 120 for line in text.splitlines() if "monai.bundle" not in line)
    assert yaml.safe_load(facts.read_text(encoding="utf-8"))["cases"][0]["case"] == "c1"
    with pytest.raises(InputError, match="is there already, perhaps with changes of yours"):
        write_overlay(overlay, settings, fingerprint(case(1)))
    with pytest.raises(InputError, match="legal: a name that ends in .yaml"):
        write_overlay(tmp_path / "mine.json", settings, fingerprint(case(1)))


def test_a_planned_training_runs(tmp_path, capsys):
    datalist = write_cases(tmp_path / "data", {"training": 2, "validation": 1})
    overlay = tmp_path / "mine.yaml"
    assert main([str(datalist), "--output", str(overlay), "--memory_gb", "1", "--network", "swin_umamba_d_tiny"]) == 0
    assert f"'{overlay}']\" --bundle_root bundle --datalist {datalist}" in capsys.readouterr().out
    given = {key: value for key, value in ConfigParser.load_config_file(overlay).items() if "epochs" not in key}
    training(tmp_path, datalist, **{**given, "iterations_per_epoch": 1}).run()
    spec = read_spec(tmp_path / "model")
    assert (spec.name, spec.labels, spec.spacing, spec.roi_size) == (
        "mine", {"liver": 1, "spleen": 2}, (1.5, 1.5), (64, 64),
    )  # fmt: skip
