"""Bad files reach the user of a training and of an inference as one `InputError` that names them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from helpers_bundle import AFFINE, BUNDLE, training, volume, write_cases, write_model
from helpers_imaging import write_nifti
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.workflows import run_workflow

IMAGE, LABEL = "training0.nii.gz", "training0_label.nii.gz"


def error_of(action: Callable[[], object]) -> InputError:
    with pytest.raises((InputError, RuntimeError)) as caught:
        action()
    error = input_error_of(caught.value)
    assert error is not None, caught.value
    return error


def infer(image: Path, model: Path, output: Path, **overrides: object) -> list[dict]:
    settings = {"dataset_dir": str(image), "model": str(model), "output_dir": str(output), "device": "cpu"}
    run_workflow(["inference.yaml"], bundle_root=BUNDLE, **{**settings, **overrides})
    return json.loads((output / "report.json").read_text(encoding="utf-8"))["cases"]


def replace_image(folder: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    write_nifti(folder / IMAGE, voxels, affine)


def with_voxel(value: float) -> np.ndarray:
    image = volume(0)[0].astype(np.float32)
    image[3, 4, 2] = value
    return image


def with_spacing(folder: Path, name: str, spacing: float) -> None:
    """Write a spacing into the header of a file that has no other geometry."""
    image = nib.load(folder / name)
    header = image.header.copy()
    header["qform_code"] = header["sform_code"] = 0
    raw = bytearray(gzip.decompress((folder / name).read_bytes()))
    header["pixdim"][1:4] = spacing
    raw[:348] = header.binaryblock
    (folder / name).write_bytes(gzip.compress(bytes(raw)))


def truncate(folder: Path) -> None:
    data = (folder / IMAGE).read_bytes()
    (folder / IMAGE).write_bytes(data[: len(data) // 2])


def move_label(folder: Path) -> None:
    affine = AFFINE.copy()
    affine[1, 3] = 7.0
    write_nifti(folder / LABEL, volume(0)[1], affine)


IMAGES = {  # what is done to the first case of a training, and what its error says
    "missing": (lambda folder: (folder / IMAGE).unlink(), "files do not exist"),
    "empty": (lambda folder: (folder / IMAGE).write_bytes(b""), "cannot be read"),
    "no image": (lambda folder: (folder / IMAGE).write_bytes(b"hello"), "cannot be read"),
    "truncated": (truncate, "cannot be read"),
    "NaN": (lambda folder: replace_image(folder, with_voxel(np.nan)), "has 1 voxels that are NaN or infinite"),
    "infinite": (lambda folder: replace_image(folder, with_voxel(np.inf)), "has 1 voxels that are NaN or infinite"),
    "4D": (lambda folder: replace_image(folder, np.stack([volume(0)[0]] * 2, -1)), "2 channels"),
    "zero spacing": (lambda folder: with_spacing(folder, IMAGE, 0.0), "spacing of [0.0, 0.0, 0.0]; legal: above 0 mm"),
    "negative spacing": (
        lambda folder: with_spacing(folder, IMAGE, -1.5),
        "spacing of [-1.5, -1.5, -1.5]",
    ),
    "huge spacing": (lambda folder: with_spacing(folder, IMAGE, 5000.0), "spacing of [5000.0, 5000.0, 5000.0]"),
}
LABELS = {
    "other shape": (lambda f: write_nifti(f / LABEL, volume(0)[1][:-1], AFFINE), "(39, 36, 5) voxels, not (40, 36, 5)"),
    "other affine": (move_label, "its corners lie 7 mm away"),
    "unknown id": (lambda f: write_nifti(f / LABEL, 3 * volume(0)[1], AFFINE), "holds ids [3, 6] that its data list"),
    "fractions": (lambda f: write_nifti(f / LABEL, volume(0)[1] / np.float32(2), AFFINE), "values that are no whole"),
    "negative": (lambda f: write_nifti(f / LABEL, -volume(0)[1].astype(np.int16), AFFINE), "has ids -2 to 0"),
}


@pytest.mark.parametrize("name", [*IMAGES, *LABELS])
def test_training_names_the_bad_file_and_writes_no_model(tmp_path, name):
    datalist = write_cases(tmp_path / "data", {"training": 2, "validation": 1})
    damage, said = {**IMAGES, **LABELS}[name]
    damage(datalist.parent)
    workflow = training(tmp_path, datalist)
    message = str(error_of(workflow.run))
    assert said in message
    assert (IMAGE if name in IMAGES else LABEL) in message
    assert not list(tmp_path.rglob("model.*"))


@pytest.mark.parametrize("name", [name for name in IMAGES if name != "missing"])
def test_inference_names_the_bad_case_and_leaves_no_label_map(tmp_path, name):
    folder = write_cases(tmp_path / "data", {"training": 1}).parent
    IMAGES[name][0](folder)
    message = str(error_of(lambda: infer(folder / IMAGE, write_model(tmp_path / "model"), tmp_path / "out")))
    assert message.startswith("1 of 1 cases failed: training0: training0.nii.gz")
    assert IMAGES[name][1] in message
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "volumes.csv"}


@pytest.mark.parametrize("shape", [(20, 20, 1), (20, 20, 3), (33, 31, 2), (1, 40, 2)])
def test_small_images_just_work(tmp_path, shape):
    image = write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=shape).astype(np.float32), AFFINE)
    (case,) = infer(image, write_model(tmp_path / "model"), tmp_path / "out")
    assert case["status"] == "ok"
    assert nib.load(tmp_path / "out" / "a_seg.nii.gz").shape == shape


def test_a_constant_image_gives_an_empty_map_and_a_warning(tmp_path):
    image = write_nifti(tmp_path / "a.nii.gz", np.full((20, 20, 2), 7, np.int16), AFFINE)
    (case,) = infer(image, write_model(tmp_path / "model"), tmp_path / "out")
    said = "the image is constant: every voxel is 0; its label map is empty"
    assert case["warnings"] == [said, "no organ was found"]
    assert not np.asarray(nib.load(tmp_path / "out" / "a_seg.nii.gz").dataobj).any()


class Malice:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.path, "owned")


def other_network(model: Path, tmp_path: Path) -> None:
    other = {"name": "swin_umamba_tiny", "arguments": {"in_channels": 1}}
    (write_model(tmp_path / "other", network=other) / "model.pt").replace(model / "model.pt")


def other_classes(model: Path, tmp_path: Path) -> None:
    (write_model(tmp_path / "other", {"liver": 1}) / "model.pt").replace(model / "model.pt")


def rewrite(model: Path, **changes: object) -> None:
    plain = yaml.safe_load((model / "model.yaml").read_text(encoding="utf-8"))
    (model / "model.yaml").write_text(yaml.safe_dump({**plain, **changes}), encoding="utf-8")


def evil_yaml(model: Path, tmp_path: Path) -> None:
    text = f"name: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'owned'}]\n"
    (model / "model.yaml").write_text(text, encoding="utf-8")


MODELS = {
    "corrupt": (lambda model, _: (model / "model.pt").write_bytes(b"PK\3\4 nothing"), "model.pt"),
    "half": (lambda model, _: (model / "model.pt").write_bytes((model / "model.pt").read_bytes()[:5000]), "model.pt"),
    "no weights": (lambda model, _: (model / "model.pt").unlink(), "model.pt"),
    "other network": (other_network, "model.pt"),
    "other classes": (other_classes, "model.pt"),
    "code in the weights": (lambda model, t: torch.save({"w": Malice(t / "owned")}, model / "model.pt"), "model.pt"),
    "code in the description": (evil_yaml, "model.yaml is not plain YAML data"),
    "expression in the description": (lambda model, _: rewrite(model, network="$print(1)"), "model.yaml: network"),
    "unknown network": (lambda model, _: rewrite(model, network={"name": "unet"}), "unknown network 'unet'"),
    "unknown key": (lambda model, _: rewrite(model, lables={}), "'lables' was unexpected"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("checked", [True, False], ids=["sha256", "no sha256"])
def test_bad_models_are_refused_and_nothing_is_run_or_written(tmp_path, name, checked):
    image = write_cases(tmp_path / "data", {"training": 1}).with_name(IMAGE)
    model = write_model(tmp_path / "model")
    if not checked:  # the weights themselves have to show what they are
        rewrite(model, sha256="")
    damage, said = MODELS[name]
    damage(model, tmp_path)
    assert said in str(error_of(lambda: infer(image, model, tmp_path / "out")))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["corrupt", "other network", "other classes", "code in the weights"])
def test_training_refuses_such_a_checkpoint(tmp_path, name):
    datalist = write_cases(tmp_path / "data", {"training": 1, "validation": 1})
    weights = write_model(tmp_path / "start")
    MODELS[name][0](weights, tmp_path)
    workflow = training(tmp_path, datalist, checkpoint=str(weights / "model.pt"))
    assert "start/model.pt" in str(error_of(workflow.run))
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "model" / "model.pt").exists()


def test_the_folder_of_results_may_be_a_file(tmp_path):
    image = write_cases(tmp_path / "data", {"training": 1}).with_name(IMAGE)
    (tmp_path / "out").write_text("in the way")
    message = str(error_of(lambda: infer(image, write_model(tmp_path / "model"), tmp_path / "out")))
    assert message == f"folder '{tmp_path / 'out'}' cannot be written to: File exists"
    assert (tmp_path / "out").read_text() == "in the way"
