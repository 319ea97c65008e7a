"""Milliseconds of Swin-UMamba's 3x3 convolutions on a CPU, PyTorch's beside Winograd's, in turns.

    OMP_NUM_THREADS=1 python benchmarks/convolutions.py
    OMP_NUM_THREADS=1 python benchmarks/convolutions.py --dtype bfloat16
    python benchmarks/convolutions.py --shapes 36,36,128 288,288,16

A shape is channels in, channels out, side of the map; by default those of Swin-UMamba at 320x320. The least of several
repetitions counts; with one thread it is processor time, which says more on a machine that others use, else the clock.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from swin_umamba.cpu import winograd  # noqa: E402

EMBED_DIM, SIZE = 96, 320


def of_the_network() -> list[tuple[int, int, int]]:
    """List each shape once, finest map first."""
    shapes = []
    for level in range(5):
        width, side = EMBED_DIM // 2 << level, SIZE >> level
        narrower = [] if level == 0 else [(width // 2, width, side)]
        shapes += [*narrower, (width, width, side), (2 * width, width, side)]
    return shapes


def measure(shape: tuple[int, int, int], dtype: torch.dtype, repeats: int) -> tuple[float, float, float]:
    """Return seconds of PyTorch's convolution, of Winograd's, and the largest difference of their results."""
    inputs, outputs, side = shape
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    x = torch.randn(1, inputs, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    plain = fast = float("inf")
    for _ in range(repeats):
        begun = clock()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            expected = layer(x)
        between = clock()
        y = winograd.convolve(x, layer.weight, None)
        plain, fast = min(plain, between - begun), min(fast, clock() - between)
    return plain, fast, float((y - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", help="channels in, channels out, side of the map, at least 16,16,1")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=6)
    given = parser.parse_args()
    shapes = [tuple(map(int, text.split(","))) for text in given.shapes] if given.shapes else of_the_network()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.dtype}, milliseconds")
    print(f"{'in':>6}{'out':>6}{'side':>6}{'GMAC':>8}{'PyTorch':>10}{'Winograd':>10}{'gain':>7}{'difference':>12}")
    for inputs, outputs, side in shapes:
        plain, fast, difference = measure((inputs, outputs, side), getattr(torch, given.dtype), given.repeats)
        work = 9 * inputs * outputs * side**2 / 1e9
        print(f"{inputs:6}{outputs:6}{side:6}{work:8.2f}{plain * 1e3:10.2f}{fast * 1e3:10.2f}{plain / fast:7.2f}"
              f"{difference:12.1e}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
