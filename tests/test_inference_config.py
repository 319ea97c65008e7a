from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
import swin_umamba
import torch
from helpers_commands import run_module
from helpers_dicom import PATIENT, write_series
from helpers_imaging import ORIENTATIONS, PAINTED, painted_in, ramp, threshold_network, write_nifti
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.transforms import Compose, LoadImaged
from swin_umamba.data.labels import LABEL_TABLES
from swin_umamba.dicom.segmentation import read_segmentation
from swin_umamba.dicom.structures import read_structures
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.models import ModelSpec, build_described_network, save_model

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "bundle" / "configs" / "inference.yaml"
METADATA = json.loads((ROOT / "bundle" / "configs" / "metadata.json").read_text(encoding="utf-8"))


def painting_model(labels: np.ndarray) -> SimpleNamespace:
    """Return what `load_model` would for a network that reads the label map back from `ramp(labels)`."""
    network = {"name": "swin_umamba_tiny"}
    spec = ModelSpec(name="painter", version="1.0.0", network=network, labels=PAINTED, roi_size=(32, 32))
    return SimpleNamespace(network=threshold_network(labels).eval(), spec=spec)


def infer(dataset: Path, output: Path, labels: np.ndarray, **overrides: Any) -> list[dict[str, Any]]:
    """Run the config with a painting network; return the report's cases."""
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    paths = {"bundle_root": str(ROOT / "bundle"), "dataset_dir": str(dataset), "output_dir": str(output)}
    parser.update({**paths, "device": "cpu", **overrides})
    parser["loaded_model"] = painting_model(labels)
    try:
        parser.get_parsed_content("run")
    except RuntimeError as error:
        raise input_error_of(error) or error from None
    return json.loads((output / "report.json").read_text())["cases"]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_label_map_is_exact_and_lies_where_the_image_lies(tmp_path: Path, orientation: str) -> None:
    labels, affine = painted_in(orientation)
    image = write_nifti(tmp_path / "in" / "a.nii.gz", ramp(labels), affine)
    infer(image, tmp_path / "out", labels, picture=False)
    written = nib.load(tmp_path / "out" / "a_seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels)
    np.testing.assert_array_equal(written.affine, nib.load(image).affine)
    assert written.get_data_dtype() == np.uint8


def test_clean_up_is_a_switch(tmp_path: Path) -> None:
    """A speck of 8 voxels, 40 mm from a liver of 4000, is taken away unless that is switched off."""
    labels = np.zeros((60, 40, 8), np.uint8)
    labels[2:22, 5:30, :] = PAINTED["right"]
    labels[50:52, 5:7, 3:5] = PAINTED["right"]
    for place, name in enumerate(("left", "front", "feet")):
        labels[26:32, 4 + 12 * place : 10 + 12 * place, 2:6] = PAINTED[name]
    write_nifti(tmp_path / "a.nii.gz", ramp(labels), np.diag([1.5, 1.5, 4.0, 1.0]))
    for wanted, voxels in ((True, 4000), (False, 4008)):
        (case,) = infer(tmp_path / "a.nii.gz", tmp_path / str(wanted), labels, clean_up=wanted, picture=False)
        assert case["volumes"]["right"]["voxels"] == voxels


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_nrrd_and_dicom_are_segmented_at_the_same_place(tmp_path: Path, orientation: str) -> None:
    labels, affine = painted_in(orientation)
    nifti = write_nifti(tmp_path / "a.nii.gz", ramp(labels), affine)
    (tmp_path / "in").mkdir()
    itk.imwrite(itk.imread(str(nifti)), str(tmp_path / "in" / "nrrd.nrrd"))
    write_series(tmp_path / "in" / PATIENT, ramp(labels).astype(float), affine)
    cases = infer(tmp_path / "in", tmp_path / "out", labels, picture=False)
    assert [case["status"] for case in cases] == ["ok", "ok"]
    expected = nib.as_closest_canonical(nib.Nifti1Image(labels, affine))
    for case in cases:
        written = nib.as_closest_canonical(nib.load(tmp_path / "out" / case["output"]))
        np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(expected.dataobj))
        np.testing.assert_allclose(written.affine, expected.affine, atol=1e-4)


