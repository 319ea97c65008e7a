// Gradients of the scan. Chunks of 32 steps go from last to first: read them into shared memory, run them forwards from
// the saved state and note the state before every eighth step, then take the eights from last to first, run each again
// with all its states and decays in registers, and run the gradients backwards through it.
#include "scan.cuh"

#define SUB 8                               // steps whose states fit the registers
#define WINDOW 16                           // steps whose gradients by B and C are summed over the block at once
#define SHARES ((2 * OWN + 7) / 8 * 8)      // values per step and thread that are summed over channels, padded

struct Shared {
    float2 steps[CHUNK][STRIDE];            // size and input; later their gradients
    float gy[CHUNK][STRIDE];
    float weights[CHUNK][WEIGHTS];
    float states[CHUNK / SUB][OWN][THREADS];
    alignas(16) float shares[THREADS / 32][WINDOW][4 * SHARES];
    float lift[(LIFTED ? LIFTED : 1) * CHANNELS], bias[CHANNELS];
    int places[CHUNK];
};

__device__ __forceinline__ void fill(const Scan& s, const Block& b, const VALUE* gy, int start, Shared& shared) {
    int column = b.thread & 3;
#pragma unroll 1
    for (int row = b.thread >> 2; row < CHUNK; row += TILE) {
        Fetched f;
        fetch<true>(s, b, s.u, gy, start + row, start + row < b.last, f);
#pragma unroll
        for (int i = 0; i < 8; i += 2) {
            float2 x = steps_of(f, i, column, shared.lift, shared.bias);
            *(float4*)&shared.steps[row][slot_of(column, i)] = make_float4(x.x, f.value.at(i), x.y, f.value.at(i + 1));
        }
#pragma unroll
        for (int i = 0; i < 8; i += 4)
            *(float4*)&shared.gy[row][8 * column + i] = make_float4(f.other.at(i), f.other.at(i + 1), f.other.at(i + 2), f.other.at(i + 3));
        fill_weights(f, column, shared.weights[row]);
        if (column == 0) shared.places[row] = f.place;
    }
}

// Sum values of a step over the eight channels of the warp: lane `i` of a quarter keeps the sum of value i of each eight.
__device__ __forceinline__ void sum_of_channels(const float (&value)[SHARES], int lane, float* share) {
#pragma unroll
    for (int v = 0; v < SHARES; v += 8) {
        float x[4], y[2];
        bool b4 = lane & 4, b2 = lane & 2, b1 = lane & 1;
#pragma unroll
        for (int i = 0; i < 4; i++) x[i] = (b4 ? value[v + 4 + i] : value[v + i]) + from_lane(b4 ? value[v + i] : value[v + 4 + i], 4);
#pragma unroll
        for (int i = 0; i < 2; i++) y[i] = (b2 ? x[2 + i] : x[i]) + from_lane(b2 ? x[i] : x[2 + i], 2);
        share[(lane >> 3) * SHARES + v + (lane & 7)] = (b1 ? y[1] : y[0]) + from_lane(b1 ? y[0] : y[1], 1);
    }
}

#if TENSOR
// Rows of zeros and ones: each of the four values that a lane holds in two registers has every fourth row to itself.
struct Chooser { unsigned first, second; };
__device__ __forceinline__ Chooser chooser(int lane) {
    int row = lane >> 2 & 3;
    unsigned one = row & 1 ? 0x3f800000u : 0x3f80u;
    return {row < 2 ? one : 0u, row < 2 ? 0u : one};
}

// The same for two steps of 2 x 8 values by the tensor cores: the product with the chooser has the sum of each value over
// four lanes in two rows, of which one is kept, and the other bit of the channel in neighbouring columns.
__device__ __forceinline__ void sum_of_channels(const unsigned (&value)[8], const Chooser& a, bool high, float* later, float* earlier) {
    float c[4][4] = {};
#pragma unroll
    for (int m = 0; m < 4; m++) multiply_add(c[m], a.first, a.first, a.second, a.second, value[2 * m], value[2 * m + 1]);
    *later = high ? c[1][0] + c[1][1] : c[0][0] + c[0][1];
    *earlier = high ? c[3][0] + c[3][1] : c[2][0] + c[2][1];
}
#endif

