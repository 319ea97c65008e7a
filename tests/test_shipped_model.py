"""The model that comes with the repository: complete, as described, and able to segment on a CPU."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers_bundle import BUNDLE, write_model
from helpers_data import real_data
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from swin_umamba.inferers import AxialSliceInferer
from swin_umamba.models import default_model, file_sha256, load_model, read_spec
from swin_umamba.workflows import evaluate_model

FOLDER = BUNDLE.parent / "models" / "chaos_mri"


def test_files_are_what_model_yaml_says():
    spec = read_spec(FOLDER)
    weights = FOLDER / "model.pt"
    assert list(spec.labels.items()) == [("liver", 1), ("right kidney", 2), ("left kidney", 3), ("spleen", 4)]
    assert spec.licence == "CC BY-NC-SA 4.0"
    assert spec.sha256 == file_sha256(weights)
    assert weights.stat().st_size <= 16_000_000
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(
        text in card for text in (spec.sha256, spec.licence, f"chaos_mri {spec.version}", "not for clinical use")
    )
    assert all(f"{spec.scores['test'][key]:.3f}" in card for key in ("mean_dice", "mean_nsd"))


def test_half_precision_weights_become_float32_and_segment_a_small_volume():
    model = load_model(FOLDER)
    stored = torch.load(FOLDER / "model.pt", weights_only=True)
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16}
    assert {value.dtype for value in model.network.parameters()} == {torch.float32}
    volume = torch.randn(1, 1, 40, 36, 2, generator=torch.Generator().manual_seed(0))
    inferer = AxialSliceInferer(roi_size=model.spec.roi_size, spacing=model.spec.spacing)
    labels = inferer(MetaTensor(volume, affine=torch.diag(torch.tensor([2.5, 2.5, 6.0, 1.0]))), model.network)
    assert labels.shape == volume.shape
    assert int(labels.max()) <= 4


def test_inference_frames_small_slices_only_for_models_that_have_seen_a_frame(tmp_path):
    for model, framed in ((FOLDER, False), (write_model(tmp_path / "tiny"), True)):
        parser = ConfigParser()
        parser.read_config(BUNDLE / "configs" / "inference.yaml")
        parser.update({"model": str(model), "device": "cpu"})
        assert parser.get_parsed_content("inferer").frame is framed


def test_it_is_taken_where_nothing_was_trained(tmp_path):
    root = tmp_path / "bundle"
    assert default_model(root) == str(root / "models")
    shipped = tmp_path / "models" / "chaos_mri"
    shipped.mkdir(parents=True)
    (shipped / "model.yaml").write_text("", encoding="utf-8")
    assert default_model(root) == str(shipped.resolve())
    (root / "models").mkdir(parents=True)
    (root / "models" / "model.yaml").write_text("", encoding="utf-8")
    assert default_model(root) == str(root / "models")


@pytest.mark.data
def test_dice_on_a_validation_patient_and_the_same_when_stored_upside_down(tmp_path):
    folder = real_data("chaos_t2spir")
    image, label = (nib.load(folder / f"chaos_21_{kind}.nii.gz").slicer[..., ::2] for kind in ("t2spir", "label"))
    cases = {"asis": (image, label)}
    turned = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("RPI"))
    cases["turned"] = tuple(part.as_reoriented(turned) for part in (image, label))
    items = []
    for name, parts in cases.items():
        item = {"case": name, "patient": "21"}
        for kind, part in zip(("image", "label"), parts, strict=True):
            item[kind] = str(tmp_path / f"{name}_{kind}.nii.gz")
            nib.save(part, item[kind])
        items.append(item)
    content = {"labels": read_spec(FOLDER).labels, "training": [], "validation": items, "test": []}
    (tmp_path / "data.json").write_text(json.dumps(content), encoding="utf-8")
    report = evaluate_model(
        bundle_root=BUNDLE,
        model=FOLDER,
        datalist=tmp_path / "data.json",
        section="validation",
        output_dir=tmp_path / "out",
        picture=False,
    )
    assert report["mean"]["dice"] > 0.9
    found = [nib.load(tmp_path / "out" / f"{name}_seg.nii.gz") for name in cases]
    assert np.array_equal(np.asarray(found[0].as_reoriented(turned).dataobj), np.asarray(found[1].dataobj))
