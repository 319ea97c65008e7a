"""Seconds of a whole volume from file to label map on disk, by stage, with the bundle's inference config.

    python benchmarks/volume.py [--model models/chaos_mri] [--precision float32 auto] [--set slab_size=16]

A phantom of 320 x 320 x 72 is written as NIfTI, then segmented once to warm up and `--repeats` times, the precisions in
turn. Stages: load (read, orient, normalise), network (the network's calls alone), around it (resampling, labels,
confidence), clean (3D clean-up, back to the file's orientation), write (label map and picture). Per stage the seconds
by the clock and, beside it, those that the process spent on all cores, which says more on a machine that others use;
threads of OpenMP that wait count as well unless OMP_WAIT_POLICY=PASSIVE. Of several repetitions the fastest is shown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bundle")]

from helpers_imaging import write_nifti  # noqa: E402
from swin_umamba.data.phantom import make_phantom  # noqa: E402

STAGES = ("load", "network", "around", "clean", "write")


class Clock:
    """Seconds by the clock and of all cores, by stage."""

    def __init__(self) -> None:
        self.spent = {stage: [0.0, 0.0] for stage in STAGES}

    def __call__(self, stage: str, function: Any, *arguments: Any) -> Any:
        """Call a function and add its time to a stage."""
        wall, cores = time.perf_counter(), time.process_time()
        result = function(*arguments)
        self.spent[stage][0] += time.perf_counter() - wall
        self.spent[stage][1] += time.process_time() - cores
        return result


class TimedNetwork(torch.nn.Module):
    """A network whose calls are timed."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.clock = network, Clock()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) as the network does."""
        return self.clock("network", self.network, x)


def pipeline(model: Path, folder: Path, image: Path, precision: str, settings: dict[str, Any]) -> ConfigParser:
    """Return the inference config for one file."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundle" / "configs" / "inference.yaml"))
    given = {"bundle_root": str(ROOT / "bundle"), "model": str(model), "device": "cpu", "dataset_dir": str(image)}
    given |= {"output_dir": str(folder / "output"), "displayable_configs#precision": precision, **settings}
    parser.update(given)
    parser.parse()
    return parser


def segment(parser: ConfigParser, network: TimedNetwork, image: Path) -> dict[str, list[float]]:
    """Segment the file and return the seconds of each stage."""
    clock = network.clock = Clock()
    prepare, inferer, finish, write = (
        parser.get_parsed_content(key) for key in ("preprocessing", "inferer", "postprocessing", "writer")
    )
    item = clock("load", prepare, {"image": str(image)})
    label = clock("around", inferer, item["image"][None], network)[0]
    for kind in range(2):
        clock.spent["around"][kind] -= clock.spent["network"][kind]
    item = clock("clean", finish, {**item, "pred": label})
    clock("write", write, "case", item["image"], item["pred"])
    return clock.spent


def report(name: str, runs: list[dict[str, list[float]]]) -> None:
    """Print the fastest run as a line of the table."""
    best = min(runs, key=lambda run: sum(spent[0] for spent in run.values()))
    total = [sum(best[stage][kind] for stage in STAGES) for kind in range(2)]
    cells = "".join(f"{best[stage][0]:9.2f} /{best[stage][1]:6.2f}" for stage in STAGES)
    share = [1 - best["network"][kind] / total[kind] for kind in range(2)]
    print(f"{name:12}{cells}{total[0]:9.2f} /{total[1]:6.2f}{share[0]:9.0%} /{share[1]:5.0%}", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "chaos_mri")
    parser.add_argument("--size", type=int, nargs=3, default=(320, 320, 72))
    parser.add_argument("--precision", nargs="+", default=["float32", "auto"])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other keys of inference.yaml")
    given = parser.parse_args()
    settings = {key: _value(text) for key, text in _pairs(given.set)}
    with tempfile.TemporaryDirectory() as place:
        voxels, _, affine = make_phantom(1, grid=tuple(given.size))
        image = Path(write_nifti(Path(place) / "case.nii.gz", voxels, affine))
        parsers = {name: pipeline(given.model, Path(place), image, name, settings) for name in given.precision}
        networks = {name: TimedNetwork(p.get_parsed_content("network_def")).eval() for name, p in parsers.items()}
        runs: dict[str, list] = {name: [] for name in parsers}
        for repeat in range(given.repeats + 1):
            for name, config in parsers.items():
                spent = segment(config, networks[name], image)
                if repeat:
                    runs[name].append(spent)
        spacing = [round(float(abs(affine[axis, axis])), 3) for axis in range(3)]
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.model.name}, {list(given.size)}")
        print(f"seconds by the clock / of all cores; voxels of {spacing} mm")
        print(f"{'precision':12}" + "".join(f"{stage:>17}" for stage in (*STAGES, "total", "outside network")))
        for name, spent in runs.items():
            report(f"{name} {parsers[name].get_parsed_content('amp_dtype') or ''}".replace("torch.", ""), spent)


def _pairs(given: list[str]) -> list[tuple[str, str]]:
    return [tuple(pair.split("=", 1)) for pair in given]  # type: ignore[misc]


def _value(text: str) -> Any:
    return int(text) if text.isdigit() else {"true": True, "false": False}.get(text.lower(), text)


if __name__ == "__main__":
    main()
