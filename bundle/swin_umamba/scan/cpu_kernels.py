"""Compiled CPU kernels: one call scans `LANES` channels of one image, for one group or for several in turn.

Arrays: `u` (B*L*Gu, D) with Gu = G, or 1 where all groups read and add to the same map (SS2D); `packed` (B*L*G, R+2N)
holds low-rank steps, B and C; `raw` (B*L*G, D) full-rank steps, used when R = 0; `lift` (G, R, D) raises low-rank
steps; `ends` (G, 2, D) bias of the steps and skip weights; `rates` (G, N, D) is A log2(e); `order` (G, L) the place
in L that each step of a group reads and writes; `saved` (B, G, K, N, D) the states before each chunk of `CHUNK` steps,
of size 0 if not wanted. Outputs that groups add to have a leading axis of 1 (the groups of a call run in turn) or G
(each its own, for the caller to sum). A call writes nothing that another call with another `channel`, image or group
touches, holds no Python lock and always sums in the same order.

Numba's cache on disk notices a change of this file only: after a change of cpu/simd.py delete __pycache__.
"""

from __future__ import annotations

import math

import numpy as np

from swin_umamba.cpu.simd import (
    LANES,
    NEAR,
    exp2,
    exp2_coarse,
    exp2_near,
    larger,
    load,
    sigmoid,
    softplus,
    splat,
    spread,
    store,
    total,
)
from swin_umamba.cpu.threads import compiled

from .cpu import CHUNK

_LN2 = math.log(2.0)
_EXACT, _NEAR, _COARSE = 0, 1, 2  # which exponential a chunk takes


@compiled
def _read(tile, source, rows, channel):
    """Copy LANES channels of the given rows of a matrix into a tile; channels beyond the last read as 0."""
    width = source.shape[1] - channel
    for t in range(rows.size):
        if width >= LANES:
            store(tile, t, 0, load(source, rows[t], channel))
        else:
            for i in range(LANES):
                tile[t, i] = source[rows[t], channel + i] if i < width else 0


@compiled
def _write(target, tile, rows, channel, add):
    """Copy a tile to the given rows of a matrix, or add it there."""
    width = target.shape[1] - channel
    for t in range(rows.size):
        row = rows[t]
        if width >= LANES:
            value = load(tile, t, 0)
            store(target, row, channel, load(target, row, channel) + value if add else value)
        else:
            for i in range(width):
                target[row, channel + i] = tile[t, i] + (target[row, channel + i] if add else 0)


@compiled
def _read_weights(source, g, channel):
    """Return the LANES columns of source (G, N, D) that belong to a group as (N, LANES), 0 beyond the last."""
    tile = np.zeros((source.shape[1], LANES), source.dtype)
    width = min(LANES, source.shape[2] - channel)
    for n in range(source.shape[1]):
        for i in range(width):
            tile[n, i] = source[g, n, channel + i]
    return tile


@compiled
def _project(steps, packed, lift, end, cells):
    """Fill the first rows of a tile with bias plus low-rank steps of these cells times lift (R, LANES).

    Four rows at a time: the sum of one would wait for the addition before.
    """
    whole = cells.size - cells.size % 4
    for t in range(0, whole, 4):
        first, second, third, fourth = cells[t], cells[t + 1], cells[t + 2], cells[t + 3]
        a = b = c = d = load(end, 0, 0)
        for r in range(lift.shape[0]):
            low = load(lift, r, 0)
            a = a + spread(packed, first, r) * low
            b = b + spread(packed, second, r) * low
            c = c + spread(packed, third, r) * low
            d = d + spread(packed, fourth, r) * low
        store(steps, t, 0, a)
        store(steps, t + 1, 0, b)
        store(steps, t + 2, 0, c)
        store(steps, t + 3, 0, d)
    for t in range(whole, cells.size):
        a = load(end, 0, 0)
        for r in range(lift.shape[0]):
            a = a + spread(packed, cells[t], r) * load(lift, r, 0)
        store(steps, t, 0, a)


@compiled
def _read_steps(steps, slope, packed, lift, raw, end, cells, channel, activate):
    """Fill tiles with the steps (projected or given, plus bias, softplus) and, if `slope` has a size, their slope.

    Returns the largest step of each lane.
    """
    rank, keep = lift.shape[0], slope.size > 0
    most = load(end, 0, 0)
    if rank == 0:
        _read(steps, raw, cells, channel)
    else:
        _project(steps, packed, lift, end, cells)
    for t in range(cells.size):
        x = load(steps, t, 0)
        if rank == 0:
            x = load(end, 0, 0) + x
        if activate:
            if keep:
                store(slope, t, 0, sigmoid(x))
            x = softplus(x)
        most = larger(x, most)
        store(steps, t, 0, x)
    return most


