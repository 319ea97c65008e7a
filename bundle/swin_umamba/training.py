"""What the training config needs beside MONAI: batches, the network at the start, and its running average."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.config import KeysCollection
from monai.data import CacheDataset
from monai.engines import Trainer
from monai.transforms import MapTransform
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder
from swin_umamba.sampling import Draw, seed_generators, share_random_state
from swin_umamba.weights import load_checkpoint, load_pretrained

logger = logging.getLogger(__name__)


class VolumeCache(CacheDataset):
    """MONAI's `CacheDataset` that augments by the seed of a `Draw`, and whose threads have ended when it raises.

    Its own thread pool leaves the others at work when an item fails; a process that ends meanwhile aborts.
    """

    @property
    def images(self) -> list[Any]:
        """The volumes as they are cached."""
        return [item["image"] for item in self._cache]

    def __getitem__(self, index: Any) -> Any:
        """Return an item; that of a `Draw` is a function of its volume and its seed."""
        if not isinstance(index, Draw):
            return super().__getitem__(index)
        if not hasattr(self, "_random"):
            self.set_random_state(index.seed)
        self._random.seed(index.seed)
        seed_generators(index.seed)
        return super().__getitem__(index.volume)

    def set_random_state(self, seed: int | None = None) -> VolumeCache:
        """Let all transforms share one random state; MONAI's loaders call this in each worker."""
        self._random = np.random.RandomState(seed)  # noqa: NPY002  # what MONAI's transforms draw from
        share_random_state(self.transform, self._random)
        return self

    def _load_cache_item(self, idx: int) -> Any:
        if not self._errors:
            try:
                return super()._load_cache_item(idx)
            except Exception as error:
                self._errors.append(error)
        return None

    def _fill_cache(self, indices: Any = None) -> list[Any]:
        self._errors: list[Exception] = []
        cache = super()._fill_cache(indices)
        if self._errors:
            raise self._errors[0]
        return cache


class LabelledMaskd(MapTransform):
    """Turn an item's list of annotated label ids into a mask over the network's classes.

    Args:
        keys: of the list of ids; an item without it counts as annotated in full.
        out_channels: classes of the network, the background among them.
    """

    def __init__(self, keys: KeysCollection = "labelled", *, out_channels: int) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.out_channels = out_channels

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of `data` in which each key holds a bool tensor (K,); the background is always True.

        Raises:
            InputError: for an id that the network has no class for.
        """
        item: dict[Any, Any] = dict(data)
        for key in self.keys:
            mask = torch.ones(self.out_channels, dtype=torch.bool)
            if item.get(key) is not None:
                if max(item[key], default=0) >= self.out_channels:
                    legal = f"1 to {self.out_channels - 1}, one for each of the network's organs"
                    raise InputError(f"{key}: label ids {sorted(item[key])}; legal: {legal}")
                mask[1:] = False
                mask[list(item[key])] = True
            item[key] = mask
        return item


def check_settings(
    *, folders: Iterable[str | os.PathLike], counts: Mapping[str, Any], amounts: Mapping[str, Any]
) -> None:
    """Check settings of a training before the data are loaded.

    Args:
        folders: that the training writes to; they are made.
        counts: values by name that must be whole numbers of 1 or more.
        amounts: values by name that must be numbers of 0 or more.

    Raises:
        InputError: naming the setting and what is legal, or the folder that cannot be written to.
    """
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} {value!r}: legal: a whole number, 1 or more")
    for name, value in amounts.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise InputError(f"{name} {value!r}: legal: a number, 0 or more")
    for folder in folders:
        make_writable_folder(folder)


def run_trainer(trainer: Trainer, handlers: Iterable[object] = ()) -> None:
    """Train, and leave nothing behind that waits for more: neither processes that load nor open event files.

    A loader's persistent workers end with the loader, which its engine and handlers keep alive in circles; found by the
    garbage collector, each takes seconds.

    Args:
        trainer: with the loader of its batches.
        handlers: those with `close`, like MONAI's for TensorBoard, are closed in the end.
    """
    try:
        trainer.run()
    finally:
        loader: Any = trainer.data_loader
        workers = getattr(loader, "_iterator", None)
        if workers is not None:
            workers._shutdown_workers()
            loader._iterator = None
        for handler in handlers:
            if hasattr(handler, "close"):
                handler.close()


def prepare_batch(
    batchdata: Mapping[str, Tensor],
    device: torch.device | str | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Split a batch for MONAI's trainer into the image and what the loss needs.

    Args:
        batchdata: "image" (B, C, H, W), "label" (B, 1, H, W), and perhaps "labelled" (B, K) bool.
        device: where both go.
        non_blocking: copy without waiting, from pinned memory.
        kwargs: further arguments of `Tensor.to`.

    Returns:
        The image, and `{"label", "labelled"}` for `DeepSupervisionLoss`.
    """
    target = {
        key: batchdata[key].to(device, non_blocking=non_blocking, **kwargs)
        for key in ("label", "labelled")
        if key in batchdata
    }
    return batchdata["image"].to(device, non_blocking=non_blocking, **kwargs), target


