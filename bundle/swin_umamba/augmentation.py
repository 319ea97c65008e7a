"""Random appearance: changes of contrast that a new scanner, sequence or disease brings and that leave anatomy alone.

Everything here takes slices, channel first, with intensities as the z-score left them, and keeps shapes and types.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.networks.layers import GaussianFilter
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor
from torch.nn import functional as F

from swin_umamba.errors import InputError

DARKEST, BRIGHTEST = 0.01, 0.99  # quantiles of a slice between which new intensities are drawn
SAMPLES = 4096  # pixels at least whose intensities are sorted
EDGE = 0.7  # pixels, standard deviation of the blur that keeps a region's border as soft as the scanner's


class RandIntensityMapd(RandomizableTransform, MapTransform):
    """Send the intensities of a slice through a random smooth curve, not always a rising one.

    The curve is linear between `knots` evenly spaced intensities, from the slice's darkest to its brightest, whose new
    values are drawn evenly from the same range; a running mean over three knots smooths it. What was brighter may
    become darker, as between T1 and T2. The result is a blend of old and new by a share drawn evenly from 0 to 1 (or
    all new, by chance `whole`), with the mean and standard deviation that the slice had.

    Args:
        keys: of slices (C, H, W), finite.
        prob: chance that a slice is changed, 0 to 1.
        knots: of the curve, at least 2.
        whole: chance that nothing of the old appearance is left, 0 to 1.
        allow_missing_keys: leave out keys that an item does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 0.1,
        knots: int = 8,
        whole: float = 0.3,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, _chance("prob", prob))
        if knots < 2:
            raise InputError(f"knots {knots} of RandIntensityMapd: legal: 2 or more")
        self.knots = int(knots)
        self.whole = _chance("whole", whole)

    def randomize(self, data: Any = None) -> None:
        """Draw the curve and the share of the new appearance."""
        super().randomize(data)
        values = np.pad(self.R.uniform(0, 1, self.knots), 1, mode="edge")
        self._values = torch.as_tensor((values[:-2] + values[1:-1] + values[2:]) / 3, dtype=torch.float32)
        self._share = 1.0 if self.R.uniform() < self.whole else float(self.R.uniform())

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with changed slices."""
        item = dict(data)
        self.randomize()
        if self._do_transform:
            for key in self.key_iterator(item):
                item[key] = self._mapped(item[key])
        return item

    def _mapped(self, image: Tensor) -> Tensor:
        low, high = intensity_range(image)
        if high <= low:
            return image
        place = ((image - low) / (high - low)).clamp(0, 1) * (self.knots - 1)
        left = place.floor().clamp(max=self.knots - 2)
        values, index = self._values.to(image), left.long()
        mapped = torch.lerp(values[index], values[index + 1], place - left) * (high - low) + low
        return _with_moments_of(image, torch.lerp(image, mapped, self._share))


class RandShallowNetworkd(RandomizableTransform, MapTransform):
    """Send a slice through a small network with random weights: changes contrast and texture, keeps shapes.

    Four convolutions with kernels of 1 or 3 pixels and leaky rectifiers between them, their weights drawn anew each
    time; the output is blended with the slice by a share drawn evenly from 0 to 1 and gets its mean and standard
    deviation. After the global intensity non-linear augmentation of arXiv 2111.12525 section III-A.

    Args:
        keys: of slices (C, H, W), finite.
        prob: chance that a slice is changed, 0 to 1.
        layers: convolutions, at least 1.
        width: channels between them, at least 1.
        allow_missing_keys: leave out keys that an item does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 0.1,
        layers: int = 4,
        width: int = 2,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, _chance("prob", prob))
        if min(layers, width) < 1:
            raise InputError(f"layers {layers} and width {width} of RandShallowNetworkd: legal: 1 or more")
        self.layers, self.width = int(layers), int(width)

    def randomize(self, data: Any = None) -> None:
        """Draw the size of each kernel, a seed for the weights and the share of the new appearance."""
        super().randomize(data)
        self._kernels = self.R.choice([1, 3], self.layers).tolist()
        self._seed = int(self.R.randint(2**31))
        self._share = float(self.R.uniform())

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with changed slices."""
        item = dict(data)
        self.randomize()
        if self._do_transform:
            for key in self.key_iterator(item):
                item[key] = self._filtered(item[key])
        return item

    def _filtered(self, image: Tensor) -> Tensor:
        draw = torch.Generator().manual_seed(self._seed)
        channels = [len(image), *[self.width] * (self.layers - 1), len(image)]
        x = image[None]
        for i, kernel in enumerate(self._kernels):
            weight = torch.randn(channels[i + 1], channels[i], kernel, kernel, generator=draw)
            bias = torch.randn(channels[i + 1], generator=draw)
            x = F.conv2d(x, weight.to(x), bias.to(x), padding=kernel // 2)
            if i + 1 < self.layers:
                x = F.leaky_relu(x, 0.01)
        return _with_moments_of(image, torch.lerp(image, _with_moments_of(image, x[0]), self._share))


class RandRegionContrastd(RandomizableTransform, MapTransform):
    """Give single organs another brightness and contrast than the rest of the slice.

    Disease and sequence change one organ against the others: iron turns the liver and the spleen black in T2. Each
    organ of the slice is changed by chance `organ_prob`: its mean moves to a value drawn evenly from the range of the
    slice's intensities, its deviations from the mean are scaled by a factor drawn from `texture`. Borders stay soft.

    Args:
        keys: of slices (C, H, W), finite.
        label_key: of their label map (1, H, W), 0 for the background, which is left as it is.
        prob: chance that a slice is changed at all, 0 to 1.
        organ_prob: chance of each organ in such a slice, 0 to 1.
        texture: smallest and largest factor of the deviations within an organ, 0 or more.
        allow_missing_keys: leave out keys that an item does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "label",
        *,
        prob: float = 0.1,
        organ_prob: float = 0.5,
        texture: Sequence[float] = (0.3, 1.2),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, _chance("prob", prob))
        if len(texture) != 2 or not 0 <= texture[0] <= texture[1]:
            raise InputError(f"texture {list(texture)} of RandRegionContrastd: legal: two factors, 0 <= low <= high")
        self.label_key = label_key
        self.organ_prob = _chance("organ_prob", organ_prob)
        self.texture = (float(texture[0]), float(texture[1]))

    def randomize(self, organs: Sequence[int] = ()) -> None:
        """Draw for each organ whether it changes, where its mean goes (0 to 1 of the range), and its texture."""
        super().randomize(None)
        self._changes = {
            organ: (float(self.R.uniform()), float(self.R.uniform(*self.texture)))
            for organ in organs
            if self.R.uniform() < self.organ_prob
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with changed slices; the label map stays."""
        item = dict(data)
        label = item[self.label_key]
        self.randomize([int(organ) for organ in torch.unique(label).tolist() if organ > 0])
        if self._do_transform and self._changes:
            for key in self.key_iterator(item):
                item[key] = self._changed(item[key], label)
        return item

    def _changed(self, image: Tensor, label: Tensor) -> Tensor:
        low, high = intensity_range(image)
        for organ, (place, factor) in self._changes.items():
            image = move_region(image, label == organ, low + place * (high - low), factor)
        return image


def move_region(image: Tensor, region: Tensor, mean: float, factor: float) -> Tensor:
    """Give a region of a slice another mean and texture, with a border as soft as a scanner's.

    Args:
        image: (C, H, W).
        region: (1, H, W) bool, not empty.
        mean: that the region gets.
        factor: of the deviations from its mean.

    Returns:
        The changed slice (C, H, W).
    """
    before = (image * region).sum((1, 2), keepdim=True) / region.sum()
    mask = GaussianFilter(2, EDGE)(region[None].to(image))[0]
    return torch.lerp(image, (image - before) * factor + mean, mask)


def _chance(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"{name} {value}: legal: a chance from 0 to 1")
    return float(value)


def intensity_range(image: Tensor) -> tuple[float, float]:
    """Return what counts as an image's darkest and brightest intensity, from some thousands of its pixels."""
    pixels = image.flatten()
    pixels = pixels[:: max(1, pixels.numel() // SAMPLES)].float().cpu()
    low, high = torch.quantile(pixels, torch.tensor([DARKEST, BRIGHTEST])).tolist()
    return low, high


def _with_moments_of(image: Tensor, changed: Tensor) -> Tensor:
    """Return `changed` (C, H, W) with the mean and standard deviation of `image`; `image` if it has become flat."""
    deviation = changed.std()
    if not torch.isfinite(deviation) or deviation < 1e-6:
        return image
    return (changed - changed.mean()) / deviation * image.std() + image.mean()
