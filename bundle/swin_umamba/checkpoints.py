"""Checkpoints from which a training goes on as if it had never stopped.

A checkpoint holds what the next step depends on: weights, optimizer, learning rate, loss scale, running average, epoch,
best metric, the model kept so far and the record of the epochs. Random states are not in it because there are none:
samples, augmentation and steps are seeded by their numbers (`swin_umamba.sampling`).
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from swin_umamba.errors import InputError
from swin_umamba.files import replace_file, save_tensors

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
PATTERN = "epoch_*.pt"
FORMAT = 1


class Checkpointing:
    """Write a checkpoint after each so many epochs and after the last one, and go on from the newest one.

    It must be the last handler of an epoch's end that changes any of what it keeps.

    Args:
        run_folder: of the run; checkpoints are files in `checkpoints` within.
        objects: by name, with `state_dict` and `load_state_dict`; those that are None are left out.
        loaders: what gives the batches: those parts of it that have a `start_at` go on with the batch that is due.
        validator: whose best metric is kept.
        cases: items of the data list that the training draws from; a run does not go on with others.
        interval: epochs between checkpoints, 1 or more.
        keep: how many of the newest stay, 1 or more.
        resume: whether to go on from the newest checkpoint, if there is one.
        writes: whether this process writes checkpoints; all of them read.

    Raises:
        InputError: for numbers that are not legal.
    """

    def __init__(
        self,
        run_folder: str | os.PathLike,
        objects: Mapping[str, Any],
        *,
        loaders: Iterable[Any] = (),
        validator: Engine | None = None,
        cases: Iterable[Mapping[str, Any]] = (),
        interval: int = 1,
        keep: int = 2,
        resume: bool = False,
        writes: bool = True,
    ) -> None:
        for name, value in (("checkpoint_interval", interval), ("checkpoints_kept", keep)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} {value!r}: legal: a whole number, 1 or more")
        self.folder = Path(run_folder) / FOLDER
        self.objects = {name: part for name, part in objects.items() if part is not None}
        self.loaders, self.validator = [part for part in loaders if hasattr(part, "start_at")], validator
        self.cases = fingerprint(cases)
        self.interval, self.keep = interval, keep
        self.resume, self.writes = resume, writes

    def attach(self, engine: Engine) -> None:
        """Go on when the trainer starts, write when an epoch is complete."""
        if self.resume:
            engine.add_event_handler(Events.STARTED, self.restore)
        if self.writes:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)

    def _after_epoch(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if epoch % self.interval == 0 or epoch == engine.state.max_epochs:
            self.save(engine)

    def save(self, engine: Any) -> Path:
        """Write a checkpoint of the present epoch, then remove those that are older than the newest `keep`.

        Raises:
            InputError: if it cannot be written; the earlier ones are then untouched.
        """
        scaler = getattr(engine, "scaler", None)
        state = {
            "format": FORMAT,
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "cases": self.cases,
            "objects": {name: part.state_dict() for name, part in self.objects.items()},
            "scaler": None if scaler is None else scaler.state_dict(),
            "validator": _validator_state(self.validator),
        }
        path = self.folder / f"epoch_{engine.state.epoch:05d}.pt"
        with replace_file(path) as temporary:
            save_tensors(temporary, state)
        for old in checkpoints_of(self.folder.parent)[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def restore(self, engine: Any) -> None:
        """Put everything back to where the newest readable checkpoint was; without any, start at the beginning.

        Raises:
            InputError: if none of several can be read, or the checkpoint belongs to another network or other data.
        """
        path, state = newest_checkpoint(self.folder.parent)
        if path is None:
            logger.info("no checkpoint in %s yet: the training starts at its beginning", self.folder)
            return
        if state["cases"] != self.cases:
            raise InputError(
                f"{path} was trained on other cases than the data list holds now (fingerprint {state['cases']}, now "
                f"{self.cases}): a run goes on with the same ones; to learn from others, start a new run with "
                f"--checkpoint {self.folder.parent / 'model' / 'model.pt'}"
            )
        for name, part in self.objects.items():
            try:
                part.load_state_dict(state["objects"][name])
            except (KeyError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"{path} does not fit this training: {name}: {' '.join(str(error).split())}"
                ) from error
        if state["scaler"] is not None and engine.scaler is not None:
            engine.scaler.load_state_dict(state["scaler"])
        for name, value in (state["validator"] if self.validator is not None else {}).items():
            setattr(self.validator.state, name, value)  # type: ignore[union-attr]
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        for part in self.loaders:
            part.start_at(state["iteration"])
        if not self.loaders:
            logger.warning("samples are drawn anew from their beginning: their loader cannot start at a given batch")
        logger.info("going on after epoch %d, from %s", state["epoch"], path)


def fingerprint(cases: Iterable[Mapping[str, Any]]) -> str:
    """Return a short digest of which cases there are, in their order; where their files lie does not matter."""
    names = [f"{case.get('case', '')}/{Path(str(case.get('image', ''))).name}" for case in cases]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def checkpoints_of(run_folder: str | os.PathLike) -> Sequence[Path]:
    """Return the checkpoints of a run, the newest last."""
    return sorted((Path(run_folder) / FOLDER).glob(PATTERN))


def newest_checkpoint(run_folder: str | os.PathLike) -> tuple[Path | None, dict[str, Any]]:
    """Return the newest checkpoint of a run that can be read, and what it holds; (None, {}) if there are none.

    Raises:
        InputError: if there are checkpoints and none can be read.
    """
    reasons = []
    for path in reversed(checkpoints_of(run_folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["format"] != FORMAT:
                raise InputError(f"format {state['format']}; legal here: {FORMAT}")
            return path, state
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            reasons.append(f"{path} cannot be read: {' '.join(str(error).split())[:200]}")
            logger.warning("%s", reasons[-1])
    if reasons:
        raise InputError(f"no usable checkpoint: {'; '.join(reasons)}")
    return None, {}


def _validator_state(validator: Any) -> dict[str, Any]:
    if validator is None:
        return {}
    state = validator.state
    metrics = {name: float(value) for name, value in state.metrics.items() if _is_number(value)}
    best = state.best_metric
    return {
        "best_metric": float(best) if _is_number(best) else best,
        "best_metric_epoch": state.best_metric_epoch,
        "metrics": metrics,
    }


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True
