"""Commands in processes of their own that need not wait for MONAI to load: each is a fork of one that has loaded it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
SECONDS = 300  # that a command may take

# It loads packages of others that every command and the server load before anything of ours, and that read no settings
# when they load. A child ends as the interpreter ends a program.
_LOADED = """
import json, os, runpy, signal, sys
import fastapi, highdicom, monai.bundle, monai.handlers, monai.transforms, pynetdicom, uvicorn

started = set()

def reap(*_):
    for child in [child for child in started if os.waitpid(child, os.WNOHANG)[0]]:
        started.discard(child)

signal.signal(signal.SIGCHLD, reap)
for line in sys.stdin:
    task, children = json.loads(line), []
    for environment in task["processes"]:
        child = os.fork()
        if child == 0:
            break
        children.append(child)
    else:
        if task["seconds"]:
            children = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        else:
            started.update(children)
            reap()
        print(json.dumps(children), flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.alarm(task["seconds"])
    for number, name in ((0, os.devnull), (1, task["stdout"]), (2, task["stderr"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT), number)
    sys.stdin = open(0, closefd=False)
    os.environ.update(environment)
    os.chdir(task["folder"])
    sys.path[:1] = [task["folder"], *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [task["module"], *task["arguments"]]
    runpy.run_module(task["module"], run_name="__main__", alter_sys=True)
    sys.exit()
"""


def run_module(
    module: str, *arguments: object, processes: int = 1, folder: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess:
    """Run `python -m module …` in a folder; with several processes each gets its rank, as `torchrun` gives it.

    Returns:
        What they wrote, together, and the first exit code that is not 0.
    """
    ranks = [environment] if processes == 1 else [{**environment, **rank} for rank in _ranks(processes)]
    with tempfile.TemporaryDirectory() as place:
        streams = {name: str(Path(place) / name) for name in ("stdout", "stderr")}
        codes = _ask(module, arguments, ranks, folder, SECONDS, **streams)
        said = {name: Path(path).read_text(encoding="utf-8", errors="replace") for name, path in streams.items()}
    return subprocess.CompletedProcess([module, *arguments], next((code for code in codes if code), 0), **said)


class Started:
    """A program that was started with `python -m module …` and runs on; its output goes to a file."""

    def __init__(self, module: str, *arguments: object, log: Path, folder: Path, **environment: str) -> None:
        (self.pid,) = _ask(module, arguments, [environment], folder, 0, stdout=str(log), stderr=str(log))
        self._process = psutil.Process(self.pid)

    def is_running(self) -> bool:
        """Whether one of its threads has not ended: a thread that is left holds files and locks of the process."""
        return self._process.is_running()

    def terminate(self) -> None:
        """Ask it to stop; nothing happens if it has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.terminate()

    def kill(self) -> None:
        """End it at once; nothing happens if it has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()

    def wait(self, seconds: float = SECONDS) -> None:
        """Wait for its end.

        Raises:
            TimeoutError: if it does not come.
        """
        end = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > end:
                raise TimeoutError(f"process {self.pid} has not ended in {seconds} s")
            time.sleep(0.02)


def _ranks(count: int) -> list[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def _ask(
    module: str,
    arguments: Sequence[object],
    processes: list[dict[str, str]],
    folder: Path,
    seconds: int,
    **streams: str,
) -> list[int]:
    """Start processes; return their exit codes, or at once their ids if they may take 0 seconds, which is any time."""
    plain = [str(argument) for argument in arguments]
    task = {"module": module, "arguments": plain, "processes": processes, "folder": str(folder), "seconds": seconds}
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps({**task, **streams}) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    assert answer, f"the process that loads MONAI has ended with {server.wait()}"
    return json.loads(answer)


@cache
def _server() -> subprocess.Popen:
    """Start the process that loads MONAI; it ends with this one, when its input does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONPATH": ""}
    return subprocess.Popen([sys.executable, "-c", _LOADED], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True, cwd=ROOT, env=environment)  # fmt: skip
