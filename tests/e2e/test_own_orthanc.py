"""`--orthanc FOLDER` with the real Orthanc: `kill -9` of either leaves images and labels, and a server that works."""

from __future__ import annotations

import functools
import os
import time

import psutil
import pytest
from helpers_commands import ROOT, run_module
from helpers_imaging import write_nifti
from helpers_pacs import need_orthanc, write_stack
from helpers_server import free_port, serve
from monailabel.client import MONAILabelClient

from monailabel_app.pacs.__main__ import main as command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def orthanc_of(server) -> list[psutil.Process]:
    """Return the Orthanc of a server, if it runs."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "Orthanc" in child.name() and child.status() != psutil.STATUS_ZOMBIE]


def series_of(server) -> list[str]:
    """Return the series that the server's PACS lists, none while it does not answer."""
    answer = server.get("/proxy/dicom/qido/series?Modality=MR")
    return [found["0020000E"]["Value"][0] for found in answer.json()] if answer.status_code == 200 else []


def wait_until(what, seconds=90):
    """Wait until a question gives something true, and return that."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)
    return found


def submit(server, image: str, label) -> str:
    """Submit a label; returns what became of it in the PACS."""
    client = MONAILabelClient(server.url, tmpdir=str(server.data_dir), client_id="Roe^Jane")
    return client.save_label(image, str(label), params={"model": "seeing"})["pacs"]


def test_kill_of_the_server_and_of_its_orthanc(tmp_path, seeing_models):
    need_orthanc()
    folder, port = tmp_path / "orthanc", free_port()
    files, labels, affine = write_stack(tmp_path / "dicom", "axial descending")
    label = write_nifti(tmp_path / "label.nii.gz", labels, affine)
    place = ("--orthanc", str(folder), "--orthanc-port", str(port))  # the same again, which an heir may hold
    start = functools.partial(serve, "", seeing_models, *place, data_dir=tmp_path / "data")
    with start() as server:
        assert command(["send", str(files[0].parent), "--studies", f"{server.url}/proxy/dicom/wado"]) == 0
        (image,) = series_of(server)
        (first,) = orthanc_of(server)
        paths = os.pathsep.join([str(ROOT), str(ROOT / "bundle")])
        second = run_module("monailabel_app", *place[:2], "--data-dir", tmp_path / "other", PYTHONPATH=paths)
        assert second.returncode == 2
        assert second.stderr.strip() == f"error: orthanc '{folder}': a server that runs already uses this folder"
        assert series_of(server) == [image]  # and is not disturbed by that
        server.process.kill()
    with start() as server:  # at once
        assert series_of(server) == [image]
        psutil.wait_procs([first], timeout=30)
        assert not first.is_running() or first.status() == psutil.STATUS_ZOMBIE
        assert server.get(f"/datastore/image?image={image}").status_code == 200  # a series that was opened is copied
        (killed,) = orthanc_of(server)
        killed.kill()
        killed.wait()
        assert submit(server, image, label) == "waits"
        assert wait_until(lambda: orthanc_of(server))[0].pid != killed.pid
        wait_until(lambda: series_of(server) == [image])
        wait_until(lambda: server.get("/pacs/").json()["waiting"] == [] and server.get("/info/").status_code == 200)
        assert len(server.get("/proxy/dicom/qido/series?Modality=SEG").json()) == 1
        told = (tmp_path / "data" / "logs" / "server.log").read_text()
        assert "Orthanc has ended (-9) and is started again" in told
