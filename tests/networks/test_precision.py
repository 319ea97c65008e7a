"""Half precision does not change what a trained network says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from swin_umamba.networks import build_network

NETWORKS = ["swin_umamba_tiny", "swin_umamba_d_tiny"]
BRIGHTNESS = torch.tensor([0.0, 1.0, -1.0, 2.0])  # of background and three kinds of disc
CASES = [
    pytest.param("cpu", torch.bfloat16, id="cpu-bfloat16"),
    pytest.param("cuda", torch.bfloat16, id="cuda-bfloat16", marks=pytest.mark.gpu),
    pytest.param("cuda", torch.float16, id="cuda-float16", marks=pytest.mark.gpu),
]


def discs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw noisy images of discs, (count, 1, 48, 64), and their label maps, (count, 48, 64)."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    labels = torch.zeros(count, 48, 64, dtype=torch.long)
    for label in (1, 2, 3):
        top, left, radius = torch.rand(3, count, 1, 1, generator=random)
        labels[(y - 10 - 28 * top) ** 2 + (x - 10 - 44 * left) ** 2 < (5 + 4 * radius) ** 2] = label
    return (BRIGHTNESS[labels] + 0.3 * torch.randn(count, 48, 64, generator=random))[:, None], labels


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request):
    """A network that tells the discs apart."""
    torch.manual_seed(0)
    network = build_network(request.param, in_channels=1, out_channels=4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for step in range(60):
        images, labels = discs(4, step)
        optimizer.zero_grad()
        F.cross_entropy(network(images)[0], labels).backward()
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize(("device", "dtype"), CASES)
def test_logits_and_label_maps_of_a_trained_network(trained, device, dtype):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    network = trained.to(device)
    images, labels = (tensor.to(device) for tensor in discs(8, 1000))
    with torch.no_grad():
        single = network(images)
        with torch.autocast(device, dtype):
            half = network(images).float()
    assert (single.argmax(1) == labels).float().mean() > 0.9  # it has learnt something that could get lost
    assert (half - single).norm() < 0.02 * single.norm()
    assert (half.argmax(1) == single.argmax(1)).float().mean() > 0.995


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_slice_by_itself_gets_what_it_gets_among_others(trained, dtype):
    """Operators may be chosen by the shape of one image, never by the number of images: users segment slices again."""
    network, (images, _) = trained.to("cpu"), discs(8, 2000)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        together = network(images).float()
        alone = torch.cat([network(image[None]) for image in images]).float()
    assert (alone - together).norm() < 1e-3 * together.norm()
