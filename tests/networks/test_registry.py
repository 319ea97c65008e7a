"""Networks by name."""

from __future__ import annotations

import pytest
from swin_umamba.errors import InputError
from swin_umamba.networks import NETWORKS, SwinUMamba, SwinUMambaD, build_network, network_names


def test_every_name_builds_and_the_small_ones_are_small():
    for name in (name for name in network_names() if name.startswith("swin_umamba")):
        network = build_network(name, in_channels=1, out_channels=5)
        assert isinstance(network, SwinUMambaD if "_d" in name else SwinUMamba)
        if "small" in name:
            assert sum(p.numel() for p in network.parameters()) < 8e6
        if "tiny" in name:
            assert sum(p.numel() for p in network.parameters()) < 2e6


def test_arguments_replace_the_variants_own():
    network = build_network("swin_umamba_d_tiny", in_channels=2, out_channels=5, embed_dim=32, deep_supervision=False)
    assert network.vssm_encoder.patch_embed.proj.weight.shape == (32, 2, 4, 4)
    assert not network.deep_supervision
    assert NETWORKS["swin_umamba_d_tiny"].sizes["embed_dim"] == 16


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("swin_umambad", {}, r"unknown network 'swin_umambad' \(did you mean swin_umamba_d\?\); .*swin_umamba_small"),
        (None, {}, "unknown network None; the networks are swin_umamba, swin_umamba_d"),
        ("swin_umamba", {"in_channels": 1, "classes": 3}, "no argument 'classes'; it takes in_channels, out_channels"),
        ("swin_umamba", {"in_channels": 1, "out_channels": 3, "decoder_depth": 2}, "no argument 'decoder_depth'"),
        ("swin_umamba_d", {}, "needs in_channels and out_channels"),
    ],
)
def test_unknown_names_and_arguments_are_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        build_network(name, **arguments)
