// What the scan kernels share: who scans what, and how a tile of steps gets into shared memory.
//
// A block scans 32 channels of one group of one image over one segment of the sequence. Four threads share a channel and
// keep a quarter of its states each, in registers: lane = 8 * quarter + channel, so that sums over the states need two
// exchanges and sums over channels three, and one warp is enough to keep a quarter of a multiprocessor's exponentials
// busy with three chains. Steps come in tiles of 32: four threads to a step fetch the inputs of one tile while the one
// before is scanned, project and activate each step size once, and leave what all need in shared memory.
//
// Given by the compiler's command line: VALUE, PACKED, PART (types of u, of packed and raw, of outputs that groups add
// to), STATES (N) and PADDED (N up to a multiple of 4), RANK (columns of packed before B and C), LIFTED (those that are
// lifted here; 0: full-rank steps are read from raw), ACTIVATE (softplus), LOGS (rates are -exp of what is given), WHOLE
// (channels can be read in eights), PACKED_WHOLE (rows of packed too), OFFSET (an integer that counts all elements).
#pragma once
#include "device.cuh"
#include "types.cuh"

#define THREADS 128
#define CHANNELS 32
#define TILE 32
#define CHUNK 32
#define OWN (PADDED / 4)
#define WIDTH (RANK + 2 * STATES)
#define STRIDE (CHANNELS + 4)             // pads rows so that what a quarter of a warp accesses lies in different banks
#define WEIGHTS (2 * PADDED + 4)

struct Scan {
    const VALUE* u;
    const PACKED* packed;
    const PACKED* raw;
    const float* lift;   // (G, D, R)
    const float* bias;   // (G, D), of the steps
    const float* rates;  // (G, D, N)
    const int* order;    // (G, L)
    long long u_row, u_group, part_group, step_row, step_group;  // distances in elements
    int length, channels, groups, segment, segments, blocks;
};

struct Block {
    int thread, lane, warp, channel, slot, quarter, d, base, g, segment, first, last;
    long long image, sequence;
    bool inside;
};

__device__ __forceinline__ Block this_block(const Scan& s) {
    Block b;
    b.thread = threadIdx.x, b.lane = b.thread & 31, b.warp = b.thread >> 5;
    b.channel = b.warp * 8 + (b.lane & 7), b.quarter = b.lane >> 3;
    b.slot = b.channel ^ (b.channel >> 3 & 2);
    int rest = blockIdx.x / s.blocks;
    b.base = (blockIdx.x % s.blocks) * CHANNELS, b.d = b.base + b.channel, b.inside = b.d < s.channels;
    b.segment = rest % s.segments, b.sequence = rest / s.segments;
    b.g = b.sequence % s.groups, b.image = b.sequence / s.groups;
    b.first = b.segment * s.segment;
    b.last = b.first + s.segment < s.length ? b.first + s.segment : s.length;
    return b;
}

__device__ __forceinline__ void read_rates(const Scan& s, const Block& b, float (&rate)[OWN]) {
#pragma unroll
    for (int n = 0; n < OWN; n++) {
        int state = b.quarter * OWN + n;
        float x = 0.0f;
        if (b.inside && state < STATES) {
            x = s.rates[(b.g * s.channels + b.d) * STATES + state];
            if (LOGS) x = -expf(x);
        }
        rate[n] = x * LOG2E;
    }
}

// Chain what `count` segments from `start` on, `stride` apart, add, into the carry that reaches this one.
__device__ __forceinline__ void carry_over(
    const Scan& s, const Block& b, const float (&rate)[OWN], const float* added, const float* elapsed, int start, int count, int stride, float (&h)[OWN]
) {
#pragma unroll
    for (int n = 0; n < OWN; n++) h[n] = 0.0f;
    if (!b.inside) return;
    for (int i = 0; i < count; i++) {
        long long part = b.sequence * s.segments + start + i * stride;
        float total = elapsed[part * s.channels + b.d];
#pragma unroll
        for (int n = 0; n < OWN; n++) h[n] = ex2(total * rate[n]) * h[n] + added[(part * PADDED + b.quarter * OWN + n) * s.channels + b.d];
    }
}

// Inputs of one step as one of its four threads holds them: eight channels from 8 column on, PADDED / 2 weights.
struct Fetched {
    Run<VALUE, 8> value, other;
    Run<PACKED, LIFTED ? 1 : 8> raw;
    Run<PACKED, LIFTED ? RANK : 1> low;
    Run<PACKED, PADDED / 2> weights;
    int place;
    bool valid;
};

