"""Time the scan of SS2D on the four map sizes of a 320x320 network input, backend by backend.

    python benchmarks/scan.py                                      # CPU, batch 1
    python benchmarks/scan.py --device cuda --dtype bfloat16 --batch 1 16

Prints the median in ms forward, and forward with backward; state updates per second of the forward pass (one update is
one step of one state of one channel in one direction); and, under each shape, the two floors that no implementation
gets below: the exponentials, one per update, and the bytes of x, B, C, the low-rank steps and y, each moved once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))
from swin_umamba.scan import available_backends, ss2d_scan  # noqa: E402
from swin_umamba.scan.backends import why_not  # noqa: E402

SHAPES = [(80, 192), (40, 384), (20, 768), (10, 1536)]  # height = width, channels
STATES = 16


def arguments_of(batch: int, size: int, channels: int, dtype: torch.dtype, device: str) -> list[torch.Tensor]:
    """Draw a map and the weights of a fresh network; only the map takes the type asked for, as under autocast."""
    draw = torch.Generator().manual_seed(0)
    rank = channels // 32
    tensors = [
        torch.randn(batch, size, size, channels, generator=draw).to(dtype),
        (torch.randn(4, rank + 2 * STATES, channels, generator=draw) / channels**0.5).to(dtype),
        torch.randn(4, channels, rank, generator=draw) / rank**0.5,
        torch.rand(4, channels, generator=draw) * 4.6 - 6.9,  # steps of about 1e-3 to 1e-1
        torch.log(torch.arange(1.0, STATES + 1)).repeat(4 * channels, 1),
        torch.ones(4 * channels),
    ]
    return [tensor.to(device).requires_grad_() for tensor in tensors]


def median_ms(function: Callable[[], object], device: str, repeats: int, budget: float) -> float:
    """Median time of a call after two to warm up; stops when `budget` seconds are spent."""
    begun = time.perf_counter()
    function()
    function()
    times: list[float] = []
    while len(times) < repeats and (not times or time.perf_counter() - begun < budget):
        if device == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            function()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        else:
            start = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(backend: str, tensors: list[torch.Tensor], options: argparse.Namespace) -> tuple[float, float]:
    """Time forward, and forward with backward."""
    gradient = torch.randn_like(tensors[0])

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return ss2d_scan(*tensors, backend=backend)

    def both() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(ss2d_scan(*tensors, backend=backend), tensors, gradient)

    calls = [recorded(call) if options.device == "cuda" else call for call in (forward, both)]
    return tuple(median_ms(call, options.device, options.repeats, options.seconds) for call in calls)


def recorded(call: Callable[[], object]) -> Callable[[], object]:
    """Record a call as a CUDA graph, so that the GPU is timed and not Python; as it is if that fails."""
    try:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay
    except RuntimeError as error:
        print(f"not recorded: {str(error).splitlines()[0]}")
        return call


def floors(batch: int, size: int, channels: int, dtype: torch.dtype) -> tuple[int, int]:
    """Count exponentials and bytes of a forward pass."""
    pixels, width = batch * size * size, torch.finfo(dtype).bits // 8
    exponentials = pixels * 4 * channels * STATES
    return exponentials, pixels * width * (2 * channels + 4 * (channels // 32 + 2 * STATES))


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16", "float64"))
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--backends", nargs="+", default=[], choices=list(available_backends()), help="default: all able"
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0, help="most time for one figure, at least one call")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    able = [name for name in available_backends() if why_not(name, options.device, dtype) is None]
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {options.device} ({name}), {options.dtype}, {STATES} states, 4 directions")
    print(f"{'batch':>5} {'map':>12} {'backend':<10} {'fwd ms':>9} {'fwd+bwd ms':>11} {'G updates/s':>12}")
    for batch in options.batch:
        for size, channels in SHAPES:
            tensors = arguments_of(batch, size, channels, dtype, options.device)
            exponentials, moved = floors(batch, size, channels, dtype)
            shape = f"{size}x{size}x{channels}"
            for backend in options.backends or able:
                forward, both = measure(backend, tensors, options)
                rate = exponentials / forward / 1e6
                print(f"{batch:>5} {shape:>12} {backend:<10} {forward:>9.2f} {both:>11.2f} {rate:>12.2f}", flush=True)
            print(f"{'':>5} {'floors:':>12} {exponentials / 1e6:.0f} M exponentials, {moved / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
