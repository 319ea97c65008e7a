"""A packed bundle, and a wheel, in processes that know nothing of this repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from helpers_bundle import ROOT, TINY, flags, write_cases, write_model
from helpers_commands import run_module
from swin_umamba.models import read_spec
from swin_umamba.packing import pack

pytestmark = pytest.mark.e2e
SCHEMA = ROOT / "tests" / "fixtures" / "bundle" / "metadata_schema.json"
CHECKS = """
import os
import torch
from monai.bundle import ckpt_export, verify_metadata, verify_net_in_out
meta, config = "configs/metadata.json", "configs/inference.yaml"
for root in (os.path.basename(os.getcwd()), "."):  # as the zoo's ci/verify_bundle.py calls them, and from inside
    os.chdir(".." if root != "." else path)
    path = os.path.abspath(root)
    given = {"meta_file": os.path.join(root, meta), "bundle_root": root}
    verify_metadata(meta_file=given["meta_file"], filepath=os.path.join(root, "eval/schema.json"))
    verify_net_in_out("network_def", config_file=os.path.join(root, config), **given)
ckpt_export("network_def", filepath="eval/exported.ts", ckpt_file="models/model.pt", meta_file=meta, config_file=config)
image = torch.rand(1, 1, 64, 32)
shipped, exported = torch.jit.load("models/model.ts"), torch.jit.load("eval/exported.ts")
torch.testing.assert_close(shipped(image), exported(image))
import swin_umamba
assert swin_umamba.__file__ == os.path.join(os.getcwd(), "swin_umamba", "__init__.py"), swin_umamba.__file__
"""
INSTALLED = """
import runpy, sys
from monailabel_app.train import OVERLAY, overlay_folder
from swin_umamba.packing import pack
pack(sys.argv[1], sys.argv[2])
runpy.run_module("swin_umamba", run_name="__main__")
print(overlay_folder() / OVERLAY)
"""
ZOO_FILES = ("configs/metadata.json", "LICENSE", "models/model.pt", "configs/inference.yaml")


def python(*arguments: object, cwd: Path, path: str = "") -> subprocess.CompletedProcess:
    """Run Python elsewhere, without this repository on its path; SWIN_UMAMBA_OTHER_PYTHON names another one."""
    program = os.environ.get("SWIN_UMAMBA_OTHER_PYTHON", sys.executable)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONPATH": path}
    return subprocess.run([program, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True,
                          text=True, timeout=300, check=False)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle that was packed, moved and unpacked."""
    folder = tmp_path_factory.mktemp("elsewhere")
    packed = pack(write_model(folder / "model"), folder / "organs_mr.zip", include=["torchscript"])
    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(folder)
    shutil.rmtree(folder / "model")
    packed.path.unlink()
    return folder / "organs_mr"


def test_the_checks_of_monai_and_of_its_model_zoo(bundle):
    metadata = json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8"))
    assert all((bundle / name).is_file() for name in ZOO_FILES)
    assert metadata["version"] in metadata["changelog"]
    assert metadata["name"]
    (bundle / "eval").mkdir()
    shutil.copyfile(SCHEMA, bundle / "eval" / "schema.json")  # where the zoo's checks put it
    run = python("-c", CHECKS, cwd=bundle, path=str(bundle))
    assert run.returncode == 0, run.stderr[-3000:]
    shutil.rmtree(bundle / "eval")


def test_inference_from_another_folder(bundle):
    datalist = write_cases(bundle.parent / "images", {"test": 1})
    datalist.unlink()
    given = {"bundle_root": "organs_mr", "dataset_dir": "images/test0.nii.gz", "output_dir": "results", "device": "cpu"}
    command = ("run", "--config_file", "organs_mr/configs/inference.yaml", *flags(given))
    run = run_module("monai.bundle", *command, folder=bundle.parent)
    assert run.returncode == 0, run.stderr[-3000:]
    (case,) = json.loads((bundle.parent / "results/report.json").read_text(encoding="utf-8"))["cases"]
    assert (case["status"], case["model"]) == ("ok", "tiny")


def test_training_goes_on_from_another_folder(bundle):
    before = (bundle / "models/model.pt").read_bytes()
    datalist = write_cases(bundle.parent / "cases", {"training": 1, "validation": 1})
    own = ("bundle_root", "labels", "network_name", "roi_size")  # the overlay knows them
    given = {key: value for key, value in TINY.items() if key not in own}
    configs = "['organs_mr/configs/train.yaml','organs_mr/configs/continue_training.yaml']"
    given |= {"config_file": configs, "bundle_root": "organs_mr", "datalist": datalist, "iterations_per_epoch": 1}
    run = run_module("monai.bundle", "run", "training", *flags(given), folder=bundle.parent)
    assert run.returncode == 0, run.stderr[-3000:]
    trained, packed = read_spec(bundle / "trained"), read_spec(bundle / "models")
    assert (trained.labels, trained.network["name"]) == (packed.labels, packed.network["name"])
    assert (bundle / "models/model.pt").read_bytes() == before
    states = [torch.load(bundle / name / "model.pt", weights_only=True) for name in ("models", "trained")]
    changes = [float((a.float() - b.float()).abs().max()) for a, b in zip(*(s.values() for s in states), strict=True)]
    assert 0 < max(changes) < 0.01  # one step from the packed weights, not from new ones


def test_a_wheel_holds_package_configs_and_app(tmp_path):
    source = tmp_path / "source"
    skipped = shutil.ignore_patterns("__pycache__", "models", "eval", "output", "*.egg-info", "build")
    for name in ("bundle", "configs", "monailabel_app"):
        shutil.copytree(ROOT / name, source / name, ignore=skipped)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    shutil.copytree(ROOT / "models", source / "models", ignore=lambda folder, names: names)  # an empty one: not packed
    wheel = ("-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", tmp_path)
    run = python(*wheel, cwd=source)
    assert run.returncode == 0, run.stderr[-3000:]
    (built,) = tmp_path.glob("swin_umamba_monai-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(built) as archive:
        assert {name.split("/")[0] for name in archive.namelist() if "dist-info" not in name} == {
            "swin_umamba",
            "monailabel_app",
        }
        archive.extractall(site)
    shutil.rmtree(source)
    root = site / "swin_umamba" / "bundle"
    model = write_model(tmp_path / "model")
    run = python("-c", INSTALLED, model, tmp_path / "again.zip", cwd=tmp_path, path=str(site))
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == [str(root), str(root / "overlays" / "finetune.yaml")]
    with zipfile.ZipFile(tmp_path / "again.zip") as archive:
        names = set(archive.namelist())
    assert "again/configs/train.yaml" in names
    assert not [name for name in names if name.startswith("again/swin_umamba/bundle")]
    originals = {path.name: path.read_bytes() for path in (ROOT / "bundle/configs").iterdir() if path.is_file()}
    assert {path.name: path.read_bytes() for path in (root / "configs").iterdir()} == originals
    assert (root / "LICENSE").is_file()
    image = write_cases(tmp_path / "images", {"test": 1}).with_name("test0.nii.gz")
    run = python("-m", "monai.bundle", "run", "--config_file", root / "configs/inference.yaml", "--bundle_root", root,
                 "--model", model, "--dataset_dir", image, "--output_dir", tmp_path / "out", "--device", "cpu",
                 cwd=tmp_path, path=str(site))  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "out" / "test0_seg.nii.gz").is_file()
