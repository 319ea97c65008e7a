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
// lifted here; 0: full-rank steps are read from raw), ACTIVATE (softplus), LOGS (rates are -exp of what is given),
// ALIGNED (channels can be read in pairs), PACKED_ALIGNED (packed too).
#pragma once
#include "device.cuh"
#include "types.cuh"

#define THREADS 128
#define CHANNELS 32
#define TILE 32
#define CHUNK 64
#define OWN (PADDED / 4)
#define WIDTH (RANK + 2 * STATES)
#define STRIDE (CHANNELS + 8)

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
    int thread, lane, warp, channel, quarter, d, base, g, segment, first, last;
    long long image, sequence;
    bool inside;
};

__device__ __forceinline__ Block this_block(const Scan& s) {
    Block b;
    b.thread = threadIdx.x, b.lane = b.thread & 31, b.warp = b.thread >> 5;
    b.channel = b.warp * 8 + (b.lane & 7), b.quarter = b.lane >> 3;
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
            x = s.rates[((long long)b.g * s.channels + b.d) * STATES + state];
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

// Inputs of one step as one of its four threads holds them: channels 8 i + 2 column and the next, PADDED / 2 weights.
struct Fetched {
    Pair<VALUE> value[4], other[4];
    Pair<PACKED> raw[LIFTED ? 1 : 4], low[LIFTED ? (LIFTED + 1) / 2 : 1], weights[(PADDED / 2 + 1) / 2];
    int place;
    bool valid;
};

// `OTHER`: a second map, laid out as u, is read with it.
template <bool OTHER>
__device__ __forceinline__ void fetch(const Scan& s, const Block& b, const VALUE* map, const VALUE* other, int t, bool valid, Fetched& f) {
    int column = b.thread & 3;
    f.valid = valid;
    f.place = valid ? s.order[(long long)b.g * s.length + t] : 0;
    long long row = b.image * s.length + f.place;
    const PACKED* cell = s.packed + (row * s.groups + b.g) * WIDTH;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int d = b.base + 8 * i + 2 * column, left = valid ? s.channels - d : 0;
        f.value[i] = read_pair<ALIGNED>(map + row * s.u_row + b.g * s.u_group + d, left);
        if (OTHER) f.other[i] = read_pair<ALIGNED>(other + row * s.u_row + b.g * s.u_group + d, left);
        if (!LIFTED) f.raw[i] = read_pair<ALIGNED>(s.raw + row * s.step_row + b.g * s.step_group + d, left);
    }
    if (LIFTED) {
#pragma unroll
        for (int r = 0; r < LIFTED; r += 2) f.low[r / 2] = read_pair<PACKED_ALIGNED && RANK % 2 == 0>(cell + r, valid ? RANK - r : 0);
    }
#pragma unroll
    for (int i = 0; i < PADDED / 2; i += 2) {
        int n = (column & 1) * (PADDED / 2) + i;
        f.weights[i / 2] = read_pair<PACKED_ALIGNED && STATES % 2 == 0>(cell + RANK + (column >> 1) * STATES + n, valid ? STATES - n : 0);
    }
}

__device__ __forceinline__ void read_lift(const Scan& s, const Block& b, float* lift, float* bias) {
    for (int i = b.thread; i < LIFTED * CHANNELS; i += THREADS) {
        int d = b.base + i % CHANNELS;
        lift[i] = d < s.channels ? s.lift[((long long)b.g * s.channels + d) * RANK + i / CHANNELS] : 0.0f;
    }
    if (b.thread < CHANNELS) bias[b.thread] = b.base + b.thread < s.channels ? s.bias[b.g * s.channels + b.base + b.thread] : 0.0f;
}

// Turn what was fetched into the sizes of the steps of two channels; 0 where there is no step.
__device__ __forceinline__ float2 steps_of(const Fetched& f, int i, int column, const float* lift, const float* bias) {
    const int c = 8 * i + 2 * column;
    float2 x = *(const float2*)(bias + c);
    if (LIFTED) {
#pragma unroll
        for (int r = 0; r < LIFTED; r++) {
            float low = to_float(r % 2 ? f.low[r / 2].b : f.low[r / 2].a);
            float2 weight = *(const float2*)(lift + r * CHANNELS + c);
            x.x += low * weight.x, x.y += low * weight.y;
        }
    } else {
        x.x += to_float(f.raw[i].a), x.y += to_float(f.raw[i].b);
    }
    if (ACTIVATE) x.x = softplus<sizeof(VALUE) == 4>(x.x), x.y = softplus<sizeof(VALUE) == 4>(x.y);
    if (!f.valid) x.x = x.y = 0.0f;
    return x;
}

__device__ __forceinline__ void fill_weights(const Fetched& f, int column, float* weights) {
#pragma unroll
    for (int i = 0; i < PADDED / 2; i++)
        weights[column * (PADDED / 2) + i] = to_float(i % 2 ? f.weights[i / 2].b : f.weights[i / 2].a);
}

// Sum over the quarters what the lanes hold for four steps; each keeps the sum of the step that its quarter has the number of.
__device__ __forceinline__ float sum_of_quarters(const float (&part)[4], int quarter) {
    bool high = quarter & 2, odd = quarter & 1;
    float a = (high ? part[2] : part[0]) + from_lane(high ? part[0] : part[2], 16);
    float b = (high ? part[3] : part[1]) + from_lane(high ? part[1] : part[3], 16);
    return (odd ? b : a) + from_lane(odd ? a : b, 8);
}
