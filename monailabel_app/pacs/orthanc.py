"""An Orthanc of one's own, for a machine without a PACS: started with the server, kept running, stopped with it."""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder

from monailabel_app.pacs.connection import PacsConnection

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

CONFIG = Path(__file__).with_name("orthanc.json")
PROGRAM_VARIABLE, PLUGIN_VARIABLE = "ORTHANC", "ORTHANC_PLUGIN"
PLUGINS = (
    "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",  # Debian, Ubuntu
    "/usr/lib/orthanc/libOrthancDicomWeb.so",
    "/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so",  # Orthanc's own builds
)
USER = "swin_umamba"
LOG, LOCK = "orthanc.log", ".orthanc.lock"
STARTED = 60  # seconds
STOPPED = 30
FREED = 15  # seconds until an Orthanc whose server was killed has let go of the folder
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds until one that has died is started again, longer each time
SETTLED = 600  # seconds after which a death counts as the first
DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here, since not between fork and exec


@contextmanager
def orthanc(folder: str | os.PathLike, port: int = 0, password: str | None = None) -> Iterator[PacsConnection]:
    """Start Orthanc, start it again whenever it dies, and stop it at the end.

    It answers this machine alone, and only with a password. It ends with this process, also
    when that is killed (on Linux).

    Args:
        folder: for its images and its index; its log is `orthanc.log` there.
        port: of HTTP; 0 takes a free one.
        password: of the user `USER`; None makes one for this run.

    Yields:
        How to reach it.

    Raises:
        InputError: if it is not installed, does not start, or if another one uses the folder.
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
    with _alone_in(folder) as held:
        kept = KeptRunning([program, str(CONFIG)], {**os.environ, **variables}, folder / LOG, held)
        connection = PacsConnection(f"http://127.0.0.1:{port}/dicom-web", USER, password)
        kept.start()
        try:
            _wait(kept.process, connection, folder / LOG)
            kept.watch()
            yield connection
        finally:
            kept.stop()


class KeptRunning:
    """A program that is started again when it dies: at once, and then after longer and longer pauses.

    Args:
        command: program and arguments.
        environment: of the program.
        log: gets what it says; what an earlier one has said is kept beside it.
        held: descriptors of files that it inherits, and holds locked as long as it runs.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, held: Sequence[int]) -> None:
        self.command, self.environment, self.log, self.held = list(command), dict(environment), log, tuple(held)
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._watcher: threading.Thread | None = None
        if log.is_file():
            os.replace(log, log.with_name(f"{log.name}.1"))

    def start(self) -> None:
        """Start it once."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                pass_fds=self.held,
                preexec_fn=_die_with_parent if _LIBC is not None else None,
                start_new_session=True,  # Ctrl+C is for the server, which stops it when its own requests have ended
            )

    def watch(self) -> None:
        """Start it again from now on."""
        self._watcher = threading.Thread(target=self._watch, name="orthanc", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """End it, and do not start it again."""
        with self._starting:
            self._stopping.set()
            self.process.terminate()
        try:
            self.process.wait(STOPPED)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self) -> None:
        pause, started = FIRST_PAUSE, time.monotonic()
        while True:
            code = self.process.wait()
            pause = FIRST_PAUSE if time.monotonic() - started > SETTLED else pause
            if self._stopping.is_set():
                return
            logger.error("Orthanc has ended (%s) and is started again in %g s; its log is %s", code, pause, self.log)
            if self._stopping.wait(pause):
                return
            pause, started = min(2 * pause, LONGEST_PAUSE), time.monotonic()
            with self._starting:
                if self._stopping.is_set():
                    return
                try:
                    self.start()
                except OSError:
                    logger.exception("Orthanc cannot be started; it is tried again")


@contextmanager
def _alone_in(folder: Path) -> Iterator[list[int]]:
    """Hold a folder for one Orthanc, and yield what it has to inherit.

    Who holds the lock is the open file, so an Orthanc that outlives its server for a moment holds it too.

    Raises:
        InputError: if another one uses the folder.
    """
    if sys.platform == "win32":
        yield []
        return
    with open(folder / LOCK, "ab") as lock:
        end = time.monotonic() + FREED
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise InputError(f"orthanc {str(folder)!r}: a server that runs already uses this folder") from error
            time.sleep(0.2)
        yield [lock.fileno()]


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
    if _LIBC is not None:
        _LIBC.prctl(DIE_WITH_PARENT, signal.SIGTERM)
