"""Triton kernels: one program scans `BLOCK` channels of one group of one image over one segment of the sequence.

A thread owns channels and keeps all their states in registers (tiles are (N, BLOCK), so sums over N stay in the
thread). Segments run side by side: `local_states` and `local_gradients` find what each adds to a carry of zero, and the
kernels proper begin by carrying that over the segments before them. No atomics: whatever programs share is written in
parts for the caller to sum.

Arrays as in compiled.py, but float32 `weights` (B*L*G, 2N) instead of `packed`, always full-rank steps `raw` at
row * row_stride + g * group_stride, and N padded to a power of two (but for `saved`, which has `real_states`).
"""

from __future__ import annotations

import triton
import triton.language as tl

LN2 = tl.constexpr(0.6931471805599453)
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _exp_of_minus_magnitude(x):
    return tl.exp2(-tl.abs(x) * LOG2E)


@triton.jit
def _softplus(x):
    """log(1 + exp(x)) = max(x, 0) + 2 artanh(z / (2 + z)), which keeps its digits where the steps are tiny."""
    z = _exp_of_minus_magnitude(x)
    s = z / (2.0 + z)
    q = s * s
    series = 1.0 / 11 + q * (1.0 / 13 + q / 15)
    series = 1.0 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q * series))))
    return tl.where(x > 20.0, x, tl.maximum(x, 0.0) + 2.0 * s * series)


@triton.jit
def _sigmoid(x):
    z = _exp_of_minus_magnitude(x)
    return tl.where(x < 0, z, 1.0) / (1.0 + z)