// Sum the shares of the warps over a window of steps and write them, B then C, to this block's copy of the gradients.
__device__ __forceinline__ void write_shares(const Scan& s, const Block& b, Shared& shared, int window, int start, PACKED* gweights) {
#pragma unroll
    for (int k = 0; k < WINDOW * SHARES / THREADS; k++) {
        int i = b.thread + k * THREADS, step = i / SHARES, v = i % SHARES * 4;
        if (start + window + step >= b.last) continue;
        float sum[4] = {};
#pragma unroll
        for (int warp = 0; warp < THREADS / 32; warp++) {
            float4 x = *(const float4*)&shared.shares[warp][step][v];
            sum[0] += x.x, sum[1] += x.y, sum[2] += x.z, sum[3] += x.w;
        }
        OFFSET cell = ((OFFSET)b.image * s.length + shared.places[window + step]) * s.groups + b.g;
        PACKED* row = gweights + cell * (2 * STATES);
        if (OWN % 4 == 0 && PACKED_WHOLE) {  // all four are of B, or of C
            int share = v % SHARES, n = v / SHARES * OWN + share % OWN + (share < OWN ? 0 : STATES);
            if (share >= 2 * OWN) continue;
            *(Pair<PACKED>*)(row + n) = pair_of<PACKED>(sum[0], sum[1]);
            *(Pair<PACKED>*)(row + n + 2) = pair_of<PACKED>(sum[2], sum[3]);
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int share = (v + j) % SHARES, n = v / SHARES * OWN + share % OWN;
                if (share < 2 * OWN && n < STATES) row[(share < OWN ? 0 : STATES) + n] = from_float<PACKED>(sum[j]);
            }
        }
    }
}

__device__ __forceinline__ void write_rows(const Scan& s, const Block& b, const Shared& shared, int start, PART* gu, PACKED* gsteps) {
    int column = b.thread & 3;
    for (int row = b.thread >> 2; row < CHUNK && start + row < b.last; row += TILE) {
        OFFSET place = (OFFSET)b.image * s.length + shared.places[row];
        int c = 8 * column, left = s.channels - b.base - c;
        float steps[8], values[8];
#pragma unroll
        for (int i = 0; i < 8; i += 2) {
            float4 x = *(const float4*)&shared.steps[row][slot_of(column, i)];
            steps[i] = x.x, steps[i + 1] = x.z, values[i] = x.y, values[i + 1] = x.w;
        }
        write_run<WHOLE>(gsteps + place * (OFFSET)s.step_row + b.g * (OFFSET)s.step_group + b.base + c, left, steps);
        write_run<WHOLE>(gu + place * (OFFSET)s.u_row + b.g * (OFFSET)s.part_group + b.base + c, left, values);
    }
}

