"""The record that a training keeps of itself while it goes on, and what it says when it has to stop."""

from __future__ import annotations

import csv
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import yaml
from ignite.engine import Engine, Events

from swin_umamba.checkpoints import checkpoints_of
from swin_umamba.distributed import lost_process_error
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.files import disk_error, make_writable_folder, replace_file
from swin_umamba.runs.folders import CONFIG_FILE, METRICS_FILE, RECORD_FILE, Resume, lock_run, resume_of, unlock_run
from swin_umamba.runs.record import differences, facts, resolved_config, running_config, uncommitted_changes

logger = logging.getLogger(__name__)

SHOWN = 4  # changed settings in an error


class TrainingRun:
    """Keep a run's folder: `run.json`, `config.yaml`, `metrics.csv` and, of uncommitted code, `code.patch`.

    `run.json` tells what the run is and how it stands, with an entry for each time that it was begun or continued.

    Args:
        folder: of the run.
        resume: whether to go on with what is there: true, false, or the folder itself.
        about: plain data that tells runs apart, such as the model's name.
        seed: of all random numbers.
        part_of: folder of the run that this one is a part of, which is the one to go on with.
        writes: whether this process writes; of several only one does.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        resume: Resume = False,
        about: Mapping[str, Any] | None = None,
        seed: int = 0,
        part_of: str | os.PathLike | None = None,
        writes: bool = True,
    ) -> None:
        self.folder = Path(folder)
        asked = resume_of(resume)
        if isinstance(asked, Path) and asked.resolve() != self.folder.resolve():
            raise InputError(f"resume {str(asked)!r} and output_dir {str(folder)!r}: legal: one of them, or the same")
        self.resume = bool(asked)
        self.about, self.seed, self.writes = dict(about or {}), seed, writes
        self.whole = Path(part_of or folder)
        self.validator: Engine | None = None
        self.history: list[dict[str, Any]] = []
        self._record: dict[str, Any] = {}
        self._lock: IO[str] | None = None
        self._start = time.perf_counter()

    def begin(self) -> None:
        """Claim the folder and write what the run is, before anything else is done.

        Raises:
            InputError: if the folder holds a run and `resume` is not asked for, if another process is writing to it, or
                if a run that goes on is set up otherwise than it was.
        """
        self._start = time.perf_counter()
        if not self.writes:
            return
        make_writable_folder(self.folder)
        self._lock = lock_run(self.folder)
        try:
            self._describe()
        except BaseException:
            self._release()
            raise

    def _describe(self) -> None:
        begun = bool(checkpoints_of(self.folder)) or (self.folder / METRICS_FILE).exists()
        if begun and not self.resume:
            raise InputError(
                f"output_dir {str(self.folder)!r} holds a run: go on with it by --resume True, or choose another folder"
            )
        if self.resume and not begun:
            logger.info("nothing to go on with in %s: the training starts at its beginning", self.folder)
        self._record = self._read() if begun else {}
        self._write_config(begun)
        now = {"started": _now(), "seed": self.seed, **facts()}
        self._record = {
            **self.about,
            "seed": self.seed,
            "started": self._record.get("started", now["started"]),
            "parts": [*self._record.get("parts", []), now],
        }
        self._write(status="running", reason=None)
        logger.info("run: %s", self.folder)

    def attach(self, engine: Engine, validator: Engine | None = None) -> None:
        """Record each epoch, with the key metric of a validator, the end, and what went wrong."""
        self.validator = validator
        engine.add_event_handler(Events.STARTED, self._prepared)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self._finished)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def state_dict(self) -> dict[str, Any]:
        """Return the record of the epochs."""
        return {"history": self.history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with a record; what was written of later epochs is dropped."""
        self.history = [dict(epoch) for epoch in state["history"]]
        self._write_metrics()

    def _prepared(self, engine: Engine) -> None:
        seconds = time.perf_counter() - self._start
        if self.writes:
            logger.info("network and data are ready after %.1f s", seconds)
            if self._record:
                self._record["parts"][-1]["seconds_before_first_epoch"] = round(seconds, 1)
                self._write(max_epochs=engine.state.max_epochs)

    def _after_epoch(self, engine: Any) -> None:
        epoch: dict[str, Any] = {"epoch": engine.state.epoch, **getattr(engine.state, "epoch_stats", {})}
        state = getattr(self.validator, "state", None)
        if state is not None and state.epoch == engine.state.epoch and state.key_metric_name in state.metrics:
            epoch[state.key_metric_name] = float(state.metrics[state.key_metric_name])
        self.history.append(epoch)
        self._write_metrics()
        self._write(epoch=engine.state.epoch)

    def _finished(self, engine: Engine) -> None:
        self._write(status="finished", epoch=engine.state.epoch, finished=_now())
        self._release()

    def failed(self, error: BaseException) -> InputError | None:
        """Record what ended the run, let go of its folder, and return what to tell the user if he can mend it."""
        told = input_error_of(error) or disk_error(error, self.folder) or lost_process_error(error)
        cause = error
        while cause.__cause__ is not None:  # MONAI raises its own error from the one that tells something
            cause = cause.__cause__
        reason = str(told) if told is not None else f"{type(cause).__name__}: {cause}"
        status = "interrupted" if isinstance(cause, KeyboardInterrupt) else "failed"
        try:
            self._write(status=status, reason=" ".join(reason.split()))
        except (OSError, InputError) as second:  # most likely for the same reason
            logger.error("run.json could not be written: %s", second)
        self._release()
        return told

    def _failed(self, engine: Engine, error: BaseException) -> None:
        kept = checkpoints_of(self.folder)
        told = self.failed(error)
        advice = (
            f"what was learnt up to {kept[-1].stem.replace('_', ' ')} is kept: --resume {self.whole}" if kept else ""
        )
        if told is None:
            if kept and self.writes:
                logger.error("%s", advice)
            raise error
        raise InputError(f"{told}; {advice}" if kept else str(told)) from error

    def _release(self) -> None:
        if self._lock is not None:
            unlock_run(self._lock)
            self._lock = None

    def _write_config(self, begun: bool) -> None:
        parser = running_config()
        if parser is None:
            return
        path = self.folder / CONFIG_FILE
        config = resolved_config(parser)
        if begun and path.is_file():
            changed = differences(yaml.safe_load(path.read_text(encoding="utf-8")), config)
            if changed:
                shown = "; ".join(
                    f"{key} was {old!r}, is {new!r}" for key, (old, new) in sorted(changed.items())[:SHOWN]
                )
                more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
                raise InputError(
                    f"the run {str(self.folder)!r} goes on as it was set up: {shown}{more}; to change that, start "
                    f"a new run with --checkpoint {self.folder / 'model' / 'model.pt'}"
                )
        with replace_file(path) as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110), "utf-8")
        patch = uncommitted_changes()
        if patch:
            with replace_file(self.folder / "code.patch") as temporary:
                temporary.write_text(patch, encoding="utf-8")

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / RECORD_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read and is begun anew: %s", self.folder / RECORD_FILE, error)
            return {}

    def _write(self, **changes: Any) -> None:
        if self.writes and self._record:
            self._record.update(changes)
            with replace_file(self.folder / RECORD_FILE) as path:
                path.write_text(json.dumps(self._record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _write_metrics(self) -> None:
        if not (self.writes and self._record):
            return
        columns = list(dict.fromkeys(key for epoch in self.history for key in epoch))
        with replace_file(self.folder / METRICS_FILE) as path, open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(self.history)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
