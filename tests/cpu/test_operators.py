"""The compiled operators for inference on a CPU against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from swin_umamba import cpu
from swin_umamba.cuda import plain_conv_silu, plain_instance_norm, plain_layer_norm

pytest.importorskip("numba", reason="compiled by Numba")
TYPES = [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def assert_near(y: torch.Tensor, plain: torch.Tensor, dtype: torch.dtype, tolerance: float) -> None:
    assert y.dtype == dtype
    assert (y.float() - plain).abs().max() <= tolerance * plain.abs().max()


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
@pytest.mark.parametrize("channels", [16, 32, 36, 72, 96, 127])
def test_layer_norm_with_and_without_gate(channels, dtype, tolerance):
    both = drawn(2, 3, 5, 2 * channels).to(dtype) + 2
    x, gate = both.chunk(2, dim=-1)  # as the projection of a block leaves them
    weight, bias = drawn(channels), drawn(channels) + 1
    with torch.no_grad():
        for given in (None, gate):
            plain = plain_layer_norm(x.float(), weight, bias, 1e-5, None if given is None else given.float())
            assert_near(cpu.layer_norm(x, weight, bias, 1e-5, given), plain, dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (5, 4)])
@pytest.mark.parametrize("channels", [32, 36, 64, 72])
def test_convolution_with_activation(channels, size, dtype, tolerance):
    x = drawn(2, *size, 2 * channels).to(dtype)[..., :channels]
    weight, bias = drawn(channels, 1, 3, 3), drawn(channels)
    with torch.no_grad():
        assert_near(cpu.conv_silu(x, weight, bias), plain_conv_silu(x.float(), weight, bias), dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
@pytest.mark.parametrize("channels", [16, 18, 36, 48, 64])
def test_instance_norm_with_sum_and_activation(channels, dtype, tolerance):
    x, other = (drawn(2, channels, 4, 8 + i)[..., :8].to(dtype) + 3 for i in range(2))
    weight, bias = drawn(channels), drawn(channels)
    with torch.no_grad():
        for rest in ((), (other, False), (other, True)):
            plain = plain_instance_norm(
                x.float(), weight, bias, 1e-5, 0.01, *(r.float() if r is other else r for r in rest)
            )
            assert_near(cpu.instance_norm(x, weight, bias, 1e-5, 0.01, *rest), plain, dtype, 4 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
@torch.no_grad()
def test_a_norm_may_take_the_memory_of_its_input(dtype, tolerance):
    weight, bias = drawn(64), drawn(64)
    pixels = drawn(2, 5, 6, 64).to(dtype)
    maps, rest = pixels.permute(0, 3, 1, 2), (weight, bias, 1e-5, 0.01)
    for norm, x, given in ((cpu.layer_norm, pixels, rest[:3]), (cpu.instance_norm, maps, rest)):
        fresh, kept = norm(x, *given), x.clone()
        assert torch.equal(x, kept)
        result = norm(x, *given, overwrite=True)
        assert torch.equal(result, fresh)
        assert result.data_ptr() == x.data_ptr()
        x.copy_(kept)


@torch.no_grad()
def test_a_norm_overwrites_nothing_that_its_result_does_not_fit():
    weight, bias = drawn(64), drawn(64)
    x, wider, odd = drawn(4, 64), drawn(4, 128), drawn(4, 36)
    kept = x.clone(), wider.clone()
    with torch.autocast("cpu", torch.bfloat16):
        cpu.layer_norm(x, weight, bias, 1e-5, overwrite=True)
    cpu.layer_norm(wider[:, :64], weight, bias, 1e-5, overwrite=True)
    plain = plain_layer_norm(odd, weight[:36], bias[:36], 1e-5)
    assert_near(cpu.layer_norm(odd, weight[:36], bias[:36], 1e-5, overwrite=True), plain, torch.float32, 2e-6)
    assert torch.equal(x, kept[0])
    assert torch.equal(wider, kept[1])


def test_gradients_stay_with_pytorch():
    assert not cpu.takes(torch.zeros(1))
    with torch.no_grad():
        assert cpu.takes(torch.zeros(1))
        assert not cpu.takes(torch.zeros(1, dtype=torch.float64))
