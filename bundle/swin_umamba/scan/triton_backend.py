"""The `triton` backend: GPU kernels compiled on first use; Triton comes with PyTorch's CUDA packages.

With TRITON_INTERPRET=1 (set before Python starts) the same kernels run on CPU tensors, slowly: for tests.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import cache
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from .backends import BackendStatus

CHUNK = 16  # steps between two saved states: their memory against that of the replayed histories, which L2 should hold
TAKES_HALF = True
_FORWARD_BLOCK = 64  # channels of a program, which is one warp: two for each thread
_BACKWARD_BLOCK = 32  # two for each thread would not fit the registers
_WARPS_PER_CORE = 12  # warps that a multiprocessor should get, in segments of a sequence if need be


def interpreted() -> bool:
    """Whether Triton interprets its kernels on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@cache
def status() -> BackendStatus:
    """It needs Triton and a GPU that Triton knows."""
    try:
        import triton
    except ImportError as error:
        return BackendStatus(False, f"Triton does not load ({error}); pip install triton")
    if interpreted():
        return BackendStatus(True, f"Triton {triton.__version__}, interpreted (TRITON_INTERPRET=1)")
    if not torch.cuda.is_available():
        return BackendStatus(False, "triton needs a CUDA GPU, PyTorch sees none; TRITON_INTERPRET=1 runs it on the CPU")
    return BackendStatus(True, f"Triton {triton.__version__}, compiled at the first call")


def refusal(device_type: str, dtype: torch.dtype, states: int = 16) -> str | None:
    """Return why such a tensor cannot be scanned."""
    if device_type != ("cpu" if interpreted() else "cuda"):
        return "triton takes tensors on a CUDA GPU (on the CPU with TRITON_INTERPRET=1)"
    half_or_single = (torch.float32, torch.float16, torch.bfloat16)
    return None if dtype in half_or_single else "triton scans float32, float16 and bfloat16"


def forward(
    u: Tensor, packed: Tensor, raw: Tensor, lift: Tensor, ends: Tensor, rates: Tensor, order: Tensor,
    activate: bool, saved: Tensor,
) -> Tensor:  # fmt: skip
    """Scan; the arguments are those of compiled.py. Returns y, shaped like u, float32 before the copies are summed."""
    from . import triton_kernels as kernels

    plan = _Plan(u, packed, raw, lift, rates, order, activate, _FORWARD_BLOCK)
    y = plan.copies()
    with plan.on_device():
        added, elapsed = plan.carries(kernels.local_states, u, ends)
        inputs = (u, plan.raw, plan.weights, ends, plan.rates, order)
        kernels.forward[plan.grid](
            *inputs, added, elapsed, y, saved, *plan.sizes, *plan.strides, plan.copy_stride, plan.real_states,
            **plan.constants, CHUNK=CHUNK, SAVE=saved.numel() > 0,
        )  # fmt: skip
    return y.sum(0) if plan.shared else y[0]


