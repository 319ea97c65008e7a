"""What the networks start from, by statistics over all tensors of a kind."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from swin_umamba.networks import SwinUMamba, SwinUMambaD
from swin_umamba.networks.vss import SS2D
from torch import nn


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    arguments = {"embed_dim": 64, "depths": (2, 2, 2, 2)}
    return {"cnn": SwinUMamba(1, 14, **arguments), "vss": SwinUMambaD(1, 14, **arguments)}


def layers(module, kind):
    return [layer for layer in module.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize("which", ["cnn", "vss"])
def test_scan_parameters(networks, which):
    scans = layers(networks[which], SS2D)
    assert len(scans) == (8 if which == "cnn" else 14)
    for scan in scans:
        expected = torch.arange(1, 17).log().expand(scan.A_logs.shape)
        torch.testing.assert_close(scan.A_logs.detach(), expected)
        assert (scan.Ds == 1).all()
        dt = F.softplus(scan.dt_projs_bias.detach())
        assert 1e-3 * 0.999 <= dt.min()
        assert dt.max() <= 1e-1 * 1.001
        for weight, fan_in in ((scan.dt_projs_weight, scan.dt_projs_weight.shape[2]), (scan.x_proj_weight, None)):
            bound = (fan_in or weight.shape[2]) ** -0.5
            assert weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    log_dt = torch.cat([F.softplus(scan.dt_projs_bias.detach()).log().flatten() for scan in scans])
    middle, spread = (math.log(1e-3) + math.log(1e-1)) / 2, (math.log(1e-1) - math.log(1e-3)) / math.sqrt(12)
    assert log_dt.mean().item() == pytest.approx(middle, abs=0.05)
    assert log_dt.std().item() == pytest.approx(spread, rel=0.03)


@pytest.mark.parametrize("which", ["cnn", "vss"])
def test_linears_of_the_encoder_are_truncated_normal(networks, which):
    for layer in layers(networks[which].vssm_encoder, nn.Linear):
        assert layer.bias is None
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert abs(layer.weight.mean().item()) < 1e-3


@pytest.mark.parametrize("which", ["cnn", "vss"])
def test_norms_start_as_identity(networks, which):
    norms = layers(networks[which], (nn.LayerNorm, nn.InstanceNorm2d))
    assert norms
    for norm in norms:
        assert norm.eps == 1e-5
        if norm.weight is not None:
            assert (norm.weight == 1).all()
            assert (norm.bias == 0).all()


def test_linears_of_the_vss_decoder_keep_torch_defaults(networks):
    for layer in layers(networks["vss"].decoder, nn.Linear):
        bound = layer.in_features**-0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_convolutions_of_the_cnn_network_keep_torch_defaults(networks):
    for layer in layers(networks["cnn"], (nn.Conv2d, nn.ConvTranspose2d)):
        fan_in = layer.weight[0].numel()
        assert layer.weight.abs().max() <= fan_in**-0.5
        assert layer.weight.std().item() == pytest.approx(fan_in**-0.5 / math.sqrt(3), rel=0.15)
        assert layer.bias is None or layer.bias.abs().max() > 0


def test_convolutions_of_the_vss_network_are_he_normal(networks):
    convolutions = layers(networks["vss"], nn.Conv2d)
    assert len(convolutions) == 1 + 14 + 4
    for layer in convolutions:
        expected = math.sqrt(2 / (1 + 0.01**2) / layer.weight[0].numel())
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.15)
        assert layer.weight.abs().max() > 2 * expected  # a normal, not a uniform, distribution
        assert (layer.bias == 0).all()
