"""Pretrain a network on the slices of a data list without their labels, by filling in what was hidden.

    python benchmarks/self_supervised.py --datalist chaos.json --overlay configs/chaos_mri.yaml --output start.pt
    python -m monai.bundle run training … --checkpoint start.pt

Draws and augments slices of the training section as the overlay's training does, hides squares of 16 pixels with zeros,
and lets the first output channel of every head predict the whole slice; the loss is the mean absolute error where it
was hidden, weighted over the heads as in training (masked image modelling, after SimMIM, arXiv 2111.09886). Writes
weights that training goes on from. Whether that pays is in docs/results.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bundle"))

from swin_umamba.networks.graphs import graph_training  # noqa: E402

SQUARE = 16  # pixels
HEADS = (4 / 7, 2 / 7, 1 / 7)  # weights of the outputs, the finest first, as in training


def hide(image: Tensor, share: float) -> Tensor:
    """Return (B, 1, x, y), 1 where a slice is hidden: each square by chance."""
    sides = [-(-side // SQUARE) for side in image.shape[2:]]
    squares = (torch.rand(len(image), 1, *sides, device=image.device) < share).float()
    return F.interpolate(squares, scale_factor=SQUARE)[..., : image.shape[2], : image.shape[3]]


def loss_of(outputs: list[Tensor], image: Tensor, hidden: Tensor) -> Tensor:
    """Mean absolute error of the first channel of each output where the slices are hidden."""
    total = image.new_zeros(())
    for weight, output in zip(HEADS, outputs, strict=False):
        small, where = (F.avg_pool2d(x, image.shape[-1] // output.shape[-1]) for x in (image, hidden))
        where = (where > 0.5).float()
        total = total + weight * ((output[:, :1] - small).abs() * where).sum() / where.sum().clamp(min=1)
    return total


def main() -> None:
    """Pretrain, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datalist", required=True)
    parser.add_argument("--overlay", type=Path, nargs="*", default=[ROOT / "configs" / "chaos_mri.yaml"])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--share", type=float, default=0.6, help="of a slice that is hidden")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    config = ConfigParser()
    config.read_config([str(ROOT / "bundle/configs/train.yaml"), *map(str, given.overlay)])
    config.update({"bundle_root": str(ROOT / "bundle"), "datalist": given.datalist, "device_name": given.device})
    config.update({"seed": given.seed, "iterations_per_epoch": given.steps, "checkpoint": None})
    torch.manual_seed(given.seed)
    device = torch.device(config.get_parsed_content("device"))
    half = config.get_parsed_content("amp_dtype")
    network, rate = config.get_parsed_content("network").train(), config.get_parsed_content("learning_rate")
    batches = iter(config.get_parsed_content("train#dataloader"))
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05, eps=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given.steps)
    run = network
    if device.type == "cuda":
        run = graph_training(network, next(batches)["image"].contiguous(), half)
    for step in range(given.steps):
        image = next(batches)["image"]
        hidden = hide(image, given.share)
        with torch.autocast(device.type, half, enabled=half is not None):
            outputs = run((image * (1 - hidden)).contiguous())
        loss = loss_of([output.float() for output in outputs], image, hidden)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step + 1 == given.steps:
            print(f"step {step + 1}/{given.steps}: loss {float(loss.detach()):.4f}", flush=True)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), given.output)
    print(f"weights: {given.output}")


if __name__ == "__main__":
    main()
