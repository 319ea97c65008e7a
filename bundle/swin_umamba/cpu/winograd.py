"""3x3 convolutions for inference on a CPU with a quarter of the multiplications, by Winograd's F(4x4, 3x3).

Tiles of 6x6 inputs are transformed, multiplied channel by channel in 36 matrix products, and transformed back to 4x4
results. The smaller of the two transformed factors, maps or weights, is made first and shared; the other is made part
by part where it is used, so that it never leaves the caches of the core. Transformed weights take four times the memory
of the weights and little time, so none are kept from one call to the next.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .operators import takes
from .threads import run

_SIDE = 4  # pixels of a tile's results; here, since what compiles is imported where it is needed
_TILES = 42  # of a part of a map: three times the rows of a product with AVX-512, seven times those without
_FEW = 16  # tiles that are transformed together where the weights are the larger factor
_LEAST = 16  # channels of a vector; also of tiles, below which transforming the weights takes too long
_WORK = 2**19  # tiles times weights; below, PyTorch's convolution is done before the transforms are


def convolves(layer: nn.Conv2d, x: Tensor, rest: Tensor | None = None) -> bool:
    """Whether `convolve` may take the place of a layer for maps (B, C, H, W), and is faster by a rule of shapes.

    It takes 3x3 convolutions with stride 1 and a border of one zero, all float32, without gradients. It is faster with
    at least 16 channels, 16 tiles of which the map fills two thirds, and not too little work in all.
    """
    maps = [x] if rest is None else [x, rest]
    given = [t for t in (*maps, layer.weight, layer.bias) if t is not None]
    plain = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
    if plain != ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros") or not takes(*given):
        return False
    exact = all(t.dtype == torch.float32 for t in given) and not torch.is_autocast_enabled("cpu")
    tiles = len(x) * math.ceil(x.shape[2] / _SIDE) * math.ceil(x.shape[3] / _SIDE)
    full = 3 * len(x) * x.shape[2] * x.shape[3] >= 2 * _SIDE**2 * tiles
    wide = min(layer.weight.shape[0], *(m.shape[1] for m in maps)) >= _LEAST
    return exact and full and wide and tiles >= _LEAST and tiles * layer.weight.numel() >= _WORK


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, rest: Tensor | None = None) -> Tensor:
    """Convolve maps (B, C, H, W), followed by the channels of `rest` (B, D, H, W), by 3x3 with a border of zeros.

    Args:
        x: float32, C at least 16; any layout, but channels-last is not copied.
        weight: (K, C + D, 3, 3), K at least 16.
        bias: (K,) or None.
        rest: D at least 16, or None.

    Returns:
        (B, K, H, W), channels-last.

    Raises:
        ValueError: if shapes or types do not fit; the compiled functions check nothing.
    """
    _check(x, weight, bias, rest)
    outputs, (height, width) = weight.shape[0], x.shape[2:]
    y = torch.empty((len(x), height, width, outputs), dtype=torch.float32, device="cpu")
    task = _Task(
        x=_pixels(x),
        channels=x.shape[1],
        rest=_pixels(x if rest is None else rest),
        others=0 if rest is None else rest.shape[1],
        size=(height, width),
        tiles=len(x) * math.ceil(height / _SIDE) * math.ceil(width / _SIDE),
        weight=weight.detach().reshape(-1).numpy(),
        bias=np.zeros(outputs, np.float32) if bias is None else bias.detach().numpy(),
        y=y.view(-1).numpy(),
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
    types = {t.dtype for t in (*maps, weight, bias) if t is not None}
    if types != {torch.float32}:
        raise ValueError(f"types {types}; all must be float32")


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

    @property
    def outputs(self) -> int:
        return len(self.bias)


def _by_tiles(task: _Task) -> None:
    """Transform all weights, then convolve some tiles at a time."""
    from . import winograd_kernels as kernels

    columns = _columns(task.outputs, kernels.WIDTHS)
    starts = np.cumsum([0, *(kernels.PRODUCTS * kernels.apart(task.inputs * width) for _, width in columns)]).tolist()
    u = _numbers(starts[-1])

    def transform(unit: tuple[int, int, int], spare: list[np.ndarray]) -> None:
        column, width, start = unit
        kernels.weights(task.weight, task.inputs, 0, task.inputs, column, width, u, start, *spare)

    units = [(*panel, start) for panel, start in zip(columns, starts, strict=False)]  # one start more, the end
    _share(transform, units, [_turned(kernels)])
    room = _room(_TILES, kernels)
    blocks = sum(_blocks(task, kernels))
    maps = (task.x, task.channels, task.rest, task.others, task.size)
    weights = (u, *(np.array(part) for part in zip(*columns, strict=True)), task.bias)

    def convolve_some(part: tuple[int, int], spare: list[np.ndarray]) -> None:
        kernels.strip(*maps, *weights, task.y, task.outputs, *part, room, *spare)

    v, patch = kernels.PRODUCTS * kernels.apart(blocks * room * kernels.VECTOR), kernels.PRODUCTS * task.inputs
    _share(convolve_some, _parts(task.tiles, _TILES), [v, _products(room, kernels), patch])


def _by_weights(task: _Task) -> None:
    """Transform all tiles, then convolve for some results at a time."""
    from . import winograd_kernels as kernels

    room, blocks = _room(task.tiles, kernels), _blocks(task, kernels)
    v = _numbers(kernels.PRODUCTS * kernels.apart(sum(blocks) * room * kernels.VECTOR))

    def transform(part: tuple[int, int], spare: list[np.ndarray]) -> None:
        kernels.tiles_in(task.x, task.channels, task.size, *part, v, 0, 0, sum(blocks), room, *spare)
        if task.others:
            kernels.tiles_in(task.rest, task.others, task.size, *part, v, 0, blocks[0], sum(blocks), room, *spare)

    _share(transform, _parts(task.tiles, _FEW), [kernels.PRODUCTS * task.inputs])
    maps = (v, task.channels, task.others, task.size, task.tiles, room)

    def convolve_some(panel: tuple[int, int], spare: list[np.ndarray]) -> None:
        kernels.panel(*maps, task.weight, *panel, task.bias, task.y, task.outputs, *spare)

    u = kernels.PRODUCTS * kernels.apart(kernels.SLAB * kernels.WIDTHS[0])
    _share(convolve_some, _columns(task.outputs, kernels.WIDTHS), [u, _products(room, kernels), _turned(kernels)])


def _blocks(task: _Task, kernels: Any) -> tuple[int, int]:
    """Return how many vectors hold the channels of x and of `rest`."""
    return math.ceil(task.channels / kernels.VECTOR), math.ceil(task.others / kernels.VECTOR)


def _room(tiles: int, kernels: Any) -> int:
    """Return how many rows the products of so many tiles read and write."""
    return math.ceil(tiles / kernels.ROWS) * kernels.ROWS


def _products(room: int, kernels: Any) -> int:
    return kernels.PRODUCTS * kernels.apart(room * kernels.WIDTHS[0])


def _turned(kernels: Any) -> int:
    """Return how many weights, or results of a tile, lie in a scratch array."""
    return kernels.VECTOR * kernels.TAPS * kernels.WIDTHS[0]


def _parts(count: int, step: int) -> list[tuple[int, int]]:
    return [(first, min(first + step, count)) for first in range(0, count, step)]


def _columns(count: int, widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """Cover `count` columns, at least the narrowest width, by (first, width), widest first; the last may overlap."""
    columns = []
    first = 0
    while first < count:
        width = min((w for w in widths if w >= count - first), default=widths[0])
        if width > count:  # between two widths: several of the narrower one
            width = widths[-1]
        columns.append((min(first, count - width), width))
        first += width
    return columns


def _share(call: Callable[[Any, list[np.ndarray]], object], units: Iterable[Any], sizes: list[int]) -> None:
    """Call a function with each unit and arrays of these sizes that no other call uses at the time."""
    spare: deque[list[np.ndarray]] = deque()

    def work(unit: Any) -> None:
        arrays = spare.pop() if spare else [_numbers(size) for size in sizes]
        call(unit, arrays)
        spare.append(arrays)

    run(work, units)


def _numbers(count: int) -> np.ndarray:
    return torch.empty(count, dtype=torch.float32, device="cpu").numpy()  # PyTorch's memory begins where a vector may


def _pixels(x: Tensor) -> np.ndarray:
    """View maps (B, C, H, W) as numbers in the order (B, H, W, C)."""
    x = x.detach().contiguous(memory_format=torch.channels_last)
    return x.permute(0, 2, 3, 1).reshape(-1).numpy()
