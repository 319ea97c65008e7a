"""Segmentation on request, without a server: where a result lies, and what it leaves as it was."""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers_bundle import BUNDLE, write_model
from helpers_dicom import COMPLETE, STACKS, write_series
from helpers_imaging import ORIENTATIONS, painted_as, painted_in, ramp, write_nifti
from monai.bundle import ComponentLocator
from monai.data import MetaTensor
from scipy import ndimage
from swin_umamba.dicom.source import read_source
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.workflows import run_workflow

from monailabel_app.infer import SegmentationTask
from monailabel_app.meanings import add_names, label_info, with_model_ids
from monailabel_app.results import write_result
from monailabel_app.segmenter import SteadyLocator, labels_in
from monailabel_app.settings import AppSettings
from monailabel_app.versions import ModelStore

ORGANS = {"liver": 1, "spleen": 2, "pancreas": 3}
PART = slice(3, 6)
CASES = [*itertools.product((".nii.gz", ".nrrd"), ORIENTATIONS), *((".dcm", stack) for stack in STACKS)]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """An untrained model: what it finds is scattered, so a slice in a wrong place is noticed."""
    folder = tmp_path_factory.mktemp("infer")
    write_model(folder / "models" / "tiny", labels=ORGANS)
    settings = AppSettings(bundle_root=BUNDLE, model_folders=(folder / "models",), data_dir=folder, device="cpu")
    return SegmentationTask("tiny", ModelStore(settings.model_folders, folder), settings)


def write_case(folder: Path, kind: str, orientation: str) -> tuple[str, tuple[int, ...]]:
    """Write an image of a kind; returns its path and the shape of its stored grid."""
    labels, affine = painted_as(*STACKS[orientation]) if kind == ".dcm" else painted_in(orientation)
    image = ramp(labels)
    if kind == ".dcm":
        files = write_series(folder / "series", image.astype(float), affine, **COMPLETE)
        return str(folder / "series"), read_source(files).shape
    if kind == ".nrrd":
        volume = MetaTensor(torch.from_numpy(image.astype(np.int16)[None]), affine)
        return write_result(volume, folder, ".nrrd", "int16", False), image.shape
    return str(write_nifti(folder / "image.nii.gz", image, affine)), image.shape


def voxels(file: str) -> np.ndarray:
    """Return what is in a file, (X, Y, Z)."""
    if file.endswith(".nrrd"):
        return sitk.GetArrayFromImage(sitk.ReadImage(file)).transpose(2, 1, 0)
    return np.asarray(nib.load(file).dataobj)


@pytest.mark.parametrize(("kind", "orientation"), CASES)
def test_slices_are_segmented_and_all_others_stay(task, tmp_path, kind, orientation):
    image, shape = write_case(tmp_path, kind, orientation)
    extension = ".nrrd" if kind == ".nrrd" else ".nii.gz"
    common = {"image": image, "device": "cpu", "result_extension": extension}
    whole, about = task(common)
    assert voxels(whole).shape == shape
    before = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
    label = like(whole, before, tmp_path, extension)
    options = {**common, "slices": "3-5", "label": label}
    file, result = task(options)
    found, empty = voxels(file), voxels(task({**options, "label": None})[0])
    others = [z for z in range(shape[2]) if not PART.start <= z < PART.stop]
    np.testing.assert_array_equal(found[..., others], before[..., others])
    assert not empty[..., others].any()
    part, everything = found[..., PART], voxels(whole)[..., PART]
    np.testing.assert_array_equal(part, empty[..., PART])
    kept = everything > 0  # by the clean-up in 3D, which slices alone do not have
    assert kept.any()
    np.testing.assert_array_equal(part[kept], everything[kept])
    assert result["labels"] == about["labels"] == ORGANS


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_nrrd_gives_what_nifti_gives_and_both_lie_as_their_images(task, tmp_path, orientation):
    found = {}
    for kind in (".nii.gz", ".nrrd"):
        image, _ = write_case(tmp_path, kind, orientation)
        file, _ = task({"image": image, "result_extension": kind})
        found[kind] = voxels(file)
        if kind == ".nrrd":
            result, source = sitk.ReadImage(file), sitk.ReadImage(image)
            for form in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
                assert getattr(result, form)() == pytest.approx(getattr(source, form)()), form
        else:
            np.testing.assert_array_equal(nib.load(file).affine, nib.load(image).affine)
    assert found[".nrrd"].any()
    other = (found[".nrrd"] != found[".nii.gz"]).mean()
    assert other < 0.001 if orientation.startswith("oblique") else other == 0  # its last digits move the clean-up's mm


