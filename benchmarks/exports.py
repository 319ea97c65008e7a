"""Speed of the TorchScript and ONNX exports on the CPU beside PyTorch with our scan, in one run; prints one table.

    python benchmarks/exports.py                     # the published networks, one 320x320 slice
    python benchmarks/exports.py --networks swin_umamba_small --size 256 --threads 1

All get the same number of threads and take turns; times are medians. Ratios compare within this run alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from monai.networks.utils import convert_to_torchscript

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from swin_umamba.models import ModelSpec, build_described_network  # noqa: E402
from swin_umamba.onnx_export import INPUT, OUTPUT, export_onnx  # noqa: E402

CLASSES = 14


def main() -> None:
    """Export each network, run all, print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["swin_umamba", "swin_umamba_d"])
    parser.add_argument("--size", type=int, default=320, help="of the slice, pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.threads} threads, batch {given.batch}, {given.size} x {given.size}, float32, {CLASSES} classes")
    names = "".join(f"{name + ' s':>14}{'ratio':>8}{'differs':>9}" for name in ("TorchScript", "ONNX"))
    print(f"{'network':<20}{'PyTorch s':>10}{names}")
    for name in given.networks:
        print(measure(name, given), flush=True)


def measure(name: str, given: argparse.Namespace) -> str:
    """Return one line of the table."""
    torch.manual_seed(0)
    labels = {f"organ {number}": number for number in range(1, CLASSES)}
    spec = ModelSpec(name=name, network={"name": name, "arguments": {"in_channels": 1}}, labels=labels)
    network = build_described_network(spec).eval()
    image = torch.randn(given.batch, 1, given.size, given.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(spec, network, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = given.threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        convert_to_torchscript(network, filename_or_obj=path.with_suffix(".ts"))
        scripted = torch.jit.load(path.with_suffix(".ts"))
    runs = [
        lambda: network(image),
        lambda: scripted(image),
        lambda: torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0]),
    ]
    with torch.no_grad():
        seconds = take_turns(runs, given.repeats)
        expected = network(image)
        differences = [float((run() - expected).abs().max()) for run in runs]
    others = zip(seconds[1:], differences[1:], strict=True)
    return f"{name:<20}{seconds[0]:>10.3f}" + "".join(f"{s:>14.3f}{s / seconds[0]:>8.2f}{d:>9.1g}" for s, d in others)


def take_turns(runs: list[Callable[[], torch.Tensor]], repeats: int) -> list[float]:
    """Return the median seconds of each function, after one call to warm up, run in turns."""
    times: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats + 1):
        for run, seconds in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if repeat:
                seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


if __name__ == "__main__":
    main()
