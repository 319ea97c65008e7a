"""What scanners do to an image beside its contrast: shading, noise, blur, coarse pixels, ghosts, a small field."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from swin_umamba.batches.draws import BatchChange, Draws, along_axes, check_range, gaussian_matrix

SHADES = 4  # control points of the shading along each axis
SOFTNESS = 0.4  # of a coarse pixel: standard deviation of the Gaussian that fills it


class RandBiasField(BatchChange):
    """Coil shading: a smooth gain over the slice, the intensities counted from the sample's lowest.

    Args:
        prob: chance of each sample, 0 to 1.
        strength: smallest and largest standard deviation of the gain's logarithm.
    """

    def __init__(self, prob: float, strength: Sequence[float] = (0.0, 0.4)) -> None:
        super().__init__(prob)
        self.strength = check_range("strength of RandBiasField", strength)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample shaded."""
        strength = draws.uniform(len(image), 1, 1, 1, low=self.strength[0], high=self.strength[1])
        points = draws.normal(len(image), 1, SHADES, SHADES) * strength
        gain = torch.exp(F.interpolate(points, size=image.shape[2:], mode="bicubic", align_corners=True))
        low = image.amin((1, 2, 3), keepdim=True)
        return (image - low) * gain + low, label


class RandNoise(BatchChange):
    """Gaussian noise.

    Args:
        prob: chance of each sample, 0 to 1.
        deviation: smallest and largest standard deviation, in units of the image (1 for a z-scored volume).
    """

    def __init__(self, prob: float, deviation: Sequence[float] = (0.0, 0.2)) -> None:
        super().__init__(prob)
        self.deviation = check_range("deviation of RandNoise", deviation)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample with noise."""
        deviation = draws.uniform(len(image), 1, 1, 1, low=self.deviation[0], high=self.deviation[1])
        return image + draws.normal(*image.shape) * deviation, label


class RandBlur(BatchChange):
    """A Gaussian blur in plane, of its own width along each axis.

    Args:
        prob: chance of each sample, 0 to 1.
        sigma: smallest and largest standard deviation in pixels.
    """

    def __init__(self, prob: float, sigma: Sequence[float] = (0.3, 1.5)) -> None:
        super().__init__(prob)
        self.sigma = check_range("sigma of RandBlur", sigma)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample blurred."""
        sigma = draws.uniform(2, len(image), low=self.sigma[0], high=self.sigma[1])
        rows, columns = (gaussian_matrix(size, sigma[axis]) for axis, size in enumerate(image.shape[2:]))
        return along_axes(image, rows, columns), label


class RandLowResolution(BatchChange):
    """Coarser pixels, brought back to the slice's own by linear interpolation.

    Args:
        prob: chance of each sample, 0 to 1.
        zoom: smallest and largest share of the pixels that are left along each axis, above 0 to 1.
    """

    def __init__(self, prob: float, zoom: Sequence[float] = (0.4, 1.0)) -> None:
        super().__init__(prob)
        self.zoom = check_range("zoom of RandLowResolution", zoom, least=0.01)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample coarser."""
        zoom = draws.uniform(len(image), low=self.zoom[0], high=self.zoom[1])
        rows, columns = (coarse_matrix(size, zoom) for size in image.shape[2:])
        return along_axes(image, rows, columns), label


class RandGhost(BatchChange):
    """Motion: faint copies of the slice beside it along one axis, wrapped round.

    Args:
        prob: chance of each sample, 0 to 1.
        strength: smallest and largest brightness of the copies, as a share.
        copies: smallest and largest number of copies that fit into the picture.
    """

    def __init__(self, prob: float, strength: Sequence[float] = (0.05, 0.3), copies: Sequence[int] = (2, 6)) -> None:
        super().__init__(prob)
        self.strength = check_range("strength of RandGhost", strength)
        self.copies = check_range("copies of RandGhost", copies, least=2)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample with ghosts, along the first axis or the second."""
        low = image.amin((1, 2, 3), keepdim=True)
        along_first = draws.chance(len(image), prob=0.5)
        strength = draws.uniform(len(image), low=self.strength[0], high=self.strength[1])
        share = 1 / draws.uniform(len(image), low=self.copies[0], high=self.copies[1] + 1).floor()
        rows, columns = (
            ghost_matrix(size, share, strength * on)
            for size, on in zip(image.shape[2:], (along_first, ~along_first), strict=True)
        )
        return along_axes(image - low, rows, columns) + low, label


class RandFieldOfView(BatchChange):
    """A smaller field of view: strips along the borders are emptied, and hold no organ.

    Args:
        prob: chance of each sample, 0 to 1.
        strip: widest strip, as a share of the side.
    """

    def __init__(self, prob: float, strip: float = 0.25) -> None:
        super().__init__(prob)
        self.strip = float(strip)

    def change(self, image: Tensor, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return every sample with a smaller field."""
        inside = torch.ones(len(image), 1, 1, 1, dtype=torch.bool, device=image.device)
        for axis, size in enumerate(image.shape[2:]):
            place = torch.linspace(0, 1, size, device=image.device)
            strips = draws.uniform(2, len(image), 1, high=self.strip) * draws.chance(2, len(image), 1, prob=0.5)
            kept = (place >= strips[0]) & (place <= 1 - strips[1])  # (B, size)
            inside = inside & kept.view(len(image), 1, *((size, 1) if axis == 0 else (1, size)))
        low = image.amin((1, 2, 3), keepdim=True)
        return torch.where(inside, image, low), label * inside


def coarse_matrix(size: int, zoom: Tensor) -> Tensor:
    """Return matrices (B, size, size) that make a line coarser by `zoom` (B,) and bring it back to its pixels."""
    place = torch.arange(size, device=zoom.device, dtype=zoom.dtype)
    coarse = (place + 0.5) * zoom.view(-1, 1) - 0.5  # (B, size): each pixel's place among the coarse ones
    number = (zoom * size).round().clamp(min=1).view(-1, 1, 1)
    distance = coarse[:, :, None] - place  # (B, fine, coarse)
    down = torch.exp(-0.5 * (distance / SOFTNESS) ** 2) + 1e-12
    down = down / down.sum(1, keepdim=True)  # each coarse pixel is a mean of fine ones
    inner = torch.minimum(coarse[:, :, None].clamp(min=0), number - 1)
    up = (1 - (inner - place).abs()).clamp(min=0)  # (B, fine, coarse)
    return up @ down.mT


def ghost_matrix(size: int, share: Tensor, strength: Tensor) -> Tensor:
    """Return matrices (B, size, size) that add copies of a line, moved by `share` (B,) of it either way."""
    place = torch.arange(size, device=share.device)
    moved = (place[:, None] - place[None]) % size  # (size, size)
    step = (share * size).round().long().view(-1, 1, 1)
    copies = (moved == step) | (moved == size - step)
    return torch.eye(size, device=share.device) + copies * strength.view(-1, 1, 1)
