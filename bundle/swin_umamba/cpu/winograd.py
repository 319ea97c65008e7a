"""3x3 convolutions for inference on a CPU with a quarter of the multiplications, by Winograd's F(4x4, 3x3).

Tiles of 6x6 inputs are transformed, multiplied channel by channel in 36 matrix products, and transformed back to 4x4
results. The smaller of the two transformed factors, maps or weights, is made first and shared; the other is made part
by part where it is used, so that it never leaves the caches of the core. Transformed weights take four times the memory
of the weights and little time, so none are kept from one call to the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .operators import takes
from .threads import run

_TILES = 42  # of a part of a map: three times the rows of a product with AVX-512, seven times those without
_FEW = 16  # tiles that are transformed together where the weights are the larger factor
_LEAST = 16  # channels of a vector; also of tiles, below which transforming the weights takes too long
_WORK = 2**19  # tiles times weights; below, PyTorch's convolution is done before the transforms are


def convolves(layer: nn.Conv2d, x: Tensor) -> bool:
    """Whether `convolve` may take the place of a layer for maps (B, C, H, W), and is faster by a rule of shapes.

    Of a 3x3 convolution with stride 1 and a border of one zero, without gradients, all float32.
    """
    weight = layer.weight
    given = (x, weight) if layer.bias is None else (x, weight, layer.bias)
    plain = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
    if plain != ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros") or not takes(*given):
        return False
    exact = all(t.dtype == torch.float32 for t in given) and not torch.is_autocast_enabled("cpu")
    tiles = len(x) * -(-x.shape[2] // 4) * -(-x.shape[3] // 4)
    return exact and min(weight.shape[:2]) >= _LEAST and tiles >= _LEAST and tiles * weight.numel() >= _WORK


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, rest: Tensor | None = None) -> Tensor:
    """Convolve maps (B, C, H, W), followed by the channels of `rest` (B, D, H, W), by 3x3 with a border of zeros.

    Args:
        x: float32, C at least 16; any layout, but channels-last is not copied.
        weight: (K, C + D, 3, 3), K at least 16.
        bias: (K,) or None.
        rest: D at least 16, or None.

    Returns:
        (B, K, H, W), channels-last.
    """
    from . import winograd_kernels as kernels

    outputs, inputs = weight.shape[:2]
    y = torch.empty((x.shape[0], outputs, *x.shape[2:]), memory_format=torch.channels_last)
    tiles = x.shape[0] * -(-x.shape[2] // kernels.TILE) * -(-x.shape[3] // kernels.TILE)
    summand = np.zeros(outputs, np.float32) if bias is None else bias.detach().numpy()
    maps = [(_pixels(x), x.shape[1]), (_pixels(x if rest is None else rest), 0 if rest is None else rest.shape[1])]
    work = _by_weights if outputs > tiles else _by_tiles
    work(maps, x.shape[2:], tiles, weight.detach().reshape(-1).numpy(), inputs, summand, _pixels(y))
    return y


def _by_tiles(
    maps: list[tuple[np.ndarray, int]], size: tuple[int, int], tiles: int, weight: np.ndarray, inputs: int,
    bias: np.ndarray, y: np.ndarray,
) -> None:  # fmt: skip
    """Transform all weights, then convolve some tiles at a time."""
    from . import winograd_kernels as kernels

    columns = _columns(len(bias), kernels.WIDTHS)
    starts = np.cumsum([0, *(kernels.PRODUCTS * kernels.apart(inputs * width) for _, width in columns)])
    u = _numbers(starts[-1])
    scratch = kernels.VECTOR * kernels.TAPS * kernels.WIDTHS[0]
    units = [(column, width, start) for (column, width), start in zip(columns, starts, strict=False)]
    _share(lambda unit, room: kernels.weights(weight, inputs, 0, inputs, *unit[:2], u, unit[2], *room),
           units, [scratch])  # fmt: skip

    room = -(-_TILES // kernels.ROWS) * kernels.ROWS
    blocks = sum(-(-channels // kernels.VECTOR) for _, channels in maps)
    given = (*maps[0], *maps[1], tuple(size), u, *(np.array(part) for part in zip(*columns, strict=True)), bias, y)
    sizes = [kernels.PRODUCTS * kernels.apart(blocks * room * kernels.VECTOR),
             kernels.PRODUCTS * kernels.apart(room * kernels.WIDTHS[0]),
             kernels.PRODUCTS * max(inputs, kernels.VECTOR)]  # fmt: skip
    _share(lambda part, spare: kernels.strip(*given, len(bias), *part, room, *spare), _parts(tiles, _TILES), sizes)


def _by_weights(
    maps: list[tuple[np.ndarray, int]], size: tuple[int, int], tiles: int, weight: np.ndarray, inputs: int,
    bias: np.ndarray, y: np.ndarray,
) -> None:  # fmt: skip
    """Transform all tiles, then convolve for some results at a time."""
    from . import winograd_kernels as kernels

    room = -(-tiles // kernels.ROWS) * kernels.ROWS
    counts = [-(-channels // kernels.VECTOR) for _, channels in maps]
    v = _numbers(kernels.PRODUCTS * kernels.apart(sum(counts) * room * kernels.VECTOR))
    for number, (x, channels) in enumerate(maps[: 1 + (maps[1][1] > 0)]):
        given = (v, 0, number * counts[0], sum(counts), room)
        _share(lambda part, spare, x=x, channels=channels, given=given:
               kernels.tiles_in(x, channels, tuple(size), *part, *given, *spare),
               _parts(tiles, _FEW), [kernels.PRODUCTS * channels])  # fmt: skip
    given = (v, maps[0][1], maps[1][1], tuple(size), tiles, room, weight)
    sizes = [kernels.PRODUCTS * kernels.apart(kernels.SLAB * kernels.WIDTHS[0]),
             kernels.PRODUCTS * kernels.apart(room * kernels.WIDTHS[0]), kernels.VECTOR * kernels.TAPS * kernels.WIDTHS[0]]  # fmt: skip
    _share(lambda unit, spare: kernels.panel(*given, *unit, bias, y, len(bias), *spare),
           _columns(len(bias), kernels.WIDTHS), sizes)  # fmt: skip


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
