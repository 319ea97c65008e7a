"""A real server process on a folder of small images, and a client as 3D Slicer uses it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import requests
from helpers_bundle import AFFINE, ROOT, volume
from helpers_commands import Started
from helpers_imaging import write_nifti

STARTED = 120  # seconds


@dataclass
class Server:
    """A running server."""

    url: str
    studies: Path | str
    data_dir: Path
    process: Started
    log: Path

    def get(self, path: str, **kwargs) -> requests.Response:
        """Send GET."""
        return requests.get(self.url + path, timeout=180, **kwargs)

    def wait_for_training(self, seconds: float = 240) -> dict:
        """Return the last training's task when it has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            task = self.get("/train/").json()
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(0.5)
        raise TimeoutError(f"training has not ended: {task}")


def write_studies(folder: Path, count: int) -> Path:
    """Write images of two organs, without labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_nifti(folder / f"case_{number}.nii.gz", volume(seed=100 + number)[0], AFFINE)
    return folder


@contextmanager
def serve(
    studies: Path | str, models: Path, *arguments: str, data_dir: Path | None = None, port: int = 0, **environment
) -> Iterator[Server]:
    """Start the documented command and stop it at the end; for a PACS, `studies` is its address."""
    port = port or free_port()
    data_dir = data_dir or Path(studies) / ".swin_umamba"
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / f"process_{port}.log"
    command = ["--models", str(models)]
    command += [] if "--orthanc" in arguments else ["--studies", str(studies)]
    command += ["--data-dir", str(data_dir), "--port", str(port), "--device", "cpu"]
    command += ["--uncertainty-model", "none", *arguments]  # a process in the background that few tests need
    paths = os.pathsep.join([str(ROOT), str(ROOT / "bundle")])
    log.write_bytes(b"")
    process = Started("monailabel_app", *command, log=log, folder=data_dir, PYTHONPATH=paths, **environment)
    server = Server(f"http://127.0.0.1:{port}", studies, data_dir, process, log)
    try:
        wait_until_up(server)
        yield server
    finally:
        _stop(process, log, alone="--orthanc" not in arguments)


def _stop(process: Started, log: Path, alone: bool) -> None:
    """Stop a server; once one that has no Orthanc to stop has said its last, Python takes seconds to tidy up itself."""
    end = time.monotonic() + 20
    if process.is_running():
        process.terminate()
    while process.is_running() and time.monotonic() < end:
        if alone and "Finished server process" in log.read_text(errors="replace"):
            break
        time.sleep(0.02)
    if process.is_running():
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until_up(server: Server) -> None:
    """Wait until a server answers; raise with its log if it ends or never does."""
    end = time.monotonic() + STARTED
    while time.monotonic() < end:
        if not server.process.is_running():
            raise RuntimeError(f"the server has ended: {server.log.read_text()[-3000:]}")
        try:
            if server.get("/healthz").status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    raise TimeoutError(server.log.read_text()[-3000:])


def send(server, method, path, **kwargs):
    """Send a request and return status and JSON, which every answer must be."""
    answer = requests.request(method, server.url + path, timeout=120, **kwargs)
    return answer.status_code, answer.json()


def infer(server, model="tiny", image="case_0", params=None, **kwargs):
    """Ask for the data of a segmentation."""
    query = {"image": image, "output": "json"}
    data = {"params": params if isinstance(params, str) else json.dumps(params or {})}
    return send(server, "POST", f"/infer/{model}", params=query, data=data, **kwargs)


def label_file(folder, labels, affine=AFFINE, name="label.nii.gz"):
    """Write a label map and return it as an upload."""
    write_nifti(folder / name, labels, affine)
    return {"label": (name, (folder / name).read_bytes())}


def read_label(server, image, folder):
    """Return a stored label, downloaded."""
    answer = server.get(f"/datastore/label?label={image}&tag=final")
    assert answer.status_code == 200, answer.text
    (folder / "back.nii.gz").write_bytes(answer.content)
    return np.asarray(nib.load(folder / "back.nii.gz").dataobj)
