// Forward scan, and what segments add to a carry of zero, forwards or (for gradients) backwards.
#include "scan.cuh"

// Steps of a tile in shared memory: size and size times input, B and C, the place of each.
struct Tile {
    alignas(16) float2 steps[TILE][STRIDE];
    alignas(16) float weights[TILE][WEIGHTS];
    int places[TILE];
};

template <bool SCALED>
__device__ __forceinline__ void fill(const Block& b, const Fetched& f, const float* lift, const float* bias, Tile& tile) {
    int row = b.thread >> 2, column = b.thread & 3;
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        float2 x = steps_of(f, i, column, lift, bias);
        float p = f.value.at(i), q = f.value.at(i + 1);
        *(float4*)&tile.steps[row][slot_of(column, i)] = make_float4(x.x, SCALED ? x.x * p : p, x.y, SCALED ? x.y * q : q);
    }
    fill_weights(f, column, tile.weights[row]);
    if (column == 0) tile.places[row] = f.place;
}

// Write y without its skip term, each group its own part if they share a map, and the states before each chunk.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) scan_forward(
    const Scan s, PART* y, float* saved, const float* added, const float* elapsed
) {
    __shared__ Tile tiles[2];
    alignas(16) __shared__ float lift[(LIFTED ? LIFTED : 1) * CHANNELS], bias[CHANNELS];
    const Block b = this_block(s);
    float rate[OWN], h[OWN];
    read_rates(s, b, rate);
    carry_over(s, b, rate, added, elapsed, 0, b.segment, 1, h);
    read_lift(s, b, lift, bias);
    const int row = b.thread >> 2, chunks = (s.length + CHUNK - 1) / CHUNK;
    Fetched f;
    fetch<false>(s, b, s.u, s.u, b.first + row, b.first + row < b.last, f);
    __syncthreads();
    const OFFSET y_row = s.u_row;
    y += b.g * s.part_group + b.image * s.length * s.u_row + b.d;
    for (int start = b.first, k = 0; start < b.last; start += TILE, k ^= 1) {
        if (saved && start % CHUNK == 0 && b.inside) {
#pragma unroll
            for (int n = 0; n < OWN; n++)
                if (b.quarter * OWN + n < STATES)
                    saved[((b.sequence * chunks + start / CHUNK) * STATES + b.quarter * OWN + n) * s.channels + b.d] = h[n];
        }
        Tile& tile = tiles[k];
        fill<true>(b, f, lift, bias, tile);
        __syncthreads();
        int next = start + TILE + row;
        if (start + TILE < b.last) fetch<false>(s, b, s.u, s.u, next, next < b.last, f);
#pragma unroll 2
        for (int t = 0; t < TILE; t += 4) {
            float part[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float2 step = tile.steps[t + i][b.slot];
                float in[OWN], out[OWN], sum = 0.0f;
                read_own(&tile.weights[t + i][b.quarter * OWN], in);
                read_own(&tile.weights[t + i][PADDED + b.quarter * OWN], out);
#pragma unroll
                for (int n = 0; n < OWN; n++) {
                    h[n] = ex2(step.x * rate[n]) * h[n] + in[n] * step.y;
                    sum += out[n] * h[n];
                }
                part[i] = sum;
            }
            float sum = sum_of_quarters(part, b.quarter);
            int step = t + b.quarter;
            if (b.inside && start + step < b.last) y[tile.places[step] * y_row] = from_float<PART>(sum);
        }
    }
}

// Write the state that a segment reaches from zero, (B, G, S, N, D), and the sum of its steps, (B, G, S, D). BACKWARDS:
// what it passes to the segment before it, `map` being the gradient by y.
template <bool BACKWARDS>
__device__ __forceinline__ void local_states(const Scan& s, const VALUE* map, float* added, float* elapsed) {
    __shared__ Tile tiles[2];
    alignas(16) __shared__ float lift[(LIFTED ? LIFTED : 1) * CHANNELS], bias[CHANNELS];
    const Block b = this_block(s);
    float rate[OWN], h[OWN], total = 0.0f;
    read_rates(s, b, rate);
#pragma unroll
    for (int n = 0; n < OWN; n++) h[n] = 0.0f;
    read_lift(s, b, lift, bias);
    const int row = b.thread >> 2, steps = b.last - b.first;
    Fetched f;
    fetch<false>(s, b, map, map, BACKWARDS ? b.last - 1 - row : b.first + row, row < steps, f);
    __syncthreads();
    for (int start = 0, k = 0; start < steps; start += TILE, k ^= 1) {
        Tile& tile = tiles[k];
        fill<!BACKWARDS>(b, f, lift, bias, tile);
        __syncthreads();
        int next = start + TILE + row;
        if (start + TILE < steps) fetch<false>(s, b, map, map, BACKWARDS ? b.last - 1 - next : b.first + next, next < steps, f);
#pragma unroll 4
        for (int t = 0; t < TILE; t++) {
            float2 step = tile.steps[t][b.slot];
            float weight[OWN];
            read_own(&tile.weights[t][(BACKWARDS ? PADDED : 0) + b.quarter * OWN], weight);
            total += step.x;
#pragma unroll
            for (int n = 0; n < OWN; n++) {
                float decay = ex2(step.x * rate[n]);
                h[n] = BACKWARDS ? decay * (h[n] + weight[n] * step.y) : decay * h[n] + weight[n] * step.y;
            }
        }
    }
    if (!b.inside) return;
    long long part = b.sequence * s.segments + b.segment;
#pragma unroll
    for (int n = 0; n < OWN; n++) added[(part * PADDED + b.quarter * OWN + n) * s.channels + b.d] = h[n];
    if (b.quarter == 0) elapsed[part * s.channels + b.d] = total;
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) scan_local(const Scan s, float* added, float* elapsed) {
    local_states<false>(s, s.u, added, elapsed);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) scan_local_gradients(const Scan s, const VALUE* gy, float* added, float* elapsed) {
    local_states<true>(s, gy, added, elapsed);
}
