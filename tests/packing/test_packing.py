"""What a packed bundle holds and says."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from helpers_bundle import BUNDLE, LABELS, write_model
from monai.bundle import ConfigParser, verify_metadata
from swin_umamba.errors import InputError
from swin_umamba.models import load_model
from swin_umamba.packing import pack
from swin_umamba.packing.__main__ import main
from test_overlays import unknown_keys

SCHEMA = Path(__file__).parents[1] / "fixtures" / "bundle" / "metadata_schema.json"
ABOUT = {
    "version": "1.2.3",
    "description": "Liver and spleen.",
    "licence": "CC BY-NC-SA 4.0",
    "spacing": (1.25, 1.5),
    "roi_size": (96, 64),
    "training": {"data": "ours"},
    "scores": {"dice": 0.9},
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A bundle packed with TorchScript and unpacked again, and the model that went in."""
    folder = tmp_path_factory.mktemp("packed")
    model = write_model(folder / "model", **ABOUT)
    packed = pack(model, folder / "organs_mr.zip", include=["torchscript"])
    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(folder / "there")
    assert sorted(path.name for path in (folder / "there").iterdir()) == ["organs_mr"]
    return folder / "there" / "organs_mr", load_model(model)


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_bundle_has_every_file_that_the_specification_names(unpacked):
    root, _ = unpacked
    for name in ("LICENSE", "configs/metadata.json", "configs/inference.yaml", "configs/train.yaml", "models/model.pt",
                 "models/model.yaml", "models/model.ts", "docs/README.md", "docs/data_license.txt",
                 "swin_umamba/models.py", "swin_umamba/model_schema.json"):  # fmt: skip
        assert (root / name).stat().st_size > 0, name
    assert "Apache License" in (root / "LICENSE").read_text(encoding="utf-8")
    assert not list(root.rglob("__pycache__"))


def test_metadata_tell_of_this_model(unpacked):
    root, model = unpacked
    plain = read_json(root / "configs/metadata.json")
    image, pred = plain["network_data_format"]["inputs"]["image"], plain["network_data_format"]["outputs"]["pred"]
    assert (image["num_channels"], image["spatial_shape"], image["channel_def"]) == (1, [96, 64], {"0": "image"})
    assert (pred["num_channels"], pred["spatial_shape"]) == (3, [96, 64])
    assert pred["channel_def"] == {"0": "background", "1": "liver", "2": "spleen"}
    assert (plain["name"], plain["version"], list(plain["changelog"])) == ("organs_mr", "1.2.3", ["1.2.3"])
    assert (plain["description"], plain["data_source"]) == ("Liver and spleen.", "ours")
    assert plain["eval_metrics"] == {"dice": 0.9}
    assert "13 organs" not in json.dumps(plain)


def test_metadata_pass_monai_s_own_check(unpacked, tmp_path):
    root, _ = unpacked
    schema = tmp_path / "schema.json"
    schema.write_bytes(SCHEMA.read_bytes())  # MONAI fetches none where one is
    for metadata in (root / "configs/metadata.json", BUNDLE / "configs/metadata.json"):
        verify_metadata(meta_file=str(metadata), filepath=str(schema))
    plain = read_json(root / "configs/metadata.json")
    del plain["network_data_format"]["outputs"]["pred"]["value_range"]
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(ValueError, match="'value_range' is a required property"):
        verify_metadata(meta_file=str(broken), filepath=str(schema))


def test_documents_tell_of_this_model(unpacked):
    root, _ = unpacked
    readme = (root / "docs/README.md").read_text(encoding="utf-8")
    for part in ("# organs_mr", "| 1 | liver |", "at 1.25 x 1.5 mm", "CC BY-NC-SA 4.0", "not for clinical use",
                 "`model.ts`", "dice: 0.9"):  # fmt: skip
        assert part in readme
    assert "model.onnx" not in readme
    licence = (root / "docs/data_license.txt").read_text(encoding="utf-8")
    assert licence.startswith("Weights of tiny 1.2.3: CC BY-NC-SA 4.0\nTrained on: ours\n")


