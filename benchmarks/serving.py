"""Seconds from the click to the result, by stage, and memory of the server at rest and at its peak.

    python benchmarks/serving.py [--model models/NAME] [--device cpu] [--repeats 3] [--cores 2]

A real server, started as documented, segments a generated volume of 320 x 320 x 72 through HTTP: the first request of a
server that has warmed up, and the median of those after it. "http" is what the client waits beyond the server's own
stages: sending, queueing, checks. Without --model an untrained network of the quick start's size is served. Memory is
the resident set of the server's process, sampled ten times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import requests
from requests_toolbelt import MultipartDecoder

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bundle")]

from helpers_bundle import write_model  # noqa: E402
from helpers_imaging import write_nifti  # noqa: E402
from helpers_server import serve  # noqa: E402
from swin_umamba.data.labels import label_table  # noqa: E402

SHAPE, AFFINE = (320, 320, 72), np.diag([-1.2, -1.2, 3.0, 1.0])
STAGES = ("model", "load", "network", "post", "write")
ASKED = {"result_extension": ".nrrd", "result_dtype": "uint8"}  # as 3D Slicer and OHIF do
RESTING = 20.0  # seconds after the start: the network is loaded by then


def write_volume(path: Path, seed: int = 0) -> Path:
    """Write a volume of noise with a body in it."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in SHAPE], indexing="ij"))
    body = (grid[0] ** 2 + (1.4 * grid[1]) ** 2 < 0.8).astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 20, SHAPE)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_nifti(path, np.clip(300 * body + noise, 0, None).astype(np.int16), AFFINE)


def models_folder(place: Path, model: Path | None) -> Path:
    """Return a folder that holds one model: a copy of the one that was named, or an untrained one."""
    folder = place / "models"
    if model is not None:
        shutil.copytree(model, folder / "model")
    else:
        network = {"name": "swin_umamba_tiny", "arguments": {"in_channels": 1}}
        write_model(folder / "untrained", labels=label_table("abdomen_mri"), network=network, roi_size=(320, 320))
    return folder


class Memory(threading.Thread):
    """Highest resident set of a process."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process, self.peak = psutil.Process(pid), 0

    def run(self) -> None:
        """Sample until the process ends."""
        while self.process.is_running():
            self.peak = max(self.peak, self.now())
            time.sleep(0.1)

    def now(self) -> int:
        """Return MiB."""
        try:
            return self.process.memory_info().rss // 2**20
        except psutil.NoSuchProcess:
            return 0


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a model; default: an untrained small one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2, help="that the server may use; 0 for all")
    given = parser.parse_args()
    if given.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    threads = str(given.cores or os.cpu_count())
    with tempfile.TemporaryDirectory() as place:
        write_volume(Path(place) / "studies" / "case.nii.gz")
        models = models_folder(Path(place), given.model)
        with serve(Path(place) / "studies", models, "--device", given.device, OMP_NUM_THREADS=threads) as server:
            memory = Memory(server.process.pid)
            memory.start()
            time.sleep(RESTING)
            rest = memory.now()
            name = next(iter(server.get("/info/").json()["models"]))
            rows = [segment(f"{server.url}/infer/{name}") for _ in range(given.repeats + 1)]
            report(rows, rest, memory.peak)


def segment(url: str) -> dict[str, float]:
    """Segment the volume and return the seconds of each stage."""
    start = time.perf_counter()
    query, form = {"image": "case", "output": "all"}, {"params": json.dumps(ASKED)}
    answer = requests.post(url, params=query, data=form, timeout=1800)
    total = time.perf_counter() - start
    answer.raise_for_status()
    stages = json.loads(MultipartDecoder.from_response(answer).parts[0].text)["latencies"]
    return {**stages, "http": total - sum(stages.values()), "total": total}


def report(rows: list[dict[str, float]], rest: int, peak: int) -> None:
    """Print the table."""
    columns = (*STAGES, "http", "total")
    print(f"{'seconds':10}" + "".join(f"{column:>10}" for column in columns))
    later = {column: statistics.median(row[column] for row in rows[1:]) for column in columns}
    for label, row in (("first", rows[0]), ("later", later)):
        print(f"{label:10}" + "".join(f"{row[column]:10.2f}" for column in columns))
    print(f"memory of the server: {rest} MiB at rest, {peak} MiB at its peak")


if __name__ == "__main__":
    main()
