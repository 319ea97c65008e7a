"""Instance norm, sum with a second map and leaky ReLU on channels-last maps, in three passes over memory."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .kernels import Kernels, cores_of, load_kernels, pointer, takes, value_name

_THREADS, _MOST_CHANNELS, _BLOCKS_PER_CORE = 256, 2048, 8


class _Maps(ctypes.Structure):
    """`struct Maps` of instance_norm.cu."""

    _fields_ = (
        [(name, ctypes.c_void_p) for name in ("x", "other", "scale", "others")]
        + [(name, ctypes.c_int) for name in ("pixels", "channels", "span", "blocks")]
        + [("slope", ctypes.c_float)]
    )


def plain_instance_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float,
    other: Tensor | None = None, normalise_other: bool = False,
) -> Tensor:  # fmt: skip
    """Normalise x (B, C, H, W), add `other` as it is or normalised, without weights, and apply leaky ReLU."""
    y = F.instance_norm(x, weight=weight, bias=bias, eps=eps)
    if other is not None:
        y = y + (F.instance_norm(other, eps=eps) if normalise_other else other)
    return F.leaky_relu(y, slope)


def instance_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float,
    other: Tensor | None = None, normalise_other: bool = False,
) -> Tensor:  # fmt: skip
    """`plain_instance_norm` by kernels of ours where they can run, channels-last then; slope 1 is no activation."""
    able = takes(x) and x.shape[1] % 8 == 0 and x.shape[1] <= _MOST_CHANNELS
    single = weight is None or weight.dtype == torch.float32
    if not able or not single or x.shape[2] * x.shape[3] == 1:
        return plain_instance_norm(x, weight, bias, eps, slope, other, normalise_other)
    other = None if other is None else other.to(x.dtype)
    arguments = (x, weight, bias, eps, slope, other, normalise_other)
    if torch.compiler.is_compiling():
        return torch.ops.swin_umamba.instance_norm(*arguments)[0]
    return _Eager.apply(*arguments)


class _Launch:
    """Kernels and sizes for maps like x (B, C, H, W)."""

    def __init__(self, x: Tensor) -> None:
        self.images, self.channels = x.shape[:2]
        self.pixels = x.shape[2] * x.shape[3]
        self.kernels: Kernels = load_kernels("instance_norm.cu", x.device, VALUE=value_name(x.dtype))
        rows = _THREADS // (self.channels // 8)
        most = max(1, _BLOCKS_PER_CORE * cores_of(x.device) // self.images)
        self.span = max(-(-self.pixels // most), 4 * rows)
        self.blocks = -(-self.pixels // self.span)

    def __call__(self, name: str, arguments: list[Any]) -> None:
        self.kernels(name, self.images * self.blocks, _THREADS, arguments)

    def maps(self, x: Tensor, other: Tensor | None, scale: Tensor, others: Tensor | None, slope: float) -> _Maps:
        pointers = [pointer(t) for t in (x, other, scale, others)]
        return _Maps(*pointers, self.pixels, self.channels, self.span, self.blocks, slope)

    def statistics(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        """Return (2, B, C, 2): mean and inverse standard deviation; factor and summand that normalise."""
        shares = torch.empty((self.images * self.blocks, 2, self.channels), dtype=torch.float32, device=x.device)
        sizes = [ctypes.c_int(i) for i in (self.pixels, self.channels, self.span, self.blocks)]
        self("instance_sums", [pointer(x), pointer(shares), *sizes])
        found = torch.empty((2, self.images, self.channels, 2), dtype=torch.float32, device=x.device)
        tensors = [pointer(t) for t in (x, shares, weight, bias, found[0], found[1])]
        sizes = [ctypes.c_int(i) for i in (self.images, self.pixels, self.channels, self.blocks)]
        threads = self.images * self.channels
        self.kernels("instance_statistics", -(-threads // 128), 128, [*tensors, *sizes, ctypes.c_float(eps)])
        return found

    def sums(self, shares: Tensor) -> Tensor:
        """Sum the shares of the blocks of each image: (B, 2, C)."""
        return shares.view(self.images, self.blocks, 2, self.channels).sum(1)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _run_forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float, other: Tensor | None, second: bool
) -> tuple[Tensor, Tensor, Tensor]:
    x, other = _last(x), None if other is None else _last(other)
    y, found = torch.empty_like(x), x.new_empty(0, dtype=torch.float32)
    with torch.cuda.device(x.device):
        launch = _Launch(x)
        own = launch.statistics(x, weight, bias, eps)
        if other is not None and second:
            found = launch.statistics(other, None, None, eps)
        launch("instance_apply", [launch.maps(x, other, own[1], found[1] if len(found) else None, slope), pointer(y)])
    return y, own, found


_forward = torch.library.custom_op("swin_umamba::instance_norm", _run_forward, mutates_args=())


@_forward.register_fake
def _(x, weight, bias, eps, slope, other, second):
    y = torch.empty_like(x, memory_format=torch.channels_last)
    own = torch.empty((2, x.shape[0], x.shape[1], 2), dtype=torch.float32, device=x.device)
    return y, own, torch.empty_like(own) if second else own.new_empty(0)


def _run_backward(
    gy: Tensor, x: Tensor, other: Tensor | None, y: Tensor, own: Tensor, found: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    gy, x, y, other = _last(gy.to(x.dtype)), _last(x), _last(y), None if other is None else _last(other)
    gx, gother = torch.empty_like(x), x.new_empty(0) if other is None else torch.empty_like(x)
    with torch.cuda.device(x.device):
        launch, second = _Launch(x), len(found) > 0
        maps = launch.maps(x, other, own[1], found[1] if second else None, slope)
        shares = own.new_empty((launch.images * launch.blocks, 2, launch.channels))
        others = torch.empty_like(shares) if second else None
        statistics = [pointer(own[0]), pointer(found[0] if second else None)]
        launch("instance_gradient_sums", [maps, pointer(gy), pointer(y), *statistics, pointer(shares), pointer(others)])
        sums = launch.sums(shares)
        other_sums = None if others is None else launch.sums(others)
        given = [
            maps,
            pointer(gy),
            pointer(y),
            *statistics,
            pointer(sums),
            pointer(other_sums),
            pointer(gx),
            pointer(gother),
        ]
        launch("instance_gradients", given)
    return gx, gother, sums.sum(0)


_backward = torch.library.custom_op("swin_umamba::instance_norm_backward", _run_backward, mutates_args=())


@_backward.register_fake
def _(gy, x, other, y, own, found, slope):
    gx = torch.empty_like(x, memory_format=torch.channels_last)
    return gx, x.new_empty(0) if other is None else torch.empty_like(gx), own.new_empty((2, x.shape[1]))


def _save(ctx, inputs, output):
    x, weight, _, _, ctx.slope, other, _ = inputs
    ctx.affine = weight is not None
    ctx.save_for_backward(x, other, *output)


def _spread(ctx, gx: Tensor, gother: Tensor, sums: Tensor) -> tuple:
    """Put the gradients in the order of the inputs."""
    ends = (sums[1], sums[0]) if ctx.affine else (None, None)
    return gx, *ends, None, None, gother if len(gother) else None, None


def _gradients(ctx, gy, *_):
    x, other, y, own, found = ctx.saved_tensors
    gradients = torch.ops.swin_umamba.instance_norm_backward(gy, x, other, y, own, found, ctx.slope)
    return _spread(ctx, *gradients)


_forward.register_autograd(_gradients, setup_context=_save)


class _Eager(torch.autograd.Function):
    """The operator without PyTorch's dispatch of Python operators, which takes longer than the kernels."""

    @staticmethod
    def forward(ctx, *inputs):
        """Run the kernels."""
        output = _run_forward(*inputs)
        _save(ctx, inputs, output)
        return output[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, gy):
        """Run the kernels of the gradients."""
        x, other, y, own, found = ctx.saved_tensors
        return _spread(ctx, *_run_backward(gy, x, other, y, own, found, ctx.slope))
