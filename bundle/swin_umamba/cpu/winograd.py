"""3x3 convolutions for inference on a CPU with a quarter of the multiplications, by Winograd's F(4x4, 3x3).

Tiles of 6x6 inputs are transformed, multiplied channel by channel in 36 matrix products, and transformed back to 4x4
results. The smaller of the two transformed factors, maps or weights, is made first and shared; the other is made part
by part where it is used, so that it never leaves the caches of the core. Transformed weights take four times the memory
of the weights and little time, so none are kept from one call to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .operators import as_array, result_type, takes
from .units import columns_of, numbers, parts, room_of, share

_SIDE = 4  # pixels of a tile's results; here, since what compiles is imported where it is needed
_TILES = 42  # of a part of a map: three times the rows of a product with AVX-512, seven times those without
_FEW = 16  # tiles that are transformed together where the weights are the larger factor
_LEAST = 16  # channels of a vector; also of tiles, below which transforming the weights takes too long
_WORK = 2**19  # tiles times weights; below, PyTorch's convolution is done before the transforms are


def convolves(layer: nn.Conv2d, x: Tensor, rest: Tensor | None = None) -> bool:
    """Whether `convolve` may take the place of a layer for maps (B, C, H, W), and is faster by a rule of shapes.

    It takes 3x3 convolutions with stride 1 and a border of one zero without gradients: all in float32, or to bfloat16
    under autocast where the processor multiplies vectors of it and no matrices (AMX). It is faster with at least 16
    channels, 16 tiles of which the map fills two thirds, and not too little work in all. One image decides, so that a
    slice by itself gets the result that it has among others.
    """
    maps = [x] if rest is None else [x, rest]
    weights = [t for t in (layer.weight, layer.bias) if t is not None]
    plain = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
    if plain != ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros") or not takes(*maps, *weights):
        return False
    tiles = math.ceil(x.shape[2] / _SIDE) * math.ceil(x.shape[3] / _SIDE)
    full = 3 * x.shape[2] * x.shape[3] >= 2 * _SIDE**2 * tiles
    wide = min(layer.weight.shape[0], *(m.shape[1] for m in maps)) >= _LEAST
    enough = full and wide and tiles >= _LEAST and tiles * layer.weight.numel() >= _WORK
    return enough and _computes_in(result_type(x), weights, maps)


def _computes_in(kind: torch.dtype, weights: list[Tensor], maps: list[Tensor]) -> bool:
    """Whether there is code for results of a type, of such weights and maps."""
    if any(t.dtype != torch.float32 for t in weights):
        return False
    if kind == torch.float32:
        return all(m.dtype == kind for m in maps) and not torch.is_autocast_enabled("cpu")
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == kind == torch.bfloat16
    return autocast and _multiplies_halves() and all(m.shape[1] % 2 == 0 for m in maps)


@cache
def _multiplies_halves() -> bool:
    """Whether the processor has instructions for products of bfloat16 vectors, and none for matrices."""
    from .products_simd import HALVES

    return HALVES and not getattr(torch.cpu, "_is_amx_tile_supported", bool)()


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, rest: Tensor | None = None) -> Tensor:
    """Convolve maps (B, C, H, W), followed by the channels of `rest` (B, D, H, W), by 3x3 with a border of zeros.

    Args:
        x: float32 or bfloat16, C at least 16, and even for bfloat16; any layout, but channels-last is not copied.
        weight: (K, C + D, 3, 3), float32, K at least 16.
        bias: (K,), float32, or None.
        rest: like x, D at least 16, or None.

    Returns:
        (B, K, H, W) like x, channels-last. Transformed maps and weights are rounded to the type of x, sums are not.

    Raises:
        ValueError: if shapes or types do not fit; the compiled functions check nothing.
    """
    _check(x, weight, bias, rest)
    outputs, (height, width) = weight.shape[0], x.shape[2:]
    y = torch.empty((len(x), height, width, outputs), dtype=x.dtype, device="cpu")
    task = _Task(
        x=_pixels(x),
        channels=x.shape[1],
        rest=_pixels(x if rest is None else rest),
        others=0 if rest is None else rest.shape[1],
        size=(height, width),
        tiles=len(x) * math.ceil(height / _SIDE) * math.ceil(width / _SIDE),
        weight=weight.detach().reshape(-1).numpy(),
        bias=np.zeros(outputs, np.float32) if bias is None else bias.detach().numpy(),
        y=as_array(y.view(-1)),
    )
    (_by_weights if outputs > task.tiles else _by_tiles)(task)
    return y.permute(0, 3, 1, 2)  # (B, H, W, K) -> (B, K, H, W)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, rest: Tensor | None) -> None:
    maps = [x] if rest is None else [x, rest]
    shapes = [tuple(m.shape) for m in maps]
    outputs, inputs = weight.shape[0], sum(m.shape[1] for m in maps)
    if len({(m.shape[0], *m.shape[2:]) for m in maps}) > 1:
        raise ValueError(f"maps of shapes {shapes} differ in more than their channels")
    if tuple(weight.shape) != (outputs, inputs, 3, 3) or (bias is not None and bias.shape != (outputs,)):
        raise ValueError(f"weights {tuple(weight.shape)}, or their biases, do not fit maps of shapes {shapes}")
    if min(outputs, *(m.shape[1] for m in maps)) < _LEAST:
        raise ValueError(f"weights {tuple(weight.shape)} for maps of shapes {shapes}: at least {_LEAST} channels each")
    types = [{t.dtype for t in some if t is not None} for some in (maps, (weight, bias))]
    if types[1] != {torch.float32} or types[0] not in ({torch.float32}, {torch.bfloat16}):
        raise ValueError(f"maps of {types[0]} and weights of {types[1]}; legal: float32 or bfloat16, and float32")
    if types[0] == {torch.bfloat16} and any(m.shape[1] % 2 for m in maps):
        raise ValueError(f"maps of shapes {shapes} in bfloat16 must have even numbers of channels")


@dataclass(frozen=True)
class _Task:
    """One convolution; arrays as winograd_kernels.py wants them."""

    x: np.ndarray
    channels: int
    rest: np.ndarray
    others: int
    size: tuple[int, int]
    tiles: int
    weight: np.ndarray
    bias: np.ndarray
    y: np.ndarray

    @property
    def inputs(self) -> int:
        return self.channels + self.others

    def patches(self, memory: np.ndarray) -> np.ndarray:
        """View scratch memory as numbers like those of the maps."""
        return memory.view(self.y.dtype)

    @property
    def outputs(self) -> int:
        return len(self.bias)


def _by_tiles(task: _Task) -> None:
    """Transform all weights, then convolve some tiles at a time."""
    from . import winograd_kernels as kernels

    columns = columns_of(task.outputs, kernels.WIDTHS)
    each = kernels.held(task.y)
    sizes = [kernels.PRODUCTS * kernels.apart(task.inputs // each * width) for _, width in columns]
    starts = np.cumsum([0, *sizes]).tolist()
    u = numbers(starts[-1])

    def transform(unit: tuple[int, int, int], spare: list[np.ndarray]) -> None:
        column, width, start = unit
        kernels.weights(task.weight, task.inputs, 0, task.inputs, column, width, u, start, task.y, *spare)

    units = [(*panel, start) for panel, start in zip(columns, starts, strict=False)]  # one start more, the end
    share(transform, units, [_turned(kernels)])
    room = room_of(_TILES, kernels.ROWS)
    blocks = sum(_blocks(task, kernels))
    maps = (task.x, task.channels, task.rest, task.others, task.size)
    weights = (u, *(np.array(part) for part in zip(*columns, strict=True)), task.bias)

    def convolve_some(part: tuple[int, int], spare: list[np.ndarray]) -> None:
        v, m, patch = spare
        kernels.strip(*maps, *weights, task.y, task.outputs, *part, room, v, m, task.patches(patch))

    v, patch = _transformed(blocks * room, task, kernels), kernels.PRODUCTS * task.inputs
    share(convolve_some, parts(task.tiles, _TILES), [v, _products(room, kernels), patch])


def _by_weights(task: _Task) -> None:
    """Transform all tiles, then convolve for some results at a time."""
    from . import winograd_kernels as kernels

    room, blocks = room_of(task.tiles, kernels.ROWS), _blocks(task, kernels)
    v = numbers(_transformed(sum(blocks) * room, task, kernels))

    def transform(part: tuple[int, int], spare: list[np.ndarray]) -> None:
        place, patch = (sum(blocks), room), task.patches(*spare)
        kernels.tiles_in(task.x, task.channels, task.size, *part, v, 0, 0, *place, patch)
        if task.others:
            kernels.tiles_in(task.rest, task.others, task.size, *part, v, 0, blocks[0], *place, patch)

    share(transform, parts(task.tiles, _FEW), [kernels.PRODUCTS * task.inputs])
    maps = (v, task.channels, task.others, task.size, task.tiles, room)

    def convolve_some(panel: tuple[int, int], spare: list[np.ndarray]) -> None:
        *some, patch = spare
        kernels.panel(*maps, task.weight, *panel, task.bias, task.y, task.outputs, *some, task.patches(patch))

    u = kernels.PRODUCTS * kernels.apart(kernels.SLAB * kernels.WIDTHS[0])
    sizes = [u, _products(room, kernels), _turned(kernels), kernels.TILE**2 * kernels.VECTOR]
    share(convolve_some, columns_of(task.outputs, kernels.WIDTHS), sizes)


def _blocks(task: _Task, kernels: Any) -> tuple[int, int]:
    """Return how many vectors hold the channels of x and of `rest`."""
    return math.ceil(task.channels / kernels.VECTOR), math.ceil(task.others / kernels.VECTOR)


def _transformed(vectors: int, task: _Task, kernels: Any) -> int:
    """Return how many numbers hold so many vectors of channels at 36 points."""
    return kernels.PRODUCTS * kernels.apart(vectors * kernels.VECTOR // kernels.held(task.y))


def _products(room: int, kernels: Any) -> int:
    return kernels.PRODUCTS * kernels.apart(room * kernels.WIDTHS[0])


def _turned(kernels: Any) -> int:
    """Return how many weights, or results of a tile, lie in a scratch array."""
    return kernels.VECTOR * kernels.TAPS * kernels.WIDTHS[0]


def _pixels(x: Tensor) -> np.ndarray:
    """View maps (B, C, H, W) as numbers in the order (B, H, W, C)."""
    x = x.detach().contiguous(memory_format=torch.channels_last)
    return as_array(x.permute(0, 2, 3, 1).reshape(-1))
