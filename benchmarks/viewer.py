"""How fast the viewer is: seconds from a click to the organs and where they go, and a frame while painting.

    python benchmarks/viewer.py --model models/<name> [--size 320 320 72]

Needs Orthanc, Chromium and the fetched site, as the end-to-end tests do. Chromium draws in software here
(SwiftShader), so a graphics card is faster. Prints one line of JSON. Of each click it holds "total" and its parts, one
after the other: the server's "load", "network", "post", "write" and the "rest" of its work (finding the series, keeping
the label, naming slices), "transfer", and "draw", the browser's part from the answer to the picture. "cores" and "load"
are the machine's, since other programs take their share.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bundle"), str(ROOT / "tests")]

from helpers_browser import browser  # noqa: E402
from helpers_dicom import COMPLETE, write_series  # noqa: E402
from helpers_ohif import Reader  # noqa: E402
from helpers_pacs import send  # noqa: E402
from helpers_server import serve  # noqa: E402
from swin_umamba.data.phantom import make_phantom  # noqa: E402

from monailabel_app.pacs.client import PacsClient  # noqa: E402
from monailabel_app.pacs.orthanc import orthanc  # noqa: E402

RECORD = """() => {
  window.frames_ = [];
  let last = performance.now();
  const next = (now) => {
    window.frames_.push(now - last);
    last = now;
    window.recording = requestAnimationFrame(next);
  };
  window.recording = requestAnimationFrame(next);
}"""
PATIENCE = 600_000  # milliseconds
STOP = "() => { cancelAnimationFrame(window.recording); return window.frames_.slice(1); }"


def measure(reader: Reader, study: str) -> dict[str, Any]:
    """Segment twice, the second time with everything loaded, paint and store."""
    reader.open(study)
    found: dict[str, Any] = {"first_click_s": click(reader), "second_click_s": click(reader)}
    reader.stroke("Brush", (0.4, 0.4), (0.5, 0.5), radius=10)  # the first one sets up undo
    frames = paint(reader)
    found["frame_ms_median"], found["frame_ms_95"] = (round(float(np.percentile(frames, q)), 1) for q in (50, 95))
    start = time.perf_counter()
    reader.store()
    found["store_s"] = round(time.perf_counter() - start, 2)
    return found


def click(reader: Reader) -> dict[str, float]:
    """Return the seconds from the click on "Segment" to the picture with the organs, and those of each part."""
    with reader.page.expect_response(
        lambda answer: answer.url.partition("?")[0].endswith("/segment"), timeout=PATIENCE
    ) as got:
        start = time.perf_counter()
        reader.segment(wait=PATIENCE)
        reader.drawn()
        total = time.perf_counter() - start
    parts = {stage: seconds for stage, seconds in got.value.json()["latencies"].items() if stage != "model"}
    times = got.value.request.timing  # ms since the request began
    parts["rest"] = times["responseStart"] / 1000 - sum(parts.values())
    parts["transfer"] = (times["responseEnd"] - times["responseStart"]) / 1000
    parts["draw"] = total - times["responseEnd"] / 1000
    return {"total": round(total, 2), **{part: round(seconds, 2) for part, seconds in parts.items()}}


def paint(reader: Reader) -> list[float]:
    """Return the milliseconds of each frame while the brush is drawn to and fro."""
    box = reader.page.locator(".cornerstone-canvas").first.bounding_box()
    assert box is not None
    x, y, side = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["height"] / 5
    reader.page.mouse.move(x, y)
    reader.page.mouse.down()
    reader.page.evaluate(RECORD)
    for number in range(8):
        reader.page.mouse.move(x + side * (number % 2), y + side * number / 8, steps=15)
    frames = reader.page.evaluate(STOP)
    reader.page.mouse.up()
    reader.page.wait_for_timeout(600)
    return frames


def main() -> None:
    """Set up a hospital of one patient and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "bundle" / "models", help="folder of a trained model")
    parser.add_argument("--size", type=int, nargs=3, default=(320, 320, 72), help="columns, rows, slices")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, orthanc(Path(folder) / "orthanc") as connection:
        voxels, _, affine = make_phantom(1, grid=tuple(options.size), orientation="LPS")
        files = write_series(Path(folder) / "dicom", voxels, affine, **COMPLETE)
        client = PacsClient(connection)
        image = send(client, files)
        study = client.series({"Modality": "MR"})[image]["StudyInstanceUID"]
        more = {"data_dir": Path(folder) / "data", **connection.as_environment()}
        with serve(connection.url, options.model.resolve(), **more) as server, browser(server.url) as page:
            machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
            print(json.dumps({"size": list(options.size), **machine, **measure(Reader(page, server), study)}))


if __name__ == "__main__":
    main()
