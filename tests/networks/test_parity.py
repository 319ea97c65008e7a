"""The networks give the outputs and gradients of the official code."""

from __future__ import annotations

import pytest
import torch
from networks.parity import fill, golden, image, probe
from swin_umamba.networks import build_network
from swin_umamba.scan import available_backends
from torch import nn

NAMES = ["swin_umamba", "swin_umamba_d"]
PARAMETERS = {"swin_umamba": 59_889_368, "swin_umamba_d": 27_497_720}
# relative error of a gradient's norm, and error of its probe by its norm; leaky ReLU behind an instance norm over maps
# of 2x2 and 4x4 amplifies rounding in the convolutional decoder
GATES = {"swin_umamba": (2e-3, 2e-2), "swin_umamba_d": (1e-4, 1e-3)}
ZERO_GRADIENT = "stem.0.bias"  # an instance norm follows


FLOAT32 = [(name, "cpu", "cpu") for name in NAMES] + [("swin_umamba_d", "cpu", "reference")]  # the other takes long
FLOAT32 += [
    pytest.param(name, "cuda", backend, marks=pytest.mark.gpu)
    for name in NAMES
    for backend in ("reference", "cuda", "triton", "mamba_ssm")
]


def skip_unless_it_runs(device: str, backend: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    status = available_backends()[backend]
    if not status.available:
        pytest.skip(f"{backend}: {status.reason}")


def run(name: str, backend: str, device: str, dtype: torch.dtype) -> tuple[nn.Module, list[torch.Tensor], float]:
    network = build_network(name, in_channels=1, out_channels=14, drop_path_rate=0.0, scan_backend=backend)
    network = fill(network).to(device, dtype)
    outputs = network(image(2, 1, 64, 64).to(device, dtype))
    loss = sum(0.5**k * (output**2).mean() for k, output in enumerate(outputs))
    loss.backward()
    return network, [output.detach().double().cpu() for output in outputs], loss.item()


def check_outputs(outputs: list[torch.Tensor], expected: dict, gate: float) -> None:
    assert len(outputs) == 4
    for k, output in enumerate(outputs[1:], start=1):
        assert (output - torch.from_numpy(expected[f"out{k}"])).abs().max() <= gate
    assert (outputs[0][:, :, ::3, 1::3] - torch.from_numpy(expected["out0_every_third"])).abs().max() <= gate


def check(name: str, result: tuple, output_gate: float, norm_gate: float, probe_gate: float) -> None:
    network, outputs, loss = result
    facts, expected = golden(name)
    assert loss == pytest.approx(facts["loss"], rel=output_gate)
    check_outputs(outputs, expected, output_gate)
    wrong = {}
    for key, parameter in network.named_parameters():
        norm, along = facts["parameters"][key]["gradient"]
        gradient = parameter.grad.double().cpu()
        norm_error = abs(float(gradient.norm()) - norm)
        probe_error = abs(float((gradient * probe(key, tuple(gradient.shape))).sum()) - along)
        scale = 1.0 if key == ZERO_GRADIENT else norm
        if norm_error > norm_gate * scale or probe_error > probe_gate * scale:
            wrong[key] = (norm_error / scale, probe_error / scale)
    assert not wrong


@pytest.mark.parametrize("name", NAMES)
def test_keys_shapes_and_counts_are_the_official_ones(name):
    network = build_network(name, in_channels=1, out_channels=14)
    official = golden(name)[0]["parameters"]
    assert [(key, list(value.shape)) for key, value in network.state_dict().items()] == [
        (key, fact["shape"]) for key, fact in official.items()
    ]
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    assert not list(network.buffers())


@pytest.mark.parametrize(("name", "device", "backend"), FLOAT32)
def test_outputs_and_gradients_in_float32(name, device, backend, monkeypatch):
    skip_unless_it_runs(device, backend)
    # PyTorch's default rounds the inputs of convolutions on a GPU to 10 bits
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    check(name, run(name, backend, device, torch.float32), 1e-4, *GATES[name])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_outputs_in_float32_without_gradients(name):
    """The operators for inference, among them the faster convolution, take the place of PyTorch's."""
    network = fill(build_network(name, in_channels=1, out_channels=14, drop_path_rate=0.0, scan_backend="cpu"))
    check_outputs(network(image(2, 1, 64, 64)), golden(name)[1], 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_in_float64(name):
    check(name, run(name, "cpu", "cpu", torch.float64), 1e-6, 1e-6, 1e-6)
