"""Keeping the model that a training has come up with."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor, nn

from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder
from swin_umamba.models import ModelSpec, weights_of, write_model

logger = logging.getLogger(__name__)


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
        run_folder: gets the same model; there no other training writes.
        writes: whether this process writes; of several only one does.
        dtype: of the weights in the file, "float32" or "float16".

    Raises:
        InputError: for another `select`, or if a folder cannot be written to.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        network: nn.Module | Callable[[], nn.Module],
        spec: ModelSpec,
        validator: Engine | None = None,
        select: str = "best",
        images: Mapping[str, Any] | None = None,
        run_folder: str | os.PathLike | None = None,
        writes: bool = True,
        dtype: str = "float32",
    ) -> None:
        if select not in ("best", "last"):
            raise InputError(f"select of the saved model: {select!r}; legal: 'best', 'last'")
        if select == "best" and validator is None:
            raise InputError("select 'best' needs a validator; without validation cases use 'last'")
        places = dict.fromkeys(Path(place) for place in (run_folder, folder) if place is not None)
        self.folders = list(places) if writes else []
        for place in self.folders:
            make_writable_folder(place)
        self.network = network
        self.spec = spec
        self.validator = validator
        self.select = select
        self.images = dict(images or {})
        self.dtype = dtype
        self.epoch = 0
        self._weights: dict[str, Tensor] = {}
        self._saved: ModelSpec | None = None
        self._trainer: Engine | None = None

    def attach(self, engine: Engine) -> None:
        """Act on the validator's end for "best", on the trainer's for "last"."""
        self._trainer = engine
        if not self.folders:
            return
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

    def save(self) -> None:
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
        self._weights = weights_of(self.network if isinstance(self.network, nn.Module) else self.network())
        self._write(dataclasses.replace(self.spec, training=training))

    def state_dict(self) -> dict[str, Any]:
        """Return the model that was saved last, as plain data and tensors; without one, `epoch` is 0."""
        spec = None if self._saved is None else self._saved.as_dict()
        return {"epoch": self.epoch, "weights": self._weights, "spec": spec}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Write the model of an earlier part of this training again; later ones may have been left half written."""
        self.epoch, self._weights = state["epoch"], dict(state["weights"])
        if state["spec"] is not None:
            self._write(ModelSpec(**state["spec"]))

    def _write(self, spec: ModelSpec) -> None:
        for folder in self.folders:
            self._saved = write_model(folder, self._weights, spec, self.dtype)
            logger.info("model of epoch %d written to %s", self.epoch, folder)
