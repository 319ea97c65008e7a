"""Compiled functions of Winograd's convolution on channels-last maps; winograd.py says how they go together.

Arrays are flat: `x` and `rest` (B, H, W, C) and (B, H, W, D), whose channels follow those of x (D = 0: none), and `y`
(B, H, W, K), in float32 or int16 that holds bfloat16; the others in float32, `w` (K, C + D, 3, 3). Tiles of 4x4 results
are counted over images, rows and columns; `size` is (H, W). Transformed they are v (36, blocks of VECTOR channels, room
for tiles, VECTOR), u (36, channels, width) for each `width` columns of results and m (36, room, width), with `apart`
numbers from each of the 36 to the next. A block of channels at the end overlaps the one before it. Of maps in bfloat16
each number of v and u holds those of two channels, so there are half as many; C and D are even.

Numba's cache on disk notices a change of this file only: after a change of one that it imports delete __pycache__.
"""

from __future__ import annotations

from .products_simd import ROWS, VECTOR, WIDTHS, product, transpose
from .threads import compiled
from .winograd_simd import POINTS, PRODUCTS, TILE, transform_inputs, transform_outputs, transform_weights

_wide, _narrow = (product(width) for width in (WIDTHS[0], WIDTHS[-1]))
TAPS = 9
SLAB = 4 * VECTOR  # channels whose weights are transformed together where these are made anew for each use


