"""Batches drawn from volumes that lie on the training device, in place of a data loader with worker processes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional as F

from swin_umamba.batches.draws import Draws, check_chance
from swin_umamba.distributed import rank, world_size
from swin_umamba.errors import InputError

BATCHES = 1_000_003  # seeds lie this far apart, more than a training has batches

Change = Callable[[Tensor, Tensor, Draws], tuple[Tensor, Tensor]]


class BatchAugmentation:
    """Random changes of a batch, one after the other.

    Args:
        changes: of `swin_umamba.batches`, called as `change(image, label, draws)`.
    """

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = list(changes)

    def __call__(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return the changed images (B, C, x, y) and label maps (B, C, x, y)."""
        with torch.no_grad():
            for change in self.changes:
                image, label = change(image, label, draws)
        return image, label


class SliceBatches:
    """Endless batches of random, augmented axial slices, made on the device that trains.

    Batch `n` is a function of `seed`, `n` and the process's rank, so that a training can go on as if never stopped.

    All volumes are put on the device once, padded to the largest slice with their own lowest intensity; data sets of
    some hundred volumes fit. A volume is drawn evenly, then one of its slices: by chance `foreground` one that holds an
    organ drawn evenly from the volume's, otherwise any.

    Args:
        dataset: items with "image" (1, X, Y, Z), "label" (1, X, Y, Z) and perhaps "labelled" (K,) bool, as the
            deterministic transforms of train.yaml leave them.
        batch_size: slices of a batch, 1 or more.
        iterations: batches of an epoch, for progress bars.
        augmentation: called as `augmentation(image, label, draws)`; None gives whole slices.
        foreground: share of slices made to hold an organ, 0 to 1.
        device: where the volumes lie and the batches are made.
        seed: of all draws, 0 or more.

    Raises:
        InputError: for an argument out of its range, or an empty data set.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        batch_size: int,
        iterations: int,
        augmentation: Change | None = None,
        foreground: float = 0.33,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        if len(dataset) == 0:
            raise InputError("SliceBatches: the data set holds no volume; legal: 1 or more")
        if batch_size < 1:
            raise InputError(f"batch_size {batch_size} of SliceBatches: legal: 1 or more")
        self.batch_size, self.iterations, self.augmentation = int(batch_size), int(iterations), augmentation
        self.foreground = check_chance("foreground", foreground)
        self.draws, self.seed, self.first_batch = Draws(seed, device), int(seed), 0
        self._gather([dataset[index] for index in range(len(dataset))])

    def _gather(self, items: Sequence[Any]) -> None:
        """Put all slices into one tensor, and for each volume and organ the slices that hold it into a table."""
        device = self.draws.device
        size = [max(item["image"].shape[axis] for item in items) for axis in (1, 2)]
        depths = [item["image"].shape[3] for item in items]
        self.images = torch.cat([_slices(item["image"], size, float(item["image"].min())) for item in items]).to(device)
        self.labels = torch.cat([_slices(item["label"], size, 0) for item in items]).to(device, torch.uint8)
        masks = torch.stack([item["labelled"] for item in items]) if "labelled" in items[0] else None
        self.labelled = None if masks is None or bool(masks.all()) else masks.to(device)
        self.first = torch.tensor(depths, device=device).cumsum(0) - torch.tensor(depths, device=device)
        self.depths = torch.tensor(depths, device=device)
        classes = int(self.labels.max()) + 1
        held = torch.stack([(self.labels == value).flatten(1).any(1) for value in range(1, max(classes, 2))], 1)
        self.held = torch.zeros(len(items), held.shape[1], max(depths), device=device)  # (volumes, organs, slices)
        for index, (start, depth) in enumerate(zip(self.first.tolist(), depths, strict=True)):
            self.held[index, :, :depth] = held[start : start + depth].T.float()

    def __len__(self) -> int:
        return self.iterations

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for number in itertools.count(self.first_batch):
            yield self.draw(number)

    def start_at(self, batch: int) -> None:
        """Begin with this batch, counted from 0, the next time that batches are asked for."""
        self.first_batch = batch

    def draw(self, number: int) -> dict[str, Tensor]:
        """Return batch `number`: "image", "label" (B, 1, x, y) and, if not all are, "labelled" (B, K) bool."""
        self.draws.start((self.seed * BATCHES + number) * world_size() + rank())
        volume = (self.draws.uniform(self.batch_size) * len(self.depths)).long()
        place = self._choose(volume) + self.first[volume]
        image, label = self.images[place, None], self.labels[place, None].float()  # (B, 1, X, Y)
        if self.augmentation is not None:
            image, label = self.augmentation(image, label, self.draws)
        batch = {"image": image, "label": label}
        if self.labelled is not None:
            batch["labelled"] = self.labelled[volume]
        return batch

    def _choose(self, volume: Tensor) -> Tensor:
        """Return the number of a slice of each volume (B,)."""
        count = self.batch_size
        any_slice = (self.draws.uniform(count) * self.depths[volume]).long()
        held = self.held[volume]  # (B, organs, slices)
        organ = _draw_of((held.sum(2) > 0).float(), self.draws)
        with_organ = _draw_of(held[torch.arange(count, device=held.device), organ], self.draws)
        wanted = self.draws.chance(count, prob=self.foreground) & held.flatten(1).any(1)
        return torch.where(wanted, with_organ, any_slice)


def _slices(volume: Tensor, size: Sequence[int], fill: float) -> Tensor:
    """Return the slices (Z, X, Y) of a volume (1, x, y, Z), padded on all sides to a size."""
    plain = (
        (volume.as_tensor() if isinstance(volume, MetaTensor) else volume)[0].permute(2, 0, 1).float()
    )  # (1, x, y, Z) -> (Z, x, y)
    gaps = [large - small for large, small in zip(size, plain.shape[1:], strict=True)]
    before = [gap // 2 for gap in gaps]
    return F.pad(plain, [before[1], gaps[1] - before[1], before[0], gaps[0] - before[0]], value=fill)


def _draw_of(weights: Tensor, draws: Draws) -> Tensor:
    """Draw for each row (B, N) the number of a column by its weight; 0 in a row of zeros."""
    totals = weights.cumsum(1)
    mark = draws.uniform(len(weights), 1) * totals[:, -1:]
    return (totals <= mark).sum(1).clamp(max=weights.shape[1] - 1) * (totals[:, -1] > 0)
