"""Milliseconds of a request for the next image, for each strategy and 5,000 studies, on a real server.

    python benchmarks/worklist.py [--studies 5000] [--requests 100]

The studies are files of 10 MB, which are read once for their check sum when they are given out; a quarter has labels,
uncertainties are made up. Every request comes from another annotator, so each leases an image of its own; the program
ends with an error if two got one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import requests

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bundle")]

from helpers_bundle import write_model  # noqa: E402
from helpers_server import serve  # noqa: E402

STRATEGIES = ("first", "random", "uncertainty")
SIZE = 10_000_000  # bytes of an image; a compressed one of 320 x 320 x 72 has about as many


def write_studies(folder: Path, count: int) -> Path:
    """Write files that are called like images, labels of every fourth, and made-up uncertainties of all."""
    for place in (folder / "labels" / "final", folder / ".swin_umamba"):
        place.mkdir(parents=True)
    names = [f"study_{number:05}" for number in range(count)]
    for number, name in enumerate(names):
        with open(folder / f"{name}.nii.gz", "wb") as file:
            file.truncate(SIZE)  # zeros, which take no place on the disk
        if number % 4 == 0:
            (folder / "labels" / "final" / f"{name}.nii.gz").touch()
    values = np.random.default_rng(0).random(count)
    known = {name: [float(value), "0.1.0"] for name, value in zip(names, values, strict=True)}
    (folder / ".swin_umamba" / "uncertainty.json").write_text(json.dumps(known))
    return folder


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--requests", type=int, default=100, help="for each strategy")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        write_model(Path(place) / "models" / "tiny")
        studies = write_studies(Path(place) / "studies", given.studies)
        with serve(studies, Path(place) / "models") as server, requests.Session() as session:
            given_out = []
            print(f"{'strategy':14}{'median ms':>11}{'99th':>8}{'worst':>8}")
            for strategy in STRATEGIES:
                times = []
                for number in range(given.requests):
                    start = time.perf_counter()
                    who = {"client_id": f"{strategy} {number}"}
                    answer = session.post(f"{server.url}/activelearning/{strategy}", json=who, timeout=60)
                    times.append(1000 * (time.perf_counter() - start))
                    given_out.append(answer.json()["id"])
                median, late = np.percentile(times, [50, 99])
                print(f"{strategy:14}{median:11.1f}{late:8.1f}{max(times):8.1f}", flush=True)
            if len(set(given_out)) != len(given_out):
                raise SystemExit("two annotators got one image")


if __name__ == "__main__":
    main()
