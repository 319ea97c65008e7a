"""Training: half precision, activation checkpointing, drop path, a few steps that learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from swin_umamba.networks import build_network

TINY = ["swin_umamba_tiny", "swin_umamba_d_tiny"]


def batch():
    torch.manual_seed(1)
    image = torch.randn(2, 1, 64, 32)
    return image, (image[:, 0] > 0).long()


def gradients(network):
    image, target = batch()
    torch.manual_seed(2)
    outputs = network(image)
    loss = F.cross_entropy(outputs[0], target) + sum(output.square().mean() for output in outputs[1:])
    loss.backward()
    return {name: p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize("name", TINY)
def test_activation_checkpointing_gives_the_same_gradients(name):
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = build_network(
            name, in_channels=1, out_channels=2, drop_path_rate=0.3, activation_checkpointing=checkpointing
        )
        found.append(gradients(network))
    assert list(found[0]) == list(found[1])
    for key, gradient in found[0].items():
        assert torch.equal(gradient, found[1][key]), key


@pytest.mark.parametrize("name", TINY)
def test_drop_path_is_random_in_training_only(name):
    network = build_network(name, in_channels=1, out_channels=2, drop_path_rate=0.5)
    image, _ = batch()
    with torch.no_grad():
        torch.manual_seed(0)
        first = network(image)[0]
        assert not torch.equal(first, network(image)[0])
        network.eval()
        assert torch.equal(network(image), network(image))


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_few_steps_learn(name, dtype):
    torch.manual_seed(0)
    network = build_network(name, in_channels=1, out_channels=2)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    image, target = batch()
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            outputs = network(image)
        losses.append(F.cross_entropy(outputs[0].float(), target))
        losses[-1].backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())
        optimiser.step()
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.gpu
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_precision_on_a_gpu_is_near_single(name, dtype):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    torch.manual_seed(0)
    network = build_network(name, in_channels=1, out_channels=2).cuda()
    image = batch()[0].cuda()
    with torch.autocast("cuda", dtype):
        outputs = network(image)
    sum(output.float().square().mean() for output in outputs).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    single = network(image)[0]
    assert (outputs[0].float() - single).abs().max() < 0.05 * single.abs().max()
