"""The published FLOPs: 68.0 G and 18.9 G at 320x320."""

from __future__ import annotations

import pytest
import torch
from swin_umamba.networks import build_network
from swin_umamba.networks.flops import count_flops, projection_flops, scan_flops

# G operations; conv, einsum (here: projection) and the rest as counted on the official code
EXPECTED = {
    "swin_umamba": {"total": 67.9975836, "conv": 56.3324928, "linear": 5.6623104, "projection": 1.74975},
    "swin_umamba_d": {"total": 18.914, "scan": 6.414},
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_published_flops(name):
    pytest.importorskip("fvcore", reason="fvcore is a development dependency")
    network = build_network(name, in_channels=1, out_channels=14)
    flops = count_flops(network, torch.zeros(1, 1, 320, 320))
    for kind, expected in EXPECTED[name].items():
        assert flops[kind] / 1e9 == pytest.approx(expected, abs=6e-4), kind
    assert sum(value for kind, value in flops.items() if kind != "total") == flops["total"]


def test_scan_formula_by_hand():
    assert scan_flops(2, 10, 3, 16) == 9 * 2 * 10 * 12 * 16 + 2 * 10 * 12
    # the first stage at 320x320: 4 directions x 6400 pixels x 192 channels x (38 + 6)
    assert projection_flops(1, 6400, 192, 16, 6) == 216_268_800
