"""Commands in processes of their own that need not wait for MONAI to load: each is a fork of one that has loaded it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 300  # that a command may take

# What it loads is what every command loads before anything of ours; a child ends as the interpreter ends a program.
_LOADED = """
import json, os, runpy, signal, sys
import monai.bundle, monai.handlers, monai.transforms
for line in sys.stdin:
    task, children = json.loads(line), []
    for environment in task["processes"]:
        child = os.fork()
        if child == 0:
            break
        children.append(child)
    else:
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
        continue
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
        streams = {name: Path(place) / name for name in ("stdout", "stderr")}
        task = {
            "module": module,
            "arguments": [str(argument) for argument in arguments],
            "processes": ranks,
            "folder": str(folder),
            "seconds": SECONDS,
            **{name: str(path) for name, path in streams.items()},
        }
        codes = _ask(task)
        said = {name: path.read_text(encoding="utf-8", errors="replace") for name, path in streams.items()}
    return subprocess.CompletedProcess([module, *arguments], next((code for code in codes if code), 0), **said)


def _ranks(count: int) -> list[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def _ask(task: dict) -> list[int]:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(task) + "\n")
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
