"""Where a slice lies in the picture: one resampling for turn, size, shear, shift and bending."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from swin_umamba.batches.draws import Draws, check_chance, check_range
from swin_umamba.errors import InputError

BENDS = 6  # control points of the bending field along each axis


class RandPlacement:
    """Cut patches out of slices, turned, scaled, sheared, shifted and bent, in one interpolation.

    The patch's centre lies anywhere where the patch covers the slice, plus `shift`. What lies beyond the slice gets the
    sample's lowest intensity and the label 0.

    Args:
        size: (x, y) of the patch in pixels.
        prob: chance of each sample to be turned, scaled and sheared, 0 to 1.
        degrees: largest turn either way.
        zoom: smallest and largest factor of size, above 0.
        stretch: largest relative difference of size between the axes, 0 to below 1.
        shear: largest, as the tangent.
        shift: largest, as a share of the patch.
        bend_prob: chance of each sample to be bent, 0 to 1.
        bend: standard deviation of the displacements of the control points, in pixels.
    """

    def __init__(
        self,
        size: Sequence[int],
        *,
        prob: float = 0.5,
        degrees: float = 20.0,
        zoom: Sequence[float] = (0.7, 1.4),
        stretch: float = 0.1,
        shear: float = 0.1,
        shift: float = 0.1,
        bend_prob: float = 0.0,
        bend: float = 6.0,
    ) -> None:
        if len(size) != 2 or min(size) < 1:
            raise InputError(f"size of RandPlacement: {list(size)}; legal: two whole numbers, 1 or more")
        self.size = (int(size[0]), int(size[1]))
        self.prob = check_chance("prob of RandPlacement", prob)
        self.bend_prob = check_chance("bend_prob of RandPlacement", bend_prob)
        self.zoom = check_range("zoom of RandPlacement", zoom, least=0.01)
        self.degrees, self.stretch, self.shear, self.shift, self.bend = degrees, stretch, shear, shift, bend

    def __call__(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return patches (B, C, x, y) of images and label maps (B, C, X, Y)."""
        grid = self._grid(len(image), image.shape[2:], draws)
        low = image.amin((1, 2, 3), keepdim=True)
        image = F.grid_sample(image - low, grid, mode="bilinear", padding_mode="zeros", align_corners=True) + low
        label = F.grid_sample(label.to(image.dtype), grid, mode="nearest", padding_mode="zeros", align_corners=True)
        return image, label

    def _grid(self, count: int, canvas: Sequence[int], draws: Draws) -> Tensor:
        """Return where each pixel of the patches comes from (B, x, y, 2), as torch's grid_sample wants it."""
        axes = [torch.arange(n, device=draws.device) - (n - 1) / 2 for n in self.size]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # (x, y, 2), from the patch's centre
        source = torch.einsum("bij,xyj->bxyi", self._matrices(count, draws), place)
        room = [max(0, full - side) / 2 + self.shift * side for full, side in zip(canvas, self.size, strict=True)]
        source = source + torch.stack([draws.uniform(count, 1, 1, low=-r, high=r) for r in room], -1)
        if self.bend_prob:
            source = source + self._bending(count, draws)
        x, y = (source[..., axis] / max(0.5, (full - 1) / 2) for axis, full in enumerate(canvas))
        return torch.stack([y, x], -1)  # torch names the last axis first

    def _matrices(self, count: int, draws: Draws) -> Tensor:
        """Return (B, 2, 2): from a place in the patch to one in the slice, both in pixels from the centre."""
        angle = draws.uniform(count, low=-1.0) * math.radians(self.degrees)
        low, high = (math.log(value) for value in self.zoom)
        zoom = torch.exp(draws.uniform(count, low=low, high=high))
        stretch = 1 + draws.uniform(count, low=-self.stretch, high=self.stretch)
        shear = draws.uniform(count, low=-self.shear, high=self.shear)
        cos, sin = torch.cos(angle), torch.sin(angle)
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (B, 2, 2)
        none, one = torch.zeros_like(zoom), torch.ones_like(zoom)
        form = torch.stack([torch.stack([stretch, shear], 1), torch.stack([none, one / stretch], 1)], 1)
        moved = turn @ form / zoom.view(-1, 1, 1)
        chosen = draws.chance(count, 1, 1, prob=self.prob)
        return torch.where(chosen, moved, torch.eye(2, device=draws.device))

    def _bending(self, count: int, draws: Draws) -> Tensor:
        """Return smooth displacements (B, x, y, 2) in pixels, 0 for samples that are not bent."""
        points = draws.normal(count, 2, BENDS, BENDS) * self.bend
        points = points * draws.chance(count, 1, 1, 1, prob=self.bend_prob)
        field = F.interpolate(points, size=self.size, mode="bicubic", align_corners=True)
        return field.movedim(1, -1)  # (B, 2, x, y) -> (B, x, y, 2)
