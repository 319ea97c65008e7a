"""Processes of their own for trainings, batches and scoring: one of a kind at a time, stepping back for the server."""

from __future__ import annotations

import re
import threading
from typing import Any

import psutil
from fastapi import HTTPException
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.async_tasks.utils import processes, tasks

BUSY, IDLE = 5, 19  # niceness of what a person waits for, and of what nobody waits for
ERROR = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception): (.+)")  # the last line of a traceback
METHODS = ("train", "batch_infer", "scoring")
_starting = threading.Lock()


def lower_priority(niceness: int) -> None:
    """Let the server, and whoever else works on this machine, go first."""
    process = psutil.Process()
    process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if psutil.WINDOWS else max(niceness, process.nice()))


def alive(method: str) -> list[dict[str, Any]]:
    """Return the tasks of a kind whose process runs or is about to."""
    return [task for task in tasks(method) if task["status"] in ("SUBMITTED", "RUNNING")]


def start(method: str, request: dict[str, Any]) -> dict[str, Any]:
    """Start a process and return its task.

    Raises:
        HTTPException: 429 while one of this kind runs.
    """
    with _starting:  # between the request and its process MONAI Label itself would accept a second one
        if alive(method):
            raise HTTPException(429, f"{method}: one is running already; stop it, or wait for its end")
        task, detail = AsyncTask.run(method, request=request)
    if task is None:
        raise HTTPException(429, detail)
    return task


def status(method: str, every: bool, check_if_running: bool) -> Any:
    """Return the present, or the last, task of a kind, or all.

    Raises:
        HTTPException: 404 if there is none.
    """
    begun = alive(method)
    if check_if_running and begun and not processes(method):
        return begun[0]
    found, detail = AsyncTask.status(method, every, check_if_running)
    if found is None:
        raise HTTPException(404, detail)
    return found


def failure(method: str) -> str | None:
    """Return why the last task of a kind has failed; None if it has not, or none was started."""
    found = tasks(method)
    if not found or found[-1]["status"] != "ERROR":
        return None
    told = [match[1] for match in map(ERROR.match, found[-1].get("details") or ()) if match]
    return told[-1] if told else "its process ended without a word"


def stop_all() -> None:
    """Stop whatever runs; nothing is lost but the time that a training took."""
    for method in METHODS:
        AsyncTask.stop(method)
