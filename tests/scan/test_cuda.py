"""The cuda backend's kernels, emulated on a CPU; on a GPU the tests of every backend run them too."""

from __future__ import annotations

import logging

import pytest
import torch
from cuda.emulation import emulate
from scan.cases import assert_close, double, map_inputs, run_maps, run_sequences, sequence_inputs
from swin_umamba.scan import backends, cuda_backend, resolve_backend

SHAPES = [  # batch, height, width, channels, rank, states
    pytest.param((2, 5, 9, 40, 3, 16), id="two blocks of channels, batch 2"),
    pytest.param((1, 1, 37, 9, 2, 3), id="odd channels, 3 states"),
    pytest.param((1, 7, 10, 16, 20, 16), id="two chunks, full-rank steps"),
]


@pytest.mark.parametrize("cores", [1, 8], ids=["one segment", "segments"])
@pytest.mark.parametrize("shape", SHAPES)
def test_maps_agree_with_the_plain_scan(shape, cores, monkeypatch):
    emulate(monkeypatch, cores)
    inputs = map_inputs(*shape, dtype=torch.float32)
    assert_close(run_maps(inputs, "cuda"), run_maps(double(inputs), "reference"), 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_by_tensor_cores(dtype, monkeypatch):
    emulate(monkeypatch)
    monkeypatch.setattr(cuda_backend, "_ampere", lambda device: True)
    inputs = map_inputs(1, 3, 9, 40, 3, 16, dtype=torch.float32)
    inputs[0] = inputs[0].detach().to(dtype).requires_grad_()
    assert_close(run_maps(inputs, "cuda"), run_maps(double(inputs), "reference"), 5e-3)


def test_sequences_with_a_map_for_each_group(monkeypatch):
    emulate(monkeypatch, cores=8)
    inputs = sequence_inputs(2, 12, 70, 2, 5, dtype=torch.float32)
    assert_close(run_sequences(inputs, "cuda"), run_sequences(double(inputs), "reference"), 1e-5)


def test_two_runs_give_the_same_bits(monkeypatch):
    emulate(monkeypatch)
    inputs = map_inputs(1, 4, 5, 40, 3, 16, dtype=torch.float32)
    first, second = run_maps(inputs, "cuda"), run_maps(inputs, "cuda")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (("cpu", torch.float32, 16), "takes tensors on a CUDA GPU"),
        (("cuda", torch.float64, 16), "float32, float16 and bfloat16"),
        (("cuda", torch.float32, 65), "up to 64 states, not 65"),
    ],
)
def test_refuses_with_a_reason(given, reason):
    assert reason in str(cuda_backend.refusal(*given))


def test_auto_tells_why_it_takes_another_backend(monkeypatch, caplog):
    monkeypatch.setattr(cuda_backend, "status", lambda: backends.BackendStatus(False, "NVRTC 13 is not found"))
    backends._tell.cache_clear()
    with caplog.at_level(logging.WARNING):
        chosen = {resolve_backend("auto", "cuda", torch.float32) for _ in range(2)}
    assert chosen <= {"triton", "mamba_ssm", "reference"}
    assert caplog.text.count("not on cuda: NVRTC 13 is not found") == 1
