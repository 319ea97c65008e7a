"""Blocks against plain loops over their definitions; heights and widths differ so that swapping them shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from swin_umamba.networks.vss import (
    SS2D,
    DropPath,
    FinalPatchExpand,
    PatchExpand,
    PatchMerging,
    VSSBlock,
    VSSMEncoder,
    depth_to_space,
    dt_rank,
)
from torch import nn


def order_of(direction: int, height: int, width: int) -> list[tuple[int, int]]:
    """Pixels (row, column) in the order in which a direction reads them."""
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    return [rows, columns, rows[::-1], columns[::-1]][direction]


def scan_by_definition(module: SS2D, x: torch.Tensor) -> torch.Tensor:
    """The recurrence pixel by pixel; x is (B, H, W, D)."""
    batch, height, width, channels = x.shape
    rank, rates = module.dt_projs_weight.shape[2], -torch.exp(module.A_logs).view(4, channels, 16)
    y = torch.zeros_like(x)
    for k in range(4):
        state = x.new_zeros(batch, channels, 16)
        for i, j in order_of(k, height, width):
            u = x[:, i, j]
            low, b, c = (u @ module.x_proj_weight[k].T).split([rank, 16, 16], dim=-1)
            step = F.softplus(low @ module.dt_projs_weight[k].T + module.dt_projs_bias[k])
            state = torch.exp(step[..., None] * rates[k]) * state + (step * u)[..., None] * b[:, None]
            y[:, i, j] += (state * c[:, None]).sum(-1) + module.Ds.view(4, channels)[k] * u
    return y


@torch.no_grad()
def test_ss2d_of_a_wide_map_follows_the_definition():
    torch.manual_seed(0)
    module = SS2D(20, scan_backend="reference").double()
    nn.init.normal_(module.Ds)
    x = torch.randn(2, 3, 5, 20, dtype=torch.float64)
    inside, gate = F.linear(x, module.in_proj.weight).split(40, dim=-1)
    conv = module.conv2d
    inside = F.silu(F.conv2d(inside.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=1, groups=40))
    y = scan_by_definition(module, inside.permute(0, 2, 3, 1))
    y = F.layer_norm(y, [40], eps=1e-5) * gate * torch.sigmoid(gate)
    torch.testing.assert_close(module(x), F.linear(y, module.out_proj.weight), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "rank"), [(96, 6), (192, 12), (384, 24), (768, 48), (20, 2), (8, 1)])
def test_rank_of_the_step_is_a_sixteenth_rounded_up(channels, rank):
    assert dt_rank(channels) == rank


@torch.no_grad()
def test_patch_merging_takes_the_row_before_the_column():
    merging = PatchMerging(3)
    x = torch.randn(2, 4, 6, 3)
    parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    expected = merging.reduction(merging.norm(torch.cat(parts, dim=-1)))
    assert expected.shape == (2, 2, 3, 6)
    assert torch.equal(merging(x), expected)


def test_depth_to_space_spreads_rows_then_columns():
    x = np.arange(2 * 3 * 12).reshape(1, 2, 3, 12)
    y = depth_to_space(torch.from_numpy(x), 2).numpy()
    assert y.shape == (1, 4, 6, 3)
    for i, j, row, column in np.ndindex(2, 3, 2, 2):
        first = 3 * (2 * row + column)
        assert (y[0, 2 * i + row, 2 * j + column] == x[0, i, j, first : first + 3]).all()


@pytest.mark.parametrize(
    ("layer", "shape"), [(PatchExpand(8), (1, 6, 10, 4)), (FinalPatchExpand(8), (1, 12, 20, 8))], ids=["x2", "x4"]
)
@torch.no_grad()
def test_expansion_ends_in_a_norm_over_channels(layer, shape):
    y = layer(torch.randn(1, 3, 5, 8))
    assert y.shape == shape
    torch.testing.assert_close(y.mean(-1), torch.zeros(shape[:3]), rtol=0, atol=1e-5)


@torch.no_grad()
def test_block_adds_to_its_input():
    block = VSSBlock(16, scan_backend="reference")
    x = torch.randn(1, 2, 3, 16)
    torch.testing.assert_close(block(x), x + block.self_attention(block.ln_1(x)))
    nn.init.zeros_(block.self_attention.out_proj.weight)
    assert torch.equal(block(x), x)


def test_drop_path_zeroes_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    y = drop(torch.ones(4000, 2, 3))
    samples = y.flatten(1)
    assert torch.equal(samples.amin(1), samples.amax(1))
    assert sorted(samples[:, 0].unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    assert y.mean() == pytest.approx(1, abs=0.03)
    assert torch.equal(drop.eval()(torch.ones(4, 1)), torch.ones(4, 1))


@torch.no_grad()
def test_encoder_returns_one_map_per_stage():
    encoder = VSSMEncoder(
        3, embed_dim=8, patch_size=2, depths=(1, 1, 2, 1), drop_path_rate=0.3, scan_backend="reference"
    )
    maps = encoder(torch.randn(2, 3, 32, 64))
    assert [tuple(x.shape) for x in maps] == [(2, 16, 32, 8), (2, 8, 16, 16), (2, 4, 8, 32), (2, 2, 4, 64)]
