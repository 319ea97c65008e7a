"""Every backend against the plain one on shapes and values where indices and exponents go wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from scan.cases import (
    FAST_TARGETS,
    TARGETS,
    assert_close,
    double,
    map_inputs,
    run_maps,
    run_sequences,
    sequence_inputs,
    skip_unless,
)  # fmt: skip
from swin_umamba.scan import selective_scan, ss2d_scan

SHAPES = [  # batch, height, width, channels, rank, states
    pytest.param((2, 5, 9, 40, 3, 16), id="ragged channels, batch 2"),
    pytest.param((1, 1, 37, 8, 2, 3), id="one row, 3 states"),
    pytest.param((1, 37, 1, 8, 1, 1), id="one column, 1 state"),
    pytest.param((3, 1, 1, 8, 1, 16), id="one pixel"),
    pytest.param((2, 13, 10, 96, 6, 16), id="several chunks"),
]


@pytest.mark.parametrize(("backend", "device"), FAST_TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_maps_agree_with_the_plain_scan(shape, backend, device):
    skip_unless(backend, device, torch.float32)
    inputs = map_inputs(*shape, dtype=torch.float32, device=device)
    assert_close(run_maps(inputs, backend), run_maps(double(inputs), "reference"), 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("backend", "device"), TARGETS)
def test_half_precision_maps(dtype, backend, device):
    skip_unless(backend, device, dtype)
    inputs = map_inputs(2, 5, 9, 40, 3, 16, dtype=torch.float32, device=device)
    inputs[0] = inputs[0].detach().to(dtype).requires_grad_()
    y, gradient, *_ = actual = run_maps(inputs, backend)
    assert y.dtype == gradient.dtype == dtype
    assert_close(actual, run_maps(double(inputs), "reference"), 5e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("backend", "device"), TARGETS)
def test_half_precision_sequences(dtype, backend, device):
    skip_unless(backend, device, dtype)
    inputs = sequence_inputs(2, 40, 33, 2, 16, dtype=torch.float32, device=device)
    for index in (0, 1, 3, 4):
        inputs[index] = inputs[index].detach().to(dtype).requires_grad_()
    actual = run_sequences(inputs, backend)
    assert [a.dtype for a in actual] == [dtype, *(i.dtype for i in inputs)]
    assert_close(actual, run_sequences(double(inputs), "reference"), 1e-2)


@pytest.mark.parametrize(("backend", "device"), TARGETS)
def test_autocast_projects_in_half_and_scans_in_single_precision(backend, device):
    skip_unless(backend, device, torch.bfloat16)
    inputs = map_inputs(1, 6, 5, 32, 2, 16, dtype=torch.float32, device=device)
    inputs[0] = inputs[0].detach().bfloat16().requires_grad_()
    with torch.autocast(device, dtype=torch.bfloat16):
        actual = run_maps(inputs, backend)
    assert [a.dtype for a in actual] == [torch.bfloat16, torch.bfloat16] + [torch.float32] * 5
    assert_close(actual, run_maps(double(inputs), "reference"), 3e-2)


@pytest.mark.parametrize(("backend", "device"), FAST_TARGETS)
def test_long_sequence(backend, device):
    skip_unless(backend, device, torch.float32)
    inputs = sequence_inputs(1, 8, 25600, 2, 4, dtype=torch.float32, device=device)
    inputs[1] = (inputs[1].detach() - 5.0).requires_grad_()
    assert_close(run_sequences(inputs, backend), run_sequences(double(inputs), "reference"), 1e-4)


@pytest.mark.parametrize("delta", [-200.0, -30.0, 30.0, 3e4])
@pytest.mark.parametrize(("backend", "device"), TARGETS)
def test_tiny_and_huge_steps_neither_overflow_nor_vanish(delta, backend, device):
    skip_unless(backend, device, torch.float32)
    inputs = sequence_inputs(1, 8, 70, 2, 16, dtype=torch.float32, device=device)
    inputs[1] = (0.1 * inputs[1].detach() + delta).requires_grad_()
    assert_close(run_sequences(inputs, backend), run_sequences(double(inputs), "reference"), 2e-5)


@pytest.mark.parametrize(("backend", "device"), TARGETS)
def test_steps_without_softplus(backend, device):
    skip_unless(backend, device, torch.float32)
    inputs = sequence_inputs(2, 6, 50, 1, 3, dtype=torch.float32, device=device)
    inputs[1] = inputs[1].detach().abs().requires_grad_()
    y = selective_scan(*inputs[:5], backend=backend)
    expected = selective_scan(*double(inputs[:5]), backend="reference")
    assert_close([y, *torch.autograd.grad(y.sum(), inputs[:2])][:1], [expected], 1e-5)
    plain = selective_scan(inputs[0], inputs[1], inputs[2], inputs[3][:, 0], inputs[4][:, 0], backend=backend)
    assert torch.equal(plain, y)


@pytest.mark.parametrize(("backend", "device"), TARGETS)
def test_memory_layout_does_not_matter(backend, device):
    skip_unless(backend, device, torch.float32)
    inputs = map_inputs(2, 4, 6, 40, 3, 16, dtype=torch.float32, device=device)
    strided = [t.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_() for t in inputs]
    assert not strided[0].is_contiguous()
    assert_close(run_maps(strided, backend), run_maps(inputs, backend), 1e-5)


@pytest.mark.parametrize(("backend", "device"), TARGETS)
def test_two_runs_give_the_same_bits(backend, device):
    if backend == "mamba_ssm":
        pytest.skip("mamba-ssm sums gradients with atomics")
    skip_unless(backend, device, torch.float32)
    inputs = map_inputs(2, 9, 8, 70, 3, 16, dtype=torch.float32, device=device)
    first, second = run_maps(inputs, backend), run_maps(inputs, backend)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_cpu_result_does_not_depend_on_the_number_of_threads():
    skip_unless("cpu", "cpu", torch.float32)
    inputs = map_inputs(1, 9, 8, 70, 3, 16, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            with torch.no_grad():
                results.append(ss2d_scan(*inputs, backend="cpu"))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize(("backend", "device"), TARGETS)
def test_threads_may_call_at_the_same_time(backend, device):
    skip_unless(backend, device, torch.float32)
    many = [map_inputs(1, 6, width, 40, 3, 16, dtype=torch.float32, device=device) for width in range(3, 9)]
    alone = [run_maps(inputs, backend)[:1] for inputs in many]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda inputs: run_maps(inputs, backend)[:1], many))
    for a, b in zip(alone, together, strict=True):
        assert_close(b, a, 1e-6)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_gradients_by_finite_differences(backend):
    skip_unless(backend, "cpu", torch.float64)
    inputs = map_inputs(2, 3, 2, 6, 2, 3)
    assert torch.autograd.gradcheck(lambda *t: ss2d_scan(*t, backend=backend), inputs, fast_mode=True)
    inputs = sequence_inputs(2, 6, 5, 2, 3)
    assert torch.autograd.gradcheck(lambda *t: selective_scan(*t, True, backend), inputs, fast_mode=True)


@pytest.mark.parametrize(("backend", "device"), TARGETS)
def test_only_what_needs_a_gradient_gets_one(backend, device):
    skip_unless(backend, device, torch.float32)
    inputs = [t.detach() for t in map_inputs(1, 3, 4, 8, 1, 4, dtype=torch.float32, device=device)]
    assert not ss2d_scan(*inputs, backend=backend).requires_grad
    inputs[4].requires_grad_()
    ss2d_scan(*inputs, backend=backend).sum().backward()
    assert inputs[4].grad.abs().sum() > 0