@pytest.mark.parametrize("orientation", ["LPS", "SPR", "oblique coronal"])
def test_dicom_results_lie_where_the_nifti_result_lies(tmp_path: Path, orientation: str) -> None:
    labels, affine = painted_in(orientation)
    files = write_series(tmp_path / "in" / PATIENT, ramp(labels).astype(float), affine)
    cases = infer(tmp_path / "in", tmp_path / "out", labels, output_format="nifti,dicom_seg,rtstruct", picture=False)
    case = cases[0]["case"]
    names = {"nifti": f"{case}_seg.nii.gz", "dicom_seg": f"{case}_seg.dcm", "rtstruct": f"{case}_rtstruct.dcm"}
    assert cases[0]["outputs"] == names
    assert cases[0]["output"] == names["nifti"]
    expected = nib.as_closest_canonical(nib.load(tmp_path / "out" / names["nifti"]))
    assert np.count_nonzero(expected.dataobj) == np.count_nonzero(labels)
    for read, name in ((read_segmentation, "dicom_seg"), (read_structures, "rtstruct")):
        found = read(tmp_path / "out" / names[name], files)
        image = nib.as_closest_canonical(nib.Nifti1Image(found.numpy()[0], found.affine.numpy()))
        np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(expected.dataobj))
        np.testing.assert_allclose(image.affine, expected.affine, atol=1e-4)


