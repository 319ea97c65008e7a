// Depthwise 3x3 convolution with bias and SiLU on channels-last maps, and its gradients. A thread follows two channels
// along STRIP columns of a row and keeps the nine pixels around it in registers. Rows of x are `x_row` apart.
#include "device.cuh"
#include "types.cuh"

#define STRIP 8

struct Map {
    const VALUE* x;
    const float* weight;  // (D, 9)
    const float* bias;    // (D)
    int images, height, width, channels;
    long long x_row;
};

struct Window { float2 at[3][3]; };  // [row][column]

__device__ __forceinline__ float2 pixel(const VALUE* map, long long stride, const Map& m, int image, int h, int w, int d) {
    float2 y = make_float2(0.0f, 0.0f);
    if (h < 0 || h >= m.height || w < 0 || w >= m.width) return y;
    Pair<VALUE> p = *(const Pair<VALUE>*)(map + ((long long)(image * m.height + h) * m.width + w) * stride + d);
    y.x = to_float(p.a), y.y = to_float(p.b);
    return y;
}

// Move a window one column to the right; its last column is then column w + 1.
__device__ __forceinline__ void move(Window& x, const VALUE* map, long long stride, const Map& m, int image, int h, int w, int d) {
#pragma unroll
    for (int i = 0; i < 3; i++) x.at[i][0] = x.at[i][1], x.at[i][1] = x.at[i][2], x.at[i][2] = pixel(map, stride, m, image, h + i - 1, w + 1, d);
}
__device__ __forceinline__ void start(Window& x, const VALUE* map, long long stride, const Map& m, int image, int h, int w, int d) {
#pragma unroll
    for (int i = 0; i < 3; i++) x.at[i][1] = pixel(map, stride, m, image, h + i - 1, w - 1, d), x.at[i][2] = pixel(map, stride, m, image, h + i - 1, w, d);
}

__device__ __forceinline__ float2 convolve(const Window& x, const float2 (&weight)[9], float2 y) {
#pragma unroll
    for (int k = 0; k < 9; k++) y.x += weight[k].x * x.at[k / 3][k % 3].x, y.y += weight[k].y * x.at[k / 3][k % 3].y;
    return y;
}

// With gy: write the gradient by the sum before SiLU to y. Without: write y.
__device__ __forceinline__ void convolve_map(const Map& m, const VALUE* gy, VALUE* y) {
    int pairs = m.channels / 2, strips = (m.width + STRIP - 1) / STRIP;
    long long i = (long long)blockIdx.x * 128 + threadIdx.x;
    int d = 2 * (int)(i % pairs);
    i /= pairs;
    int w = (int)(i % strips) * STRIP, h = (int)(i / strips % m.height);
    long long image = i / strips / m.height;
    if (image >= m.images) return;
    float2 weight[9], bias = make_float2(m.bias[d], m.bias[d + 1]);
#pragma unroll
    for (int k = 0; k < 9; k++) weight[k] = make_float2(m.weight[d * 9 + k], m.weight[d * 9 + 9 + k]);
    Window x;
    start(x, m.x, m.x_row, m, image, h, w, d);
    for (int end = w + STRIP < m.width ? w + STRIP : m.width; w < end; w++) {
        move(x, m.x, m.x_row, m, image, h, w, d);
        float2 sum = convolve(x, weight, bias);
        float a = sigmoid(sum.x), b = sigmoid(sum.y);
        long long at = ((image * m.height + h) * m.width + w) * m.channels + d;
        if (gy) {
            Pair<VALUE> g = *(const Pair<VALUE>*)(gy + at);
            a = to_float(g.a) * a * (1.0f + sum.x * (1.0f - a)), b = to_float(g.b) * b * (1.0f + sum.y * (1.0f - b));
        } else {
            a *= sum.x, b *= sum.y;
        }
        *(Pair<VALUE>*)(y + at) = pair_of<VALUE>(a, b);
    }
}

extern "C" __global__ void __launch_bounds__(128) depthwise_forward(const Map m, VALUE* y) { convolve_map(m, nullptr, y); }
extern "C" __global__ void __launch_bounds__(128) depthwise_activation(const Map m, const VALUE* gy, VALUE* gsum) { convolve_map(m, gy, gsum); }

// Write the gradient by x, and each block's share of those by weight and bias, (blocks, 10, D). 32 threads of a block
// are neighbouring pairs of channels, its four warps take strips in turn.
extern "C" __global__ void __launch_bounds__(128) depthwise_backward(const Map m, const VALUE* gsum, VALUE* gx, float* shares, int groups) {
    __shared__ float2 sums[4][10][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, d = 2 * (blockIdx.x % groups * 32 + lane);
    int strips = (m.width + STRIP - 1) / STRIP;
    long long count = (long long)m.images * m.height * strips, step = gridDim.x / groups * 4;
    float2 weight[9], gweight[10] = {};
    bool inside = d < m.channels;
#pragma unroll
    for (int k = 0; k < 9; k++) weight[8 - k] = inside ? make_float2(m.weight[d * 9 + k], m.weight[d * 9 + 9 + k]) : make_float2(0.0f, 0.0f);
    for (long long i = blockIdx.x / groups * 4 + warp; i < count && inside; i += step) {
        int w = (int)(i % strips) * STRIP, h = (int)(i / strips % m.height), image = (int)(i / strips / m.height);
        Window x, g;
        start(x, m.x, m.x_row, m, image, h, w, d), start(g, gsum, m.channels, m, image, h, w, d);
        for (int end = w + STRIP < m.width ? w + STRIP : m.width; w < end; w++) {
            move(x, m.x, m.x_row, m, image, h, w, d), move(g, gsum, m.channels, m, image, h, w, d);
            float2 sum = convolve(g, weight, make_float2(0.0f, 0.0f)), here = g.at[1][1];
            *(Pair<VALUE>*)(gx + (((long long)image * m.height + h) * m.width + w) * m.channels + d) = pair_of<VALUE>(sum.x, sum.y);
#pragma unroll
            for (int k = 0; k < 9; k++) gweight[k].x += here.x * x.at[k / 3][k % 3].x, gweight[k].y += here.y * x.at[k / 3][k % 3].y;
            gweight[9].x += here.x, gweight[9].y += here.y;
        }
    }
#pragma unroll
    for (int k = 0; k < 10; k++) sums[warp][k][lane] = gweight[k];
    __syncthreads();
    for (int k = warp; k < 10 && inside; k += 4) {
        float2 a = sums[0][k][lane], b = sums[1][k][lane], c = sums[2][k][lane], e = sums[3][k][lane];
        *(float2*)&shares[((long long)(blockIdx.x / groups) * 10 + k) * m.channels + d] = make_float2(a.x + b.x + c.x + e.x, a.y + b.y + c.y + e.y);
    }
}
