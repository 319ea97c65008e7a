// Stands in for device.cuh: runs a kernel's threads on a CPU as fibers that take turns at barriers and exchanges.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct f16 { unsigned short bits; };
struct bf16 { unsigned short bits; };

inline float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
inline float ex2(float x) { return exp2f(x); }
inline float lg2(float x) { return log2f(x); }
inline float rcp(float x) { return 1.0f / x; }
inline float rsqrt_of(float x) { return 1.0f / sqrtf(x); }
inline float to_float(float x) { return x; }
inline float to_float(f16 x) { _Float16 y; memcpy(&y, &x, 2); return (float)y; }
inline float to_float(bf16 x) { uint32_t bits = (uint32_t)x.bits << 16; float y; memcpy(&y, &bits, 4); return y; }
inline unsigned rounded(float x) { uint32_t a; memcpy(&a, &x, 4); return (a & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : (a + 0x7fffu + ((a >> 16) & 1)) >> 16; }
inline unsigned pack_bf16(float low, float high) { return rounded(low) | rounded(high) << 16; }
template <class T> T from_float(float x);
template <> inline float from_float<float>(float x) { return x; }
template <> inline f16 from_float<f16>(float x) { _Float16 y = (_Float16)x; f16 z; memcpy(&z, &y, 2); return z; }
template <> inline bf16 from_float<bf16>(float x) { return {(unsigned short)rounded(x)}; }

struct Index { int x, y, z; };
struct Barrier { int size, waiting, turn; };
struct Fiber { ucontext_t context; std::vector<char> stack; bool done; };
static Index blockIdx, blockDim, gridDim;
static int current;
static ucontext_t scheduler;
static std::vector<Fiber> fibers;
static Barrier whole, warps[32];
static float4 emulated_memory[16384];
#define threadIdx (Index{current, 0, 0})

inline void wait_at(Barrier& barrier) {
    int turn = barrier.turn, self = current;
    if (++barrier.waiting == barrier.size) { barrier.waiting = 0, barrier.turn++; return; }
    while (barrier.turn == turn) { swapcontext(&fibers[self].context, &scheduler); }
}
inline void __syncthreads() { wait_at(whole); }
inline void __syncwarp() { wait_at(warps[current / 32]); }
template <class T> T exchange(T x, int lane) {
    static T slots[1024];
    int self = current;
    slots[self] = x;
    __syncwarp();
    T y = slots[self / 32 * 32 + lane];
    __syncwarp();
    return y;
}
inline float from_lane(float x, int flip) { return exchange(x, (current % 32) ^ flip); }

// PTX's mma.m16n8k16: lane = 4 * group + column holds a of rows group and group + 8, b of matrix column group
inline void multiply_add(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    struct Own { unsigned a[4], b[2]; };
    static Own all[1024];
    int self = current, lane = self % 32, warp = self - lane;
    all[self] = {{a0, a1, a2, a3}, {b0, b1}};
    __syncwarp();
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + (i / 2) * 8, column = 2 * (lane % 4) + i % 2;
        for (int k = 0; k < 16; k++) {
            unsigned a = all[warp + row % 8 * 4 + k % 8 / 2].a[row / 8 + 2 * (k / 8)], b = all[warp + column * 4 + k % 8 / 2].b[k / 8];
            c[i] += to_float(bf16{(unsigned short)(a >> 16 * (k % 2))}) * to_float(bf16{(unsigned short)(b >> 16 * (k % 2))});
        }
    }
    __syncwarp();
}

static void (*body)(void**);
static void** given;
inline void enter() { body(given); fibers[current].done = true; swapcontext(&fibers[current].context, &scheduler); }
template <class... A, size_t... I> void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) { kernel(*(std::remove_const_t<A>*)args[I]...); }
template <class... A> void call(void (*kernel)(A...), void** args) { call(kernel, args, std::index_sequence_for<A...>{}); }

inline void run_grid(void (*kernel)(void**), int blocks, int threads, void** args) {
    body = kernel, given = args, blockDim = {threads, 1, 1}, gridDim = {blocks, 1, 1};
    fibers.resize(threads);
    for (int block = 0; block < blocks; block++) {
        blockIdx = {block, 0, 0}, whole = {threads, 0, 0};
        memset(emulated_memory, 0xff, sizeof emulated_memory);  // NaN: nothing may be read before it is written
        for (Barrier& warp : warps) warp = {32, 0, 0};
        for (Fiber& fiber : fibers) {
            fiber.stack.resize(65536), fiber.done = false;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data(), fiber.context.uc_stack.ss_size = fiber.stack.size();
            makecontext(&fiber.context, enter, 0);
        }
        for (int left = threads; left;) {
            left = 0;
            for (current = 0; current < threads; current++)
                if (!fibers[current].done) left++, swapcontext(&scheduler, &fibers[current].context);
        }
    }
}
