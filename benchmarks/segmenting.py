"""Seconds from a request to its result inside the server's process, by stage, without a server.

    python benchmarks/segmenting.py [--model models/chaos_mri] [--device auto] [--spacing 1.2 1.2 3]

The server's own code segments a phantom of 320 x 320 x 72: it loads the network and warms up as a starting server does
("start"), answers the first request ("first") and then the same one again ("later", the median). Stages: model (find
the network), load (read, orient, normalise), network (with resampling, argmax and confidence; "calls" are the network's
own part of it), post (clean-up, back to the file's orientation, anatomy checks), write. OHIF gets its organs from
.nii.gz, 3D Slicer from .nrrd. Neither MONAI Label nor a browser is needed, so it also runs on a GPU machine that has
PyTorch, MONAI and little else; what a request costs beyond this, HTTP and drawing, is measured by serving.py and
viewer.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "bundle")]

from helpers_imaging import write_nifti  # noqa: E402
from swin_umamba.data.phantom import make_phantom  # noqa: E402
from swin_umamba.devices import choose_device  # noqa: E402

from monailabel_app.segmenter import Segmenter  # noqa: E402
from monailabel_app.settings import AppSettings  # noqa: E402
from monailabel_app.versions import ModelStore  # noqa: E402

STAGES = ("model", "load", "network", "post", "write")


class Calls:
    """Seconds that a network's own calls take; a GPU is timed without making it wait."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._cuda = next(network.parameters()).is_cuda
        self._marks: list[tuple[Any, Any]] = []
        network.register_forward_pre_hook(lambda *_: self._begin())
        network.register_forward_hook(lambda *_: self._marks.append((self._begun, self._mark())))

    def seconds(self) -> float:
        """Return the sum of the calls since the last time this was asked."""
        marks, self._marks = self._marks, []
        if self._cuda:
            torch.cuda.synchronize()
        return sum(begin.elapsed_time(end) / 1000 if self._cuda else end - begin for begin, end in marks)

    def _begin(self) -> None:
        self._begun = self._mark()

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def segmenter(model: Path, place: Path, device: str) -> Segmenter:
    """Return what answers requests, with nothing loaded yet."""
    settings = AppSettings(
        bundle_root=ROOT / "bundle", model_folders=(model,), data_dir=place, device=device, uncertainty_model="none"
    )
    store = ModelStore(settings.model_folders, place)
    return Segmenter(next(iter(store.installed())), store, settings)


def segment(task: Segmenter, calls: Calls, image: Path, extension: str) -> dict[str, float]:
    """Segment the file and return the seconds of each stage."""
    start = time.perf_counter()
    file, about = task({"image": str(image), "result_extension": extension, "result_dtype": "uint8"})
    total = time.perf_counter() - start
    Path(file).unlink()
    return {**about["latencies"], "calls": calls.seconds(), "total": total}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "chaos_mri", help="folder of a model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--format", default=".nii.gz", choices=[".nii.gz", ".nrrd"])
    parser.add_argument("--size", type=int, nargs=3, default=(320, 320, 72))
    parser.add_argument("--spacing", type=float, nargs=3, help="mm; default: the phantom's own")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    device = choose_device(given.device)
    with tempfile.TemporaryDirectory() as place:
        voxels, _, affine = make_phantom(1, grid=tuple(given.size))
        affine = (
            affine if given.spacing is None else np.diag([-given.spacing[0], -given.spacing[1], given.spacing[2], 1])
        )
        image = Path(write_nifti(Path(place) / "case.nii.gz", voxels, affine))
        task = segmenter(given.model, Path(place), str(device))
        begin = time.perf_counter()
        task.warm_up()
        start = time.perf_counter() - begin
        rest = psutil.Process().memory_info().rss // 2**20
        calls = Calls(task.pipeline(task.store.served(task.name)).get_parsed_content("network_def"))
        rows = [segment(task, calls, image, given.format) for _ in range(given.repeats + 1)]
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {device} ({card}), {task.name}, {list(given.size)}, {given.format}")
    print(f"voxels of {np.abs(np.diag(affine)[:3]).round(2).tolist()} mm; slices larger than the model's go in windows")
    print(f"start: {start:.2f} s; memory of the process then {rest} MiB")
    report(rows)
    if device.type == "cuda":
        print(f"memory of the GPU at its peak: {torch.cuda.max_memory_reserved(device) // 2**20} MiB")


def report(rows: list[dict[str, float]]) -> None:
    """Print the table."""
    columns = (*STAGES, "total", "calls")
    print(f"{'seconds':10}" + "".join(f"{column:>10}" for column in columns))
    later = {column: statistics.median(row[column] for row in rows[1:]) for column in columns}
    for label, row in (("first", rows[0]), ("later", later)):
        print(f"{label:10}" + "".join(f"{row[column]:10.3f}" for column in columns))


if __name__ == "__main__":
    main()
