"""Speed and memory of the networks beside their peers, all in one run; prints one table.

    python benchmarks/networks.py                                   # CPU, batch 1: a few minutes
    python benchmarks/networks.py --device cuda --dtype float16 --batch 1 16

Training is forward, cross-entropy of every output, backward and AdamW step; ours with deep supervision (four outputs),
the peers with one output. Times are medians, on a GPU by CUDA events. Memory is the peak of PyTorch's allocator on a
GPU; on a CPU it is by how much the process grew, and every measurement has a process of its own. Ratios are images per
second by those of DynUNet (the shape of a 2D nnU-Net) at the same batch.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from monai.networks.nets import UNETR, DynUNet, SegResNet, SwinUNETR
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from swin_umamba.networks import build_network, network_names  # noqa: E402
from swin_umamba.networks.graphs import GraphedNetwork, graph_training  # noqa: E402
from swin_umamba.scan import available_backends, backend_names  # noqa: E402

IN_CHANNELS, CLASSES = 1, 14
YARDSTICK = "DynUNet"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dynunet(size: int) -> nn.Module:
    """Build the plain 2D U-Net that nnU-Net plans for 320x320."""
    stages = [32, 64, 128, 256, 512, 512, 512]
    return DynUNet(2, IN_CHANNELS, CLASSES, [3] * 7, [1] + [2] * 6, [2] * 6, filters=stages)


PEERS: dict[str, Callable[[int], nn.Module]] = {
    YARDSTICK: dynunet,
    "SwinUNETR": lambda size: SwinUNETR(IN_CHANNELS, CLASSES, feature_size=48, spatial_dims=2),
    "UNETR": lambda size: UNETR(IN_CHANNELS, CLASSES, size, spatial_dims=2),
    "SegResNet": lambda size: SegResNet(2, init_filters=32, in_channels=IN_CHANNELS, out_channels=CLASSES),
}


def build(name: str, backend: str, size: int) -> nn.Module:
    """Build a network of ours with a scan backend, or a peer."""
    if name in PEERS:
        return PEERS[name](size)
    return build_network(name, in_channels=IN_CHANNELS, out_channels=CLASSES, scan_backend=backend)


def loss_of(outputs: torch.Tensor | list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every output against the target at its resolution."""
    losses = []
    for output in outputs if isinstance(outputs, (list, tuple)) else [outputs]:
        step = target.shape[-1] // output.shape[-1]
        losses.append(F.cross_entropy(output, target[:, ::step, ::step]))  # (B, H, W) -> (B, h, w)
    return torch.stack(losses).sum()


def seconds(step: Callable[[], object], device: str, iterations: int, warm_up: int) -> float:
    """Median time of `step` after `warm_up` runs."""
    for _ in range(warm_up):
        step()
    times = []
    for _ in range(iterations):
        if device == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            step()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        else:
            begun = time.perf_counter()
            step()
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def measure(name: str, backend: str, training: bool, batch: int, given: argparse.Namespace) -> dict[str, float]:
    """Return images per second, peak memory in GiB and parameters of one network at one batch."""
    torch.manual_seed(0)
    device, dtype = given.device, DTYPES[given.dtype]
    before = resident()
    network = build(name, backend, given.size).to(device).train(training)
    parameters = sum(p.numel() for p in network.parameters())
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=device == "cuda") if training else None
    run = torch.compile(network) if given.compile else network
    image = torch.randn(batch, IN_CHANNELS, given.size, given.size, device=device)
    target = torch.randint(CLASSES, (batch, given.size, given.size), device=device)
    if given.graphs:
        half = None if dtype == torch.float32 else dtype
        run = graph_training(network, image, half) if training else GraphedNetwork(network).eval()

    def step() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32), torch.set_grad_enabled(training):
            outputs = run(image)
            loss = loss_of(outputs, target) if training else None
        if optimiser is not None:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    taken = seconds(step, device, given.iterations, given.warm_up)
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else resident(peak=True) - before
    return {"speed": batch / taken, "memory": memory / 2**30, "parameters": parameters}


def resident(peak: bool = False) -> int:
    """Bytes of main memory that this process holds, or the most that it held."""
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure_apart(*arguments: object) -> dict[str, float] | str:
    """Measure in a fresh process on a CPU, here on a GPU; an error becomes its first line."""
    try:
        if arguments[-1].device == "cuda":
            return measure(*arguments)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(measure, arguments)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"


def runs(given: argparse.Namespace) -> list[tuple[str, str]]:
    """List networks with backends; those that cannot run here are told and left out."""
    status, pairs = available_backends(), []
    for name in given.networks:
        if name in PEERS:
            pairs.append((name, "-"))
            continue
        for backend in given.backends:
            if backend == "auto" or status[backend].available:
                pairs.append((name, backend))
            else:
                print(f"{name} without {backend}: {status[backend].reason}")
    return sorted(pairs, key=lambda pair: pair[0] != YARDSTICK)


def report(mode: str, batch: int, given: argparse.Namespace) -> None:
    """Measure every network in one mode at one batch and print a line for each."""
    yardstick = None
    for name, backend in runs(given):
        found = measure_apart(name, backend, mode == "training", batch, given)
        label = f"{name:20}{backend:11}{mode:11}{batch:5}"
        if isinstance(found, str):
            print(f"{label}  {found}", flush=True)
            continue
        yardstick = found["speed"] if name == YARDSTICK else yardstick
        ratio = f"{found['speed'] / yardstick:10.3f}" if yardstick else f"{'':10}"
        millions = found["parameters"] / 1e6
        print(f"{label}{found['speed']:11.2f}{ratio}{found['memory']:9.2f}{millions:13.1f}", flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*PEERS, *network_names()]
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of autocast; float32: none")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--size", type=int, default=320, help="side of the square images, a multiple of 64")
    parser.add_argument("--networks", nargs="+", choices=names, default=[*PEERS, "swin_umamba", "swin_umamba_d"])
    parser.add_argument("--backends", nargs="+", choices=backend_names(), default=["auto"])
    parser.add_argument("--modes", nargs="+", choices=["training", "inference"], default=["training", "inference"])
    parser.add_argument("--iterations", type=int, help="default: 3 on a CPU, 20 on a GPU")
    parser.add_argument("--warm-up", type=int, help="default: 1 on a CPU, 5 on a GPU")
    parser.add_argument("--graphs", action="store_true", help="replay the networks as CUDA graphs, peers too")
    parser.add_argument(
        "--tune", action="store_true", help="let cuDNN try its convolutions, as train.yaml's cudnn_benchmark"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile every network")
    given = parser.parse_args()
    given.iterations = given.iterations or (20 if given.device == "cuda" else 3)
    given.warm_up = given.warm_up if given.warm_up is not None else (5 if given.device == "cuda" else 1)
    return given


def main() -> None:
    """Run the command line."""
    given = arguments()
    torch.backends.cudnn.benchmark = given.tune
    where = torch.cuda.get_device_name() if given.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}; torch {torch.__version__}; {given.dtype}; {given.size}x{given.size}; {CLASSES} classes")
    label = f"{'network':20}{'backend':11}{'mode':11}{'batch':>5}"
    print(f"{label}{'images/s':>11}{'ratio':>10}{'GiB':>9}{'parameters/M':>13}", flush=True)
    for batch in given.batch:
        for mode in given.modes:
            report(mode, batch, given)


if __name__ == "__main__":
    main()
