"""Layer norm, depthwise convolution and instance norm for inference on a CPU, each with what follows it.

Each does what the function `plain_*` of `swin_umamba.cuda` says, in float32 or bfloat16, and leaves to that whatever
it cannot take: gradients, other types, fewer channels than fit a vector.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swin_umamba.cuda import plain_conv_silu, plain_instance_norm, plain_layer_norm

from .lanes import LANES
from .threads import run
from .units import parts

# A map is cut into parts as units of work; sums are over parts, so the result is the same on any number of cores.
_PARTS, _PART_BYTES = 16, 2**19  # at most so many, none smaller: threads take turns to ask for one (tens of us)
_TYPES = (torch.float32, torch.bfloat16)


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None


def takes(*tensors: Tensor) -> bool:
    """Whether compiled functions may run on such tensors: plain ones on the CPU, without gradients or tracing."""
    quiet = not (torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing())
    return quiet and _has_numba() and all(type(t) in _PLAIN and t.is_cpu and t.dtype in _TYPES for t in tensors)


_PLAIN = (Tensor, torch.nn.Parameter)


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, gate: Tensor | None = None, *, overwrite: bool = False
) -> Tensor:
    """`plain_layer_norm` by one function; under autocast the result has autocast's type.

    `overwrite` lets the result take the memory of x if it has its type.
    """
    channels = x.shape[-1]
    given = (x,) if gate is None else (x, gate)
    if not takes(*given, weight, bias) or channels < LANES or weight.dtype != torch.float32:
        return plain_layer_norm(x, weight, bias, eps, gate)
    from . import kernels

    matrix = x.reshape(-1, channels)
    around, column = (x.new_empty((0, LANES)), 0) if gate is None else _rows(gate)
    overwrite = overwrite and channels % LANES == 0 and x.is_contiguous() and result_type(x) == x.dtype
    y = x if overwrite else torch.empty(x.shape, dtype=result_type(x), device="cpu")
    ends = (_row(weight), _row(bias), _rest(channels), np.float32(eps))
    arguments = (as_array(matrix), as_array(around), column, *ends)
    target = as_array(y.view(-1, channels))
    run(lambda part: kernels.layer_norm(*arguments, target, *part), _parts(len(matrix), target))
    return y


def conv_silu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`plain_conv_silu` by one function; under autocast the result has autocast's type."""
    images, height, width, channels = x.shape
    if bias is None or not takes(x, weight, bias) or channels < LANES or weight.dtype != torch.float32:
        return plain_conv_silu(x, weight, bias)
    from . import kernels

    matrix, column = _rows(x)
    y = torch.empty(x.shape, dtype=result_type(x), device="cpu")
    taps = as_array(weight.reshape(channels, 9).t())  # (D, 1, 3, 3) -> (9, D)
    target = as_array(y.view(-1, channels))
    arguments = (as_array(matrix), column, taps, _row(bias), target, height, width)
    run(lambda part: kernels.conv_silu(*arguments, *part), _parts(images * height, target))
    return y


def instance_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float,
    other: Tensor | None = None, normalise_other: bool = False, *, overwrite: bool = False,
) -> Tensor:  # fmt: skip
    """`plain_instance_norm` by functions of ours, channels-last then; slope 1 is no activation.

    `overwrite` lets the result take the memory of x, which spares fresh memory, a page of it at a time.
    """
    pixels, channels = x.shape[2] * x.shape[3], x.shape[1]
    given = [t for t in (x, weight, bias, other) if t is not None]
    several = math.lcm(channels, LANES) // channels  # pixels that fill whole vectors
    if not takes(*given) or pixels % several or pixels == 1:
        return plain_instance_norm(x, weight, bias, eps, slope, other, normalise_other)
    x, other = _last(x), None if other is None else _last(other.to(x.dtype))
    y = x if overwrite else torch.empty_like(x)
    for image in range(len(x)):
        _instance(x[image], weight, bias, eps, slope, None if other is None else other[image], normalise_other,
                  y[image], several)  # fmt: skip
    return y


