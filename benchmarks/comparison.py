"""Train several networks by one recipe on one data set and print the paper's comparison of them.

    python benchmarks/comparison.py                     # on the CPU: small networks, generated phantoms
    python benchmarks/comparison.py --full --datalist data.json --overlay configs/abdomen_mri.yaml

Every network gets the same cases, patches, augmentation, optimizer, number of steps and evaluation: bundle/configs/
train.yaml with the overlay. Without --full the networks are narrow ones of roughly one size each. Prints DSC and NSD of
the test section in the images' own grid, parameters, FLOPs (fvcore, one multiply-add = 1, all heads), images per second
of inference at the patch's size and the memory of training: on a GPU its peak, on a CPU an estimate from what autograd
keeps. The same goes into comparison.json after every network. The same command again goes on where it was stopped, also
within a network's training, or prints the table; other settings need another --output.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bundle"))

from swin_umamba.devices import choose_device, choose_precision  # noqa: E402
from swin_umamba.errors import InputError, report_errors_in_one_line  # noqa: E402
from swin_umamba.files import replace_file  # noqa: E402
from swin_umamba.models import build_described_network, load_model  # noqa: E402
from swin_umamba.networks.flops import count_flops  # noqa: E402
from swin_umamba.planning.memory import GIB, step_memory  # noqa: E402
from swin_umamba.workflows import evaluate_model, run_workflow  # noqa: E402

BUNDLE = ROOT / "bundle"
NARROW: dict[str, dict[str, Any]] = {
    "dynunet": {"features": [16, 32, 64, 64]},
    "segresnet": {"init_filters": 8},
    "unetr": {"feature_size": 8, "hidden_size": 96, "num_heads": 6},
    "swin_unetr": {"feature_size": 12},
    "vm_unet": {"embed_dim": 16, "depths": [1, 1, 1, 1], "decoder_depths": [1, 1, 1, 1]},
    "u_mamba_bot": {"features": [16, 32, 64, 64]},
    "u_mamba_enc": {"features": [16, 32, 64, 64]},
    "swin_umamba": {"embed_dim": 16, "depths": [1, 1, 1, 1]},
    "swin_umamba_d": {"embed_dim": 16, "depths": [1, 1, 1, 1], "decoder_depth": 1},
}
NAMES = list(NARROW)
FEW_STEPS = 1000
SETTINGS = ("full", "datalist", "overlay", "section", "set", "device", "seed")
COLUMNS = f"{'network':16}{'DSC':>8}{'NSD':>8}{'parameters':>12}{'GFLOPs':>9}{'images/s':>10}{'GiB':>7}{'minutes':>9}"


def compare(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Train, evaluate and measure one network; returns a row of the table."""
    folder = given.output / name
    config = configured(given)
    arguments = {"in_channels": config["network_arguments"]["in_channels"], **({} if given.full else NARROW[name])}
    overrides: dict[str, Any] = {
        "network_name": name,
        "model_name": name,
        "model_dir": str(folder / "model"),
        "output_dir": str(folder / "log"),
        "dataset_dir": str(given.output),
        "device_name": given.device,
        "seed": given.seed,
        "resume": True,
        "evaluate_after_training": False,
    }
    if given.datalist is not None:
        overrides["datalist"] = str(given.datalist)
    overrides |= dict(map(parse_setting, given.set))
    if name == "unetr":  # which must know it beforehand
        arguments["img_size"] = max(config["roi_size"])
    on_gpu = choose_device(given.device).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    names = ["train.yaml", *(str(overlay.resolve()) for overlay in given.overlay)]
    workflow = run_workflow(names, bundle_root=BUNDLE, kind="train", network_arguments=arguments, **overrides)
    minutes = (time.perf_counter() - begun) / 60
    peak = torch.cuda.max_memory_allocated() if on_gpu else None
    value = workflow.parser.get_parsed_content
    scores = evaluate_model(
        bundle_root=BUNDLE,
        model=folder / "model",
        datalist=value("datalist"),
        output_dir=folder / "test",
        device=given.device,
        section=given.section,
        picture=False,
    )
    batch, steps = value("batch_size"), value("train#trainer#max_epochs") * value("iterations_per_epoch")
    row = {**scores["mean"], "minutes": minutes, "steps": steps, "batch_size": batch}
    row |= measure(folder / "model", given.device, batch)
    return row if peak is None else {**row, "memory": peak}


