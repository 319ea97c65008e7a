"""Random numbers for a batch, and what every random change of a batch shares.

A change takes images (B, C, X, Y), their label maps (B, C, X, Y) of whole numbers and a source of random numbers, and
gives both back. Each sample is changed by chance `prob`, with draws of its own; nothing waits for the device,
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from swin_umamba.errors import InputError

QUANTILES = (0.01, 0.99)  # what counts as a sample's darkest and brightest intensity
PIXELS_SORTED = 4096  # about so many of a sample's pixels are sorted for that


class Draws:
    """Random numbers from one seed, on one device.

    Args:
        seed: a whole number.
        device: where the numbers are made; the same seed gives other numbers on another kind of device.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def start(self, seed: int) -> None:
        """Begin anew from a seed."""
        self.generator.manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw evenly from low to high."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Draw from a normal distribution of mean 0 and deviation 1."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def chance(self, *shape: int, prob: float) -> Tensor:
        """Draw True by the chance `prob`."""
        return self.uniform(*shape) < prob


class BatchChange:
    """A random change of some samples of a batch.

    Args:
        prob: chance of each sample to be changed, 0 to 1.
    """

    def __init__(self, prob: float) -> None:
        self.prob = check_chance(f"prob of {type(self).__name__}", prob)

    def __call__(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return the images (B, C, X, Y) and label maps (B, C, X, Y), changed where the draw says so."""
        if self.prob == 0:
            return image, label
        changed, changed_label = self.change(image, label, draws)
        chosen = draws.chance(len(image), 1, 1, 1, prob=self.prob)
        image = torch.where(chosen, changed, image)
        return image, label if changed_label is label else torch.where(chosen, changed_label, label)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample changed."""
        raise NotImplementedError


def check_chance(name: str, value: float) -> float:
    """Return a chance.

    Raises:
        InputError: if it is not from 0 to 1.
    """
    if not 0 <= value <= 1:
        raise InputError(f"{name}: {value}; legal: a chance from 0 to 1")
    return float(value)


def check_range(name: str, value: Sequence[float], *, least: float = 0.0) -> tuple[float, float]:
    """Return two numbers between which is drawn.

    Raises:
        InputError: if they are not least <= low <= high.
    """
    if len(value) != 2 or not least <= value[0] <= value[1]:
        raise InputError(f"{name}: {list(value)}; legal: two numbers, {least} <= low <= high")
    return (float(value[0]), float(value[1]))


def intensity_ranges(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return what counts as darkest and brightest in each sample of (B, C, X, Y), as two tensors (B, 1, 1, 1)."""
    pixels = image.flatten(1).float()  # (B, C, X, Y) -> (B, C*X*Y)
    pixels = pixels[:, :: max(1, pixels.shape[1] // PIXELS_SORTED)]
    ordered = pixels.sort(1).values
    low, high = (ordered[:, round(q * (ordered.shape[1] - 1))] for q in QUANTILES)  # (B,) each
    return low.view(-1, 1, 1, 1), high.view(-1, 1, 1, 1)


def with_moments_of(image: Tensor, changed: Tensor) -> Tensor:
    """Return `changed` with each sample's mean and deviation in `image`; a sample that became flat stays as it was."""
    axes = (1, 2, 3)
    deviation, mean = torch.std_mean(changed, axes, keepdim=True, correction=0)
    deviation_before, mean_before = torch.std_mean(image, axes, keepdim=True, correction=0)
    flat = ~torch.isfinite(deviation) | (deviation < 1e-6)
    result = (changed - mean) / deviation.clamp(min=1e-6) * deviation_before + mean_before
    return torch.where(flat, image, result)


def along_axes(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply matrices (B, X, X) along the first axis of slices (B, C, X, Y) and (B, Y, Y) along the second."""
    return rows[:, None] @ image @ columns[:, None].mT


def gaussian_matrix(size: int, sigma: Tensor) -> Tensor:
    """Return matrices (B, size, size) that smooth a line by a Gaussian of `sigma` (B,) pixels; 0 leaves it alone."""
    place = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    distance = place[:, None] - place[None]  # (size, size)
    weight = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3).view(-1, 1, 1)) ** 2)
    return weight / weight.sum(2, keepdim=True)
