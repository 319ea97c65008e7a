"""Elementary functions of the CPU kernels against NumPy in long double."""

from __future__ import annotations

import numpy as np
import pytest

numba = pytest.importorskip("numba", reason="the cpu backend needs Numba")
from swin_umamba.cpu import simd  # noqa: E402

BOUNDS = {np.float32: 2e-7, np.float64: 1e-15}


def evaluate(function, x):
    """Apply a function of lanes to an array, a multiple of LANES long."""

    @numba.njit
    def loop(x, out):
        for row in range(x.shape[0]):
            simd.store(out, row, 0, function(simd.load(x, row, 0)))

    out = np.empty_like(x)
    loop(x.reshape(-1, simd.LANES), out.reshape(-1, simd.LANES))
    return out


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_power_of_two_is_accurate_and_flushes_to_zero(real):
    x = np.linspace(-125, 0, 64000).astype(real)
    exact = np.exp2(x.astype(np.longdouble))
    assert np.abs(evaluate(simd.exp2, x) / exact - 1).max() < BOUNDS[real]
    edges = np.array([-np.inf, -1e30, -1e6, -1100, 0, np.nan, 2000, np.inf] * 4, real)
    np.testing.assert_array_equal(evaluate(simd.exp2, edges)[:8], [0, 0, 0, 0, 1, np.nan, np.inf, np.inf])


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_softplus_and_its_slope_keep_their_digits(real):
    x = np.linspace(-85, 20, 64000).astype(real)
    z = np.exp(-np.abs(x.astype(np.longdouble)))
    softplus = np.maximum(x, 0) + np.log1p(z)
    assert np.abs(evaluate(simd.softplus, x) / softplus - 1).max() < 2 * BOUNDS[real]
    slope = np.where(x < 0, z, 1) / (1 + z)
    assert np.abs(evaluate(simd.sigmoid, x) / slope - 1).max() < 2 * BOUNDS[real]


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_softplus_is_the_identity_above_20(real):
    x = np.array([20.5, 100, 1e4, 1e30] * 8, real)
    np.testing.assert_array_equal(evaluate(simd.softplus, x), x)
    np.testing.assert_array_equal(evaluate(simd.sigmoid, x), np.ones(32))


def test_total_adds_all_lanes():
    @numba.njit
    def total(x):
        return simd.total(simd.load(x, 0, 0))

    assert total(np.arange(32.0).reshape(1, 32)) == 496


def test_kernels_compile_without_a_folder_for_the_cache():
    from swin_umamba.cpu.threads import compiled

    function = eval("lambda x: x + 1", {})  # Numba finds no file, hence no folder, for such a function
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(function)
    assert compiled(function)(1) == 2
