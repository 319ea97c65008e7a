"""Does the loader keep up with the network? Slices per second of both, in one run; prints one table.

    python benchmarks/loader.py --config_file bundle/configs/train.yaml configs/quickstart.yaml --workers 0 1 2
    python benchmarks/loader.py --config_file bundle/configs/train.yaml configs/abdomen_mri.yaml --workers 4 8 16 \\
        --set datalist=data.json device_name=cuda

The loader is the config's own: its data, its augmentation, its batch. The step is forward, loss, backward and optimizer
of the config's network on one batch over and over, in the config's precision. A loader keeps up when its share is 1 or
more. First: seconds from asking for batches to the first one, which a training waits for once. Workers and step share
the CPU in a training; here they run one after the other, so on a CPU the share is what the loader could do alone.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser
from monai.data import DataLoader

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bundle"))

from swin_umamba.errors import InputError, report_errors_in_one_line  # noqa: E402
from swin_umamba.sampling import EndlessSampler  # noqa: E402


def read_config(files: list[str], settings: list[str]) -> ConfigParser:
    """Read configs, later over earlier, and settings KEY=VALUE over all."""
    parser = ConfigParser()
    parser.read_config(files)
    overrides = {"bundle_root": str(ROOT / "bundle")}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or key not in parser:
            raise InputError(f"--set {setting!r}: legal: KEY=VALUE, KEY one of the config's")
        overrides[key] = yaml.safe_load(value)
    parser.update(overrides)
    return parser


def cached_mib(dataset: Any) -> float:
    """Return the size in MiB of the tensors that a dataset holds in memory."""
    items = getattr(dataset, "_cache", [])  # of MONAI's CacheDataset, which has no public way to it
    tensors = [value for item in items if isinstance(item, dict) for value in item.values()]
    lists = [part for value in tensors if isinstance(value, list) for part in value]
    sizes = [value.nbytes for value in [*tensors, *lists] if hasattr(value, "nbytes")]
    return sum(sizes) / 2**20


def measure_loader(loader: Iterable[dict[str, torch.Tensor]], batches: int) -> tuple[float, float]:
    """Return the seconds to the first batch and the slices per second of those after it."""
    start = time.perf_counter()
    iterator = iter(loader)
    next(iterator)
    first = time.perf_counter() - start
    start = time.perf_counter()
    slices = sum(len(batch["image"]) for batch in itertools.islice(iterator, batches))
    return first, slices / (time.perf_counter() - start)


def measure_step(parser: ConfigParser, batch: dict[str, torch.Tensor], steps: int) -> float:
    """Return the slices per second of training steps on one batch."""
    network, loss, optimizer, device, dtype = (
        parser.get_parsed_content(key) for key in ("network", "train#loss", "optimizer", "device", "amp_dtype")
    )
    image = batch["image"].to(device)
    target = {key: batch[key].to(device) for key in ("label", "labelled") if key in batch}
    network.train()
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            heads = network(image)
        loss(heads, target).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return len(image) / statistics.median(seconds[2:])


def main() -> None:
    """Measure and print."""
    report_errors_in_one_line()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", nargs="+", default=["bundle/configs/train.yaml"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="values over the configs'")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 2, 4])
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    config = read_config(given.config_file, given.set)
    start = time.perf_counter()
    dataset = config.get_parsed_content("train#dataset")
    seconds = time.perf_counter() - start
    print(f"{len(dataset)} volumes read and prepared in {seconds:.1f} s; {cached_mib(dataset):.0f} MiB held in memory")
    rows: list[tuple[str, Any]] = []
    if config["train#dataloader"]["_target_"] == "DataLoader":
        size = config.get_parsed_content("volumes_per_batch")
        for workers in given.workers:
            sampler = EndlessSampler(dataset, size, config.get_parsed_content("seed"))
            loader = DataLoader(dataset, batch_size=size, sampler=sampler, num_workers=workers)
            rows.append((f"{workers} workers", loader))
    else:
        rows.append(
            (config["train#dataloader"]["_target_"].rpartition(".")[2], config.get_parsed_content("train#dataloader"))
        )
    batch = next(iter(rows[0][1]))
    step = measure_step(config, batch, given.steps)
    name = config.get_parsed_content("network_name")
    print(f"step of {name} at {tuple(batch['image'].shape)}: {step:.1f} slices/s\n")
    print(f"{'loader':<14} {'first (s)':>10} {'slices/s':>10} {'share of the step':>18}")
    for label, loader in rows:
        first, speed = measure_loader(loader, given.batches)
        print(f"{label:<14} {first:>10.2f} {speed:>10.1f} {speed / step:>18.2f}", flush=True)


if __name__ == "__main__":
    main()