@compiled
def _limit(rates):
    """Return the largest step with which step * rate stays within NEAR for all rates (N, LANES); 0 if one is wild."""
    largest = rates.dtype.type(1e-30)
    for n in range(rates.shape[0]):
        for i in range(LANES):
            if not abs(rates[n, i]) < 1e30:
                return largest - largest
            largest = max(largest, abs(rates[n, i]))
    return rates.dtype.type(NEAR) / largest


@compiled
def _exponential(most, row, limit, activate, coarse):
    """Choose the exponential of a chunk with these largest steps (lanes); what is no number stays so in any of them."""
    store(row, 0, 0, most)
    for i in range(LANES):
        if not row[0, i] <= limit:
            return _EXACT
    if not activate:  # such steps may be negative
        return _EXACT
    return _COARSE if coarse else _NEAR


@compiled
def _places(places, cells, order, g, start, offset, groups):
    """Fill the places and cells of a chunk of a group's steps; return how many there are."""
    count = min(places.size, order.shape[1] - start)
    for t in range(count):
        places[t] = order[g, start + t] + offset
        cells[t] = places[t] * groups + g
    return count


@compiled
def _advance(
    h, out, history, decays, rates, steps, u, rows, channel, add, end, packed, cells, rank, exponential
):  # fmt: skip
    """Run the recurrence over a chunk: states h (N, LANES) in and out, from `u` to `out` at these rows and channel.

    `add`: add to what `out` holds.

    If `history` and `decays` (CHUNK*N, LANES) have a size, they get the state before and the decay of every step.
    """
    states, keep = h.shape[0], history.size > 0
    for t in range(cells.size):
        step, value, cell = load(steps, t, 0), load(u, rows[t], channel), cells[t]
        drive, y = step * value, load(end, 1, 0) * value
        for n in range(states):
            exponent, state = step * load(rates, n, 0), load(h, n, 0)
            if exponential == _COARSE:
                decay = exp2_coarse(exponent)
            elif exponential == _NEAR:
                decay = exp2_near(exponent)
            else:
                decay = exp2(exponent)
            if keep:
                store(history, t * states + n, 0, state)
                store(decays, t * states + n, 0, decay)
            state = decay * state + spread(packed, cell, rank + n) * drive
            store(h, n, 0, state)
            y = y + spread(packed, cell, rank + states + n) * state
        if add:
            y = y + load(out, rows[t], channel)
        store(out, rows[t], channel, y)


