"""Winograd's convolution against PyTorch's in float64, and the rule that says where it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.polynomial import polynomial as poly
from torch import nn
from torch.nn import functional as F

pytest.importorskip("numba", reason="compiled by Numba")
from swin_umamba.cpu import units, winograd
from swin_umamba.cpu.products_simd import HALVES
from swin_umamba.networks.cnn import UpBlock

in_halves = pytest.mark.skipif(not HALVES, reason="the processor multiplies no bfloat16")
TYPES = [torch.float32, pytest.param(torch.bfloat16, marks=in_halves)]
ERROR = 4e-6  # of the largest result; PyTorch's own convolution in float32 is off by 4e-7 to 1e-6
CHANNELS = [(16, 16), (17, 36), (36, 20), (48, 48), (70, 33), (130, 96)]
SIZES = [(1, 1), (7, 1), (1, 5), (4, 4), (3, 5), (9, 11), (16, 24)]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def exact(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=1)


def assert_near(y: torch.Tensor, expected: torch.Tensor) -> None:
    assert y.dtype == torch.float32
    assert y.shape == expected.shape
    assert (y - expected).abs().max() <= ERROR * expected.abs().max()


def rounded(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Convolve in float64, by transforms of maps and weights that are rounded to bfloat16 (Lavin and Gray, 4.3)."""
    points = [0.0, 0.75, -0.75, 1.5, -1.5]
    others = [[q for q in points if q != p] for p in points]
    zero = [poly.polyfromroots(rest) for rest in others]  # 0 at every other point
    inputs = torch.tensor(np.array([*(np.pad(z, (0, 1)) for z in zero), poly.polyfromroots(points)]))
    scales = [np.prod([p - q for q in rest]) for p, rest in zip(points, others, strict=True)]
    weights = torch.tensor([*([p**i / s for i in range(3)] for p, s in zip(points, scales, strict=True)), [0, 0, 1]])
    outputs = torch.tensor([[*(p**i for p in points), float(i == 3)] for i in range(4)], dtype=torch.float64)
    height, width = x.shape[2:]
    tiles = F.pad(x.double(), (1, 4 - (width - 1) % 4, 1, 4 - (height - 1) % 4)).unfold(2, 6, 4).unfold(3, 6, 4)
    v = torch.einsum("pi,bchwij,qj->bchwpq", inputs, tiles, inputs).float().bfloat16().double()
    u = (
        torch.einsum("pi,kcij,qj->kcpq", weights.double(), weight.double(), weights.double())
        .float()
        .bfloat16()
        .double()
    )
    y = torch.einsum("mp,bchwpq,kcpq,nq->bkhmwn", outputs, v, u, outputs).flatten(4, 5).flatten(2, 3)
    return y[:, :, :height, :width] + (0 if bias is None else bias.double()[:, None, None])


def assert_rounded(y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    """Compare with what rounding says; half a step of the results is 1.7e-3, and a few numbers round the other way."""
    expected = rounded(x, weight, bias)
    assert y.dtype == torch.bfloat16
    assert y.shape == expected.shape
    assert relative(y - expected, expected) < 2.5e-3


def relative(difference: torch.Tensor, expected: torch.Tensor) -> float:
    return float(difference.square().mean().sqrt() / expected.square().mean().sqrt())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("inputs", "outputs"), CHANNELS)
def test_it_is_the_convolution(inputs, outputs, size):
    x, weight, bias = drawn(2, inputs, *size), drawn(outputs, inputs, 3, 3), drawn(outputs)
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        assert_near(winograd.convolve(given, weight, bias), exact(x, weight, bias))
    assert_near(winograd.convolve(x, weight, None), exact(x, weight, None))


@in_halves
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 16), (18, 36), (36, 20), (70, 34), (130, 96)])
def test_it_is_the_convolution_in_bfloat16(inputs, outputs, size):
    x, weight, bias = drawn(2, inputs, *size).bfloat16(), drawn(outputs, inputs, 3, 3), drawn(outputs)
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        assert_rounded(winograd.convolve(given, weight, bias), x, weight, bias)