def backward(
    gy: Tensor, u: Tensor, packed: Tensor, raw: Tensor, lift: Tensor, ends: Tensor, rates: Tensor, order: Tensor,
    activate: bool, saved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients by u, the steps before softplus (B*L*G, D), B and C (B*L*G, 2N), rates and ends."""
    from . import triton_kernels as kernels

    plan = _Plan(u, packed, raw, lift, rates, order, activate, _BACKWARD_BLOCK)
    cells, channels, states = packed.shape[0], u.shape[1], plan.constants["N"]
    blocks, segments, sequences = plan.grid
    floats: Any = {"dtype": torch.float32, "device": u.device}
    gu = plan.copies()
    gsteps = torch.empty((cells, channels), dtype=plan.raw.dtype, device=u.device)
    gweights = torch.empty((blocks, cells, 2, states), **floats)
    grates = torch.empty((sequences, segments, states, channels), **floats)
    gends = torch.empty((sequences, segments, 2, channels), **floats)
    histories = torch.empty((sequences * segments * blocks, CHUNK, states, _BACKWARD_BLOCK), **floats)
    with plan.on_device():
        added, elapsed = plan.carries(kernels.local_gradients, gy, ends)
        inputs = (gy, u, plan.raw, plan.weights, ends, plan.rates, order)
        kernels.backward[plan.grid](
            *inputs, added, elapsed, saved, histories, gu, gsteps, gweights, grates, gends,
            *plan.sizes, *plan.strides, plan.copy_stride, cells, plan.real_states, **plan.constants, CHUNK=CHUNK,
        )  # fmt: skip
    real, groups = plan.real_states, order.shape[0]
    grates = grates.view(-1, groups, segments, states, channels).sum((0, 2))[:, :real]
    gends = gends.view(-1, groups, segments, 2, channels).sum((0, 2))
    gweights = gweights.sum(0)[:, :, :real].flatten(1)
    return gu.sum(0) if plan.shared else gu[0], gsteps, gweights, grates, gends


class _Plan:
    """Sizes, strides and the cut into segments for one scan."""

    def __init__(self, u, packed, raw, lift, rates, order, activate, block):
        groups, length = order.shape
        channels, rank = u.shape[1], lift.shape[1]
        self.real_states = rates.shape[1]
        states = 1 << (self.real_states - 1).bit_length()
        self.shared = u.shape[0] < packed.shape[0]
        self.raw, strides = _full_rank(packed, raw, lift, groups)
        self.strides = (*strides, 1)
        weights = packed[:, rank:].unflatten(1, (2, self.real_states)).float()
        self.weights = pad(weights, (0, states - self.real_states)).contiguous()  # (B*L*G, 2, N)
        self.rates = pad(rates, (0, 0, 0, states - self.real_states)).contiguous()
        sequences, blocks = packed.shape[0] // length, (channels + block - 1) // block
        segment, segments = _cut(length, sequences * blocks, u.device)
        self.grid = (blocks, segments, sequences)
        self.sizes = (length, channels, groups, segment, segments)
        self.copy_stride = u.numel() if self.shared else 0
        self.constants = {
            "N": states, "BLOCK": block, "SHARED": self.shared, "ACTIVATE": activate, "num_warps": 1,
            "enable_fp_fusion": True,
        }  # fmt: skip
        self.u, self.order = u, order

    def copies(self) -> Tensor:
        """Memory for an output that groups add to: a copy for each, since programs run in any order."""
        copies = self.sizes[2] if self.shared else 1
        return torch.empty((copies, *self.u.shape), dtype=torch.float32, device=self.u.device)

    def carries(self, kernel, values: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Run a kernel that finds what each segment adds to a carry of zero; with one segment there is none."""
        _, segments, sequences = self.grid
        channels = self.sizes[1]
        added = self.rates.new_empty((sequences, segments, self.constants["N"], channels))
        elapsed = self.rates.new_empty((sequences, segments, channels))
        if segments > 1:
            inputs = (values, self.raw, self.weights, ends, self.rates, self.order)
            kernel[self.grid](*inputs, added, elapsed, *self.sizes, *self.strides, **self.constants)
        return added, elapsed

    def on_device(self):
        """Make the tensors' GPU the current one, as Triton launches there."""
        return torch.cuda.device(self.u.device) if self.u.is_cuda else nullcontext()


def _full_rank(packed: Tensor, raw: Tensor, lift: Tensor, groups: int) -> tuple[Tensor, tuple[int, int]]:
    """Return the steps before bias and softplus, and their strides by row and by group."""
    rank, channels = lift.shape[1:]
    if rank == 0:
        return raw, (groups * channels, channels)
    low = packed.view(-1, groups, packed.shape[1])[:, :, :rank].transpose(0, 1)  # (G, B*L, R)
    raised = torch.bmm(low, lift.to(low.dtype))
    return raised, (channels, raised.stride(0))


def _cut(length: int, programs: int, device: torch.device) -> tuple[int, int]:
    """Return the length of a segment, whole chunks, and how many there are, so that the GPU has enough programs."""
    cores = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2
    chunks = (length + CHUNK - 1) // CHUNK
    enough = isqrt(2 * length)  # more segments would spend more on carrying from one to the next than they save
    segments = max(1, min(chunks, enough, _WARPS_PER_CORE * cores // programs))
    segment = (chunks + segments - 1) // segments * CHUNK
    return segment, (length + segment - 1) // segment
