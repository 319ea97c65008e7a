// Instance norm with leaky ReLU on channels-last maps (B, P, C), with a second map added before the activation, as it is
// or normalised too, and the gradients. A block takes SPAN pixels of one image; a thread takes eight channels.
#include "device.cuh"
#include "types.cuh"

#define THREADS 256

struct Maps {
    const VALUE* x;
    const VALUE* other;   // null: none
    const float* scale;   // (B, C, 2): y = x * first + second
    const float* others;  // the same of the other map; null: it is added as it is
    int pixels, channels, span, blocks;  // span and blocks: of an image
    float slope;
};

struct Place { int column, row, rows, c, first, last; long long image; };

__device__ __forceinline__ Place this_place(int pixels, int channels, int span, int blocks) {
    Place p;
    int columns = channels / 8;
    p.column = threadIdx.x % columns, p.row = threadIdx.x / columns, p.rows = THREADS / columns, p.c = 8 * p.column;
    p.image = blockIdx.x / blocks, p.first = blockIdx.x % blocks * span;
    p.last = p.first + span < pixels ? p.first + span : pixels;
    return p;
}

// Sum 2 x 8 values of every thread over the rows of threads and write them as (blocks, 2, C). `memory`: 2 x 8 x THREADS.
__device__ __forceinline__ void write_sums(const Place& p, int channels, const float (&a)[8], const float (&b)[8], float* memory, float* shares) {
    if (p.row < p.rows)
#pragma unroll
        for (int i = 0; i < 8; i++) memory[(2 * p.row) * channels + p.c + i] = a[i], memory[(2 * p.row + 1) * channels + p.c + i] = b[i];
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * channels; i += THREADS) {
        float sum = 0.0f;
        for (int row = 0; row < p.rows; row++) sum += memory[2 * row * channels + i];
        shares[(long long)blockIdx.x * 2 * channels + i] = sum;
    }
    __syncthreads();
}

// Sums of x - x0 and its square, x0 being the image's first pixel: no digits are lost where the mean is large.
extern "C" __global__ void __launch_bounds__(THREADS) instance_sums(const VALUE* x, float* shares, int pixels, int channels, int span, int blocks) {
    __shared__ float memory[16 * THREADS];
    Place p = this_place(pixels, channels, span, blocks);
    float origin[8], sum[8] = {}, square[8] = {};
    x += p.image * pixels * channels + p.c;
    read_eight(x, origin);
    if (p.row < p.rows)
#pragma unroll 4
        for (int i = p.first + p.row; i < p.last; i += p.rows) {
            float value[8];
            read_eight(x + (long long)i * channels, value);
#pragma unroll
            for (int k = 0; k < 8; k++) value[k] -= origin[k], sum[k] += value[k], square[k] += value[k] * value[k];
        }
    write_sums(p, channels, sum, square, memory, shares);
}

// Mean and inverse standard deviation, (B, C, 2), and what `Maps` wants, from the sums. One thread for each (image, channel).
extern "C" __global__ void instance_statistics(
    const VALUE* x, const float* shares, const float* weight, const float* bias, float* statistics, float* scale,
    int images, int pixels, int channels, int blocks, float epsilon
) {
    int i = blockIdx.x * 128 + threadIdx.x, image = i / channels, c = i % channels;
    if (image >= images) return;
    float sum = 0.0f, square = 0.0f;
    for (int block = 0; block < blocks; block++) {
        const float* share = shares + ((long long)image * blocks + block) * 2 * channels + c;
        sum += share[0], square += share[channels];
    }
    sum /= pixels, square = square / pixels - sum * sum;
    float mean = to_float(x[(long long)image * pixels * channels + c]) + sum, inverse = rsqrt_of((square > 0.0f ? square : 0.0f) + epsilon);
    statistics[2 * i] = mean, statistics[2 * i + 1] = inverse;
    float factor = weight ? inverse * weight[c] : inverse;
    scale[2 * i] = factor, scale[2 * i + 1] = (bias ? bias[c] : 0.0f) - mean * factor;
}

