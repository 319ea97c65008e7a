"""The server from an installation that it may not write to: what it makes lies in its data directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import ROOT, volume, write_model
from helpers_server import Server, free_port, infer, label_file, read_label, send, wait_until_up, write_studies

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

WRITE = 0o222
LIKE_ANYBODY = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")  # root may write anywhere else


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with program and model that nobody may write to."""
    place = tmp_path / "opt"
    for folder in ("bundle", "configs", "monailabel_app"):
        shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__", "models"))
    write_model(place / "models" / "tiny")
    parts = [place, *place.rglob("*")]
    modes = [path.stat().st_mode for path in parts]
    for path, mode in zip(parts, modes, strict=True):
        path.chmod(mode & ~WRITE)
    yield place
    for path, mode in zip(parts, modes, strict=True):
        path.chmod(mode)


def unprivileged(*command: object) -> list[str]:
    """Return a command that has no more rights than the modes of files give."""
    return [*(LIKE_ANYBODY if os.geteuid() == 0 else ()), *map(str, command)]


@contextmanager
def installed_server(place: Path, folder: Path) -> Iterator[Server]:
    """Start the server of an installation on studies in a folder."""
    port, log, data = free_port(), folder / "log", folder / "data"
    options = ["--models", place / "models", "--studies", folder / "studies", "--data-dir", data, "--port", port]
    options += ["--device", "cpu", "--uncertainty-model", "none"]
    command = unprivileged(sys.executable, "-m", "monailabel_app", *options)
    paths = os.pathsep.join([str(place), str(place / "bundle")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=place, env=environment, stdout=out, stderr=out)
    server = Server(f"http://127.0.0.1:{port}", folder / "studies", data, _Polled(process), log)
    try:
        wait_until_up(server)
        yield server
    finally:
        process.terminate()
        process.wait(60)


class _Polled:
    """A process as `Server` asks for it."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def is_running(self) -> bool:
        return self.process.poll() is None


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="setpriv is missing (Debian: util-linux)")
def test_nothing_is_written_beside_the_program(installation: Path, tmp_path: Path):
    touch = subprocess.run(unprivileged("touch", installation / "bundle" / "x"), capture_output=True, text=True)
    assert "Permission denied" in touch.stderr  # what the server would get
    before = {path: path.stat().st_mtime_ns for path in [installation, *installation.rglob("*")]}
    write_studies(tmp_path / "studies", 2)
    labels = volume(seed=100)[1]
    with installed_server(installation, tmp_path) as server:
        assert infer(server)[0] == 200
        upload = label_file(tmp_path, labels)
        assert send(server, "PUT", "/datastore/label?image=case_0", files=upload)[0] == 200
        asked = {"max_epochs": 1, "iterations_per_epoch": 1}
        assert send(server, "POST", "/train/tiny", json=asked)[0] == 200
        assert server.wait_for_training()["status"] == "DONE", server.log.read_text()[-3000:]
        assert send(server, "POST", "/versions/tiny/promote?version=0.1.1", json={"by": "x"})[0] == 200
        assert server.get("/info/").json()["models"]["tiny"]["version"] == "0.1.1"
        np.testing.assert_array_equal(read_label(server, "case_0", tmp_path), labels)
    assert {path: path.stat().st_mtime_ns for path in [installation, *installation.rglob("*")]} == before
    told = server.log.read_text()
    assert "Traceback" not in told
    assert "Permission denied" not in told
