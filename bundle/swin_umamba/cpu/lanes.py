"""How many numbers a compiled function computes with at once; apart, so that asking does not bring in Numba."""

LANES = 32  # 4 AVX2 registers: enough independent work to hide the latency of exp2; 8 and 16 are a third slower
