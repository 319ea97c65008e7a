"""An Orthanc of one's own, for a machine without a PACS: started with the server, stopped with it."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder

from monailabel_app.pacs.connection import PacsConnection

CONFIG = Path(__file__).with_name("orthanc.json")
PROGRAM_VARIABLE, PLUGIN_VARIABLE = "ORTHANC", "ORTHANC_PLUGIN"
PLUGINS = (
    "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",  # Debian, Ubuntu
    "/usr/lib/orthanc/libOrthancDicomWeb.so",
    "/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so",  # Orthanc's own builds
)
USER = "swin_umamba"
STARTED = 60  # seconds
STOPPED = 30
DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


@contextmanager
def orthanc(folder: str | os.PathLike, port: int = 0, password: str | None = None) -> Iterator[PacsConnection]:
    """Start Orthanc and stop it at the end.

    It answers this machine alone, and only with a password. It ends with this process, also
    when that is killed (on Linux).

    Args:
        folder: for its images and its index; its log is `orthanc.log` there.
        port: of HTTP; 0 takes a free one.
        password: of the user `USER`; None makes one for this run.

    Yields:
        How to reach it.

    Raises:
        InputError: if it is not installed, or does not start.
    """
    program, plugin = _program(), _plugin()
    folder = make_writable_folder(folder).resolve()
    password = password or secrets.token_urlsafe(24)
    port = port or _free_port()
    variables = {
        "ORTHANC_FOLDER": str(folder),
        "ORTHANC_PASSWORD": password,
        "ORTHANC_USER": USER,
        "ORTHANC_PORT": str(port),
        "ORTHANC_PLUGIN": plugin,
    }
    with open(folder / "orthanc.log", "wb") as log:
        process = subprocess.Popen(
            [program, str(CONFIG)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **variables},
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            start_new_session=True,  # Ctrl+C is for the server, which stops it when its own requests have ended
        )
    connection = PacsConnection(f"http://127.0.0.1:{port}/dicom-web", USER, password)
    try:
        _wait(process, connection, folder / "orthanc.log")
        yield connection
    finally:
        process.terminate()
        try:
            process.wait(STOPPED)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _program() -> str:
    program = shutil.which(
        os.environ.get(PROGRAM_VARIABLE) or "Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin"
    )
    if program is None:
        raise InputError(
            "Orthanc is not installed: apt-get install orthanc orthanc-dicomweb; or name the program in the "
            f"environment variable {PROGRAM_VARIABLE}"
        )
    return program


def _plugin() -> str:
    named = os.environ.get(PLUGIN_VARIABLE)
    found = next((file for file in ([named] if named else PLUGINS) if Path(file).is_file()), None)
    if found is None:
        raise InputError(
            f"Orthanc's DICOMweb plugin is not installed ({named or PLUGINS[0]}): apt-get install orthanc-dicomweb; or "
            f"name the file in the environment variable {PLUGIN_VARIABLE}"
        )
    return found


def _wait(process: subprocess.Popen, connection: PacsConnection, log: Path) -> None:
    session = connection.session()
    end = time.monotonic() + STARTED
    while time.monotonic() < end:
        if process.poll() is not None:
            lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            reason = next((line for line in reversed(lines) if line.startswith("E")), lines[-1] if lines else "no word")
            raise InputError(f"Orthanc has ended: {reason[:300]}; its log is {log}")
        try:
            if session.get(f"{connection.url}/studies?limit=1", timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise InputError(f"Orthanc has not answered for {STARTED} seconds; its log is {log}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGTERM)
