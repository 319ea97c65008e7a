"""Where runs are, which is the newest, and who is writing to one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from swin_umamba.distributed import same_on_all_ranks
from swin_umamba.errors import InputError

RECORD_FILE, CONFIG_FILE, METRICS_FILE, LOCK_FILE = "run.json", "config.yaml", "metrics.csv", ".lock"
Resume = bool | str | os.PathLike


def choose_run_folder(
    runs_dir: str | os.PathLike,
    *,
    name: str | None = None,
    prefix: str = "run",
    resume: Resume = False,
    device: torch.device | str | None = None,
) -> str:
    """Return the folder of a training: a new one in `runs_dir`, or the one to go on with. Nothing is made.

    Args:
        runs_dir: folder of all runs.
        name: of the new run's folder; None makes one of `prefix`, date and time.
        prefix: letters, digits, `.`, `_`, `-`; anything else is replaced.
        resume: True goes on with the run `name`, or without a name with the newest one; or a run's folder.
        device: of this process; training processes that found each other by it agree on a folder.

    Raises:
        InputError: if there is no such run.
    """
    asked = resume_of(resume)
    if isinstance(asked, Path):
        if not (asked / RECORD_FILE).is_file():
            raise InputError(f"resume {str(asked)!r} is no run's folder; legal: true, false, {_legal(runs_dir)}")
        folder = asked
    elif name is not None:
        folder = Path(runs_dir) / name
    elif asked:
        runs = runs_in(runs_dir)
        if not runs:
            raise InputError(f"resume: there is no run in {str(runs_dir)!r}; legal: a folder that holds {RECORD_FILE}")
        folder = runs[-1]
    else:
        folder = _new_folder(Path(runs_dir), re.sub(r"[^\w.\-]+", "_", prefix))
    return same_on_all_ranks(str(folder))


def resume_of(resume: Resume | None) -> bool | Path:
    """Return what a `resume` setting means: False, True, or the path of a run."""
    if isinstance(resume, bool) or resume is None:
        return bool(resume)
    text = os.fspath(resume)
    return text.lower() == "true" if text.lower() in ("true", "false") else Path(text)


def runs_in(folder: str | os.PathLike) -> list[Path]:
    """Return the runs in a folder, the one that was begun or continued last at the end."""
    found = [record.parent for record in Path(folder).glob(f"*/{RECORD_FILE}")]
    return sorted(found, key=lambda run: ((run / RECORD_FILE).stat().st_mtime_ns, run.name))


def lock_run(folder: str | os.PathLike) -> IO[str]:
    """Claim a run for this process, until `unlock_run` or its end.

    Raises:
        InputError: if another process is at it.
    """
    file = open(Path(folder) / LOCK_FILE, "a+")  # noqa: SIM115  # stays open as long as the claim
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise InputError(f"another training is writing to {str(folder)!r}; legal: one at a time") from error
    _claims.add(file)
    return file


def unlock_run(file: IO[str]) -> None:
    """Give up a claim."""
    fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


def _drop_claims() -> None:
    """Close the claims in a process that was forked off, such as a data loader's worker, which may outlive this one."""
    for file in list(_claims):
        file.close()


_claims: weakref.WeakSet[IO[str]] = weakref.WeakSet()
os.register_at_fork(after_in_child=_drop_claims)


def is_running(folder: str | os.PathLike) -> bool:
    """Return whether a training is writing to a run."""
    with contextlib.suppress(FileNotFoundError), open(Path(folder) / LOCK_FILE) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _new_folder(runs_dir: Path, prefix: str) -> Path:
    name = f"{prefix}_{time.strftime('%Y%m%d-%H%M%S')}"
    return next(path for path in _candidates(runs_dir / name) if not path.exists())


def _candidates(path: Path) -> Iterator[Path]:
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.name}-{number}")
        number += 1


def _legal(runs_dir: str | os.PathLike) -> str:
    names = [str(run) for run in runs_in(runs_dir)[-3:]]
    return ", ".join(names) if names else f"a folder that holds {RECORD_FILE}"
