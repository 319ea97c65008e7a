"""Recorded networks give what the networks give."""

from __future__ import annotations

import pytest
import torch
from swin_umamba.networks import build_network
from swin_umamba.networks.graphs import GraphedNetwork, graph_training


def small(**arguments):
    torch.manual_seed(0)
    return build_network("swin_umamba_d_tiny", in_channels=1, out_channels=3, drop_path_rate=0.0, **arguments)


def test_on_a_cpu_calls_go_to_the_network():
    network = small().eval()
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(GraphedNetwork(network).eval()(x), network(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU")
@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_replays_of_many_shapes(half):
    network = small().eval().cuda()
    graphed = GraphedNetwork(network, most=2).eval()
    with torch.no_grad(), torch.autocast("cuda", half, enabled=half is not None):
        for size in (32, 64, 96, 32, 64):
            x = torch.randn(2, 1, size, 64, device="cuda")
            first, expected = graphed(x), network(x)
            torch.testing.assert_close(first, expected, rtol=0, atol=2e-2 if half else 1e-4)
            kept = first.clone()
            graphed(x + 1)
            assert torch.equal(first, kept), "a result must not change with the next call"
    assert len(graphed._graphs) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU")
def test_recorded_training_gives_the_same_gradients():
    network, twin = small().cuda(), small().cuda()
    run = graph_training(network, torch.randn(2, 1, 64, 64, device="cuda"))
    network.zero_grad()
    x = torch.randn(2, 1, 64, 64, device="cuda")
    for function in (run, twin):
        sum(output.square().mean() for output in function(x)).backward()
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-4)