__device__ __forceinline__ void read_scale(const float* scale, const Place& p, int channels, float (&a)[8], float (&b)[8]) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float2 s = scale ? *(const float2*)(scale + 2 * (p.image * channels + p.c + i)) : make_float2(1.0f, 0.0f);
        a[i] = s.x, b[i] = s.y;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) instance_apply(const Maps m, VALUE* y) {
    Place p = this_place(m.pixels, m.channels, m.span, m.blocks);
    if (p.row >= p.rows) return;
    float a[8], b[8], c[8], d[8];
    read_scale(m.scale, p, m.channels, a, b), read_scale(m.others, p, m.channels, c, d);
#pragma unroll 2
    for (int i = p.first + p.row; i < p.last; i += p.rows) {
        long long at = (p.image * m.pixels + i) * m.channels + p.c;
        float x[8], other[8] = {};
        read_eight(m.x + at, x);
        if (m.other) read_eight(m.other + at, other);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            x[k] = x[k] * a[k] + b[k] + (m.other ? other[k] * c[k] + d[k] : 0.0f);
            x[k] = x[k] > 0.0f ? x[k] : x[k] * m.slope;
        }
        write_eight(y + at, x);
    }
}

// Sums of the gradient before the activation and of it times each normalised map: shares (blocks, 2, C) of x, and the same
// of the other map if that is normalised. `y` tells which side of the activation a value was on.
extern "C" __global__ void __launch_bounds__(THREADS) instance_gradient_sums(
    const Maps m, const VALUE* gy, const VALUE* y, const float* statistics, const float* other_statistics, float* shares, float* other_shares
) {
    __shared__ float memory[16 * THREADS];
    Place p = this_place(m.pixels, m.channels, m.span, m.blocks);
    float mean[8], inverse[8], other_mean[8], other_inverse[8], sum[8] = {}, along[8] = {}, other_along[8] = {};
    read_scale(statistics, p, m.channels, mean, inverse), read_scale(other_statistics, p, m.channels, other_mean, other_inverse);
    if (p.row < p.rows)
#pragma unroll 2
        for (int i = p.first + p.row; i < p.last; i += p.rows) {
            long long at = (p.image * m.pixels + i) * m.channels + p.c;
            float x[8], g[8], out[8], other[8];
            read_eight(m.x + at, x), read_eight(gy + at, g), read_eight(y + at, out);
            if (other_shares) read_eight(m.other + at, other);
#pragma unroll
            for (int k = 0; k < 8; k++) {
                g[k] = out[k] > 0.0f ? g[k] : g[k] * m.slope;
                sum[k] += g[k], along[k] += g[k] * (x[k] - mean[k]) * inverse[k];
                if (other_shares) other_along[k] += g[k] * (other[k] - other_mean[k]) * other_inverse[k];
            }
        }
    write_sums(p, m.channels, sum, along, memory, shares);
    if (other_shares) write_sums(p, m.channels, sum, other_along, memory, other_shares);
}

// Write the gradients by both maps; `sums` (B, 2, C) are of the whole image. scale, others: (B, C, 2) as in `Maps`.
extern "C" __global__ void __launch_bounds__(THREADS) instance_gradients(
    const Maps m, const VALUE* gy, const VALUE* y, const float* statistics, const float* other_statistics,
    const float* sums, const float* other_sums, VALUE* gx, VALUE* gother
) {
    Place p = this_place(m.pixels, m.channels, m.span, m.blocks);
    if (p.row >= p.rows) return;
    float mean[8], inverse[8], a[8], unused[8];
    read_scale(statistics, p, m.channels, mean, inverse), read_scale(m.scale, p, m.channels, a, unused);
    float other_mean[8], other_inverse[8], c[8];
    read_scale(other_statistics, p, m.channels, other_mean, other_inverse), read_scale(m.others, p, m.channels, c, unused);
    float even[8], along[8], other_along[8];
    const float share = 1.0f / m.pixels;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        long long at = p.image * 2 * m.channels + p.c + k;
        even[k] = sums[at] * share, along[k] = sums[at + m.channels] * share;
        other_along[k] = other_sums ? other_sums[at + m.channels] * share : 0.0f;
    }
#pragma unroll 2
    for (int i = p.first + p.row; i < p.last; i += p.rows) {
        long long at = (p.image * m.pixels + i) * m.channels + p.c;
        float x[8], g[8], out[8];
        read_eight(m.x + at, x), read_eight(gy + at, g), read_eight(y + at, out);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            g[k] = out[k] > 0.0f ? g[k] : g[k] * m.slope;
            x[k] = a[k] * (g[k] - even[k] - (x[k] - mean[k]) * inverse[k] * along[k]);
        }
        write_eight(gx + at, x);
        if (!gother) continue;
        if (other_sums) {
            float other[8];
            read_eight(m.other + at, other);
#pragma unroll
            for (int k = 0; k < 8; k++) g[k] = c[k] * (g[k] - even[k] - (other[k] - other_mean[k]) * other_inverse[k] * other_along[k]);
        }
        write_eight(gother + at, g);
    }
}
