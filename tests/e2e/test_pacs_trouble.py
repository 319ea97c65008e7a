"""A PACS that is down, and one that is reached by TLS alone."""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers_imaging import write_nifti
from helpers_pacs import ORGANS, need, need_orthanc, send, write_stack
from helpers_server import serve
from monailabel.client import MONAILabelClient
from swin_umamba.dicom.segmentation import read_segmentation

from monailabel_app.pacs.__main__ import main as command
from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PASSWORD_FILE_VARIABLE, USER_VARIABLE
from monailabel_app.pacs.orthanc import USER, orthanc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_label_waits_for_a_pacs_that_is_down(tmp_path, seeing_models):
    """Nothing is lost: not by the PACS, not by a server that is killed meanwhile."""
    need_orthanc()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "password").write_text("not to be told\n")
    secret = {USER_VARIABLE: USER, PASSWORD_FILE_VARIABLE: str(tmp_path / "password")}
    place = {"data_dir": tmp_path / "data", **secret}
    pacs = functools.partial(orthanc, tmp_path / "orthanc", port, "not to be told")
    files, labels, affine = write_stack(tmp_path / "dicom", "axial ascending")
    path = write_nifti(tmp_path / "label.nii.gz", labels, affine)
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as archive:
        connection = archive.enter_context(pacs())
        uid = send(PacsClient(connection), files)
        server = stack.enter_context(serve(connection.url, seeing_models, **place))
        assert server.get(f"/datastore/image?image={uid}").status_code == 200
        archive.close()
        client = MONAILabelClient(server.url, tmpdir=str(tmp_path), client_id="Roe^Jane")
        answer = client.save_label(uid, str(path), params={"model": "seeing"})
        assert answer["pacs"] == "waits"
        assert client.info()["datastore"]["completed"] == 1
        assert server.get("/pacs/").json()["waiting"] == [{"image": uid, "tag": "final"}]
        refused = server.get("/proxy/dicom/qido/studies")
        assert (refused.status_code, refused.json()["detail"][:8]) == (503, "the PACS")
        shutil.rmtree(server.data_dir / "pacs" / "series")
        refused = server.get(f"/datastore/image?image={uid}")
        assert refused.status_code == 503
        assert "does not answer" in refused.json()["detail"]
        server.process.kill()
    with serve(connection.url, seeing_models, **place) as server:  # starts although there is no PACS
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
            (header,) = client.headers(info["StudyInstanceUID"], series)
            dataset = client.instance(info["StudyInstanceUID"], series, str(header.SOPInstanceUID))
    np.testing.assert_array_equal(read_segmentation(dataset, files, ORGANS).numpy()[0], labels)
    assert dataset.ContentCreatorName == "Roe^Jane"
    assert command(["purge", "--data-dir", str(tmp_path / "data")]) == 0
    assert not list((tmp_path / "data" / "pacs" / "series").glob("*"))
    assert len(list((tmp_path / "data" / "pacs" / "labels" / "final").glob("*.nii.gz"))) == 1


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for 127.0.0.1 that signs itself, and a file that holds its key too."""
    need("openssl", shutil.which("openssl") is not None)
    certificate, both = folder / "ca.pem", folder / "both.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=pacs"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(both), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *options, *names], check=True, capture_output=True)
    both.write_bytes(both.read_bytes() + certificate.read_bytes())
    return certificate, both


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


def test_pacs_behind_tls_with_an_authority_and_a_certificate_of_its_own(tmp_path, seeing_models):
    need_orthanc()
    certificate, both = make_certificate(tmp_path)
    files, labels, affine = write_stack(tmp_path / "dicom", "axial descending")
    path = write_nifti(tmp_path / "label.nii.gz", labels, affine)
    with orthanc(tmp_path / "orthanc") as connection:
        uid, secret = send(PacsClient(connection), files), connection.as_environment()
        behind = int(connection.url.split(":")[2].split("/")[0])
        with tls_in_front_of(behind, certificate, both) as port:
            url = f"https://127.0.0.1:{port}/dicom-web"
            with serve(url, seeing_models, data_dir=tmp_path / "untrusting", **secret) as server:
                assert "SSLError" in server.get("/pacs/").json()["error"]
                assert server.get("/proxy/dicom/qido/studies").status_code == 503
            trust = ("--pacs-ca", str(certificate), "--pacs-certificate", str(both))
            with serve(url, seeing_models, *trust, data_dir=tmp_path / "data", **secret) as server:
                assert server.get("/pacs/").json()["error"] is None
                assert len(server.get("/proxy/dicom/qido/studies").json()) == 1
                client = MONAILabelClient(server.url, tmpdir=str(tmp_path), client_id="Roe^Jane")
                assert client.save_label(uid, str(path), params={"model": "seeing"})["pacs"] == "stored"
