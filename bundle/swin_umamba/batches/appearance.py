"""Contrasts of other sequences, scanners and diseases: anatomy stays, intensities change.

The batched, label-aware kin of `swin_umamba.augmentation`; after SLAug (arXiv 2211.11514) and the global intensity
non-linear augmentation of arXiv 2111.12525.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from swin_umamba.augmentation import EDGE
from swin_umamba.batches.draws import (
    BatchChange,
    Draws,
    along_axes,
    check_chance,
    check_range,
    gaussian_matrix,
    intensity_ranges,
    with_moments_of,
)
from swin_umamba.errors import InputError


class RandTissueContrast(BatchChange):
    """Give each organ, and the tissue that nobody labelled, a contrast of its own.

    In a changed sample each organ moves by chance `organ_prob` to a mean drawn evenly from the sample's range, or, by
    chance `dark`, from its darkest tenth; its texture is scaled. Organs of one `group` move together by chance
    `together`: iron darkens liver and spleen, kidneys look alike. The rest goes by chance `rest_prob` through a random
    curve of its own, which gives its tissues, told apart by their intensity, new contrasts. Borders stay soft.

    Args:
        classes: of the label maps, the background included.
        prob: chance of each sample, 0 to 1.
        organ_prob: chance of each organ in a changed sample.
        dark: chance that an organ moves to the dark end.
        rest_prob: chance of the unlabelled tissue in a changed sample.
        groups: of label ids that may move together; no id in two of them.
        together: chance of a group to move as one.
        texture: smallest and largest factor of the deviations within an organ.
        knots: of the curve, 2 or more.
    """

    def __init__(
        self,
        classes: int,
        prob: float,
        *,
        organ_prob: float = 0.5,
        dark: float = 0.2,
        rest_prob: float = 0.5,
        groups: Sequence[Sequence[int]] = (),
        together: float = 0.7,
        texture: Sequence[float] = (0.3, 1.2),
        knots: int = 8,
    ) -> None:
        super().__init__(prob)
        self.classes, self.knots = int(classes), check_knots(knots)
        self.organ_prob = check_chance("organ_prob of RandTissueContrast", organ_prob)
        self.dark = check_chance("dark of RandTissueContrast", dark)
        self.rest_prob = check_chance("rest_prob of RandTissueContrast", rest_prob)
        self.together = check_chance("together of RandTissueContrast", together)
        self.texture = check_range("texture of RandTissueContrast", texture)
        leaders = list(range(self.classes))  # of each label id: the id whose draws it may share
        for group in groups:
            for number in group:
                if not 1 <= number < self.classes or leaders[number] != number:
                    raise InputError(
                        f"groups {[list(g) for g in groups]}: legal: label ids 1 to {self.classes - 1}, once"
                    )
                leaders[number] = group[0]
        self.leaders = leaders

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample with new contrasts."""
        low, high = intensity_ranges(image)
        ids = label.long()
        gain, offset = self._lines(image, ids, low, high, draws)
        rest = random_curve(image, low, high, self.knots, draws)
        rest = torch.where(draws.chance(len(image), 1, 1, 1, prob=self.rest_prob), rest, image)
        gain, offset = (self._spread(values, ids) for values in (gain, offset))  # (B, K) -> (B, C, X, Y)
        soft = [gaussian_matrix(n, image.new_full((1,), EDGE)) for n in image.shape[2:]]
        organs = along_axes(gain, *soft) * image + along_axes(offset, *soft)
        return organs + along_axes((ids == 0).to(image.dtype), *soft) * rest, label

    def _lines(self, image: Tensor, ids: Tensor, low: Tensor, high: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return for each class the gain and the offset (B, K) of its new intensities; 0 for the background."""
        count, device = len(image), image.device
        own_ids = torch.arange(self.classes, device=device)
        one_hot = (ids.flatten(1)[..., None] == own_ids).to(image.dtype)  # (B, N, K)
        mean = torch.einsum("bn,bnk->bk", image.flatten(1), one_hot) / one_hot.sum(1).clamp(min=1)
        own = torch.arange(self.classes, device=device).expand(count, -1)
        leader = torch.stack([torch.full_like(own[:, 0], number) for number in self.leaders], 1)
        follow = draws.chance(count, self.classes, prob=self.together).gather(1, leader)
        leader = torch.where(follow, leader, own)
        place = draws.uniform(count, self.classes)
        place = torch.where(draws.chance(count, self.classes, prob=self.dark), place / 10, place).gather(1, leader)
        factor = draws.uniform(count, self.classes, low=self.texture[0], high=self.texture[1]).gather(1, leader)
        moves = draws.chance(count, self.classes, prob=self.organ_prob).gather(1, leader)
        target = low.view(-1, 1) + place * (high - low).view(-1, 1)
        gain = torch.where(moves, factor, torch.ones_like(factor))
        offset = torch.where(moves, target - mean * factor, torch.zeros_like(target))
        organs = (own > 0).to(image.dtype)
        return gain * organs, offset * organs

    @staticmethod
    def _spread(values: Tensor, ids: Tensor) -> Tensor:
        return values.gather(1, ids.flatten(1)).view(ids.shape)


class RandIntensityMap(BatchChange):
    """Send the intensities of a sample through a random smooth curve, or turn them round, and blend.

    Args:
        prob: chance of each sample, 0 to 1.
        knots: of the curve, 2 or more.
        whole: chance that nothing of the old appearance is left.
        inverted: chance that the curve is a straight line from bright to dark.
    """

    def __init__(self, prob: float, *, knots: int = 8, whole: float = 0.3, inverted: float = 0.1) -> None:
        super().__init__(prob)
        self.knots = check_knots(knots)
        self.whole = check_chance("whole of RandIntensityMap", whole)
        self.inverted = check_chance("inverted of RandIntensityMap", inverted)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample with its new appearance, of its old mean and deviation."""
        count = len(image)
        low, high = intensity_ranges(image)
        curve = random_curve(image, low, high, self.knots, draws)
        mapped = torch.where(draws.chance(count, 1, 1, 1, prob=self.inverted), low + high - image, curve)
        share = draws.uniform(count, 1, 1, 1)
        share = torch.where(draws.chance(count, 1, 1, 1, prob=self.whole), torch.ones_like(share), share)
        return with_moments_of(image, torch.lerp(image, mapped, share)), label


class RandShallowNetwork(BatchChange):
    """Send each sample through a small convolutional network of random weights, and blend.

    Args:
        prob: chance of each sample, 0 to 1.
        layers: convolutions of 1 or 3 pixels, 1 or more.
        width: channels between them, 1 or more.
    """

    def __init__(self, prob: float, *, layers: int = 4, width: int = 2) -> None:
        super().__init__(prob)
        if min(layers, width) < 1:
            raise InputError(f"layers {layers} and width {width} of RandShallowNetwork: legal: 1 or more")
        self.layers, self.width = int(layers), int(width)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample with its new appearance, of its old mean and deviation."""
        count = len(image)
        sizes = [1, *[self.width] * (self.layers - 1), 1]
        x = image.transpose(0, 1)  # (B, C, X, Y) -> (C, B, X, Y): a network for each sample, the same for its channels
        for i in range(self.layers):
            weight = draws.normal(count * sizes[i + 1], sizes[i], 3, 3)
            centre = F.pad(weight[..., 1:2, 1:2], [1, 1, 1, 1])
            point = draws.chance(count, 1, 1, 1, prob=0.5).repeat_interleave(sizes[i + 1], 0)
            bias = draws.normal(count * sizes[i + 1])
            x = F.conv2d(x, torch.where(point, centre, weight), bias, padding=1, groups=count)
            if i + 1 < self.layers:
                x = F.leaky_relu(x, 0.01)
        changed = with_moments_of(image, x.transpose(0, 1))
        return with_moments_of(image, torch.lerp(image, changed, draws.uniform(count, 1, 1, 1))), label


class RandGamma(BatchChange):
    """Bend the intensities of a sample, counted from its lowest to its highest, from either end.

    Args:
        prob: chance of each sample, 0 to 1.
        gamma: smallest and largest exponent, above 0; drawn evenly in its logarithm.
        inverted: chance to bend from the bright end.
    """

    def __init__(self, prob: float, *, gamma: Sequence[float] = (0.6, 1.7), inverted: float = 0.3) -> None:
        super().__init__(prob)
        self.gamma = check_range("gamma of RandGamma", gamma, least=0.01)
        self.inverted = check_chance("inverted of RandGamma", inverted)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample bent, of its old mean and deviation."""
        count = len(image)
        low, high = (edge((1, 2, 3), keepdim=True) for edge in (image.amin, image.amax))
        place = (image - low) / (high - low).clamp(min=1e-6)
        logs = [math.log(value) for value in self.gamma]
        gamma = torch.exp(draws.uniform(count, 1, 1, 1, low=logs[0], high=logs[1]))
        bright = draws.chance(count, 1, 1, 1, prob=self.inverted)
        bent = torch.where(bright, 1 - (1 - place) ** gamma, place**gamma)
        return with_moments_of(image, bent * (high - low) + low), label


class RandLinear(BatchChange):
    """Scale and move the intensities of a sample, as another share of air in the volume does to its z-score.

    Args:
        prob: chance of each sample, 0 to 1.
        gain: smallest and largest factor, above 0.
        offset: largest, either way.
    """

    def __init__(self, prob: float, *, gain: Sequence[float] = (0.7, 1.4), offset: float = 0.3) -> None:
        super().__init__(prob)
        self.gain = check_range("gain of RandLinear", gain, least=0.01)
        self.offset = float(offset)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample scaled and moved."""
        gain = draws.uniform(len(image), 1, 1, 1, low=self.gain[0], high=self.gain[1])
        return image * gain + draws.uniform(len(image), 1, 1, 1, low=-self.offset, high=self.offset), label


def random_curve(image: Tensor, low: Tensor, high: Tensor, knots: int, draws: Draws) -> Tensor:
    """Send each sample of (B, C, X, Y) through a curve of its own, from its range into its range.

    The curve is linear between `knots` evenly spaced intensities, whose new values are drawn evenly from the range and
    smoothed by a running mean over three.
    """
    values = draws.uniform(len(image), knots)
    values = F.avg_pool1d(F.pad(values[:, None], (1, 1), mode="replicate"), 3, 1)[:, 0]  # (B, knots)
    span = (high - low).clamp(min=1e-6)
    place = ((image - low) / span).clamp(0, 1) * (knots - 1)
    left = place.floor().clamp(max=knots - 2)
    index = left.long().flatten(1)
    lower, upper = (values.gather(1, index + step).view(image.shape) for step in (0, 1))
    return torch.lerp(lower, upper, place - left) * span + low


def check_knots(knots: int) -> int:
    """Return a number of knots.

    Raises:
        InputError: if it is below 2.
    """
    if knots < 2:
        raise InputError(f"knots {knots} of a curve: legal: 2 or more")
    return int(knots)
