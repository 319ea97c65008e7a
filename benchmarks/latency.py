"""Milliseconds of a status request while the server segments, and trains, on the CPU.

    python benchmarks/latency.py [--seconds 60] [--load infer train batch] [--model models/NAME]

A real server, started as documented, on generated volumes of 320 x 320 x 72. One client asks for /info/, /train/ and
/worklist/ in turn, twenty times a second; another segments without a pause; a training, or a batch, runs in a process
of its own. Without --model an untrained network of the quick start's size is served.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bundle")]

from helpers_imaging import write_nifti  # noqa: E402
from helpers_server import Server, serve  # noqa: E402
from serving import AFFINE, SHAPE, models_folder, write_volume  # noqa: E402

PATHS = ("/info/", "/train/?all=true", "/worklist/")
PERIOD = 0.05  # seconds between status requests
LIMIT = 200  # ms, for the 99th percentile


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--load", nargs="*", default=["infer", "train"], choices=["infer", "train", "batch"])
    parser.add_argument("--model", type=Path, help="folder of a model; default: an untrained small one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        studies = Path(place) / "studies"
        for number in range(3):
            write_volume(studies / f"case_{number}.nii.gz", seed=number)
        models = models_folder(Path(place), given.model)
        with serve(studies, models, OMP_NUM_THREADS=str(os.cpu_count())) as server:
            with load_on(server, given.load, Path(place)) as done:
                times = ask(server, given.seconds)
            middle, late = np.percentile(times, [50, 99])
            print(
                f"{len(times)} status requests in {given.seconds:.0f} s beside {', '.join(given.load) or 'nothing'} "
                f"({len(done)} volumes segmented meanwhile): median {middle:.1f} ms, 99th percentile {late:.1f} ms, "
                f"worst {max(times):.1f} ms; wanted: 99th percentile up to {LIMIT} ms"
            )


def ask(server: Server, seconds: float) -> list[float]:
    """Send status requests for some time and return the milliseconds of each."""
    times: list[float] = []
    end = time.monotonic() + seconds
    with requests.Session() as session:
        while time.monotonic() < end:
            start = time.perf_counter()
            session.get(server.url + PATHS[len(times) % len(PATHS)], timeout=120)
            times.append(1000 * (time.perf_counter() - start))
            time.sleep(max(0.0, PERIOD - times[-1] / 1000))
    return times


@contextmanager
def load_on(server: Server, kinds: list[str], place: Path) -> Iterator[list[float]]:
    """Keep a server busy; gives the list of finished segmentations."""
    stop, done = threading.Event(), []
    name = next(iter(server.get("/info/").json()["models"]))

    def segment() -> None:
        while not stop.is_set():
            answer = requests.post(
                f"{server.url}/infer/{name}", params={"image": "case_0", "output": "json"}, timeout=600
            )
            done.append(answer.elapsed.total_seconds())

    if "train" in kinds:
        labels = np.zeros(SHAPE, np.uint8)
        labels[100:200, 100:200, 20:40] = 1
        file = write_nifti(place / "label.nii.gz", labels, AFFINE)
        with open(file, "rb") as content:
            requests.put(f"{server.url}/datastore/label?image=case_1", files={"label": content}, timeout=120)
        requests.post(f"{server.url}/train/{name}", json={"max_epochs": 1000}, timeout=120)
        while not server.get("/info/").json()["train_stats"][name]:
            time.sleep(0.5)
    if "batch" in kinds:
        requests.post(f"{server.url}/batch/infer/{name}", json={"images": "all", "again": True}, timeout=120)
    thread = threading.Thread(target=segment, daemon=True)
    if "infer" in kinds:
        thread.start()
        time.sleep(2)
    yield done
    stop.set()
    for path in ("/train/", "/batch/infer"):
        requests.delete(server.url + path, timeout=120)
    if "infer" in kinds:
        thread.join(600)


if __name__ == "__main__":
    main()
