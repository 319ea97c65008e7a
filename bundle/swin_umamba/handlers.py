"""Ignite handlers of the training config that MONAI does not have."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.handlers import StatsHandler
from torch import nn

from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder, replace_file
from swin_umamba.models import ModelSpec, save_model
from swin_umamba.training import NetworkAverage

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
    """End a training whose loss is no longer a finite number; the last checkpoint stays as it is."""

    def attach(self, engine: Engine) -> None:
        """Look at the loss after each iteration."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Raise `InputError` when the loss is NaN or infinite."""
        loss = float(loss_of(engine.state.output))
        if not math.isfinite(loss):
            raise InputError(
                f"the loss became {loss} in iteration {engine.state.iteration} of epoch {engine.state.epoch}: "
                "lower the learning rate, or train in float32 (amp: false); the last checkpoint is untouched"
            )


class WeightAveraging:
    """Update a running average of the weights after each iteration of the trainer.

    Args:
        average: of the network in training.
    """

    def __init__(self, average: NetworkAverage) -> None:
        self.average = average

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        self.average.attach(engine)


class MetricLog(StatsHandler):
    """MONAI's log of metrics that leaves errors to whoever reports them, instead of logging their traceback."""

    def exception_raised(self, _engine: Engine, e: Exception) -> None:
        """Pass the error on."""
        raise e


class EpochLog:
    """Log one line for each epoch: mean loss, slices per second of this process, peak GPU memory, learning rate."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._slices = 0
        self._start = 0.0

    def attach(self, engine: Engine) -> None:
        """Start with the epoch, look at each iteration, log at the epoch's end before a validation starts."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)

    def _begin(self, engine: Engine) -> None:
        self._losses, self._slices, self._start = [], 0, time.perf_counter()

    def _add(self, engine: Engine) -> None:
        self._losses.append(float(loss_of(engine.state.output)))
        batch: Any = engine.state.batch  # decollated into a list of samples, or a dictionary of batches
        self._slices += len(batch if isinstance(batch, list) else batch["image"])

    def _log(self, engine: Any) -> None:
        seconds = time.perf_counter() - self._start
        parts = [
            f"loss {sum(self._losses) / len(self._losses):.4f}",
            f"{self._slices / seconds:.1f} slices/s",
            f"learning rate {engine.optimizer.param_groups[0]['lr']:.2e}",
        ]
        if torch.cuda.is_available():
            parts.append(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
        logger.info("epoch %d/%d: %s", engine.state.epoch, engine.state.max_epochs, ", ".join(parts))


class ProgressFile:
    """Keep a small JSON file about a training for programs that show its progress.

    It holds "epoch", "total_epochs", "total_time" (seconds), "loss" of the last iteration and "best_metric" (the
    validator's, null before the first validation), and is replaced after each epoch as a whole.

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
        best = getattr(getattr(self.validator, "state", None), "best_metric", None)
        progress = {
            "epoch": engine.state.epoch,
            "total_epochs": engine.state.max_epochs,
            "total_time": round(time.perf_counter() - self._start, 1),
            "loss": float(loss_of(engine.state.output)) if engine.state.output else None,
            "best_metric": None if best is None or best < 0 else round(float(best), 4),
        }
        with replace_file(self.path) as path:  # type: ignore[arg-type]  # attached only where there is one
            path.write_text(json.dumps(progress), encoding="utf-8")


def loss_of(output: Any) -> Any:
    """Return the loss of a trainer's output, decollated or not."""
    loss = (output[0] if isinstance(output, list) else output)["loss"]
    return loss.detach() if isinstance(loss, torch.Tensor) else loss


class ModelSaver:
    """Write the model folder (`model.pt`, `model.yaml`) whenever there is a better one, or at the end.

    Attached to the trainer; the validator's key metric decides. A training in which it never could, because it ended
    before the first validation or no organ was there to score, keeps its last weights.

    Args:
        folder: of the model.
        network: gives the weights; with a running average, the averaged network.
        spec: what the model is; scores and epoch are added.
        validator: whose key metric decides; None together with `select="last"`.
        select: "best" keeps the highest key metric, "last" the weights at the end of training.
        images: what `swin_umamba.image_checks.describe_images` says of the training images, for `model.yaml`.

    Raises:
        InputError: for another `select`, or if the folder cannot be written to.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        network: nn.Module | Callable[[], nn.Module],
        spec: ModelSpec,
        validator: Engine | None = None,
        select: str = "best",
        images: Mapping[str, Any] | None = None,
    ) -> None:
        if select not in ("best", "last"):
            raise InputError(f"select of the saved model: {select!r}; legal: 'best', 'last'")
        if select == "best" and validator is None:
            raise InputError("select 'best' needs a validator; without validation cases use 'last'")
        self.folder = make_writable_folder(folder)
        self.network = network
        self.spec = spec
        self.validator = validator
        self.select = select
        self.images = dict(images or {})
        self.epoch = 0
        self._trainer: Engine | None = None

    def attach(self, engine: Engine) -> None:
        """Act on the validator's end for "best", on the trainer's for "last"."""
        self._trainer = engine
        engine.add_event_handler(Events.COMPLETED, self._after_training)
        if self.select == "best" and self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._after_validation)

    def _after_validation(self, engine: Any) -> None:
        # MONAI's evaluator has compared the metric with the best one before handlers of COMPLETED run
        assert self._trainer is not None
        if engine.state.best_metric_epoch == engine.state.epoch:
            self.save()

    def _after_training(self, engine: Engine) -> None:
        if self.select == "best" and self.epoch == 0:
            logger.warning("no validation gave a score: the last weights are kept (select: last)")
        if self.select == "last" or self.epoch == 0:
            self.save()

    def save(self) -> ModelSpec:
        """Write the model now."""
        assert self._trainer is not None
        self.epoch = self._trainer.state.epoch
        state = getattr(self.validator, "state", None)
        metric = getattr(state, "metrics", {}).get(getattr(state, "key_metric_name", None))
        training = {**self.spec.training, "epoch": self.epoch}
        if self.images:
            training["images"] = self.images
        if metric is not None:
            training["validation_mean_dice"] = round(float(metric), 4)
        network = self.network if isinstance(self.network, nn.Module) else self.network()
        spec = save_model(self.folder, network, dataclasses.replace(self.spec, training=training))
        logger.info("model of epoch %d written to %s", self.epoch, self.folder)
        return spec