@pytest.mark.parametrize("orientation", ["RAS", "oblique"])
@pytest.mark.parametrize("largest", [False, True])
def test_result_is_that_of_the_bundles_own_command(task, tmp_path, orientation, largest):
    """There is no second definition of transforms, inferer or labels; also of what a request changes."""
    image, _ = write_case(tmp_path, ".nii.gz", orientation)
    file, result = task({"image": image, "largest_component": largest})
    model, change = task.store.served("tiny").folder, {"displayable_configs#largest_component": largest}
    places = {"model": str(model), "dataset_dir": image, "output_dir": str(tmp_path / "out"), "picture": False}
    run_workflow(["inference.yaml"], bundle_root=BUNDLE, device="cpu", **places, **change)
    (case,) = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["cases"]
    np.testing.assert_array_equal(voxels(file), voxels(str(tmp_path / "out" / case["output"])))
    assert (result["volumes"], result["warnings"]) == (case["volumes"], case["warnings"])
    assert (voxels(file) != voxels(task({"image": image})[0])).any() == largest


def test_what_clients_are_shown(task, tmp_path):
    """Mirror images are averaged on request only by a model that has learnt from them."""
    about = {"description": "Three organs.", "version": "2.1.0", "licence": "CC0-1.0"}
    write_model(tmp_path / "mirrored", name="mirrored", labels=ORGANS, mirror_axes=[1], **about)
    store = ModelStore([tmp_path / "mirrored"], tmp_path / "data")
    settings = AppSettings(bundle_root=BUNDLE, model_folders=(), data_dir=tmp_path / "data", device="cpu")
    shown, plain = SegmentationTask("mirrored", store, settings).info(), task.info()
    assert {key: shown[key] for key in about} == about
    assert (shown["labels"], shown["dimension"], shown["type"]) == (ORGANS, 3, "segmentation")
    common = {"device", "largest_component", "slices"}
    assert (set(plain["config"]), set(shown["config"])) == (common, {*common, "mirror"})
    assert "cpu" in plain["config"]["device"]


def test_largest_component_of_slices_leaves_the_others(task, tmp_path):
    image, shape = write_case(tmp_path, ".nii.gz", "oblique")
    whole, _ = task({"image": image, "device": "cpu"})
    before = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
    label = like(whole, before, tmp_path, ".nii.gz")
    file, _ = task({"image": image, "slices": "3-5", "label": label, "largest_component": True})
    found = voxels(file)
    np.testing.assert_array_equal(np.delete(found, np.r_[PART], axis=2), np.delete(before, np.r_[PART], axis=2))
    assert all(ndimage.label(found[..., PART] == number, np.ones((3, 3, 3)))[1] <= 1 for number in ORGANS.values())


def like(file: str, labels: np.ndarray, folder: Path, extension: str) -> str:
    """Write a label map on the grid of another."""
    if extension == ".nrrd":
        image = sitk.GetImageFromArray(labels.transpose(2, 1, 0))
        image.CopyInformation(sitk.ReadImage(file))
        sitk.WriteImage(image, str(folder / "before.nrrd"))
        return str(folder / "before.nrrd")
    return str(write_nifti(folder / "before.nii.gz", labels, nib.load(file).affine))


def test_earlier_labels_keep_their_meaning_beside_new_slices(task, tmp_path):
    """3D Slicer numbers segments in the order of its list; a segment of a person's own is there too."""
    image, shape = write_case(tmp_path, ".nii.gz", "LPS")
    whole, _ = task({"image": image, "device": "cpu"})
    before = np.zeros(shape, np.uint8)
    before[:10, :, 0], before[10:20, :, 0], before[20:30, :, 0] = 1, 2, 7
    names = [{"name": "Pancreas", "idx": 1}, {"name": "cyst", "idx": 2}, {"name": "liver", "idx": 7}]
    label = like(whole, before, tmp_path, ".nii.gz")
    file, result = task({"image": image, "device": "cpu", "slices": "4", "label": label, "label_info": names})
    found = voxels(file)
    assert result["labels"] == {**ORGANS, "cyst": 4}
    assert [int(found[x, 0, 0]) for x in (0, 10, 20, 30)] == [3, 4, 1, 0]
    assert result["volumes"]["cyst"]["voxels"] == 10 * shape[1]
    voxel = float(np.prod(nib.load(image).header.get_zooms())) / 1000
    assert result["volumes"]["cyst"]["ml"] == pytest.approx(10 * shape[1] * voxel, abs=0.01)
    assert not found[..., [z for z in range(1, shape[2]) if z != 4]].any()


