"""Inputs, golden numbers and comparisons shared by the tests of the scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from swin_umamba.scan import selective_scan, ss2d_scan
from swin_umamba.scan.backends import why_not
from torch import Tensor
from torch.nn.functional import conv2d, layer_norm, linear, silu

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "scan"
SEQUENCES = range(8)
MAPS = (0, 2, 3)
MAP_WEIGHTS = ("x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds")
TARGETS = [
    pytest.param("reference", "cpu", id="reference"),
    pytest.param("cpu", "cpu", id="cpu"),
    pytest.param("reference", "cuda", id="reference-cuda", marks=pytest.mark.gpu),
    pytest.param("cuda", "cuda", id="cuda", marks=pytest.mark.gpu),
    pytest.param("triton", "cuda", id="triton", marks=pytest.mark.gpu),
    pytest.param("mamba_ssm", "cuda", id="mamba_ssm", marks=pytest.mark.gpu),
]
FAST_TARGETS = [target for target in TARGETS if target.values[0] != "reference"]


def skip_unless(backend: str, device: str, dtype: torch.dtype) -> None:
    """Skip the test, with the backend's own words, if it cannot run here."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA GPU")
    reason = why_not(backend, device, dtype)
    if reason is not None:
        pytest.skip(f"{backend}: {reason}")


def stored(name: str, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Read the arrays of a fixture; those computed in float64 stay so, inputs become `dtype`."""
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        tensors = {key: torch.from_numpy(arrays[key]).to(device) for key in arrays}
    return {k: v if k == "y" or k.startswith("grad_") else v.to(dtype) for k, v in tensors.items()}


def map_inputs(
    batch: int, height: int, width: int, channels: int, rank: int, states: int, dtype=torch.float64, device="cpu"
) -> list[Tensor]:
    """Draw arguments of `ss2d_scan` as a fresh network has them, the same for every dtype and device."""
    draw = torch.Generator().manual_seed(batch + 10 * height + 100 * width + channels)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    rates = torch.log(torch.arange(1, states + 1, dtype=torch.float64)) + 0.1 * normal(4 * channels, states)
    drawn = [
        normal(batch, height, width, channels),
        normal(4, rank + 2 * states, channels) / channels**0.5,
        normal(4, channels, rank) / rank**0.5,
        normal(4, channels) - 3.0,
        rates,
        1.0 + 0.1 * normal(4 * channels),
    ]
    return [tensor.float().to(device, dtype).requires_grad_() for tensor in drawn]  # float32 values in every dtype


def sequence_inputs(
    batch: int, channels: int, length: int, groups: int, states: int, dtype=torch.float64, device="cpu"
) -> list[Tensor]:
    """Draw arguments of `selective_scan`, all but `delta_softplus`."""
    draw = torch.Generator().manual_seed(batch + channels + length)
    per_step, weights = (batch, channels, length), (batch, groups, states, length)
    shapes = (per_step, per_step, (channels, states), weights, weights, (channels,), (channels,))
    drawn = [torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in shapes]
    drawn[2] = -drawn[2].exp()
    return [tensor.to(device, dtype).requires_grad_() for tensor in drawn]


def double(tensors: list[Tensor]) -> list[Tensor]:
    """Copies in float64."""
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def run(function, tensors: list[Tensor], seed: int = 0, **arguments) -> list[Tensor]:
    """Return the output and the gradients by all tensors for a fixed random gradient of the output."""
    y = function(*tensors, **arguments)
    gy = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(y)
    return [y.detach(), *torch.autograd.grad(y, tensors, gy)]


def run_sequences(tensors: list[Tensor], backend: str) -> list[Tensor]:
    """`run` for `selective_scan` with softplus."""
    return run(lambda *t: selective_scan(*t, delta_softplus=True, backend=backend), tensors)


def run_maps(tensors: list[Tensor], backend: str) -> list[Tensor]:
    """`run` for `ss2d_scan`."""
    return run(lambda *t: ss2d_scan(*t, backend=backend), tensors)


def assert_close(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Compare tensor by tensor: the largest error against the largest value."""
    assert len(actual) == len(expected)
    for index, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert a.shape == e.shape
        assert torch.isfinite(a).all(), f"tensor {index} is not finite"
        error = (a.double() - e.double()).abs().max().item()
        assert error <= tolerance * max(e.abs().max().item(), 1e-3), f"tensor {index} is off by {error:.3g}"


def ss2d_block(x: Tensor, weights: dict[str, Tensor], backend: str) -> Tensor:
    """The SS2D block around the scan, as the official network has it."""
    y, gate = linear(x, weights["in_proj.weight"]).chunk(2, 3)  # (B, H, W, C) -> (B, H, W, D) twice
    y = y.permute(0, 3, 1, 2)  # (B, H, W, D) -> (B, D, H, W)
    y = silu(conv2d(y, weights["conv2d.weight"], weights["conv2d.bias"], padding=1, groups=y.shape[1]))
    y = ss2d_scan(y.permute(0, 2, 3, 1), *(weights[name] for name in MAP_WEIGHTS), backend=backend)
    y = layer_norm(y, y.shape[3:], weights["out_norm.weight"], weights["out_norm.bias"])
    return linear(y * silu(gate), weights["out_proj.weight"])