@triton.jit
def _here(length, groups, segment, channels, one, BLOCK: tl.constexpr):
    """Return image * length, group, first and last step, channels and their mask of this program.

    `one` is 1, but the compiler must not know: told that channels are contiguous it would give a thread several next to
    each other and split N over threads, which costs shuffles, and could let one thread write a history that another
    reads.
    """
    image = (tl.program_id(2) // groups).to(tl.int64)
    first = tl.program_id(1) * segment
    d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return image * length, tl.program_id(2) % groups, first, tl.minimum(first + segment, length), d * one, d < channels


@triton.jit
def _step_at(raw, row, g, d, mask, bias, row_stride, group_stride, ACTIVATE: tl.constexpr):
    """Return the step and the sum before softplus."""
    x = tl.load(raw + row * row_stride + g * group_stride + d, mask, 0.0).to(tl.float32) + bias
    return _softplus(x) if ACTIVATE else x, x


@triton.jit(do_not_specialize=["one"])
def local_states(
    u, raw, weights, ends, rates, order, added, elapsed,
    length, channels, groups, segment, segments, row_stride, group_stride, one,
    N: tl.constexpr, BLOCK: tl.constexpr, SHARED: tl.constexpr, ACTIVATE: tl.constexpr,
):  # fmt: skip
    """Write the state that a segment reaches from zero, (B, G, S, N, D), and the sum of its steps, (B, G, S, D)."""
    base, g, first, last, d, mask = _here(length, groups, segment, channels, one, BLOCK)
    n = tl.arange(0, N)
    rate = tl.load(rates + (g * N + n[:, None]) * channels + d[None, :], mask[None, :], 0.0) * LOG2E
    bias = tl.load(ends + 2 * g * channels + d, mask, 0.0)
    h = tl.zeros([N, BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for t in range(first, last):
        row = base + tl.load(order + g * length + t)
        cell = row * groups + g
        step, _ = _step_at(raw, row, g, d, mask, bias, row_stride, group_stride, ACTIVATE)
        value = tl.load(u + (row if SHARED else cell) * channels + d, mask, 0.0).to(tl.float32)
        b = tl.load(weights + cell * (2 * N) + n)
        h = tl.exp2(step[None, :] * rate) * h + b[:, None] * (step * value)[None, :]
        total += step
    part = tl.program_id(2).to(tl.int64) * segments + tl.program_id(1)
    tl.store(added + (part * N + n[:, None]) * channels + d[None, :], h, mask[None, :])
    tl.store(elapsed + part * channels + d, total, mask)


@triton.jit
def _carry(added, elapsed, rate, start, count, stride, channels, n, d, mask, N: tl.constexpr, BLOCK: tl.constexpr):
    """Chain `count` segments from `start` on, `stride` (1 or -1) apart, into the carry that reaches this one."""
    carry = tl.zeros([N, BLOCK], tl.float32)
    for i in range(0, count):
        part = start + i * stride
        decay = tl.exp2(tl.load(elapsed + part * channels + d, mask, 0.0)[None, :] * rate)
        carry = decay * carry + tl.load(added + (part * N + n[:, None]) * channels + d[None, :], mask[None, :], 0.0)
    return carry


@triton.jit(do_not_specialize=["one"])
def forward(
    u, raw, weights, ends, rates, order, added, elapsed, y, saved,
    length, channels, groups, segment, segments, row_stride, group_stride, one, copy_stride, real_states,
    N: tl.constexpr, BLOCK: tl.constexpr, SHARED: tl.constexpr, ACTIVATE: tl.constexpr,
    CHUNK: tl.constexpr, SAVE: tl.constexpr,
):  # fmt: skip
    """Write y (G, B*L, D) if groups share their map, else (B*L*G, D), and the states before each chunk."""
    base, g, first, last, d, mask = _here(length, groups, segment, channels, one, BLOCK)
    n = tl.arange(0, N)
    rate = tl.load(rates + (g * N + n[:, None]) * channels + d[None, :], mask[None, :], 0.0) * LOG2E
    bias = tl.load(ends + 2 * g * channels + d, mask, 0.0)
    skip = tl.load(ends + (2 * g + 1) * channels + d, mask, 0.0)
    part = tl.program_id(2).to(tl.int64) * segments
    h = _carry(added, elapsed, rate, part, tl.program_id(1), 1, channels, n, d, mask, N, BLOCK)
    chunks = tl.program_id(2).to(tl.int64) * tl.cdiv(length, CHUNK)
    for t in range(first, last):
        if SAVE:
            if t % CHUNK == 0:
                entry = ((chunks + t // CHUNK) * real_states + n[:, None]) * channels + d[None, :]
                tl.store(saved + entry, h, mask[None, :] & (n < real_states)[:, None])
        row = base + tl.load(order + g * length + t)
        cell = row * groups + g
        place = (row if SHARED else cell) * channels + d
        step, _ = _step_at(raw, row, g, d, mask, bias, row_stride, group_stride, ACTIVATE)
        value = tl.load(u + place, mask, 0.0).to(tl.float32)
        b = tl.load(weights + cell * (2 * N) + n)
        c = tl.load(weights + cell * (2 * N) + N + n)
        h = tl.exp2(step[None, :] * rate) * h + b[:, None] * (step * value)[None, :]
        tl.store(y + g * copy_stride + place, tl.sum(c[:, None] * h, 0) + skip * value, mask)


@triton.jit(do_not_specialize=["one"])
def local_gradients(
    gy, raw, weights, ends, rates, order, added, elapsed,
    length, channels, groups, segment, segments, row_stride, group_stride, one,
    N: tl.constexpr, BLOCK: tl.constexpr, SHARED: tl.constexpr, ACTIVATE: tl.constexpr,
):  # fmt: skip
    """Write what a segment passes to the one before it if none follows, (B, G, S, N, D), and the sum of its steps."""
    base, g, first, last, d, mask = _here(length, groups, segment, channels, one, BLOCK)
    n = tl.arange(0, N)
    rate = tl.load(rates + (g * N + n[:, None]) * channels + d[None, :], mask[None, :], 0.0) * LOG2E
    bias = tl.load(ends + 2 * g * channels + d, mask, 0.0)
    carry = tl.zeros([N, BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for i in range(first, last):
        t = last - 1 - i + first
        row = base + tl.load(order + g * length + t)
        cell = row * groups + g
        step, _ = _step_at(raw, row, g, d, mask, bias, row_stride, group_stride, ACTIVATE)
        gvalue = tl.load(gy + (row if SHARED else cell) * channels + d, mask, 0.0).to(tl.float32)
        c = tl.load(weights + cell * (2 * N) + N + n)
        carry = tl.exp2(step[None, :] * rate) * (carry + c[:, None] * gvalue[None, :])
        total += step
    part = tl.program_id(2).to(tl.int64) * segments + tl.program_id(1)
    tl.store(added + (part * N + n[:, None]) * channels + d[None, :], carry, mask[None, :])
    tl.store(elapsed + part * channels + d, total, mask)


@triton.jit
def _replay(
    history, gy, u, raw, weights, order, saved, gweights, chunk, rate, bias, base, g, first, last, d, mask, n,
    length, channels, groups, row_stride, group_stride, real_states, one,
    N: tl.constexpr, BLOCK: tl.constexpr, SHARED: tl.constexpr, ACTIVATE: tl.constexpr,
):  # fmt: skip
    """Run a chunk again, keep the state before each step in this program's `history` (CHUNK, N, BLOCK), write its share
    of the gradient by C to `gweights`.
    """
    entry = (chunk * real_states + n[:, None]) * channels + d[None, :]
    h = tl.load(saved + entry, mask[None, :] & (n < real_states)[:, None], 0.0)
    lane = n[:, None] * BLOCK + (tl.arange(0, BLOCK) * one)[None, :]
    for t in range(first, last):
        tl.store(history + (t - first) * (N * BLOCK) + lane, h)
        row = base + tl.load(order + g * length + t)
        cell = row * groups + g
        step, _ = _step_at(raw, row, g, d, mask, bias, row_stride, group_stride, ACTIVATE)
        place = (row if SHARED else cell) * channels + d
        value = tl.load(u + place, mask, 0.0).to(tl.float32)
        gvalue = tl.load(gy + place, mask, 0.0).to(tl.float32)
        b = tl.load(weights + cell * (2 * N) + n)
        h = tl.exp2(step[None, :] * rate) * h + b[:, None] * (step * value)[None, :]
        tl.store(gweights + cell * (2 * N) + N + n, tl.sum(h * gvalue[None, :], 1))


@triton.jit(do_not_specialize=["one"])
def backward(
    gy, u, raw, weights, ends, rates, order, added, elapsed, saved, histories,
    gu, gsteps, gweights, grates, gends,
    length, channels, groups, segment, segments, row_stride, group_stride, one, copy_stride, cells, real_states,
    N: tl.constexpr, BLOCK: tl.constexpr, SHARED: tl.constexpr, ACTIVATE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Write all gradients: `gu` as y in `forward`, `gsteps` (B*L*G, D), shares of `gweights` (blocks, B*L*G, 2N),
    `grates` (B, G, S, N, D) and `gends` (B, G, S, 2, D).
    """
    base, g, first, last, d, mask = _here(length, groups, segment, channels, one, BLOCK)
    n = tl.arange(0, N)
    rate = tl.load(rates + (g * N + n[:, None]) * channels + d[None, :], mask[None, :], 0.0) * LOG2E
    bias = tl.load(ends + 2 * g * channels + d, mask, 0.0)
    skip = tl.load(ends + (2 * g + 1) * channels + d, mask, 0.0)
    part = tl.program_id(2).to(tl.int64) * segments
    after = segments - 1 - tl.program_id(1)
    carry = _carry(added, elapsed, rate, part + segments - 1, after, -1, channels, n, d, mask, N, BLOCK)
    part += tl.program_id(1)
    history = histories + (part * tl.num_programs(0) + tl.program_id(0)) * (CHUNK * N * BLOCK)
    lane = n[:, None] * BLOCK + (tl.arange(0, BLOCK) * one)[None, :]
    gweights += tl.program_id(0).to(tl.int64) * cells * (2 * N)
    grate = tl.zeros([N, BLOCK], tl.float32)
    gbias = tl.zeros([BLOCK], tl.float32)
    gskip = tl.zeros([BLOCK], tl.float32)
    chunks = tl.program_id(2).to(tl.int64) * tl.cdiv(length, CHUNK)
    for i in range(0, tl.cdiv(last - first, CHUNK)):
        start = first + (tl.cdiv(last - first, CHUNK) - 1 - i) * CHUNK
        end = tl.minimum(start + CHUNK, last)
        _replay(
            history, gy, u, raw, weights, order, saved, gweights, chunks + start // CHUNK, rate, bias, base, g,
            start, end, d, mask, n, length, channels, groups, row_stride, group_stride, real_states, one,
            N, BLOCK, SHARED, ACTIVATE,
        )  # fmt: skip
        for j in range(start, end):
            t = end - 1 - j + start
            row = base + tl.load(order + g * length + t)
            cell = row * groups + g
            place = (row if SHARED else cell) * channels + d
            step, x = _step_at(raw, row, g, d, mask, bias, row_stride, group_stride, ACTIVATE)
            value = tl.load(u + place, mask, 0.0).to(tl.float32)
            gvalue = tl.load(gy + place, mask, 0.0).to(tl.float32)
            b = tl.load(weights + cell * (2 * N) + n)
            c = tl.load(weights + cell * (2 * N) + N + n)
            drive = step * value
            decay = tl.exp2(step[None, :] * rate)
            kept = decay * tl.load(history + (t - start) * (N * BLOCK) + lane)
            gstate = carry + c[:, None] * gvalue[None, :]
            tl.store(gweights + cell * (2 * N) + n, tl.sum(gstate * drive[None, :], 1))
            gdrive = tl.sum(gstate * b[:, None], 0)
            gexponent = gstate * kept
            grate += gexponent * step[None, :]
            gstep = tl.sum(gexponent * rate, 0) * LN2 + gdrive * value
            if ACTIVATE:
                gstep *= _sigmoid(x)
            carry = decay * gstate
            gbias += gstep
            gskip += gvalue * value
            tl.store(gu + g * copy_stride + place, gdrive * step + skip * gvalue, mask)
            tl.store(gsteps + cell * channels + d, gstep, mask)
    tl.store(grates + (part * N + n[:, None]) * channels + d[None, :], grate, mask[None, :])
    tl.store(gends + 2 * part * channels + d, gbias, mask)
    tl.store(gends + (2 * part + 1) * channels + d, gskip, mask)