def test_slices_of_another_grid_are_refused(task, tmp_path):
    image, shape = write_case(tmp_path, ".nii.gz", "LPS")
    label = str(write_nifti(tmp_path / "label.nii.gz", np.zeros(shape, np.uint8), np.eye(4)))
    with pytest.raises(InputError, match="differ in shape or lie elsewhere"):
        task({"image": image, "device": "cpu", "slices": "4", "label": label})


@pytest.mark.parametrize(("axcodes", "plane"), [("LIP", "coronal"), ("PIL", "sagittal")])
def test_thick_slices_of_another_plane_are_refused_and_thin_ones_marked(task, tmp_path, axcodes, plane):
    for apart, refused in ((6.0, True), (3.0, False)):
        spacing = (apart if plane == "sagittal" else 1.5, apart if plane == "coronal" else 1.5, 1.5)
        labels, affine = painted_as(axcodes, 0.0, spacing)
        file = write_nifti(tmp_path / "image.nii.gz", ramp(labels), affine)
        if refused:
            with pytest.raises(RuntimeError) as error:
                task({"image": str(file), "device": "cpu"})
            assert f"acquired in {plane} slices 6 mm apart" in str(input_error_of(error.value))
        else:
            _, result = task({"image": str(file), "device": "cpu"})
            assert any(f"in {plane} ones, 3 mm apart" in warning for warning in result["warnings"])


def test_labels_that_no_body_looks_like_are_marked(task, tmp_path):
    image, _ = write_case(tmp_path, ".nii.gz", "LPS")
    _, result = task({"image": image})
    assert any(re.match(r"liver is in \d+ pieces", warning) for warning in result["warnings"]), result["warnings"]


def test_only_what_was_found_is_named_by_rising_id():
    volumes = {"spleen": {"voxels": 7}, "liver": {"voxels": 1}, "right kidney": {"voxels": 0}}
    assert list(labels_in(volumes, {"spleen": 3, "liver": 1, "right kidney": 2}).items()) == [
        ("liver", 1),
        ("spleen", 3),
    ]


def test_model_ids_of_a_label_map():
    label = MetaTensor(torch.tensor([0, 1, 2, 9], dtype=torch.uint8))
    mapped, names = with_model_ids(
        label, {"label_info": label_info({"Spleen": 1, "cyst": 2})}, {"liver": 1, "spleen": 2}
    )
    assert names == {"liver": 1, "spleen": 2, "cyst": 3, "unnamed 9": 4}
    assert mapped.tolist() == [0, 2, 3, 4]
    assert with_model_ids(label, {}, {"liver": 1, "spleen": 2})[1] == {"liver": 1, "spleen": 2, "unnamed 9": 3}
    with pytest.raises(InputError, match="256 segments; legal: up to 255"):
        add_names({}, [f"cyst {number}" for number in range(256)])


def test_components_are_found_while_another_thread_imports(monkeypatch):
    class Importing(str):
        """Name of a module, at which another one is loaded."""

        def startswith(self, *arguments):
            sys.modules["of another thread"] = sys
            return super().startswith(*arguments)

    modules = {Importing("a"): sys, "monai.losses": sys.modules["monai.losses"], "b": sys}
    monkeypatch.setattr(sys, "modules", modules)
    with pytest.raises(RuntimeError, match="changed size during iteration"):  # where a first request met the warm-up
        ComponentLocator()._find_module_names()
    del modules["of another thread"]
    assert SteadyLocator()._find_module_names() == ["monai.losses"]


def test_requests_find_components_that_way(task):
    parser = task.pipeline(task.store.served("tiny"))
    locators = [item.locator for item in parser.ref_resolver.items.values() if hasattr(item, "locator")]
    assert locators
    assert all(isinstance(locator, SteadyLocator) for locator in locators)