@in_halves
@pytest.mark.parametrize(("smooth", "limit"), [(False, 1.1e-2), (True, 4e-3)])
def test_what_rounding_to_bfloat16_costs(smooth, limit):
    """PyTorch rounds maps, weights and results, which costs 2.3e-3; transformed maps and weights are larger."""
    x, weight = drawn(1, 96, 10, 10), drawn(64, 96, 3, 3)
    x = F.interpolate(x, (80, 80), mode="bilinear") if smooth else drawn(1, 96, 80, 80)
    x = F.leaky_relu(x, 0.01).bfloat16()
    expected = exact(x, weight, None)
    error = relative(winograd.convolve(x, weight, None) - expected, expected)
    plain = relative(F.conv2d(x, weight.bfloat16(), padding=1) - expected, expected)
    assert 2.1e-3 < plain < 2.6e-3
    assert plain < error < limit


def test_ones_by_hand():
    x, weight = torch.ones(1, 16, 6, 9), torch.ones(16, 16, 3, 3)
    y = winograd.convolve(x, weight, torch.full((16,), 0.5))
    expected = torch.full((6, 9), 9 * 16 + 0.5)  # inside, all nine
    expected[[0, -1]] = expected[:, 0] = expected[:, -1] = 6 * 16 + 0.5
    for row in (0, -1):
        for column in (0, -1):
            expected[row, column] = 4 * 16 + 0.5
    assert (y - expected).abs().max() < 1e-3


def test_a_single_pixel_spreads_the_weights_mirrored():
    x, weight = torch.zeros(1, 16, 10, 10), torch.zeros(16, 16, 3, 3)
    x[0, 3, 4, 7] = 2.0
    weight[5, 3] = torch.arange(1.0, 10.0).view(3, 3)
    y = winograd.convolve(x, weight, None)
    assert (y[0, 5, 3:6, 6:9] - 2 * weight[5, 3].flip(0, 1)).abs().max() < 1e-5
    y[0, 5, 3:6, 6:9] = 0
    assert y.abs().max() < 1e-5


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("outputs", [16, 48])  # more results than tiles, and fewer
@pytest.mark.parametrize(("inputs", "others"), [(16, 16), (36, 18), (64, 80)])
def test_two_maps_are_read_as_one(inputs, others, outputs, dtype):
    x, rest = (drawn(1, channels, 17, 21).to(dtype) for channels in (inputs, others))
    weight = drawn(outputs, inputs + others, 3, 3)
    both, y = torch.cat((x, rest), 1), winograd.convolve(x, weight, None, rest)
    if dtype == torch.float32:
        assert_near(y, exact(both, weight, None))
    else:
        assert_rounded(y, both, weight)


def test_two_maps_of_an_odd_number_of_channels():
    x, rest, weight = drawn(1, 36, 17, 21), drawn(1, 17, 17, 21), drawn(48, 53, 3, 3)
    assert_near(winograd.convolve(x, weight, None, rest), exact(torch.cat((x, rest), 1), weight, None))