def start_network(
    network: nn.Module,
    device: torch.device | str,
    pretrained: str | os.PathLike | None = None,
    checkpoint: str | os.PathLike | None = None,
) -> nn.Module:
    """Give a network its first weights and move it to the device that trains it.

    Args:
        network: as built.
        device: where it goes.
        pretrained: ImageNet weights of VMamba-Tiny for the encoder (`swin_umamba.weights.load_pretrained`).
        checkpoint: a trained network to go on from (`swin_umamba.weights.load_checkpoint`).

    Raises:
        InputError: if both are given, or if a file is not what it should be.
    """
    if pretrained and checkpoint:
        raise InputError(f"pretrained {str(pretrained)!r} and checkpoint {str(checkpoint)!r}: give one of the two")
    if pretrained:
        logger.info("%s", load_pretrained(network, pretrained))
    if checkpoint:
        logger.info("%s", load_checkpoint(network, checkpoint))
    return network.to(device)


class LossScaling:
    """Scale the loss in float16 only; bfloat16 has float32's range, and looking for overflows waits for the GPU.

    Args:
        amp_dtype: of the training's autocast, None without one.
    """

    def __init__(self, amp_dtype: torch.dtype | None) -> None:
        self.amp_dtype = amp_dtype

    def attach(self, engine: Engine) -> None:
        """Act when the training starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Any) -> None:
        if engine.scaler is not None and self.amp_dtype != torch.float16:
            engine.scaler = torch.amp.GradScaler(enabled=False)


class NetworkAverage:
    """Exponential moving average of a network's weights, updated after each optimizer step.

    Args:
        network: in training.
        decay: of the old average at each step, 0 ≤ decay < 1. It rises from 0 as (1 + step) / (10 + step) up to this
            value, so that a short run is not held back by its random start. 0: no average, the network itself is used.
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"decay of the weight average: {decay}; legal: 0 (none) up to, not including, 1")
        self.decay = decay
        self._source = network
        self._average = AveragedModel(network) if decay else None
        self._step = 0

    @property
    def network(self) -> nn.Module:
        """The network to validate and to keep."""
        return self._source if self._average is None else self._average.module

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of updates."""
        average = {} if self._average is None else self._average.state_dict()
        return {"average": average, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved average."""
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._step = state["step"]

    def attach(self, engine: Engine) -> None:
        """Update the average after each iteration of the trainer."""
        if self._average is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)

    def _update(self, engine: Engine) -> None:
        assert self._average is not None
        decay = min(self.decay, (1 + self._step) / (10 + self._step))
        self._average.multi_avg_fn = get_ema_multi_avg_fn(decay)
        self._average.update_parameters(self._source)
        self._step += 1
