"""The scripted networks run without this package and give the same logits at any size."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from monai.bundle import ckpt_export
from monai.networks.utils import convert_to_torchscript
from swin_umamba.networks import build_network

TINY = ["swin_umamba_tiny", "swin_umamba_d_tiny"]
SIZES = [(64, 64), (32, 96), (45, 83), (1, 7)]
ALONE = """
import sys, torch
network, images = torch.jit.load(sys.argv[1]), torch.load(sys.argv[2])
assert "swin_umamba" not in sys.modules and "monai" not in sys.modules
torch.save([network(image) for image in images], sys.argv[3])
"""


def run_alone(folder, network_file, images):
    """Run a TorchScript file in a process that cannot import this package."""
    torch.save(images, folder / "images.pt")
    files = [str(network_file), str(folder / "images.pt"), str(folder / "outputs.pt")]
    subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *files], check=True, cwd=folder, capture_output=True, timeout=120
    )
    return torch.load(folder / "outputs.pt")


@pytest.mark.parametrize("name", TINY)
def test_scripted_network_runs_alone(name, tmp_path):
    torch.manual_seed(0)
    network = build_network(name, in_channels=1, out_channels=3).eval()
    images = [torch.randn(2, 1, *size) for size in SIZES]
    convert_to_torchscript(network, filename_or_obj=tmp_path / "model.ts")
    for image, output in zip(images, run_alone(tmp_path, tmp_path / "model.ts", images), strict=True):
        with torch.no_grad():
            torch.testing.assert_close(output, network(image), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_scripted_network_in_training_gives_every_head(name):
    torch.manual_seed(0)
    network = build_network(name, in_channels=1, out_channels=3)
    image = torch.randn(1, 1, 40, 72)
    with torch.no_grad():
        for ours, scripted in zip(network(image), torch.jit.script(network)(image), strict=True):
            torch.testing.assert_close(scripted, ours, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_scripting_keeps_checkpointing_and_drop_path_out_of_the_way(name):
    network = build_network(
        name, in_channels=1, out_channels=3, drop_path_rate=0.4, activation_checkpointing=True, scan_backend="reference"
    )
    scripted = torch.jit.script(network)
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert not torch.equal(scripted(image)[0], scripted(image)[0])
        torch.testing.assert_close(scripted.eval()(image), network.eval()(image), rtol=0, atol=1e-4)


def test_monai_exports_the_network_of_a_bundle(tmp_path):
    arguments = {"name": "swin_umamba_d_tiny", "in_channels": 1, "out_channels": 3}
    network = build_network(**arguments).eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    config = {"network_def": {"_target_": "swin_umamba.networks.build_network", **arguments}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "metadata.json").write_text("{}")
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=str(tmp_path / "metadata.json"),
        config_file=str(tmp_path / "config.json"),
    )
    image = torch.randn(1, 1, 50, 34)
    (output,) = run_alone(tmp_path, tmp_path / "model.ts", [image])
    with torch.no_grad():
        torch.testing.assert_close(output, network(image), rtol=0, atol=1e-4)
