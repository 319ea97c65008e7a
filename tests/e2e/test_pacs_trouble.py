"""A PACS that is reached by TLS alone, and that is down for a while."""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers_dicom import in_ras
from helpers_imaging import write_nifti
from helpers_pacs import ORGANS, need_orthanc, send, write_stack
from helpers_proxy import make_certificate
from helpers_server import free_port, serve
from monai.data import MetaTensor
from monailabel.client import MONAILabelClient
from swin_umamba.dicom.segmentation import read_segmentation

from monailabel_app.pacs.__main__ import main as command
from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PASSWORD_FILE_VARIABLE, USER_VARIABLE, PacsConnection, PacsError
from monailabel_app.pacs.orthanc import USER, orthanc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


PASSWORD = "not to be told"


@contextlib.contextmanager
def tls_in_front_of(port: int, certificate: Path, both: Path) -> Iterator[int]:
    """Pass connections on to a port; each client must show the same certificate. Gives the port to connect to."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(both)
    listening = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def serve_one(plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client = context.wrap_socket(plain, server_side=True)
            behind = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=copy, args=(client, behind), daemon=True).start()
            copy(behind, client)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve_one, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()


@pytest.fixture
def pacs(tmp_path):
    """Start Orthanc, always with the same address and password, and stop it."""
    need_orthanc()
    return functools.partial(orthanc, tmp_path / "orthanc", free_port(), PASSWORD)


def test_label_waits_for_a_pacs_that_is_down(tmp_path, seeing_models, pacs):
    """Nothing is lost: not by the PACS, not by a server that is killed meanwhile. The PACS is reached by TLS alone."""
    certificate, both = make_certificate(tmp_path)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    place = {USER_VARIABLE: USER, PASSWORD_FILE_VARIABLE: str(tmp_path / "password"), "data_dir": tmp_path / "data"}
    trust = ("--pacs-ca", str(certificate), "--pacs-certificate", str(both))
    files, labels, affine = write_stack(tmp_path / "dicom", "axial descending")
    path = write_nifti(tmp_path / "label.nii.gz", labels, affine)  # its slices go down, those of the image up
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as archive:
        connection = archive.enter_context(pacs())
        uid = send(PacsClient(connection), files)
        port = stack.enter_context(tls_in_front_of(urlsplit(connection.url).port, certificate, both))
        url = f"https://127.0.0.1:{port}/dicom-web"
        with pytest.raises(PacsError, match="SSLError"):
            PacsClient(PacsConnection(url, USER, PASSWORD)).series({})
        with contextlib.ExitStack() as first:
            server = first.enter_context(serve(url, seeing_models, *trust, **place))
            assert server.get("/pacs/").json()["error"] is None
            assert len(server.get("/proxy/dicom/qido/studies").json()) == 1
            client = MONAILabelClient(server.url, tmpdir=str(tmp_path), client_id="Roe^Jane")
            half = write_nifti(tmp_path / "half.nii.gz", np.where(labels == 1, 1, 0).astype(np.uint8), affine)
            assert client.save_label(uid, str(half), params={"model": "seeing"})["pacs"] == "stored"
            archive.close()
            assert client.save_label(uid, str(path), params={"model": "seeing"})["pacs"] == "waits"
            assert client.info()["datastore"]["completed"] == 1
            assert server.get("/pacs/").json()["waiting"] == [{"image": uid, "tag": "final"}]
            refused = server.get("/proxy/dicom/qido/studies")
            assert (refused.status_code, refused.json()["detail"][:8]) == (503, "the PACS")
            shutil.rmtree(server.data_dir / "pacs" / "series")
            refused = server.get(f"/datastore/image?image={uid}")
            assert refused.status_code == 503
            assert "does not answer" in refused.json()["detail"]
            server.process.kill()
        with serve(url, seeing_models, *trust, **place) as server:  # starts although there is no PACS
            assert server.get("/info/").json()["datastore"]["completed"] == 1
            assert "does not answer" in server.get("/pacs/").json()["error"]
            with pacs():
                end = time.monotonic() + 90
                while server.get("/pacs/").json()["waiting"]:
                    assert time.monotonic() < end
                    server.get("/info/")  # as a viewer does; without anyone it takes longer
                    time.sleep(0.3)
                client = PacsClient(connection)
                ((series, info),) = client.series({"Modality": "SEG"}).items()
                headers = client.headers(info["StudyInstanceUID"], series)
                last = max(headers, key=lambda header: int(header.InstanceNumber))
                dataset = client.instance(info["StudyInstanceUID"], series, str(last.SOPInstanceUID))
    found = read_segmentation(dataset, files, ORGANS)
    expected = in_ras(MetaTensor(labels[None], affine))
    np.testing.assert_array_equal(in_ras(found)[0], expected[0])
    np.testing.assert_allclose(in_ras(found)[1], expected[1], atol=1e-4)
    assert (len(headers), dataset.ContentCreatorName) == (2, "Roe^Jane")
    assert command(["purge", "--data-dir", str(tmp_path / "data")]) == 0
    assert not list((tmp_path / "data" / "pacs" / "series").glob("*"))
    assert len(list((tmp_path / "data" / "pacs" / "labels" / "final").glob("*.nii.gz"))) == 1