def test_weights_are_the_model_s(unpacked):
    root, model = unpacked
    packed = load_model(root / "models")
    assert packed.spec == model.spec
    image = torch.randn(2, 1, 40, 52)
    with torch.no_grad():
        expected = model.network(image)
        assert torch.equal(packed.network(image), expected)
        torch.testing.assert_close(torch.jit.load(root / "models/model.ts")(image), expected, rtol=1e-4, atol=1e-4)


def test_training_goes_on_from_the_packed_model(unpacked):
    root, _ = unpacked
    overlay = ConfigParser.load_config_file(root / "configs/continue_training.yaml")
    base = ConfigParser.load_config_file(root / "configs/train.yaml")
    assert unknown_keys(overlay, base) == []
    assert (overlay["labels"], overlay["roi_size"], overlay["network_name"]) == (LABELS, [96, 64], "swin_umamba_d_tiny")
    assert yaml.safe_load((root / "models/model.yaml").read_text(encoding="utf-8"))["labels"] == overlay["labels"]


def test_several_channels(tmp_path):
    network = {"name": "swin_umamba_d_tiny", "arguments": {"in_channels": 3}}
    packed = pack(write_model(tmp_path / "model", network=network), tmp_path / "three.zip", name="three_slices")
    with zipfile.ZipFile(packed.path) as archive:
        image = json.loads(archive.read("three_slices/configs/metadata.json"))["network_data_format"]["inputs"]["image"]
    assert (image["num_channels"], sorted(image["channel_def"])) == (3, ["0", "1", "2"])


def test_a_model_of_photographs_says_so(tmp_path):
    network = {"name": "swin_umamba_d_tiny", "arguments": {"in_channels": 3}}
    packed = pack(write_model(tmp_path / "model", modality="GM", network=network), tmp_path / "cells.zip")
    with zipfile.ZipFile(packed.path) as archive:
        readme, metadata = (
            archive.read(f"cells/{name}").decode() for name in ("docs/README.md", "configs/metadata.json")
        )
    assert "on photographs (microscopy)." in readme
    assert "`IMAGES` is a photograph (.png, .jpg" in readme
    assert "| id | label |" in readme
    assert json.loads(metadata)["data_type"].startswith(".png, .jpg")
    for word in ("NIfTI", "DICOM", "axial", "organ", "volume"):
        assert word not in readme + metadata, word


def test_the_same_model_gives_the_same_file(tmp_path):
    model = write_model(tmp_path / "model")
    first, second = (pack(model, tmp_path / f"{name}.zip", name="same").path for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_the_command(tmp_path, capsys):
    model = write_model(tmp_path / "model")
    assert main([str(model), "--output", str(tmp_path / "organs.zip"), "--include", "torchscript"]) == 0
    said = capsys.readouterr().out
    assert "bundle organs, " in said
    assert "models/model.pt, models/model.ts, models/model.yaml" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"output": "organs.tar"}, "legal: a name that ends in .zip"),
        ({"output": "my organs.zip"}, "name of the bundle 'my organs': legal: letters, digits, _ and -"),
        ({"include": ["tensorrt"]}, "--include tensorrt: legal: torchscript, onnx"),
        ({"model": "nothing"}, "has no model.yaml"),
    ],
)
def test_what_cannot_be_packed(tmp_path, more, said):
    given = {"output": "organs.zip", **more}
    model = tmp_path / given.pop("model", "model")
    if "model" not in more:
        write_model(model)
    with pytest.raises(InputError, match=said):
        pack(model, tmp_path / given.pop("output"), **given)
    assert not list(tmp_path.glob("*.zip")) + list(tmp_path.glob(".*"))


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments: object) -> None:
        raise InputError("no")

    monkeypatch.setattr("swin_umamba.onnx_export.export_onnx", fail)
    with pytest.raises(InputError, match="no"):
        pack(write_model(tmp_path / "model"), tmp_path / "organs.zip", include=["onnx"])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
