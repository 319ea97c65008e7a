// Layer norm over channels, alone or times SiLU of a gate, and its gradients. LANES threads share a row of CHANNELS
// values, eight at a time each: INPUT in, OUTPUT out, GATED or not. Rows of the gate are `gate_row` apart.
#include "device.cuh"
#include "types.cuh"

#define VECTORS ((CHANNELS / 8 + LANES - 1) / LANES)
#define ROWS (128 / LANES)

struct Norm {
    const INPUT* x;
    const OUTPUT* gate;
    const float* weight;
    const float* bias;
    long long rows, gate_row;
    float epsilon;
};

__device__ __forceinline__ float sum_of_lanes(float x) {
#pragma unroll
    for (int flip = LANES / 2; flip; flip /= 2) x += from_lane(x, flip);
    return x;
}

// Read a row and normalise it; returns the inverse of its standard deviation.
__device__ __forceinline__ float normalise(const Norm& s, long long row, int lane, float (&x)[VECTORS][8]) {
    float mean = 0.0f, variance = 0.0f;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        int c = 8 * (v * LANES + lane);
        if (c < CHANNELS && row < s.rows) read_eight(s.x + row * CHANNELS + c, x[v]);
        else
#pragma unroll
            for (int i = 0; i < 8; i++) x[v][i] = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) mean += x[v][i];
    }
    mean = sum_of_lanes(mean) * (1.0f / CHANNELS);
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        bool inside = 8 * (v * LANES + lane) < CHANNELS;
#pragma unroll
        for (int i = 0; i < 8; i++) x[v][i] = inside ? x[v][i] - mean : 0.0f, variance += x[v][i] * x[v][i];
    }
    float scale = rsqrt_of(sum_of_lanes(variance) * (1.0f / CHANNELS) + s.epsilon);
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
#pragma unroll
        for (int i = 0; i < 8; i++) x[v][i] *= scale;
    return scale;
}

extern "C" __global__ void __launch_bounds__(128) norm_forward(const Norm s, OUTPUT* y) {
    int lane = threadIdx.x % LANES;
    long long row = (long long)blockIdx.x * ROWS + threadIdx.x / LANES;
    float x[VECTORS][8];
    normalise(s, row, lane, x);
    if (row >= s.rows) return;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        int c = 8 * (v * LANES + lane);
        if (c >= CHANNELS) continue;
        float weight[8], bias[8], gate[8];
        read_eight(s.weight + c, weight), read_eight(s.bias + c, bias);
#pragma unroll
        for (int i = 0; i < 8; i++) x[v][i] = x[v][i] * weight[i] + bias[i];
        if (GATED) {
            read_eight(s.gate + row * s.gate_row + c, gate);
#pragma unroll
            for (int i = 0; i < 8; i++) x[v][i] *= gate[i] * sigmoid(gate[i]);
        }
        write_eight(y + row * CHANNELS + c, x[v]);
    }
}

// Write the gradients by x and gate, and each block's share of those by weight and bias, (blocks, 2, CHANNELS).
extern "C" __global__ void __launch_bounds__(128) norm_backward(const Norm s, const OUTPUT* gy, INPUT* gx, OUTPUT* ggate, float* shares) {
    __shared__ float sums[2 * CHANNELS];
    int lane = threadIdx.x % LANES;
    float gweight[VECTORS][8] = {}, gbias[VECTORS][8] = {};
    for (long long first = (long long)blockIdx.x * ROWS; first < s.rows; first += (long long)gridDim.x * ROWS) {
        long long row = first + threadIdx.x / LANES;
        float x[VECTORS][8], g[VECTORS][8], mean = 0.0f, along = 0.0f;
        float scale = normalise(s, row, lane, x);
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            int c = 8 * (v * LANES + lane);
            bool inside = c < CHANNELS && row < s.rows;
#pragma unroll
            for (int i = 0; i < 8; i++) g[v][i] = 0.0f;
            if (!inside) continue;
            float weight[8];
            read_eight(gy + row * CHANNELS + c, g[v]);
            read_eight(s.weight + c, weight);
            if (GATED) {
                float gate[8], bias[8];
                read_eight(s.gate + row * s.gate_row + c, gate), read_eight(s.bias + c, bias);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    float open = sigmoid(gate[i]), by_gate = g[v][i] * (x[v][i] * weight[i] + bias[i]);
                    g[v][i] *= gate[i] * open;
                    gate[i] = by_gate * open * (1.0f + gate[i] * (1.0f - open));
                }
                write_eight(ggate + row * CHANNELS + c, gate);
            }
#pragma unroll
            for (int i = 0; i < 8; i++) {
                gweight[v][i] += g[v][i] * x[v][i], gbias[v][i] += g[v][i];
                g[v][i] *= weight[i];
                mean += g[v][i], along += g[v][i] * x[v][i];
            }
        }
        mean = sum_of_lanes(mean) * (1.0f / CHANNELS), along = sum_of_lanes(along) * (1.0f / CHANNELS);
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            int c = 8 * (v * LANES + lane);
            if (c >= CHANNELS || row >= s.rows) continue;
#pragma unroll
            for (int i = 0; i < 8; i++) g[v][i] = scale * (g[v][i] - mean - x[v][i] * along);
            write_eight(gx + row * CHANNELS + c, g[v]);
        }
    }
    for (int turn = 0; turn < ROWS; turn++) {  // one row of threads after the other, always in this order
        if (threadIdx.x / LANES == turn) {
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                int c = 8 * (v * LANES + lane);
                if (c >= CHANNELS) continue;
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    sums[c + i] = (turn ? sums[c + i] : 0.0f) + gweight[v][i];
                    sums[CHANNELS + c + i] = (turn ? sums[CHANNELS + c + i] : 0.0f) + gbias[v][i];
                }
            }
        }
        __syncthreads();
    }
    for (int c = threadIdx.x; c < 2 * CHANNELS; c += 128) shares[(long long)blockIdx.x * 2 * CHANNELS + c] = sums[c];
}
