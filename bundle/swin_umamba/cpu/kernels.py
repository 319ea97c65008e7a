"""Compiled functions for inference on channels-last maps, each in as few passes over memory as it needs.

Matrices are C-ordered; float32, or int16 that holds bfloat16. All sums are float32. Channels come in blocks of `LANES`,
so matrices are at least that wide; where they are no multiple of it, the last block overlaps the one before. A call
holds no Python lock and writes only the rows it is given.

Numba's cache on disk notices a change of this file only: after a change of simd.py delete __pycache__.
"""

from __future__ import annotations

import numpy as np

from .lanes import LANES
from .simd import larger, load, silu, splat, store, total
from .threads import compiled


@compiled
def layer_norm(x, gate, gate_column, weight, bias, rest, eps, y, first, last):
    """Normalise rows first..last-1 of x (R, C), times SiLU of gate (R, at least C) from a column on; no rows: no gate.

    weight and bias are (1, C), y is (R, C), x itself only if C is a multiple of LANES. `rest` (1, LANES) is 1 where the
    last block holds channels that no block before it holds, else 0.
    """
    channels = x.shape[1]
    share = np.float32(1.0 / channels)
    end, fresh = channels - LANES, load(rest, 0, 0)
    for row in range(first, last):
        sums = load(x, row, end) * fresh
        for c in range(0, end, LANES):
            sums = sums + load(x, row, c)
        mean = splat(total(sums) * share)
        apart = load(x, row, end) - mean
        sums = apart * apart * fresh
        for c in range(0, end, LANES):
            apart = load(x, row, c) - mean
            sums = sums + apart * apart
        scale = splat(np.float32(1.0) / np.sqrt(total(sums) * share + eps))
        for block in range(0, channels, LANES):
            c = min(block, end)
            value = (load(x, row, c) - mean) * scale * load(weight, 0, c) + load(bias, 0, c)
            if gate.size > 0:
                value = value * silu(load(gate, row, gate_column + c))
            store(y, row, c, value)


@compiled
def conv_silu(x, x_column, weight, bias, y, height, width, first, last):
    """Convolve map rows first..last-1, of B*H, of x (B*H*W, at least D) from a column on, by 3x3 channel by channel.

    weight is (9, D), bias (1, D), y (B*H*W, D): the sum after SiLU.
    """
    channels = y.shape[1]
    for line in range(first, last):
        top, bottom = max(line % height - 1, 0) - line % height, min(line % height + 1, height - 1) - line % height
        for block in range(0, channels, LANES):
            c = min(block, channels - LANES)
            for column in range(width):
                value = load(bias, 0, c)
                for down in range(top, bottom + 1):
                    place, tap = (line + down) * width + column, 3 * down + 4
                    if column > 0:
                        value = value + load(x, place - 1, x_column + c) * load(weight, tap - 1, c)
                    value = value + load(x, place, x_column + c) * load(weight, tap, c)
                    if column < width - 1:
                        value = value + load(x, place + 1, x_column + c) * load(weight, tap + 1, c)
                store(y, line * width + column, c, silu(value))


@compiled
def instance_sums(x, shift, sums, part, first, last):
    """Sum x - shift and its square over rows first..last-1 of x (R, C) into sums (parts, 2, C); shift is (1, C)."""
    for c in range(0, x.shape[1], LANES):
        base = load(shift, 0, c)
        both = base - base
        squares = both
        for row in range(first, last):
            apart = load(x, row, c) - base
            both = both + apart
            squares = squares + apart * apart
        store(sums[part], 0, c, both)
        store(sums[part], 1, c, squares)


@compiled
def instance_apply(x, scale, other, other_scale, slope, y, first, last):
    """Write leaky ReLU of x * scale[0] + scale[1], plus other * other_scale[0] + other_scale[1] if `other` has rows.

    Rows first..last-1 of x, other, y (R, C); scales are (2, C), slope at most 1.
    """
    low = splat(slope)
    for row in range(first, last):
        for c in range(0, x.shape[1], LANES):
            value = load(x, row, c) * load(scale, 0, c) + load(scale, 1, c)
            if other.size > 0:
                value = value + load(other, row, c) * load(other_scale, 0, c) + load(other_scale, 1, c)
            store(y, row, c, larger(value * low, value))
