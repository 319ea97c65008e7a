"""Cross-validate one recipe over the patients of a data list, for several networks and seeds, on all GPUs at once.

    python benchmarks/cross_validation.py --datalist chaos.json --overlay configs/chaos_mri.yaml --folds 4 \
        --networks swin_umamba_small dynunet swin_unetr --arguments '{"swin_umamba_small": {"embed_dim": 36}}'
    python benchmarks/cross_validation.py --datalist chaos.json --overlay configs/chaos_mri.yaml --seeds 0 1 2

With --folds every patient of the list, whatever section it is in, is tested once by a network that has not seen it:
for a recipe that is fixed, since it may have been chosen on some of them. Without, the list's own training and test
sections are used. Each training is a process of its own and is scored in the images' own grid by what inference does,
clean-up included; nothing is validated or chosen on the way. Prints DSC and NSD by network, by patient and by organ,
means over the seeds; the spread is the standard deviation over the patients, and over the seeds. cross_validation.json
in --output has every score. What is finished is not done again, what was stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bundle"))

from swin_umamba.data.datalist import read_datalist  # noqa: E402
from swin_umamba.data.splits import Split, split_sections  # noqa: E402
from swin_umamba.errors import InputError  # noqa: E402
from swin_umamba.files import replace_file  # noqa: E402
from swin_umamba.networks import network_names  # noqa: E402

METRICS = ("dice", "nsd")
WIDTH = 21  # of a column: the longest name of an organ
Scores = dict[tuple[str, str], dict[str, float]]  # (patient, organ) -> metric -> value


@dataclass(frozen=True)
class Job:
    """One training: which network, on which part of the patients, from which seed."""

    network: str
    fold: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the folder of the run."""
        return f"{self.network}_{self.fold}_seed{self.seed}"


def write_folds(datalist: Path, folds: int, output: Path) -> dict[str, Path]:
    """Write a data list for each fold, whose test section is the fold's patients; returns the files by fold."""
    plain = read_datalist(datalist)
    for item in itertools.chain(*(plain[section] for section in ("training", "validation", "test"))):
        for key in ("image", "label"):
            item[key] = str((datalist.parent / item[key]).resolve())
    if folds:
        every = [item for section in ("training", "validation", "test") for item in plain[section]]
        divisions = split_sections({"training": every}, Split(folds=folds))
        parts = {f"fold{n}": (part["training"], part["validation"]) for n, part in enumerate(divisions)}
    else:
        parts = {"own": (plain["training"], plain["test"])}
    files = {}
    for fold, (training, test) in parts.items():
        files[fold] = output / f"{fold}.json"
        files[fold].write_text(json.dumps({**plain, "training": training, "validation": [], "test": test}))
    return files