@pytest.mark.parametrize(
    ("x", "weight", "bias", "rest", "says"),
    [
        ((1, 16, 8, 8), (16, 16, 3, 3), None, (1, 16, 8, 9), "differ in more than their channels"),
        ((1, 16, 8, 8), (16, 16, 3, 3), None, (2, 16, 8, 8), "differ in more than their channels"),
        ((1, 16, 8, 8), (16, 17, 3, 3), None, None, "do not fit"),
        ((1, 16, 8, 8), (16, 16, 3, 3), None, (1, 16, 8, 8), "do not fit"),
        ((1, 16, 8, 8), (16, 16, 3, 5), None, None, "do not fit"),
        ((1, 16, 8, 8), (16, 16, 3, 3), (15,), None, "do not fit"),
        ((1, 15, 8, 8), (16, 15, 3, 3), None, None, "at least 16 channels"),
        ((1, 16, 8, 8), (15, 16, 3, 3), None, None, "at least 16 channels"),
        ((1, 16, 8, 8), (16, 20, 3, 3), None, (1, 4, 8, 8), "at least 16 channels"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(x, weight, bias, rest, says):
    given = [None if shape is None else torch.zeros(shape) for shape in (x, weight, bias, rest)]
    with pytest.raises(ValueError, match=says):
        winograd.convolve(*given)


def test_other_types_are_refused():
    x, weight = torch.zeros(1, 16, 8, 8), torch.zeros(16, 16, 3, 3)
    for given in ((x.double(), weight.double()), (x, weight.bfloat16()), (x.half(), weight)):
        with pytest.raises(ValueError, match="legal: float32 or bfloat16, and float32"):
            winograd.convolve(*given, None)
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        winograd.convolve(x, weight.repeat(1, 2, 1, 1), None, x.bfloat16())
    with pytest.raises(ValueError, match="even numbers of channels"):
        winograd.convolve(torch.zeros(1, 17, 8, 8).bfloat16(), torch.zeros(16, 17, 3, 3), None)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("outputs", [16, 64])
def test_images_of_a_batch_do_not_mix(outputs, dtype):
    x, weight = drawn(3, 16, 7, 9).to(dtype), drawn(outputs, 16, 3, 3)
    x[1] = 0
    y = winograd.convolve(x, weight, None)
    assert y[1].abs().max() == 0
    for image in (0, 2):
        assert torch.equal(y[image], winograd.convolve(x[image : image + 1], weight, None)[0])


@pytest.mark.parametrize("outputs", [16, 64])
def test_weights_changed_in_place_are_seen(outputs):
    x, weight = drawn(1, 16, 12, 12), drawn(outputs, 16, 3, 3)
    winograd.convolve(x, weight, None)
    weight.mul_(3.0)
    assert_near(winograd.convolve(x, weight, None), exact(x, weight, None))


@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_no_number_stays_so(dtype):
    x, weight = drawn(1, 16, 12, 12).to(dtype), drawn(16, 16, 3, 3)
    x[0, 0, 5, 5] = float("nan")
    y = winograd.convolve(x, weight, None)
    assert y[0, :, 4:7, 4:7].isnan().all()
    assert not y[0, :, 8:].isnan().any()  # it may fill tiles that it touches, no others


@pytest.mark.parametrize("outputs", [16, 64])
def test_the_result_does_not_depend_on_the_number_of_threads(outputs):
    x, weight = drawn(2, 48, 20, 24), drawn(outputs, 48, 3, 3)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(winograd.convolve(x, weight, None))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("count", "widths", "expected"),
    [
        (16, (32, 16), [(0, 16)]),
        (20, (32, 16), [(0, 16), (4, 16)]),
        (36, (32, 16), [(0, 32), (20, 16)]),
        (60, (32, 16), [(0, 32), (28, 32)]),
        (96, (32, 16), [(0, 32), (32, 32), (64, 32)]),
        (40, (16,), [(0, 16), (16, 16), (24, 16)]),
    ],
)
def test_columns_cover_all_results(count, widths, expected):
    assert units.columns_of(count, widths) == expected


def layer(inputs: int = 32, outputs: int = 32, size: int = 3, **settings: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, **{"padding": 1, **settings})


@pytest.mark.parametrize(
    ("convolution", "shape"),
    [
        (layer(), (1, 32, 32, 32)),
        (layer(bias=False), (1, 32, 31, 33)),
        (layer(64, 64), (1, 64, 16, 16)),
        (layer(256, 256), (4, 256, 16, 16)),
    ],
)
def test_the_rule_takes(convolution, shape):
    with torch.no_grad():
        assert winograd.convolves(convolution, torch.zeros(shape))


@pytest.mark.parametrize(
    ("convolution", "shape"),
    [
        (layer(stride=2), (1, 32, 32, 32)),
        (layer(dilation=2), (1, 32, 32, 32)),
        (layer(groups=2), (1, 32, 32, 32)),
        (layer(padding=0), (1, 32, 32, 32)),
        (layer(padding="same"), (1, 32, 32, 32)),
        (layer(padding_mode="reflect"), (1, 32, 32, 32)),
        (layer(size=1, padding=0), (1, 32, 32, 32)),
        (layer(size=5, padding=2), (1, 32, 32, 32)),
        (layer(1, 32), (1, 1, 320, 320)),  # fewer channels than fill a vector
        (layer(32, 14), (1, 32, 320, 320)),
        (layer(), (1, 32, 16, 16)),  # too little work
        (layer(256, 256), (1, 256, 12, 8)),  # too few tiles
        (layer(64, 64), (16, 64, 5, 5)),  # tiles more outside the map than in it
    ],
)
def test_the_rule_leaves_to_pytorch(convolution, shape):
    with torch.no_grad():
        assert not winograd.convolves(convolution, torch.zeros(shape))


def test_the_rule_does_not_see_how_many_images_there_are():
    """Or a slice that is segmented again by itself would get another result, in bfloat16 in a voxel here and there."""
    for inputs, size in ((256, 8), (32, 16), (64, 16), (48, 12), (16, 24)):
        with torch.no_grad():
            found = {winograd.convolves(layer(inputs, inputs), torch.zeros(n, inputs, size, size)) for n in (1, 3, 64)}
        assert len(found) == 1


def test_the_rule_leaves_other_types_and_gradients_to_pytorch():
    x, convolution = torch.zeros(1, 32, 32, 32), layer()
    assert not winograd.convolves(convolution, x)
    with torch.no_grad():
        assert winograd.convolves(convolution, x)
        assert not winograd.convolves(convolution, x.double())
        assert not winograd.convolves(convolution, x.bfloat16())
        assert not winograd.convolves(layer().double(), x.double())
        with torch.autocast("cpu", torch.float16):
            assert not winograd.convolves(convolution, x)


@pytest.mark.parametrize("multiplies", [False, True])
def test_the_rule_takes_bfloat16_under_autocast_where_vectors_of_it_are_multiplied(monkeypatch, multiplies):
    monkeypatch.setattr(winograd, "_multiplies_halves", lambda: multiplies)
    x = torch.zeros(1, 32, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert winograd.convolves(layer(), x) == multiplies
        assert winograd.convolves(layer(), x.bfloat16()) == multiplies
        assert winograd.convolves(layer(64, 32), x, x.bfloat16()) == multiplies
        assert not winograd.convolves(layer(33), torch.zeros(1, 33, 32, 32))
        assert not winograd.convolves(layer().bfloat16(), x)


def test_the_rule_counts_the_channels_of_each_map():
    x, convolution = torch.zeros(1, 32, 32, 32), layer(40, 32)
    with torch.no_grad():
        assert winograd.convolves(layer(64, 32), x, x)
        assert not winograd.convolves(convolution, x, x[:, :8])


@pytest.mark.parametrize("size", [16, 4])  # with Winograd, and without
def test_a_merging_block_is_that_of_monai(size):
    torch.manual_seed(0)
    block = UpBlock(64, 32).eval()
    x, skip = drawn(2, 64, size, size), drawn(2, 32, 2 * size, 2 * size)
    double = UpBlock(64, 32).double().eval()
    double.load_state_dict(block.state_dict())
    expected = double.conv_block(torch.cat((double.transp_conv(x.double()), skip.double()), 1))
    with torch.no_grad():
        assert winograd.convolves(block.conv_block.conv1.conv, skip, skip) == (size == 16)
        assert (block(x, skip) - expected).abs().max() < 2e-5
        with torch.autocast("cpu", torch.bfloat16):  # whether the processor multiplies it or PyTorch does
            found = block(x, skip)
    expected = expected.detach()
    assert found.dtype == torch.bfloat16
    assert relative(found - expected, expected) < 2e-2


_NARROW = """
import torch
from swin_umamba.cpu import products_simd, winograd

assert (products_simd.ROWS, products_simd.WIDTHS, products_simd.HALVES) == (6, (16,), False)
assert not winograd._multiplies_halves()
x, weight = torch.randn(1, 36, 13, 17), torch.randn(40, 36, 3, 3)
expected = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1)
print(float((winograd.convolve(x, weight, None) - expected).abs().max() / expected.abs().max()))
"""


def test_processors_without_avx_512_compute_the_same(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2] / "bundle"),
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
    }
    command = [sys.executable, "-c", _NARROW]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) <= ERROR