// Write all gradients: `gu` as y in scan_forward, `gsteps` laid out as raw, shares of `gweights` (blocks, B*L*G, 2N),
// `grates` (B, S, G, D, N) by what the rates are given as, and `gends` (B, S, G, 2, D) by bias and skip weights.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) scan_backward(
    const Scan s, const VALUE* gy, const float* saved, const float* added, const float* elapsed,
    PART* gu, PACKED* gsteps, PACKED* gweights, float* grates, float* gends
) {
    extern __shared__ float4 memory[];
    Shared& shared = *(Shared*)memory;
    const Block b = this_block(s);
    const int chunks = (s.length + CHUNK - 1) / CHUNK;
    float rate[OWN], carry[OWN], grate[OWN], gbias = 0.0f, gskip = 0.0f;
    read_rates(s, b, rate);
    carry_over(s, b, rate, added, elapsed, s.segments - 1, s.segments - 1 - b.segment, -1, carry);
    read_lift(s, b, shared.lift, shared.bias);
    gweights += (blockIdx.x % s.blocks) * (2ll * STATES * s.groups) * (gridDim.x / (s.blocks * s.segments * s.groups)) * s.length;
#pragma unroll
    for (int n = 0; n < OWN; n++) grate[n] = 0.0f;
#if TENSOR
    const Chooser chosen = chooser(b.lane);
#endif
    for (int start = (b.last - 1) / CHUNK * CHUNK; start >= b.first; start -= CHUNK) {
        float h[SUB + 1][OWN], decay[SUB][OWN];
#pragma unroll
        for (int n = 0; n < OWN; n++) {
            int state = b.quarter * OWN + n;
            bool there = b.inside && state < STATES;
            h[0][n] = there ? saved[((b.sequence * chunks + start / CHUNK) * STATES + state) * s.channels + b.d] : 0.0f;
        }
        __syncthreads();
        fill(s, b, gy, start, shared);
        __syncthreads();
#pragma unroll 1
        for (int sub = 0; sub < CHUNK / SUB; sub++) {
#pragma unroll
            for (int n = 0; n < OWN; n++) shared.states[sub][n][b.thread] = h[0][n];
            if (sub == CHUNK / SUB - 1) break;
#pragma unroll
            for (int t = 0; t < SUB; t++) {
                float2 step = shared.steps[sub * SUB + t][b.slot];
                float in[OWN], drive = step.x * step.y;
                read_own(&shared.weights[sub * SUB + t][b.quarter * OWN], in);
#pragma unroll
                for (int n = 0; n < OWN; n++) h[0][n] = ex2(step.x * rate[n]) * h[0][n] + in[n] * drive;
            }
        }
#pragma unroll 1
        for (int sub = CHUNK / SUB - 1; sub >= 0; sub--) {
#pragma unroll
            for (int n = 0; n < OWN; n++) h[0][n] = shared.states[sub][n][b.thread];
#pragma unroll
            for (int t = 0; t < SUB; t++) {
                float2 step = shared.steps[sub * SUB + t][b.slot];
                float in[OWN], drive = step.x * step.y;
                read_own(&shared.weights[sub * SUB + t][b.quarter * OWN], in);
#pragma unroll
                for (int n = 0; n < OWN; n++) {
                    decay[t][n] = ex2(step.x * rate[n]);
                    h[t + 1][n] = decay[t][n] * h[t][n] + in[n] * drive;
                }
            }
            float gdrives[4], gsizes[4];
#if TENSOR
            unsigned packed[8];
            float* shares = &shared.shares[b.warp][sub * SUB % WINDOW][(b.lane & 3) * SHARES + (b.lane >> 2)];
#endif
#pragma unroll
            for (int t = SUB - 1; t >= 0; t--) {
                const int row = sub * SUB + t;
                float2 step = shared.steps[row][b.slot];
                float in[OWN], out[OWN], value[SHARES] = {}, g = shared.gy[row][b.channel], drive = step.x * step.y;
                float gdrive = 0.0f, gsize = 0.0f;
                read_own(&shared.weights[row][b.quarter * OWN], in);
                read_own(&shared.weights[row][PADDED + b.quarter * OWN], out);
#pragma unroll
                for (int n = 0; n < OWN; n++) {
                    float gstate = carry[n] + out[n] * g;
                    value[n] = gstate * drive;
                    value[OWN + n] = g * h[t + 1][n];
                    gdrive += gstate * in[n];
                    carry[n] = decay[t][n] * gstate;
                    float gexponent = carry[n] * h[t][n];
                    grate[n] += gexponent * step.x;
                    gsize += gexponent * rate[n];
                }
                gdrives[t & 3] = gdrive, gsizes[t & 3] = gsize;
#if TENSOR
#pragma unroll
                for (int i = 0; i < 4; i++) packed[(t & 1 ? 0 : 4) + i] = pack_bf16(value[2 * i], value[2 * i + 1]);
                if ((t & 1) == 0) sum_of_channels(packed, chosen, b.lane & 16, shares + (t + 1) * 4 * SHARES, shares + t * 4 * SHARES);
#else
                sum_of_channels(value, b.lane, shared.shares[b.warp][row % WINDOW]);
#endif
                if ((t & 3) == 0) {
                    float by_drive = sum_of_quarters(gdrives, b.quarter), by_size = sum_of_quarters(gsizes, b.quarter);
                    float2& own = shared.steps[row + b.quarter][b.slot];
                    __syncwarp();  // all have read what is replaced now
                    float size = own.x, input = own.y, above = shared.gy[row + b.quarter][b.channel];
                    float gstep = by_size * LN2 + by_drive * input;
                    if (ACTIVATE) gstep *= slope_of(size);
                    gbias += gstep, gskip += above * input;
                    own = make_float2(gstep, by_drive * size);
                }
            }
            if (sub * SUB % WINDOW == 0) {
                __syncthreads();
                write_shares(s, b, shared, sub * SUB, start, gweights);
                __syncthreads();
            }
        }
        write_rows(s, b, shared, start, gu, gsteps);
    }
    gbias += from_lane(gbias, 8), gskip += from_lane(gskip, 8);
    gbias += from_lane(gbias, 16), gskip += from_lane(gskip, 16);
    if (!b.inside) return;
    long long part = (b.image * s.segments + b.segment) * s.groups + b.g;
#pragma unroll
    for (int n = 0; n < OWN; n++)
        if (b.quarter * OWN + n < STATES)
            grates[(part * s.channels + b.d) * STATES + b.quarter * OWN + n] = grate[n] * (LOGS ? rate[n] * LN2 : 1.0f);
    if (b.quarter == 0) gends[2 * part * s.channels + b.d] = gbias, gends[(2 * part + 1) * s.channels + b.d] = gskip;
}
