"""Depthwise 3x3 convolution with bias and SiLU on channels-last maps, in one pass over memory."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .kernels import Kernels, cores_of, load_kernels, pointer, takes, value_name

_THREADS, _STRIP = 128, 8


class _Map(ctypes.Structure):
    """`struct Map` of depthwise.cu."""

    _fields_ = (
        [(name, ctypes.c_void_p) for name in ("x", "weight", "bias")]
        + [(name, ctypes.c_int) for name in ("images", "height", "width", "channels")]
        + [("x_row", ctypes.c_longlong)]
    )


def plain_conv_silu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve x (B, H, W, D) with weight (D, 1, 3, 3), channel by channel, zeros around, then SiLU: (B, H, W, D)."""
    x = x.permute(0, 3, 1, 2)  # (B, H, W, D) -> (B, D, H, W)
    x = F.silu(
        F.conv2d(x.contiguous(memory_format=torch.channels_last), weight, bias, padding=1, groups=weight.shape[0])
    )
    return x.permute(0, 2, 3, 1)  # (B, D, H, W) -> (B, H, W, D)


def conv_silu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`plain_conv_silu` by one kernel where it can run."""
    if bias is None or not (takes(x) and x.shape[3] % 2 == 0 and weight.dtype == bias.dtype == torch.float32):
        return plain_conv_silu(x, weight, bias)
    if torch.compiler.is_compiling():
        return torch.ops.swin_umamba.conv_silu(x, weight, bias)
    return _Eager.apply(x, weight, bias)


def _prepare(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Kernels, _Map, Tensor]:
    images, height, width, channels = x.shape
    row = x.stride(2)
    even = x.stride() == (height * width * row, width * row, row, 1) and row % 2 == 0
    if not even or x.data_ptr() % (2 * x.element_size()):
        x, row = x.contiguous(), channels
    kernels = load_kernels("depthwise.cu", x.device, VALUE=value_name(x.dtype))
    pointers = [pointer(t) for t in (x, weight, bias)]
    return kernels, _Map(*pointers, images, height, width, channels, row), x


def _strips(x: Tensor) -> int:
    return x.shape[0] * x.shape[1] * -(-x.shape[2] // _STRIP)


def _run_forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    weight, bias = weight.contiguous(), bias.contiguous()
    with torch.cuda.device(x.device):
        kernels, given, _x = _prepare(x, weight, bias)
        blocks = -(-_strips(x) * (x.shape[3] // 2) // _THREADS)
        kernels("depthwise_forward", blocks, _THREADS, [given, pointer(y)])
    return y


_forward = torch.library.custom_op("swin_umamba::conv_silu", _run_forward, mutates_args=())


@_forward.register_fake
def _(x, weight, bias):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _run_backward(gy: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gy, weight, bias = gy.contiguous(), weight.contiguous(), bias.contiguous()
    gsum, gx, channels = torch.empty_like(gy), torch.empty_like(gy), x.shape[3]
    with torch.cuda.device(x.device):
        kernels, given, _x = _prepare(x, weight, bias)
        blocks = -(-_strips(x) * (channels // 2) // _THREADS)
        kernels("depthwise_activation", blocks, _THREADS, [given, pointer(gy), pointer(gsum)])
        groups = -(-channels // 64)
        turns = max(1, min(-(-_strips(x) // 4), 4 * cores_of(x.device) // groups))
        shares = torch.empty((turns, 10, channels), dtype=torch.float32, device=x.device)
        last = [*(pointer(t) for t in (gsum, gx, shares)), ctypes.c_int(groups)]
        kernels("depthwise_backward", turns * groups, _THREADS, [given, *last])
    sums = shares.sum(0)  # (10, D)
    return gx, sums[:9].t().reshape(weight.shape), sums[9].clone()


_backward = torch.library.custom_op("swin_umamba::conv_silu_backward", _run_backward, mutates_args=())


@_backward.register_fake
def _(gy, x, weight, bias):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty_like(weight), torch.empty_like(bias)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _gradients(ctx, gy):
    return torch.ops.swin_umamba.conv_silu_backward(gy, *ctx.saved_tensors)


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
        """Run the kernels of the gradients."""
        return _run_backward(gy, *ctx.saved_tensors)
