"""Ignite handlers of the training config that MONAI does not have."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.handlers import StatsHandler
from torch import nn

from swin_umamba.distributed import is_rank_zero, mean_over_ranks, world_size
from swin_umamba.errors import InputError
from swin_umamba.files import replace_file

logger = logging.getLogger(__name__)


class GradientClipping:
    """Limit the norm of all gradients together before each optimizer step, after undoing the loss scale.

    Args:
        max_norm: L2 norm, above 0; the paper's recipe uses 12.
    """

    def __init__(self, max_norm: float = 12.0) -> None:
        if not max_norm > 0:
            raise InputError(f"max_norm of gradient clipping: {max_norm}; legal: a number above 0")
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Act when the trainer has computed the gradients."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        if engine.amp and engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)


class EncoderFreezing:
    """Keep the pretrained encoder as it is during the first epochs (paper, section 3.3).

    As in the public code the patch embedding, which has no pretrained counterpart, goes on learning.

    Args:
        network: with a `vssm_encoder`.
        epochs: how many to freeze, ≥ 0; 0 never freezes.
    """

    def __init__(self, network: nn.Module, epochs: int = 0) -> None:
        if epochs < 0:
            raise InputError(f"epochs to freeze the encoder: {epochs}; legal: 0 or more")
        self.parameters = [
            parameter
            for name, parameter in network.named_parameters()
            if "vssm_encoder." in name and "patch_embed" not in name
        ]
        self.epochs = epochs

    def attach(self, engine: Engine) -> None:
        """Look at the epoch's number when one starts, also after a resume."""
        if self.epochs:
            engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        frozen = engine.state.epoch <= self.epochs
        for parameter in self.parameters:
            parameter.requires_grad_(not frozen)
        if engine.state.epoch in (1, self.epochs + 1):
            logger.info("encoder %s from epoch %d", "frozen" if frozen else "trained", engine.state.epoch)


class StopOnBadLoss:
    """End a training whose loss is no longer a finite number; the last checkpoint stays as it is.

    Args:
        interval: iterations between two looks; each waits for the GPU. The first iteration is always looked at.
    """

    def __init__(self, interval: int = 1) -> None:
        if interval < 1:
            raise InputError(f"interval of StopOnBadLoss: {interval}; legal: 1 or more")
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Look at the loss after the iterations that count, and at the end of each epoch before anything is saved."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._look)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _look(self, engine: Engine) -> None:
        if (engine.state.iteration - 1) % self.interval == 0:
            self(engine)

    def __call__(self, engine: Engine) -> None:
        """Raise `InputError` when the loss is NaN or infinite."""
        loss = float(loss_of(engine.state.output))
        if not math.isfinite(loss):
            raise InputError(
                f"the loss became {loss} in iteration {engine.state.iteration} of epoch {engine.state.epoch}: "
                "lower the learning rate, or train in float32 (amp: false); the last checkpoint is untouched"
            )


class Attached:
    """Attach an object of the config that other objects use too, where MONAI wants a handler made on the spot.

    Args:
        part: has a method `attach`.
        arguments: further ones of that method.
    """

    def __init__(self, part: Any, **arguments: Any) -> None:
        self.part, self.arguments = part, arguments

    def attach(self, engine: Engine) -> None:
        """Register with the engine."""
        self.part.attach(engine, **self.arguments)


class MetricLog(StatsHandler):
    """MONAI's log of metrics that leaves errors to whoever reports them, instead of logging their traceback."""

    def exception_raised(self, _engine: Engine, e: Exception) -> None:
        """Pass the error on."""
        raise e