def command_of(job: Job, datalist: Path, given: argparse.Namespace) -> list[str]:
    """Return the training's command line."""
    folder = given.output / job.name
    configs = [str(ROOT / "bundle/configs/train.yaml"), *(str(path.resolve()) for path in given.overlay)]
    values = {
        "bundle_root": ROOT / "bundle",
        "datalist": datalist,
        "network_name": job.network,
        "network_arguments": json.dumps({"in_channels": 1, **given.arguments.get(job.network, {})}),
        "seed": job.seed,
        "model_name": job.name,
        "model_dir": folder / "model",
        "output_dir": folder / "run",
        "device_name": given.device,
        "validate_during_training": False,
        "evaluate_after_training": True,
        "resume": True,
        **dict(setting.split("=", 1) for setting in given.set),
    }
    flags = [text for key, value in values.items() for text in (f"--{key}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(configs), *flags]


def train(job: Job, datalist: Path, places: queue.Queue[str], given: argparse.Namespace) -> str | None:
    """Train and score unless that was done; returns what went wrong, or None."""
    folder = given.output / job.name
    folder.mkdir(parents=True, exist_ok=True)
    if metrics_file(job, given.output).is_file():
        return None
    place = places.get()
    try:
        environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": place} if place else {})}
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            print(f"{job.name}: begins{' on GPU ' + place if place else ''}", flush=True)
            command = command_of(job, datalist, given)
            code = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False).returncode
    finally:
        places.put(place)
    if code:
        last = (folder / "log.txt").read_text(encoding="utf-8").strip().splitlines()[-1:]
        return f"{job.name}: {' '.join(last)}; all of it in {folder / 'log.txt'}"
    return None


def metrics_file(job: Job, output: Path) -> Path:
    """Return where a training's scores are."""
    return output / job.name / "run" / "test" / "metrics.json"


def read_scores(job: Job, output: Path, patients: dict[str, str]) -> Scores:
    """Return the scores of a training's test cases; a patient's several cases are averaged."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for case in json.loads(metrics_file(job, output).read_text(encoding="utf-8"))["cases"]:
        for organ, values in case["organs"].items():
            for metric in METRICS:
                if values[metric] is not None:
                    found.setdefault((patients[case["case"]], organ, metric), []).append(values[metric])
    scores: Scores = {}
    for (patient, organ, metric), values in found.items():
        scores.setdefault((patient, organ), {})[metric] = statistics.mean(values)
    return scores


def mean_of(scores: Scores, metric: str, patient: str | None = None, organ: str | None = None) -> float | None:
    """Return the mean of a metric over what is named, None where nothing was scored."""
    values = [
        value[metric]
        for (owner, name), value in scores.items()
        if metric in value and patient in (None, owner) and organ in (None, name)
    ]
    return statistics.mean(values) if values else None


def report(network: str, by_seed: dict[int, Scores]) -> list[str]:
    """Return the lines that are printed of a network: its means, each organ's, each patient's."""
    keys = list(dict.fromkeys(key for scores in by_seed.values() for key in scores))
    patients, organs = (sorted({key[n] for key in keys}) for n in (0, 1))

    def shown(metric: str, **where: str) -> str:
        values = [mean_of(scores, metric, **where) for scores in by_seed.values()]
        known = [value for value in values if value is not None]
        return f"{statistics.mean(known):.3f}" if known else "-"

    def spread(values: list[float]) -> str:
        return f"{statistics.stdev(values):.3f}" if len(values) > 1 else "-"

    lines = [f"{network}: {len(patients)} patients, seeds {', '.join(map(str, by_seed))}"]
    for metric in METRICS:
        over_seeds = [value for scores in by_seed.values() if (value := mean_of(scores, metric)) is not None]
        each = [[mean_of(scores, metric, patient=patient) for scores in by_seed.values()] for patient in patients]
        over_patients = [statistics.mean(known) for row in each if (known := [v for v in row if v is not None])]
        spreads = f"spread over patients {spread(over_patients)}, over seeds {spread(over_seeds)}"
        lines.append(f"  {metric}: {shown(metric)}, {spreads}")
    lines.append(f"  {'dice / nsd':14}" + "".join(f"{organ:>{WIDTH}}" for organ in ("mean", *organs)))
    for patient in ("all", *patients):
        where = {} if patient == "all" else {"patient": patient}
        cells = [where, *({**where, "organ": organ} for organ in organs)]
        lines.append(
            f"  {patient:14}" + "".join(f"{shown('dice', **c) + ' / ' + shown('nsd', **c):>{WIDTH}}" for c in cells)
        )
    return lines


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datalist", type=Path, required=True)
    parser.add_argument("--overlay", type=Path, nargs="*", default=[], help="after bundle/configs/train.yaml")
    parser.add_argument("--networks", nargs="+", choices=network_names(), default=["swin_umamba_small"])
    parser.add_argument("--arguments", type=json.loads, default={}, help="JSON: network -> its arguments")
    parser.add_argument("--folds", type=int, default=0, help="0: the list's own training and test sections")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further values of train.yaml")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--jobs_per_gpu", type=int, default=1, help="trainings side by side on a GPU")
    parser.add_argument("--output", type=Path, default=Path("runs/cross_validation"))
    return parser.parse_args()


def main() -> int:
    """Run the command line."""
    given = arguments()
    given.output = given.output.resolve()
    given.output.mkdir(parents=True, exist_ok=True)
    try:
        datalists = write_folds(given.datalist, given.folds, given.output)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    patients = {
        item["case"]: item["patient"]
        for file in datalists.values()
        for item in json.loads(file.read_text(encoding="utf-8"))["test"]
    }
    gpus = torch.cuda.device_count() if given.device != "cpu" else 0
    places: queue.Queue[str] = queue.Queue()
    for place in [str(gpu) for _ in range(given.jobs_per_gpu) for gpu in range(gpus)] or [""]:
        places.put(place)
    jobs = [Job(*parts) for parts in itertools.product(given.networks, datalists, given.seeds)]
    with ThreadPoolExecutor(places.qsize()) as pool:
        failed = [
            error for error in pool.map(lambda job: train(job, datalists[job.fold], places, given), jobs) if error
        ]
    every: dict[str, dict[int, Scores]] = {}
    for job in jobs:
        if metrics_file(job, given.output).is_file():
            scores = read_scores(job, given.output, patients)
            every.setdefault(job.network, {}).setdefault(job.seed, {}).update(scores)
    plain = [
        {"network": network, "seed": seed, "patient": patient, "organ": organ, **values}
        for network, by_seed in every.items()
        for seed, scores in by_seed.items()
        for (patient, organ), values in scores.items()
    ]
    with replace_file(given.output / "cross_validation.json") as temporary:
        temporary.write_text(json.dumps(plain, indent=1), encoding="utf-8")
    for network, by_seed in every.items():
        print("\n".join(report(network, by_seed)))
    for error in failed:
        print(f"error: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
