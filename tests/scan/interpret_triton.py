"""Run the Triton kernels on CPU tensors; test_triton.py starts this with TRITON_INTERPRET=1. Prints what passed."""

from __future__ import annotations

import torch
from scan.cases import assert_close, double, map_inputs, run_maps, run_sequences, sequence_inputs, stored
from swin_umamba.scan import resolve_backend, selective_scan

NAMES = ("u", "delta", "A", "B", "C", "D", "bias")

for case in (0, 2):
    arrays = stored(f"selective_scan_{case}", torch.float32, "cpu")
    inputs = [arrays[name].requires_grad_() for name in NAMES]
    y = selective_scan(*inputs, delta_softplus=True, backend="triton")
    gradients = torch.autograd.grad(y, inputs, arrays["dy"])
    assert_close([y, *gradients], [arrays["y"], *(arrays[f"grad_{name}"] for name in NAMES)], 1e-5)
print("sequences")

for shape in ((1, 3, 6, 8, 2, 16), (2, 1, 2, 70, 3, 3)):  # several segments; several blocks, ragged
    inputs = map_inputs(*shape, dtype=torch.float32)
    actual = run_maps(inputs, "triton")
    assert_close(actual, run_maps(double(inputs), "reference"), 1e-5)
assert all(torch.equal(a, b) for a, b in zip(actual, run_maps(inputs, "triton"), strict=True))
print("maps")

inputs = sequence_inputs(1, 6, 18, 2, 3, dtype=torch.float32)
for index in (0, 1, 3, 4):
    inputs[index] = inputs[index].detach().bfloat16().requires_grad_()
actual = run_sequences(inputs, "triton")
assert [a.dtype for a in actual] == [torch.bfloat16, *(i.dtype for i in inputs)]
assert_close(actual, run_sequences(double(inputs), "reference"), 1e-2)
print("half")

assert resolve_backend("auto", "cpu", torch.float32) != "triton"  # an interpreter is never the fastest
print("auto")