class EpochLog:
    """Measure each epoch and log a line: mean loss, slices per second, waiting for data, learning rate, GPU memory.

    Of several processes all measure and the first one logs: the loss is the mean over all of them, slices are added up.
    The figures are in `engine.state.epoch_stats` too.
    """

    def __init__(self) -> None:
        self._losses: list[Any] = []
        self._slices = 0
        self._start = self._asked = self._waited = 0.0

    def attach(self, engine: Engine) -> None:
        """Start with the epoch, look at each iteration, log at the epoch's end before a validation starts."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._get)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)

    def _begin(self, engine: Engine) -> None:
        self._losses, self._slices, self._waited, self._start = [], 0, 0.0, time.perf_counter()

    def _ask(self, engine: Engine) -> None:
        self._asked = time.perf_counter()

    def _get(self, engine: Engine) -> None:
        self._waited += time.perf_counter() - self._asked

    def _add(self, engine: Engine) -> None:
        self._losses.append(loss_of(engine.state.output))  # a tensor stays one: reading it would wait for the GPU
        batch: Any = engine.state.batch  # decollated into a list of samples, or a dictionary of batches
        self._slices += len(batch if isinstance(batch, list) else batch["image"])

    def _log(self, engine: Any) -> None:
        loss = float(sum(self._losses) / len(self._losses))
        seconds = time.perf_counter() - self._start
        stats = {
            "loss": mean_over_ranks(loss, engine.state.device),
            "learning_rate": float(engine.optimizer.param_groups[0]["lr"]),
            "seconds": round(seconds, 2),
            "seconds_waiting_for_data": round(self._waited, 2),
            "slices_per_second": round(self._slices * world_size() / seconds, 1),
        }
        if torch.cuda.is_available():
            stats["peak_gpu_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        engine.state.epoch_stats = stats
        if is_rank_zero():
            logger.info("epoch %d/%d: %s", engine.state.epoch, engine.state.max_epochs, _in_words(stats))


def _in_words(stats: Mapping[str, float]) -> str:
    waiting = 100 * stats["seconds_waiting_for_data"] / max(stats["seconds"], 1e-9)
    parts = [
        f"loss {stats['loss']:.4f}",
        f"{stats['slices_per_second']:.1f} slices/s",
        f"{stats['seconds']:.1f} s, {min(waiting, 100):.0f} % of it waiting for data",
        f"learning rate {stats['learning_rate']:.2e}",
    ]
    if "peak_gpu_gib" in stats:
        parts.append(f"peak GPU memory {stats['peak_gpu_gib']:.2f} GiB")
    return ", ".join(parts)


class ProgressFile:
    """Keep a small JSON file about a training for programs that show its progress.

    It holds "epoch", "total_epochs", "total_time" (seconds), "loss" of the last iteration, "metric" and "best_metric"
    (the validator's last one and its highest, null before the first validation), and is replaced after each epoch as a
    whole.

    Args:
        path: of the file; None writes none.
        validator: whose key metric is told.
    """

    def __init__(self, path: str | os.PathLike | None, validator: Engine | None = None) -> None:
        self.path, self.validator = path, validator
        self._start = 0.0

    def attach(self, engine: Engine) -> None:
        """Write at the start and after each epoch's validation."""
        if self.path is not None:
            engine.add_event_handler(Events.STARTED, self._begin)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _begin(self, engine: Engine) -> None:
        self._start = time.perf_counter()
        self._write(engine)

    def _write(self, engine: Engine) -> None:
        state = getattr(self.validator, "state", None)
        metric = getattr(state, "metrics", {}).get(getattr(state, "key_metric_name", None))
        progress = {
            "epoch": engine.state.epoch,
            "total_epochs": engine.state.max_epochs,
            "total_time": round(time.perf_counter() - self._start, 1),
            "loss": float(loss_of(engine.state.output)) if engine.state.output else None,
            "metric": _score(metric),
            "best_metric": _score(getattr(state, "best_metric", None)),
        }
        with replace_file(self.path) as path:  # type: ignore[arg-type]  # attached only where there is one
            path.write_text(json.dumps(progress), encoding="utf-8")


def _score(metric: Any) -> float | None:
    """Return a metric rounded; None for one that there is not: absent, below 0 as MONAI has it at first, or NaN."""
    return round(float(metric), 4) if metric is not None and metric >= 0 else None


def loss_of(output: Any) -> Any:
    """Return the loss of a trainer's output, decollated or not."""
    loss = (output[0] if isinstance(output, list) else output)["loss"]
    return loss.detach() if isinstance(loss, torch.Tensor) else loss
