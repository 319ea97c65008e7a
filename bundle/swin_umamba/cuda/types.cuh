// Number types by name (-DVALUE=f16), pairs of them in one access, and the activations.
#pragma once

template <class T> struct alignas(2 * sizeof(T)) Pair { T a, b; };

template <class T> __device__ __forceinline__ Pair<T> pair_of(float a, float b) {
    Pair<T> p;
    p.a = from_float<T>(a);
    p.b = from_float<T>(b);
    return p;
}
template <> __device__ __forceinline__ Pair<bf16> pair_of<bf16>(float a, float b) {
    Pair<bf16> p;
    unsigned bits = pack_bf16(a, b);
    p.a.bits = (unsigned short)bits;
    p.b.bits = (unsigned short)(bits >> 16);
    return p;
}

// log(1 + exp(x)). EXACT keeps every digit where the steps are tiny: max(x, 0) + 2 artanh(z / (2 + z)).
template <bool EXACT> __device__ __forceinline__ float softplus(float x) {
    float z = ex2(-fabsf(x) * LOG2E), tail;
    if (EXACT) {
        float s = z * rcp(2.0f + z), q = s * s;
        float series = 1.0f / 11 + q * (1.0f / 13 + q * (1.0f / 15));
        series = 1.0f + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9 + q * series))));
        tail = 2.0f * s * series;
    } else {
        tail = z < 0.0625f ? z * (1.0f - z * (0.5f - z * (0.33333333f - z * 0.25f))) : lg2(1.0f + z) * LN2;
    }
    return fmaxf(x, 0.0f) + tail;
}
// 1 - exp(-step), the slope of softplus where it has the value `step`.
__device__ __forceinline__ float slope_of(float step) {
    float series = step * (1.0f - step * (0.5f - step * (0.16666667f - step * (0.041666667f - step * 0.0083333333f))));
    return step < 0.125f ? series : 1.0f - ex2(-step * LOG2E);
}
__device__ __forceinline__ float sigmoid(float x) { return rcp(1.0f + ex2(-x * LOG2E)); }

// Eight neighbours in 16-byte accesses.
template <class T> struct alignas(16) Eight { T x[8]; };

template <class T> __device__ __forceinline__ void read_eight(const T* from, float (&to)[8]) {
    Eight<T> e;
    if (sizeof(T) == 2) {
        *(uint4*)&e = *(const uint4*)from;
    } else {
        ((float4*)&e)[0] = ((const float4*)from)[0];
        ((float4*)&e)[1] = ((const float4*)from)[1];
    }
#pragma unroll
    for (int i = 0; i < 8; i++) to[i] = to_float(e.x[i]);
}
template <class T> __device__ __forceinline__ void write_eight(T* to, const float (&from)[8]) {
    Eight<T> e;
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        Pair<T> p = pair_of<T>(from[i], from[i + 1]);
        e.x[i] = p.a, e.x[i + 1] = p.b;
    }
    if (sizeof(T) == 2) {
        *(uint4*)to = *(const uint4*)&e;
    } else {
        ((float4*)to)[0] = ((const float4*)&e)[0];
        ((float4*)to)[1] = ((const float4*)&e)[1];
    }
}

// COUNT neighbours as they are in memory. FULL: they lie on a multiple of 16 bytes, or of their own size if that is
// less, and are all there if `valid` is not 0; else those beyond `valid` are 0.
template <class T, int COUNT> struct Run {
    alignas(COUNT * sizeof(T) % 16 == 0 ? 16 : 4) unsigned words[(COUNT * sizeof(T) + 3) / 4];
    __device__ __forceinline__ float at(int i) const {
        if (sizeof(T) == 4) return __uint_as_float(words[i]);
        T x;
        *(unsigned short*)&x = (unsigned short)(words[i / 2] >> 16 * (i % 2));
        return to_float(x);
    }
};
template <bool FULL, class T, int COUNT> __device__ __forceinline__ void read_run(const T* from, int valid, Run<T, COUNT>& to) {
    constexpr int WORDS = (COUNT * sizeof(T) + 3) / 4;
#pragma unroll
    for (int i = 0; i < WORDS; i++) to.words[i] = 0;
    if (FULL && WORDS % 4 == 0) {
        if (valid > 0)
#pragma unroll
            for (int i = 0; i < WORDS; i += 4) *(uint4*)&to.words[i] = ((const uint4*)from)[i / 4];
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            if (i < valid) {
                if (sizeof(T) == 4) to.words[i] = ((const unsigned*)from)[i];
                else to.words[i / 2] |= (unsigned)((const unsigned short*)from)[i] << 16 * (i % 2);
            }
    }
}
template <bool FULL, class T> __device__ __forceinline__ void write_run(T* to, int valid, const float (&x)[8]) {
    if (FULL) {
        if (valid > 0) write_eight(to, x);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < valid) to[i] = from_float<T>(x[i]);
    }
}
