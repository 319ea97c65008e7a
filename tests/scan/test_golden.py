"""Every backend against numbers computed in float64: the recurrence by its definition, SS2D by the official network."""

from __future__ import annotations

import pytest
import torch
from scan.cases import MAP_WEIGHTS, MAPS, SEQUENCES, TARGETS, assert_close, skip_unless, ss2d_block, stored
from swin_umamba.scan import selective_scan

PRECISIONS = [pytest.param(torch.float64, 1e-10, id="float64"), pytest.param(torch.float32, 1e-5, id="float32")]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("backend", "device"), TARGETS)
@pytest.mark.parametrize("case", SEQUENCES)
def test_sequences(case, backend, device, dtype, tolerance):
    skip_unless(backend, device, dtype)
    arrays = stored(f"selective_scan_{case}", dtype, device)
    names = [name for name in ("u", "delta", "A", "B", "C", "D", "bias") if name in arrays]
    inputs = {name: arrays[name].requires_grad_() for name in names}
    optional = {"D": inputs.get("D"), "delta_bias": inputs.get("bias")}
    y = selective_scan(*(inputs[n] for n in names[:5]), **optional, delta_softplus=True, backend=backend)
    gradients = torch.autograd.grad(y, list(inputs.values()), arrays["dy"])
    assert_close([y, *gradients], [arrays["y"], *(arrays[f"grad_{name}"] for name in names)], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("backend", "device"), TARGETS)
@pytest.mark.parametrize("case", MAPS)
def test_ss2d_block(case, backend, device, dtype, tolerance):
    skip_unless(backend, device, dtype)
    arrays = stored(f"ss2d_{case}", dtype, device)
    inputs = [arrays[name].requires_grad_() for name in ("x", *MAP_WEIGHTS)]
    y = ss2d_block(arrays["x"], arrays, backend)
    gradients = torch.autograd.grad(y, inputs, arrays["dy"])
    expected = [arrays["y"], *(arrays[f"grad_{name}"] for name in ("x", *MAP_WEIGHTS))]
    assert_close([y, *gradients], expected, tolerance)
