"""The whole network in onnxruntime: the same logits at any batch and size, in a process without this package."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers_bundle import write_model
from swin_umamba.errors import InputError
from swin_umamba.models import build_described_network, load_model
from swin_umamba.onnx_export import check_packages, compare, export_onnx, run_onnx

pytest.importorskip("onnxruntime")
SIZES = [(1, 32, 32), (3, 64, 32), (2, 32, 96)]  # batch, H, W
ALONE = """
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
images = numpy.load(sys.argv[2])
numpy.savez(sys.argv[3], **{name: session.run(["pred"], {"image": images[name]})[0] for name in images})
assert "torch" not in sys.modules and "swin_umamba" not in sys.modules
"""


@pytest.fixture(scope="module", params=[("swin_umamba_tiny", 1), ("swin_umamba_d_tiny", 3)], ids=lambda pair: pair[0])
def exported(request, tmp_path_factory):
    """A model with so many channels, and the folder that holds its ONNX file."""
    folder = tmp_path_factory.mktemp("onnx")
    name, channels = request.param
    model = load_model(write_model(folder / "model", network={"name": name, "arguments": {"in_channels": channels}}))
    assert export_onnx(model.spec, model.network, folder / "model.onnx") < 1e-4
    return model, channels, folder


def test_logits_agree_at_any_batch_and_size_without_this_package(exported):
    model, channels, folder = exported
    assert [path.name for path in folder.glob("model.onnx*")] == ["model.onnx"]  # weights are inside
    images = {f"size{n}": torch.randn(size[0], channels, *size[1:]).numpy() for n, size in enumerate(SIZES)}
    np.savez(folder / "images.npz", **images)
    files = [str(folder / file) for file in ("model.onnx", "images.npz", "logits.npz")]
    subprocess.run([sys.executable, "-I", "-c", ALONE, *files], check=True, cwd=folder, timeout=120)
    logits = np.load(folder / "logits.npz")
    for key, image in images.items():
        with torch.no_grad():
            expected = model.network(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(logits[key], expected, rtol=0, atol=1e-4)


def test_a_file_of_other_weights_or_an_odd_size_is_noticed(exported):
    model, channels, folder = exported
    other = build_described_network(model.spec).eval()
    with pytest.raises(InputError, match="model.onnx differs from PyTorch by up to .*; legal: 0.0001"):
        compare(other, folder / "model.onnx")
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        run_onnx(folder / "model.onnx", np.zeros((1, channels, 33, 32), np.float32))


def test_a_forced_backend_that_leaves_no_operator(tmp_path, monkeypatch):
    model = load_model(write_model(tmp_path / "model"))
    monkeypatch.setenv("SWIN_UMAMBA_SCAN_BACKEND", "reference")
    with pytest.raises(InputError, match="SWIN_UMAMBA_SCAN_BACKEND=reference"):
        export_onnx(model.spec, model.network, tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


def test_a_network_that_has_no_equivalent_is_told_in_one_line(tmp_path, monkeypatch):
    def fail(*arguments: object) -> None:
        try:
            raise ValueError("No ONNX function found for swin_umamba.selective_scan\nand much more")
        except ValueError as cause:
            raise torch.onnx.OnnxExporterError("pages of advice") from cause

    model = load_model(write_model(tmp_path / "model"))
    monkeypatch.setattr("swin_umamba.onnx_export._write", fail)
    with pytest.raises(InputError, match="'swin_umamba_d_tiny' cannot be written as ONNX: No ONNX function .*_scan$"):
        export_onnx(model.spec, model.network, tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr("swin_umamba.onnx_export.PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(InputError, match="ONNX needs no_such_package: pip install onnx no_such_package"):
        check_packages()