def _instance(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float, other: Tensor | None,
    normalise_other: bool, y: Tensor, several: int,
) -> None:  # fmt: skip
    """Normalise one image (C, H, W), channels-last, into y."""
    from . import kernels

    rows, target = _flat(x, several), _flat(y, several)
    others = None if other is None else _flat(other, several)
    own = _scale(rows, several, weight, bias, eps)
    if others is not None and normalise_other:
        second = _scale(others, several, None, None, eps)
    else:
        second = np.stack([np.ones_like(own[0]), np.zeros_like(own[0])])
    nothing = rows[:0] if others is None else others
    factor = np.float32(slope)
    units = _parts(len(rows), rows)
    run(lambda part: kernels.instance_apply(rows, own, nothing, second, factor, target, *part), units)


def _scale(rows: np.ndarray, several: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> np.ndarray:
    """Return factor and summand (2, C) that normalise an image's rows (R, several * C)."""
    from . import kernels

    pieces, width = _parts(len(rows), rows), rows.shape[1]
    channels = width // several
    first = torch.from_numpy(rows[0, :channels])
    shift = (first.view(torch.bfloat16) if rows.dtype == np.int16 else first).float().repeat(several).numpy()[None]
    sums = np.empty((len(pieces), 2, width), np.float32)
    units = [(number, *part) for number, part in enumerate(pieces)]
    run(lambda unit: kernels.instance_sums(rows, shift, sums, *unit), units)
    both, squares = sums.sum(0, dtype=np.float64).reshape(2, several, channels).sum(1) / (len(rows) * several)
    scale = 1 / np.sqrt(np.maximum(squares - both**2, 0) + eps)
    mean = shift[0, :channels] + both
    if weight is not None:
        scale = scale * weight.detach().double().numpy()
    summand = -mean * scale + (0 if bias is None else bias.detach().double().numpy())
    return np.tile(np.stack([scale, summand]), several).astype(np.float32)


def result_type(x: Tensor) -> torch.dtype:
    """Return the type that autocast, or x without it, gives a result."""
    half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return half if half in _TYPES else x.dtype


def as_array(x: Tensor) -> np.ndarray:
    """View a tensor as the array that the compiled functions take."""
    x = x.detach().contiguous()
    return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy()


def _row(x: Tensor) -> np.ndarray:
    """Return weights (C,) as (1, C) in float32."""
    return as_array(x.float())[None]


@cache
def _rest(channels: int) -> np.ndarray:
    """Return which lanes (1, LANES) of the last block hold channels that no block before it holds."""
    return (np.arange(LANES) >= -channels % LANES).astype(np.float32)[None]


def _rows(x: Tensor) -> tuple[Tensor, int]:
    """Return a matrix whose rows hold those of x (..., C), and the column they begin at; a copy only if need be."""
    row = int(x.stride(-2))
    flat = x.stride(-1) == 1 and all(x.stride(i) == x.stride(i + 1) * x.shape[i + 1] for i in range(x.dim() - 2))
    column = int(x.storage_offset()) % row if row else 0
    if not flat or row < x.shape[-1] or column + x.shape[-1] > row:
        return x.reshape(-1, x.shape[-1]).contiguous(), 0
    count, start = x.numel() // x.shape[-1], x.storage_offset() - column
    if (start + count * row) * x.element_size() > x.untyped_storage().nbytes():
        return x.reshape(-1, x.shape[-1]).contiguous(), 0
    return x.as_strided((count, row), (row, 1), start), column


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _flat(x: Tensor, several: int) -> np.ndarray:
    """View an image (C, H, W), channels-last, as rows of some pixels each: (H * W / several, several * C)."""
    return as_array(x.permute(1, 2, 0).view(-1, several * x.shape[0]))


def _parts(count: int, y: np.ndarray) -> list[Any]:
    """Cut the `count` rows of a map that is written to y, or read from it, into parts (first, last)."""
    return parts(count, -(-count // max(1, min(_PARTS, y.nbytes // _PART_BYTES))))