def test_only_the_formats_that_are_named_are_written(tmp_path: Path) -> None:
    labels, affine = painted_in("LPS")
    write_series(tmp_path / "in", ramp(labels).astype(float), affine)
    (case,) = infer(tmp_path / "in", tmp_path / "out", labels, output_format="dicom_seg")
    expected = {f"{case['case']}_seg.dcm", f"{case['case']}_overlay.png", "report.json", "volumes.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    assert case["output"] == f"{case['case']}_seg.dcm"
    (case,) = infer(tmp_path / "in", tmp_path / "out2", labels, picture=False)
    assert {path.name for path in (tmp_path / "out2").iterdir()} == {case["output"], "report.json", "volumes.csv"}
    assert case["output"] == f"{case['case']}_seg.nii.gz"


def test_file_that_is_no_series_has_no_dicom_result_and_the_series_beside_it_has(tmp_path: Path) -> None:
    labels, affine = painted_in("LPS")
    write_nifti(tmp_path / "in" / "a.nii.gz", ramp(labels), affine)
    write_series(tmp_path / "in" / "series", ramp(labels).astype(float), affine)
    with pytest.raises(InputError, match="1 of 2 cases failed: a: output_format dicom_seg needs a DICOM series and a"):
        infer(tmp_path / "in", tmp_path / "out", labels, output_format="dicom_seg", picture=False)
    cases = {c["status"]: c for c in json.loads((tmp_path / "out" / "report.json").read_text())["cases"]}
    assert set(cases) == {"ok", "failed"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        cases["ok"]["output"],
        "report.json",
        "volumes.csv",
    }


def test_resampled_label_map_keeps_grid_sides_and_sizes(tmp_path: Path) -> None:
    labels, affine = painted_in("oblique")
    image = write_nifti(tmp_path / "a.nii.gz", ramp(labels), affine)
    parser_model = painting_model(labels)
    parser_model.spec.spacing = (0.75, 0.75)
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    parser.update({"dataset_dir": str(image), "output_dir": str(tmp_path / "out"), "device": "cpu", "picture": False})
    parser["loaded_model"] = parser_model
    parser.get_parsed_content("run")
    written = nib.load(tmp_path / "out" / "a_seg.nii.gz")
    np.testing.assert_array_equal(written.affine, nib.load(image).affine)
    inner = np.ones_like(labels, dtype=bool)  # where both neighbours along both axes of the slice have the same label
    for axis, shift in itertools.product((0, 1), (-1, 1)):
        inner &= np.roll(labels, shift, axis) == labels
    assert inner.mean() > 0.8
    assert set(np.unique(labels[inner])) == {0, *PAINTED.values()}
    np.testing.assert_array_equal(np.asarray(written.dataobj)[inner], labels[inner])


def test_report_and_table_tell_of_every_case_and_of_no_patient(tmp_path: Path) -> None:
    labels, affine = painted_in("LPS")
    data = tmp_path / "in" / PATIENT
    write_nifti(tmp_path / "in" / "good.nii.gz", ramp(labels), affine)
    write_nifti(tmp_path / "in" / "constant.nii", np.zeros_like(ramp(labels)), affine)
    write_nifti(tmp_path / "in" / "flat.nii", ramp(labels)[:, :, 5], affine)
    write_nifti(tmp_path / "in" / "four.nii", np.stack([ramp(labels)] * 2, -1), affine)
    write_series(data / "series", ramp(labels).astype(float), affine, names=f"{PATIENT}{{:d}}")
    write_series(data / "gap", ramp(labels).astype(float), affine, keep=[0, 1, 2, 4, 5], names=f"{PATIENT}{{:d}}")
    write_series(data / "scout", ramp(labels)[:, :, :1].astype(float), affine)
    (tmp_path / "in" / "broken.nii.gz").write_bytes(b"hello")
    with pytest.raises(InputError, match="3 of 7 cases failed") as caught:
        infer(tmp_path / "in", tmp_path / "out", labels)
    cases = {c["case"]: c for c in json.loads((tmp_path / "out" / "report.json").read_text())["cases"]}
    status = {name: case["status"] for name, case in cases.items() if not name.startswith("mr_")}
    assert status == {"good": "ok", "constant": "ok", "flat": "ok", "four": "failed", "broken": "failed"}
    assert sorted(case["status"] for name, case in cases.items() if name.startswith("mr_")) == [
        "failed",
        "ok",
        "skipped",
    ]
    said = "the image is constant: every voxel is 0; its label map is empty"
    assert cases["constant"]["warnings"] == [said, "no organ was found"]
    assert cases["constant"]["volumes"]["right"]["voxels"] == 0
    assert cases["broken"]["reason"].startswith("broken.nii.gz cannot be read")
    assert cases["good"]["model"] == "painter"
    assert nib.load(tmp_path / "out" / "flat_seg.nii.gz").shape == labels.shape[:2]
    with open(tmp_path / "out" / "volumes.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["case"] == "good"]
    assert {row["organ"]: int(row["voxels"]) for row in rows} == {
        k: int((labels == v).sum()) for k, v in PAINTED.items()
    }
    ok = [name for name, case in cases.items() if case["status"] == "ok"]
    expected = {f"{name}_{part}" for name in ok for part in ("seg.nii.gz", "overlay.png")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected | {"report.json", "volumes.csv"}
    texts = [str(caught.value), (tmp_path / "out" / "report.json").read_text(), *expected]
    assert not any(PATIENT in text or "DOE" in text for text in texts)


def tiny_model(folder: Path) -> Path:
    spec = ModelSpec(
        name="tiny",
        network={"name": "swin_umamba_tiny", "arguments": {"in_channels": 1}},
        labels=LABEL_TABLES["abdomen_mri"],
        roi_size=(64, 64),
        mirror_axes=(1,),
    )
    save_model(folder, build_described_network(spec), spec)
    return folder


def test_workflow_has_the_properties_that_monai_asks_for(tmp_path: Path) -> None:
    labels, affine = painted_in("LPS")
    write_nifti(tmp_path / "in" / "a.nii.gz", ramp(labels), affine)
    workflow = ConfigWorkflow(
        str(CONFIG),
        workflow_type="inference",
        bundle_root=str(ROOT / "bundle"),
        model=str(tiny_model(tmp_path / "model")),
        dataset_dir=str(tmp_path / "in"),
        output_dir=str(tmp_path / "out"),
        device="cpu",
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.version == swin_umamba.__version__
    workflow.run()
    written = nib.load(tmp_path / "out" / "a_seg.nii.gz")
    assert written.shape == labels.shape
    workflow.finalize()


def test_config_serves_monai_label(tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    parser.config.update({"bundle_root": str(tmp_path), "device": "cpu"})
    tiny_model(tmp_path / "models")  # where the app's bundle has its model
    network = parser.get_parsed_content("network_def", instantiate=True)
    network.load_state_dict(torch.load(tmp_path / "models" / "model.pt", weights_only=True))
    chosen = parser.get_parsed_content("displayable_configs", instantiate=True)
    assert all(isinstance(value, (int, float, str)) for value in chosen.values())
    parser["displayable_configs"].update({"sw_batch_size": 3, "mirror": True})
    parser.parse()
    inferer = parser.get_parsed_content("inferer", instantiate=True)
    assert (inferer.sw_batch_size, inferer.mirror_axes, inferer.roi_size) == (3, (1,), (64, 64))
    for name in ("preprocessing", "postprocessing"):
        assert isinstance(parser.get_parsed_content(name, instantiate=True), Compose)
    assert isinstance(parser.get_parsed_content("preprocessing").transforms[0], LoadImaged)


def test_metadata_fit_the_code_and_the_default_labels() -> None:
    required = "schema version monai_version pytorch_version numpy_version required_packages_version task description"
    for key in (*required.split(), "authors", "copyright", "network_data_format", "changelog", "intended_use"):
        assert METADATA[key], key
    assert METADATA["version"] == swin_umamba.__version__
    assert METADATA["version"] in METADATA["changelog"]
    assert METADATA["schema"] == "https://project-monai.github.io/schema/meta_schema_20240725.json"
    data = METADATA["network_data_format"]
    organs = {name: int(value) for value, name in data["outputs"]["pred"]["channel_def"].items()}
    assert organs == {"background": 0, **LABEL_TABLES["abdomen_mri"]}
    assert data["outputs"]["pred"]["num_channels"] == len(organs)
    for tensor in (data["inputs"]["image"], data["outputs"]["pred"]):
        assert {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"} <= set(tensor)


def test_metadata_pin_the_packages_of_the_requirements() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("#")[0].strip().split("==") for line in lines if "==" in line.split("#")[0])
    core = {
        "monai": METADATA["monai_version"],
        "torch": METADATA["pytorch_version"],
        "numpy": METADATA["numpy_version"],
    }
    for package, version in {**METADATA["required_packages_version"], **core}.items():
        assert pins[package] == version, package


BAD_CALLS = [
    (["--dataset_dir", "/nowhere"], "error: dataset_dir '/nowhere' does not exist; legal: a folder, or a file"),
    (["--device", "cuda:99"], "error: device 'cuda:99' is not in this machine; legal here: auto, cpu"),
    (["--output_format", "dicom"], "error: output_format is 'dicom'; legal: one or several of nifti, dicom_seg"),
    (["--output_format", "dicom_seg"], "error: 1 of 1 cases failed: a: output_format dicom_seg needs a DICOM series"),
    (["--model", "/nowhere/model"], "error: model '/nowhere/model' has no model.yaml"),
]


@pytest.mark.e2e
@pytest.mark.parametrize(("arguments", "message"), BAD_CALLS, ids=["dataset_dir", "device", "format", "nifti", "model"])
def test_command_answers_bad_input_with_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    labels, affine = painted_in("LPS")
    write_nifti(tmp_path / "in" / "a.nii.gz", ramp(labels), affine)
    given = {"--dataset_dir": str(tmp_path / "in"), "--device": "cpu", "--output_dir": str(tmp_path / "out")}
    given |= {"--model": str(tiny_model(tmp_path / "model"))} | dict([arguments])
    given |= {"--config_file": "bundle/configs/inference.yaml", "--bundle_root": "bundle"}
    run = run_module("monai.bundle", "run", *itertools.chain(*given.items()))
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(message)
    assert "Traceback" not in run.stderr
