"""Layer norm over channels, alone or times SiLU of a gate, in one pass over memory."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .kernels import Kernels, cores_of, load_kernels, pointer, takes, value_name

_THREADS, _MOST_CHANNELS = 128, 4096


class _Norm(ctypes.Structure):
    """`struct Norm` of layer_norm.cu."""

    _fields_ = (
        [(name, ctypes.c_void_p) for name in ("x", "gate", "weight", "bias")]
        + [(name, ctypes.c_longlong) for name in ("rows", "gate_row")]
        + [("epsilon", ctypes.c_float)]
    )


def plain_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, gate: Tensor | None = None) -> Tensor:
    """Normalise the last axis of x (..., C), then multiply by SiLU of `gate` (..., C) if there is one."""
    y = F.layer_norm(x, weight.shape, weight, bias, eps)
    return y if gate is None else y * F.silu(gate)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, gate: Tensor | None = None) -> Tensor:
    """`plain_layer_norm` by one kernel where it can run; under autocast the result has autocast's type."""
    if not (takes(x) and x.shape[-1] % 8 == 0 and x.shape[-1] <= _MOST_CHANNELS and weight.dtype == torch.float32):
        return plain_layer_norm(x, weight, bias, eps, gate)
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
    arguments = (x, None if gate is None else gate.to(dtype), weight, bias, eps, dtype)
    if torch.compiler.is_compiling():
        return torch.ops.swin_umamba.layer_norm(*arguments)
    return _Eager.apply(*arguments)


def _rows(gate: Tensor) -> tuple[Tensor, int]:
    """Return a map whose last axis is contiguous and whose rows are evenly apart, and how far apart."""
    channels = gate.shape[-1]
    flat = gate.stride(-1) == 1 and all(
        gate.stride(i) == gate.stride(i + 1) * gate.shape[i + 1] for i in range(gate.dim() - 2)
    )
    row = gate.stride(-2)
    if not flat or row % 8 or gate.data_ptr() % 16:
        return gate.contiguous(), channels
    return gate, row


def _prepare(x: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype):
    channels = x.shape[-1]
    lanes = min(32, 1 << max(0, (channels // 8 - 1) // 3).bit_length())
    kernels: Kernels = load_kernels(
        "layer_norm.cu", x.device, INPUT=value_name(x.dtype), OUTPUT=value_name(dtype), CHANNELS=channels, LANES=lanes,
        GATED=gate is not None,
    )  # fmt: skip
    row = channels
    if gate is not None:
        gate, row = _rows(gate)
    rows = x.numel() // channels
    pointers = [pointer(t) for t in (x, gate, weight, bias)]
    return kernels, _Norm(*pointers, rows, row, eps), gate, -(-rows // (_THREADS // lanes))


def _run_forward(
    x: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype
) -> Tensor:
    x = x.contiguous()
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    with torch.cuda.device(x.device):
        kernels, norm, gate, blocks = _prepare(x, gate, weight, bias, eps, dtype)
        kernels("norm_forward", blocks, _THREADS, [norm, pointer(y)])
    return y


_forward = torch.library.custom_op("swin_umamba::layer_norm", _run_forward, mutates_args=())


@_forward.register_fake
def _(x, gate, weight, bias, eps, dtype):
    return torch.empty(x.shape, dtype=dtype, device=x.device)


def _run_backward(
    gy: Tensor, x: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    x, gy = x.contiguous(), gy.contiguous()
    gx, ggate = torch.empty_like(x), torch.empty_like(gy) if gate is not None else gy.new_empty(0)
    with torch.cuda.device(x.device):
        kernels, norm, gate, blocks = _prepare(x, gate, weight, bias, eps, gy.dtype)
        blocks = min(blocks, 4 * cores_of(x.device))
        shares = torch.empty((blocks, 2, x.shape[-1]), dtype=torch.float32, device=x.device)
        kernels("norm_backward", blocks, _THREADS, [norm, *(pointer(t) for t in (gy, gx, ggate, shares))])
    return gx, ggate, shares.sum(0)


_backward = torch.library.custom_op("swin_umamba::layer_norm_backward", _run_backward, mutates_args=())


@_backward.register_fake
def _(gy, x, gate, weight, bias, eps):
    ggate = torch.empty(gy.shape if gate is not None else (0,), dtype=gy.dtype, device=gy.device)
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), ggate, weight.new_empty((2, x.shape[-1]))


def _save(ctx, inputs, output):
    x, gate, weight, bias, ctx.eps, _ = inputs
    ctx.save_for_backward(x, gate, weight, bias)


def _spread(gx: Tensor, ggate: Tensor, gends: Tensor) -> tuple:
    """Put the gradients in the order of the inputs."""
    return gx, ggate if len(ggate) else None, gends[0], gends[1], None, None


def _gradients(ctx, gy):
    return _spread(*torch.ops.swin_umamba.layer_norm_backward(gy, *ctx.saved_tensors, ctx.eps))


_forward.register_autograd(_gradients, setup_context=_save)


class _Eager(torch.autograd.Function):
    """The operator without PyTorch's dispatch of Python operators, which takes longer than the kernels."""

    @staticmethod
    def forward(ctx, *inputs):
        """Run the kernel."""
        _save(ctx, inputs, None)
        return _run_forward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, gy):
        """Run the kernel of the gradients."""
        return _spread(*_run_backward(gy, *ctx.saved_tensors, ctx.eps))
