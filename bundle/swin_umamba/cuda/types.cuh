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

// Two neighbours, in one access if they are aligned; those beyond `valid` are 0.
template <bool WHOLE, class T> __device__ __forceinline__ Pair<T> read_pair(const T* from, int valid) {
    Pair<T> p = {};
    if (WHOLE) {
        if (valid > 0) p = *(const Pair<T>*)from;
    } else {
        if (valid > 0) p.a = from[0];
        if (valid > 1) p.b = from[1];
    }
    return p;
}
template <bool WHOLE, class T> __device__ __forceinline__ void write_pair(T* to, int valid, float a, float b) {
    if (WHOLE) {
        if (valid > 0) *(Pair<T>*)to = pair_of<T>(a, b);
    } else {
        if (valid > 0) to[0] = from_float<T>(a);
        if (valid > 1) to[1] = from_float<T>(b);
    }
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
