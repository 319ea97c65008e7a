"""How much faster several GPUs train than one: images per second of a training step, by torchrun.

    python benchmarks/processes.py --batch 16                                    # one GPU
    torchrun --nproc_per_node=2 benchmarks/processes.py --batch 32               # two, each with half of the batch

A step is what train.yaml does with batches that are there: forward and backward pass replayed from a CUDA graph (unless
--no-graphs), Dice and cross-entropy of the whole batch, gradients averaged over the processes, clipping, AdamW. Prints
the median step of the slowest process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from swin_umamba.devices import choose_device  # noqa: E402
from swin_umamba.distributed import (  # noqa: E402
    GradientAveraging,
    finish_exchanges,
    is_rank_zero,
    join_processes,
    leave_processes,
    same_start,
    share_of,
    world_size,
)
from swin_umamba.losses import DeepSupervisionLoss, PartialDiceCELoss  # noqa: E402
from swin_umamba.networks import build_network, network_names  # noqa: E402
from swin_umamba.networks.graphs import graph_training  # noqa: E402

CLASSES = 14


def measure(name: str, batch: int, device: torch.device, given: argparse.Namespace) -> float:
    """Return the seconds of a step of the whole batch."""
    torch.manual_seed(0)
    own, half = share_of(batch), torch.bfloat16 if device.type == "cuda" else None
    network = same_start(build_network(name, in_channels=1, out_channels=CLASSES).to(device).train())
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=device.type == "cuda")
    image = torch.randn(own, 1, given.size, given.size, device=device)
    target = {"label": torch.randint(CLASSES, (own, 1, given.size, given.size), device=device).float()}
    loss_of, average, run = DeepSupervisionLoss(PartialDiceCELoss()), GradientAveraging(network), network
    if device.type == "cuda" and not given.no_graphs:
        finish_exchanges()
        run = graph_training(network, image, half)

    def step() -> None:
        with torch.autocast(device.type, half, enabled=half is not None):
            loss = loss_of(run(image), target)
        optimizer.zero_grad()
        loss.backward()
        if world_size() > 1:
            average()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()

    times = []
    for _ in range(given.warm_up + given.iterations):
        begun = time.perf_counter()
        for _ in range(given.log_interval):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begun) / given.log_interval)
    slowest = torch.tensor(statistics.median(times[given.warm_up :]), device=device)
    if world_size() > 1:
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
    return float(slowest)


def main() -> None:
    """Measure each network at each batch and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=network_names(), default=["swin_umamba", "swin_umamba_d"])
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 32], help="of all processes together")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-graphs", action="store_true")
    parser.add_argument(
        "--log-interval", type=int, default=1, help="steps between two waits for the GPU, as in training"
    )
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=5)
    given = parser.parse_args()
    several = "LOCAL_RANK" in os.environ
    device = join_processes(given.device) if several else choose_device(given.device)
    torch.backends.cudnn.benchmark = True
    for name in given.networks:
        for batch in given.batch:
            taken = measure(name, batch, torch.device(device), given)
            if is_rank_zero():
                rate = f"{batch / taken:8.1f} images/s  {1e3 * taken:8.2f} ms a step"
                print(f"{name:16} {world_size()} process(es)  batch {batch:4}  {rate}", flush=True)
    if several:
        leave_processes()


if __name__ == "__main__":
    main()