@compiled
def forward(u, packed, raw, lift, ends, rates, order, activate, coarse, y, saved, b, first, last, channel):
    """Scan groups first..last-1 of image b, channels channel..channel+LANES-1, into y (1 or G, B*L*Gu, D)."""
    groups, length = order.shape
    rank, states, real = lift.shape[1], rates.shape[1], u.dtype
    shared = u.shape[0] < packed.shape[0]
    width = min(LANES, u.shape[1] - channel)
    value, steps, out = np.empty((3, CHUNK, LANES), real)
    nothing, row = np.empty((0, LANES), real), np.empty((1, LANES), real)
    all_places, all_cells = np.empty((2, CHUNK), np.int64)
    inside = np.arange(CHUNK)
    for g in range(first, last):
        rate, low, end = (
            _read_weights(rates, g, channel),
            _read_weights(lift, g, channel),
            _read_weights(ends, g, channel),
        )
        h, limit = np.zeros((states, LANES), real), _limit(rate)
        target = y[min(g, y.shape[0] - 1)]
        for start in range(0, length, CHUNK):
            count = _places(all_places, all_cells, order, g, start, b * length, groups)
            places, cells = all_places[:count], all_cells[:count]
            rows = places if shared else cells
            if saved.size > 0:
                saved[b, g, start // CHUNK, :, channel : channel + width] = h[:, :width]
            most = _read_steps(steps, nothing, packed, low, raw, end, cells, channel, activate)
            exponential = _exponential(most, row, limit, activate, coarse)
            add = shared and y.shape[0] == 1 and g > 0
            if width == LANES:
                _advance(
                    h, target, nothing, nothing, rate, steps, u, rows, channel, add, end, packed, cells, rank,
                    exponential,
                )  # fmt: skip
            else:
                _read(value, u, rows, channel)
                _advance(
                    h, out, nothing, nothing, rate, steps, value, inside, 0, False, end, packed, cells, rank,
                    exponential,
                )  # fmt: skip
                _write(target, out, rows, channel, add)


@compiled
def _retreat(gh, grates, gu, gsteps, gweights, history, decays, rates, steps, slope, u, gy, end, packed, cells, rank):
    """Run the recurrence of gradients over a tile, last step first.

    `gh` (N, LANES) carries the gradient of the state, `grates` (N, LANES) sums that of A; `gweights` (B*L*G, 2N) gets
    this block's share of the gradients of B and C.
    """
    states = gh.shape[0]
    ln2 = splat(u.dtype.type(_LN2))
    for t in range(cells.size - 1, -1, -1):
        step, value, g, cell = load(steps, t, 0), load(u, t, 0), load(gy, t, 0), cells[t]
        drive = step * value
        gdrive = gstep = drive - drive
        for n in range(states):
            decay, before, rate = load(decays, t * states + n, 0), load(history, t * states + n, 0), load(rates, n, 0)
            wb, wc = spread(packed, cell, rank + n), spread(packed, cell, rank + states + n)
            gstate = load(gh, n, 0) + wc * g
            gweights[cell, n] = total(gstate * drive)
            gweights[cell, states + n] = total(g * (decay * before + wb * drive))
            gdrive = gdrive + gstate * wb
            gstate = gstate * decay
            store(gh, n, 0, gstate)
            gexponent = gstate * before
            gstep = gstep + gexponent * rate
            store(grates, n, 0, load(grates, n, 0) + gexponent * step)
        store(gu, t, 0, gdrive * step + load(end, 1, 0) * g)
        store(gsteps, t, 0, (gstep * ln2 + gdrive * value) * load(slope, t, 0))


@compiled
def backward(
    gy, u, packed, raw, lift, ends, rates, order, activate, saved, gu, gsteps, gweights, grates, gends, b, first, last,
    channel,
):  # fmt: skip
    """Write the gradients of one call of `forward` with the same arguments.

    `gu` is laid out as y there, `gsteps` (B*L*G, D) is by the sum before softplus, `gweights` (blocks, B*L*G, 2N) by B
    and C from this block of channels; `grates` (B, G, N, D) by A and `gends` (B, G, 2, D) by bias and skip start at 0.
    """
    groups, length = order.shape
    rank, states, real = lift.shape[1], rates.shape[1], u.dtype
    shared = u.shape[0] < packed.shape[0]
    width = min(LANES, u.shape[1] - channel)
    value, steps, slope, out, gout, gstep = np.empty((6, CHUNK, LANES), real)
    slope[:] = 1
    history, decays = np.empty((2, CHUNK * states, LANES), real)
    all_places, all_cells = np.empty((2, CHUNK), np.int64)
    inside = np.arange(CHUNK)
    row = np.empty((1, LANES), real)
    for g in range(first, last):
        rate, low, end = (
            _read_weights(rates, g, channel),
            _read_weights(lift, g, channel),
            _read_weights(ends, g, channel),
        )
        gh, h, part = np.zeros((3, states, LANES), real)
        limit = _limit(rate)
        target = gu[min(g, gu.shape[0] - 1)]
        for start in range((length - 1) // CHUNK * CHUNK, -1, -CHUNK):
            count = _places(all_places, all_cells, order, g, start, b * length, groups)
            places, cells = all_places[:count], all_cells[:count]
            rows = places if shared else cells
            h[:, :width] = saved[b, g, start // CHUNK, :, channel : channel + width]
            part[:] = 0
            _read(value, u, rows, channel)
            _read(gout, gy, rows, channel)
            most = _read_steps(steps, slope, packed, low, raw, end, cells, channel, activate)
            exponential = _exponential(most, row, limit, activate, False)
            _advance(
                h, out, history, decays, rate, steps, value, inside, 0, False, end, packed, cells, rank, exponential
            )  # fmt: skip
            _retreat(
                gh, part, out, gstep, gweights[channel // LANES], history, decays, rate, steps, slope, value, gout, end,
                packed, cells, rank,
            )  # fmt: skip
            _write(target, out, rows, channel, shared and gu.shape[0] == 1 and g > 0)
            _write(gsteps, gstep, cells, channel, False)
            _add_weights(grates[b, g], gends[b, g], part, gstep, gout, value, count, channel)


@compiled
def _add_weights(grates, gends, part, gstep, gout, value, count, channel):
    """Add a chunk's share of the gradients of A (N, D), bias and skip (2, D); sums of sums round less."""
    width = min(LANES, grates.shape[1] - channel)
    grates[:, channel : channel + width] += part[:, :width]
    for i in range(width):
        by_bias = by_skip = gstep[0, i] - gstep[0, i]
        for t in range(count):
            by_bias += gstep[t, i]
            by_skip += gout[t, i] * value[t, i]
        gends[0, channel + i] += by_bias
        gends[1, channel + i] += by_skip