// `OTHER`: a second map, laid out as u, is read with it.
template <bool OTHER>
__device__ __forceinline__ void fetch(const Scan& s, const Block& b, const VALUE* map, const VALUE* other, int t, bool valid, Fetched& f) {
    int column = b.thread & 3, d = b.base + 8 * column, left = valid ? s.channels - d : 0;
    f.valid = valid;
    f.place = valid ? s.order[b.g * s.length + t] : 0;
    OFFSET row = (OFFSET)b.image * s.length + f.place, at = row * (OFFSET)s.u_row + b.g * (OFFSET)s.u_group + d;
    const PACKED* cell = s.packed + (row * s.groups + b.g) * WIDTH;
    read_run<WHOLE>(map + at, left, f.value);
    if (OTHER) read_run<WHOLE>(other + at, left, f.other);
    if (LIFTED) {
        read_run<PACKED_WHOLE>(cell, valid ? RANK : 0, f.low);
    } else {
        read_run<WHOLE>(s.raw + row * (OFFSET)s.step_row + b.g * (OFFSET)s.step_group + d, left, f.raw);
    }
    int n = (column & 1) * (PADDED / 2);
    read_run<PACKED_WHOLE>(cell + RANK + (column >> 1) * STATES + n, valid ? STATES - n : 0, f.weights);
}

__device__ __forceinline__ void read_lift(const Scan& s, const Block& b, float* lift, float* bias) {
    for (int i = b.thread; i < LIFTED * CHANNELS; i += THREADS) {
        int d = b.base + i % CHANNELS;
        lift[i] = d < s.channels ? s.lift[(b.g * s.channels + d) * LIFTED + i / CHANNELS] : 0.0f;
    }
    if (b.thread < CHANNELS) bias[b.thread] = b.base + b.thread < s.channels ? s.bias[b.g * s.channels + b.base + b.thread] : 0.0f;
}

// Where the even one of a pair of channels is in a row of shared memory; `Block::slot` says the same of a thread's own.
__device__ __forceinline__ int slot_of(int column, int i) { return 8 * column + (i ^ (column & 2)); }

// Turn what was fetched into the sizes of the steps of channels 8 column + i and the next; 0 where there is no step.
__device__ __forceinline__ float2 steps_of(const Fetched& f, int i, int column, const float* lift, const float* bias) {
    const int c = 8 * column + i;
    float2 x = *(const float2*)(bias + c);
    if (LIFTED) {
#pragma unroll
        for (int r = 0; r < LIFTED; r++) {
            float2 weight = *(const float2*)(lift + r * CHANNELS + c);
            x.x += f.low.at(r) * weight.x, x.y += f.low.at(r) * weight.y;
        }
    } else {
        x.x += f.raw.at(i), x.y += f.raw.at(i + 1);
    }
    if (ACTIVATE) x.x = softplus<sizeof(VALUE) == 4>(x.x), x.y = softplus<sizeof(VALUE) == 4>(x.y);
    if (!f.valid) x.x = x.y = 0.0f;
    return x;
}

__device__ __forceinline__ void fill_weights(const Fetched& f, int column, float* weights) {
    weights += column * (PADDED / 2);
    if (PADDED % 8 == 0) {
#pragma unroll
        for (int i = 0; i < PADDED / 2; i += 4) *(float4*)(weights + i) = make_float4(f.weights.at(i), f.weights.at(i + 1), f.weights.at(i + 2), f.weights.at(i + 3));
    } else {
#pragma unroll
        for (int i = 0; i < PADDED / 2; i++) weights[i] = f.weights.at(i);
    }
}

__device__ __forceinline__ void read_own(const float* from, float (&to)[OWN]) {
    if (OWN % 4 == 0) {
#pragma unroll
        for (int n = 0; n < OWN; n += 4) {
            float4 x = *(const float4*)(from + n);
            to[n] = x.x, to[n + 1] = x.y, to[n + 2] = x.z, to[n + 3] = x.w;
        }
    } else {
#pragma unroll
        for (int n = 0; n < OWN; n++) to[n] = from[n];
    }
}

// Sum over the quarters what the lanes hold for four steps; each keeps the sum of the step that its quarter has the number of.
__device__ __forceinline__ float sum_of_quarters(const float (&part)[4], int quarter) {
    bool high = quarter & 2, odd = quarter & 1;
    float a = (high ? part[2] : part[0]) + from_lane(high ? part[0] : part[2], 16);
    float b = (high ? part[3] : part[1]) + from_lane(high ? part[1] : part[3], 16);
    return (odd ? b : a) + from_lane(odd ? a : b, 8);
}
