"""The `cpu` backend: compiled on first use by Numba, all cores, any processor that LLVM knows.

torch.compile is no alternative: it needs a C++ compiler on the user's machine and unrolls the recurrence into passes
over memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from swin_umamba.cpu.threads import run

from .backends import BackendStatus

logger = logging.getLogger(__name__)
CHUNK = 32  # steps between two saved states
TAKES_HALF = False  # the kernels read real numbers of one type
_LOG2E = 1.4426950408889634


@cache
def status() -> BackendStatus:
    """Numba is all it needs."""
    try:
        import numba
    except ImportError as error:
        return BackendStatus(False, f"Numba does not load ({error}); pip install numba")
    return BackendStatus(True, f"Numba {numba.__version__}, compiled at the first call")


def refusal(device_type: str, dtype: torch.dtype, states: int = 16) -> str | None:
    """Return why such a tensor cannot be scanned."""
    if device_type != "cpu":
        return "the cpu backend takes tensors on the CPU"
    return None if dtype.is_floating_point else "only floating point types can be scanned"


def forward(
    u: Tensor, packed: Tensor, raw: Tensor, lift: Tensor, ends: Tensor, rates: Tensor, order: Tensor,
    activate: bool, saved: Tensor, coarse: bool = False,
) -> Tensor:  # fmt: skip
    """Scan; the arguments are those of `compiled`: contiguous, of one real type. Returns y, shaped like u.

    `coarse` takes exponentials of relative error 1e-4, for results that are rounded to half precision.
    """
    from . import cpu_kernels as kernels

    calls, copies = _calls(u, packed, order, kernels.LANES)
    y = u.new_empty((copies, *u.shape))
    arguments = _arrays(u, packed, raw, lift, ends, rates * _LOG2E, order)
    outputs = _arrays(y, saved)
    _run(lambda call: kernels.forward(*arguments, activate, coarse, *outputs, *call), calls, kernels.forward)
    return _sum(y)


def backward(
    gy: Tensor, u: Tensor, packed: Tensor, raw: Tensor, lift: Tensor, ends: Tensor, rates: Tensor, order: Tensor,
    activate: bool, saved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients by u, the steps before softplus (B*L*G, D), B and C (B*L*G, 2N), rates and ends."""
    from . import cpu_kernels as kernels

    calls, copies = _calls(u, packed, order, kernels.LANES)
    groups, states, channels = rates.shape
    batch, blocks = saved.shape[0], (channels + kernels.LANES - 1) // kernels.LANES
    gu = u.new_empty((copies, *u.shape))
    gsteps = u.new_empty((packed.shape[0], channels))
    gweights = u.new_empty((blocks, packed.shape[0], 2 * states))
    grates = u.new_zeros((batch, groups, states, channels))
    gends = u.new_zeros((batch, groups, 2, channels))
    arguments = _arrays(gy, u, packed, raw, lift, ends, rates * _LOG2E, order)
    outputs = _arrays(saved, gu, gsteps, gweights, grates, gends)
    _run(lambda call: kernels.backward(*arguments, activate, *outputs, *call), calls, kernels.backward)
    return _sum(gu), gsteps, gweights.sum(0), grates.sum(0), gends.sum(0)


def _calls(u: Tensor, packed: Tensor, order: Tensor, lanes: int) -> tuple[list[tuple[int, int, int, int]], int]:
    """Cut the work into calls (image, first group, last group, channel) and say how many copies of y they need.

    Groups that add to one map run in turn within a call, unless that leaves cores idle: then each fills its own copy.
    Copies are summed in the order of the groups, so either way, on any number of cores, the result is the same.
    """
    groups, length = order.shape
    images, blocks = packed.shape[0] // (groups * length), range(0, u.shape[1], lanes)
    shared = u.shape[0] < packed.shape[0]
    if shared and images * len(blocks) >= 2 * torch.get_num_threads():
        return [(b, 0, groups, channel) for b in range(images) for channel in blocks], 1
    calls = [(b, g, g + 1, channel) for b in range(images) for g in range(groups) for channel in blocks]
    return calls, groups if shared else 1


def _sum(copies: Tensor) -> Tensor:
    total = copies[0]
    for copy in copies[1:]:
        total += copy
    return total


def _arrays(*tensors: Tensor) -> list:
    return [tensor.detach().numpy() for tensor in tensors]


def _run(call: Callable[[tuple], None], units: list[tuple], kernel) -> None:
    if not kernel.signatures:
        logger.info("compiling the CPU scan or loading it from Numba's cache: seconds the first time")
    run(call, units)