@compiled
def apart(numbers):
    """Return the distance of the 36 parts of an array, each of so many numbers: an odd count of vectors.

    Written together, parts a multiple of 4096 bytes apart would take turns in the same few lines of the first cache.
    """
    return (numbers // VECTOR | 1) * VECTOR


@compiled
def held(y):
    """Return how many channels a number of v and u holds where y is the type of the maps."""
    return 2 if y.itemsize == 2 else 1


@compiled
def weights(w, inputs, first, count, column, width, u, start, y, scratch):
    """Transform the weights of `count` inputs from `first` on, of `inputs`, for results column..column+width-1.

    They go to u (36, count, width) from `start` on; scratch holds VECTOR * 9 * width numbers.
    """
    each = held(y)
    distance = apart(count // each * width)
    for block in range(first, first + count, VECTOR):
        some = min(VECTOR, first + count - block)
        _turn(w, (column * inputs + block) * TAPS, inputs * TAPS, some * TAPS, width, scratch)
        for c in range(0, some, each):
            target = start + (block - first + c) // each * width
            for k in range(0, width, VECTOR):
                transform_weights(y, scratch, c * TAPS * width + k, width, u, target + k, distance)


@compiled
def _turn(w, place, pitch, count, width, scratch):
    """Copy `count` numbers of each of `width` rows of w, `pitch` apart from a place on, to scratch (count, width)."""
    for k in range(0, width, VECTOR):
        if count < VECTOR:
            for i in range(count * VECTOR):
                scratch[i // VECTOR * width + k + i % VECTOR] = w[place + (k + i % VECTOR) * pitch + i // VECTOR]
        for i in range(0, count if count >= VECTOR else 0, VECTOR):
            i = min(i, count - VECTOR)
            transpose(w, place + k * pitch + i, pitch, scratch, i * width + k, width)


@compiled
def tiles_in(x, channels, size, first, last, v, base, block, blocks, room, patch):
    """Transform tiles first..last-1 of x into v's blocks from `block` on; its first rows are tile `base`.

    patch holds 36 * channels numbers like x: a tile at the border with the zeros around it.
    """
    height, width = size
    vector = VECTOR // held(x)
    across, down = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    for tile in range(first, last):
        image, row, column = tile // (across * down), TILE * (tile // across % down) - 1, TILE * (tile % across) - 1
        source, place, pitch = x, ((image * height + row) * width + column) * channels, width * channels
        inside = row >= 0 and column >= 0 and row + POINTS <= height and column + POINTS <= width
        if not inside:
            _cut(x, channels, size, image, row, column, patch)
            source, place, pitch = patch, 0, POINTS * channels
        for c in range(0, channels, VECTOR):
            target = ((block + c // VECTOR) * room + tile - base) * vector
            c = min(c, channels - VECTOR)
            transform_inputs(source, place + c, pitch, channels, v, target, apart(blocks * room * vector))


@compiled
def _cut(x, channels, size, image, row, column, patch):
    """Copy 6x6 pixels from a row and column on, with zeros where there is no pixel."""
    height, width = size
    for i in range(PRODUCTS):
        r, q = row + i // POINTS, column + i % POINTS
        there = 0 <= r < height and 0 <= q < width
        place = ((image * height + r) * width + q) * channels
        for c in range(channels):
            if there:
                patch[i * channels + c] = x[place + c]
            else:
                patch[i * channels + c] = 0


@compiled
def _multiply(v, block, blocks, room, count, tiles, u, start, inputs, m, width, more, y):
    """Multiply `count` channels of all tiles, from a block of v on, by their weights in u (36, inputs, width)."""
    each = held(y)
    vector = VECTOR // each
    for i in range(PRODUCTS):
        for t in range(0, tiles, ROWS):
            place = i * apart(blocks * room * vector) + (block * room + t) * vector
            target = i * apart(room * width) + t * width
            weight = start + i * apart(inputs // each * width)
            if width == WIDTHS[0]:
                _wide(y, v, place, room * vector, count // each, u, weight, m, target, more)
            else:
                _narrow(y, v, place, room * vector, count // each, u, weight, m, target, more)


@compiled
def _tiles_out(m, room, width, bias, y, outputs, column, size, first, last, patch):
    """Transform the products of tiles first..last-1 into results column..column+width-1 of y, of `outputs`."""
    height, wide = size
    across, down = (wide + TILE - 1) // TILE, (height + TILE - 1) // TILE
    for tile in range(first, last):
        image, row, left = tile // (across * down), TILE * (tile // across % down), TILE * (tile % across)
        inside = row + TILE <= height and left + TILE <= wide
        for k in range(0, width, VECTOR):
            place = ((image * height + row) * wide + left) * outputs + column + k
            source = (tile - first) * width + k
            if inside:
                transform_outputs(m, source, apart(room * width), bias, column + k, y, place, wide * outputs, outputs)
                continue
            transform_outputs(m, source, apart(room * width), bias, column + k, patch, 0, TILE * VECTOR, VECTOR)
            for r in range(min(TILE, height - row)):
                for q in range(min(TILE, wide - left)):
                    for c in range(VECTOR):
                        y[place + (r * wide + q) * outputs + c] = patch[(r * TILE + q) * VECTOR + c]


@compiled
def strip(x, channels, rest, others, size, u, columns, widths, bias, y, outputs, first, last, room, v, m, patch):
    """Convolve tiles first..last-1; u holds the weights of all columns, one (36, C + D, width) after the other."""
    block, inputs, tiles = (channels + VECTOR - 1) // VECTOR, channels + others, last - first
    blocks, each = block + (others + VECTOR - 1) // VECTOR, held(y)
    tiles_in(x, channels, size, first, last, v, first, 0, blocks, room, patch)
    if others > 0:
        tiles_in(rest, others, size, first, last, v, first, block, blocks, room, patch)
    start = 0
    for i in range(columns.size):
        width = widths[i]
        _multiply(v, 0, blocks, room, channels, tiles, u, start, inputs, m, width, False, y)
        if others > 0:
            further = start + channels // each * width
            _multiply(v, block, blocks, room, others, tiles, u, further, inputs, m, width, True, y)
        _tiles_out(m, room, width, bias, y, outputs, columns[i], size, first, last, patch)
        start += PRODUCTS * apart(inputs // each * width)


@compiled
def panel(v, channels, others, size, tiles, room, w, column, width, bias, y, outputs, u, m, scratch, patch):
    """Convolve all tiles for results column..column+width-1; v holds all tiles, weights are transformed in slabs."""
    block, inputs = (channels + VECTOR - 1) // VECTOR, channels + others
    blocks = block + (others + VECTOR - 1) // VECTOR
    for first in range(0, channels, SLAB):
        count = min(SLAB, channels - first)
        weights(w, inputs, first, count, column, width, u, 0, y, scratch)
        _multiply(v, first // VECTOR, blocks, room, count, tiles, u, 0, count, m, width, first > 0, y)
    for first in range(0, others, SLAB):
        count = min(SLAB, others - first)
        weights(w, inputs, channels + first, count, column, width, u, 0, y, scratch)
        _multiply(v, block + first // VECTOR, blocks, room, count, tiles, u, 0, count, m, width, True, y)
    _tiles_out(m, room, width, bias, y, outputs, column, size, 0, tiles, patch)