def configured(given: argparse.Namespace) -> ConfigParser:
    """Return train.yaml with the overlays and the further values, before anything is built."""
    parser = ConfigParser(ConfigParser.load_config_files([BUNDLE / "configs/train.yaml", *given.overlay]))
    parser.update(dict(map(parse_setting, given.set)))
    return parser


def measure(model: Path, device_name: str, batch_size: int) -> dict[str, float]:
    """Return parameters, FLOPs, bytes of a training step and images per second of inference at the patch's size."""
    loaded = load_model(model)
    shape = (1, loaded.network.in_channels, *loaded.spec.roi_size)
    training = build_described_network(loaded.spec, deep_supervision=True)
    found = {
        "parameters": sum(p.numel() for p in training.parameters()),
        "flops": count_flops(training, torch.zeros(shape))["total"],
        "memory": step_memory(training, torch.zeros(shape), batch_size),
    }
    device = choose_device(device_name)
    amp = choose_precision("auto", device)
    network, images = loaded.network.to(device), torch.randn(8, *shape[1:], device=device)
    with torch.no_grad(), torch.autocast(device.type, amp or torch.bfloat16, enabled=amp is not None):
        times = []
        for _ in range(6):
            begun = time.perf_counter()
            network(images).sum().item()  # waits for the device
            times.append(time.perf_counter() - begun)
    return {**found, "speed": len(images) / min(times)}


def parse_setting(text: str) -> tuple[str, Any]:
    """Split key=value, the value being JSON or else text."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def line_of(name: str, row: dict[str, Any]) -> str:
    """Return a row of the printed table."""
    scores = "".join(f"{row[key]:8.4f}" if row[key] is not None else f"{'-':>8}" for key in ("dice", "nsd"))
    sizes = f"{row['parameters']:12,}{row['flops'] / 1e9:9.2f}{row['speed']:10.1f}{row['memory'] / GIB:7.2f}"
    return f"{name:16}{scores}{sizes}{row['minutes']:9.1f}"


def length_of(row: dict[str, Any]) -> str:
    """Return how long each network was trained, in words."""
    few = "; so few say nothing of how good a network is" if row["steps"] < FEW_STEPS else ""
    return f"{row['steps']} steps of {row['batch_size']} slices each{few}"


def read_rows(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of an earlier run of the same settings, by network.

    Raises:
        InputError: if the file is of other settings.
    """
    if not path.is_file():
        return {}
    plain = json.loads(path.read_text(encoding="utf-8"))
    other = [key for key, value in settings.items() if plain["settings"].get(key) != value]
    if other:
        raise InputError(f"{path} is of another {', '.join(other)}; legal: what it was, or another --output")
    return plain["networks"]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--full", action="store_true", help="the published sizes instead of narrow networks")
    parser.add_argument(
        "--datalist", type=Path, help="default: what the overlay makes, phantoms with the quick start's"
    )
    parser.add_argument("--overlay", type=Path, nargs="*", default=[ROOT / "configs/quickstart.yaml"])
    parser.add_argument("--section", default="test", choices=["validation", "test"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further values of train.yaml")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/comparison"))
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    report_errors_in_one_line()
    given = arguments()
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / "comparison.json"
    settings = {
        key: json.loads(json.dumps(value, default=str)) for key, value in vars(given).items() if key in SETTINGS
    }
    rows = read_rows(path, settings)
    for name in given.networks:
        if name not in rows:
            rows[name] = compare(name, given)
            with replace_file(path) as temporary:
                temporary.write_text(json.dumps({"settings": settings, "networks": rows}, indent=1), encoding="utf-8")
    print(COLUMNS)
    for name in given.networks:
        print(line_of(name, rows[name]))
    print(length_of(rows[given.networks[0]]))


if __name__ == "__main__":
    main()
