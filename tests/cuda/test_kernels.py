"""The fused kernels against the plain functions beside them: emulated on a CPU, and on a GPU where there is one."""

from __future__ import annotations

import pytest
import torch
from cuda.emulation import emulate
from swin_umamba.cuda import (
    conv_silu,
    instance_norm,
    layer_norm,
    plain_conv_silu,
    plain_instance_norm,
    plain_layer_norm,
    why_unavailable,
)

DEVICES = [pytest.param("cpu", id="emulated"), pytest.param("cuda", id="gpu", marks=pytest.mark.gpu)]
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}
DTYPES = list(TOLERANCE)


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    if request.param == "cpu":
        emulate(monkeypatch)
    elif why_unavailable() is not None:
        pytest.skip(str(why_unavailable()))
    return request.param


def draw(*shape, seed=0, dtype=torch.float32, device="cpu", mean=0.0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + mean
    return x.to(device, dtype).requires_grad_()


def compare(fast, plain, tensors, tolerance):
    """Hold output and gradients of `fast` against those of `plain` in float64."""
    doubles = [None if t is None else t.detach().double().requires_grad_() for t in tensors]
    y, expected = fast(*tensors), plain(*doubles)
    gy = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9)).to(y)
    wanted = [(t, d) for t, d in zip(tensors, doubles, strict=True) if t is not None]
    actual = [y, *torch.autograd.grad(y, [t for t, _ in wanted], gy)]
    expected = [expected, *torch.autograd.grad(expected, [d for _, d in wanted], gy.double())]
    for index, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert a.shape == e.shape
        error = (a.double() - e).abs().max().item()
        assert error <= tolerance * max(e.abs().max().item(), 1e-3), f"tensor {index} is off by {error:.3g}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("channels", [8, 40, 96, 200])
def test_layer_norm(channels, gated, dtype, device):
    x = draw(2, 3, 7, channels, dtype=dtype, device=device, mean=3.0)
    both = draw(2, 3, 7, 2 * channels, seed=1, dtype=dtype, device=device)
    weight, bias = draw(channels, seed=2, device=device), draw(channels, seed=3, device=device)

    def run(function):
        return lambda x, both, w, b: function(x, w, b, 1e-5, both.chunk(2, -1)[1] if gated else None) + 0 * both.sum()

    compare(run(layer_norm), run(plain_layer_norm), [x, both, weight, bias], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 5, 19, 70), (1, 1, 1, 8), (1, 9, 3, 2)])
def test_conv_silu(shape, dtype, device):
    both = draw(*shape[:3], 2 * shape[3], dtype=dtype, device=device)
    weight, bias = draw(shape[3], 1, 3, 3, seed=1, device=device), draw(shape[3], seed=2, device=device)

    def run(function):
        return lambda both, w, b: function(both.chunk(2, -1)[0], w, b)

    compare(run(conv_silu), run(plain_conv_silu), [both, weight, bias], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("other", ["none", "added", "normalised"])
@pytest.mark.parametrize("shape", [(2, 24, 9, 13), (1, 8, 2, 2)])
def test_instance_norm(shape, other, affine, dtype, device):
    x = draw(*shape, dtype=dtype, device=device, mean=20.0)
    second = draw(*shape, seed=1, dtype=dtype, device=device) if other != "none" else None
    ends = [draw(shape[1], seed=seed, device=device) if affine else None for seed in (2, 3)]

    def run(function):
        return lambda x, w, b, o: function(x, w, b, 1e-5, 0.01, o, other == "normalised")

    compare(run(instance_norm), run(plain_instance_norm), [x, *ends, second], 5 * TOLERANCE[dtype])


def test_plain_functions_run_where_kernels_cannot(monkeypatch):
    x = draw(1, 3, 4, 8)
    weight, bias = draw(8, seed=1), draw(8, seed=2)
    assert torch.equal(layer_norm(x, weight, bias, 1e-5), plain_layer_norm(x, weight, bias, 1e-5))
    kernel = draw(8, 1, 3, 3)
    assert torch.equal(conv_silu(x, kernel, bias), plain_conv_silu(x, kernel, bias))
    maps = x.permute(0, 3, 1, 2)
    assert torch.equal(
        instance_norm(maps, weight, bias, 1e-5, 0.01), plain_instance_norm(maps, weight, bias, 1e-5, 0.01)
    )
