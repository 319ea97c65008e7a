"""Both networks: sizes in and out, heads, batches, and arguments that are refused."""

from __future__ import annotations

import math

import pytest
import torch
from swin_umamba.errors import InputError
from swin_umamba.networks import SwinUMamba, SwinUMambaD, build_network

TINY = ["swin_umamba_tiny", "swin_umamba_d_tiny"]
SCALES = {"swin_umamba_tiny": [1, 2, 4, 8], "swin_umamba_d_tiny": [1, 4, 8, 16]}
SIZES = [(64, 32), (32, 96), (33, 47), (50, 31), (1, 1), (1, 40), (2, 3)]


def tiny(name, in_channels=1, out_channels=3, **arguments):
    torch.manual_seed(0)
    return build_network(name, in_channels=in_channels, out_channels=out_channels, **arguments)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_any_size_comes_back(name, size):
    network = tiny(name)
    x = torch.randn(2, 1, *size)
    outputs = network(x)
    expected = [(2, 3, math.ceil(size[0] / s), math.ceil(size[1] / s)) for s in SCALES[name]]
    assert [tuple(output.shape) for output in outputs] == expected
    assert network.scales == SCALES[name]
    sum(output.mean() for output in outputs).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    with torch.no_grad():
        assert network.eval()(x).shape == (2, 3, *size)


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_padding_repeats_the_border(name):
    network = tiny(name).eval()
    x = torch.randn(1, 1, 37, 52)
    rows, columns = torch.arange(64).clamp(max=36), torch.arange(64).clamp(max=51)
    expected = network(x[:, :, rows][:, :, :, columns])[:, :, :37, :52]
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 1), (3, 8), (4, 2)])
@torch.no_grad()
def test_channels_and_classes(name, in_channels, out_channels):
    outputs = tiny(name, in_channels, out_channels)(torch.randn(1, in_channels, 32, 32))
    assert {output.shape[1] for output in outputs} == {out_channels}


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_samples_of_a_batch_do_not_mix(name):
    network = tiny(name).eval()
    x = torch.randn(3, 1, 64, 32)
    alone = torch.cat([network(sample[None]) for sample in x])
    torch.testing.assert_close(network(x), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_evaluation_gives_the_first_head_of_training(name):
    network = tiny(name)
    x = torch.randn(1, 1, 40, 64)
    trained = network(x)
    assert isinstance(trained, list)
    assert torch.equal(network.eval()(x), trained[0])
    alone = tiny(name, deep_supervision=False)
    assert torch.equal(alone(x), trained[0])
    assert list(alone.state_dict()) == list(network.state_dict())


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_rows_are_not_columns(name):
    network = tiny(name).eval()
    x = torch.randn(1, 1, 64, 32)
    turned = network(x.transpose(2, 3)).transpose(2, 3)
    assert (network(x) - turned).abs().max() > 1e-3


def rates(blocks):
    return [block.drop_path.drop_prob for stage in blocks for block in stage.blocks]


def test_drop_path_rates():
    ours = SwinUMambaD(1, 2, embed_dim=16)
    assert rates(ours.vssm_encoder.layers) == pytest.approx([0.2 * i / 14 for i in range(15)])
    assert rates(ours.decoder.stages) == pytest.approx([0.2, 0.16, 0.12, 0.08, 0.04, 0])
    assert rates(SwinUMamba(1, 2, embed_dim=16).vssm_encoder.layers) == pytest.approx([0.2 * i / 14 for i in range(15)])
    assert set(rates(SwinUMamba(1, 2, embed_dim=16, drop_path_rate=0).vssm_encoder.layers)) == {0}


REFUSED = [
    ({"in_channels": 0}, "in_channels must be an integer of at least 1, not 0"),
    ({"out_channels": 2.0}, "out_channels must be an integer of at least 1, not 2.0"),
    ({"out_channels": True}, "out_channels must be an integer"),
    ({"embed_dim": 0}, "embed_dim must be an integer"),
    ({"depths": (2, 2, 9)}, "depths must be 4 integers"),
    ({"depths": (2, 2, 0, 2)}, "depths must be 4 integers"),
    ({"depths": "2292"}, "depths must be 4 integers"),
    ({"drop_path_rate": 1}, "drop_path_rate must be a number from 0 up to, not including, 1, not 1"),
    ({"drop_path_rate": -0.1}, "drop_path_rate must be"),
    ({"scan_backend": "gpu"}, "scan_backend must be one of auto, .*reference.*not 'gpu'"),
]


@pytest.mark.parametrize("network", [SwinUMamba, SwinUMambaD])
@pytest.mark.parametrize(("wrong", "message"), REFUSED, ids=[str(wrong) for wrong, _ in REFUSED])
def test_arguments_out_of_range_are_refused(network, wrong, message):
    with pytest.raises(InputError, match=message):
        network(**{"in_channels": 1, "out_channels": 2, "embed_dim": 16, "depths": (1, 1, 1, 1), **wrong})


def test_arguments_of_one_network_only():
    with pytest.raises(InputError, match="embed_dim must be an integer, a multiple of 2, of at least 2, not 15"):
        SwinUMamba(1, 2, embed_dim=15)
    with pytest.raises(InputError, match="decoder_depth must be an integer of at least 1, not 0"):
        SwinUMambaD(1, 2, embed_dim=16, decoder_depth=0)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("shape", [(1, 2, 32, 32), (1, 32, 32), (1, 1, 8, 8, 8), (1, 1, 0, 8)])
def test_images_of_another_shape_are_refused(name, shape):
    with pytest.raises(InputError, match=r"takes images of shape \(batch, 1, H, W\), not"):
        tiny(name)(torch.zeros(shape))
