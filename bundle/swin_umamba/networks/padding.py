"""Any image size in, the same size out: pad to what the encoder can halve five times, crop what comes back."""

from __future__ import annotations

import torch
import torch.nn.functional as F

MULTIPLE = 32


def pad_to_multiple(x: torch.Tensor, multiple: int = MULTIPLE, least: int = 0) -> torch.Tensor:
    """Repeat the last row and column of (B, C, H, W) until both sides are multiples of `multiple` and at least `least`.

    The border is repeated rather than mirrored or set to zero: it needs no more than one pixel, and it draws no edge
    that the image does not have, whatever its background is after normalisation. Sizes that fit stay untouched.
    """
    below, right = max(-x.shape[2] % multiple, least - x.shape[2]), max(-x.shape[3] % multiple, least - x.shape[3])
    if below == 0 and right == 0:
        return x
    return F.pad(x, [0, right, 0, below], mode="replicate")


def crop_to_scales(maps: list[torch.Tensor], height: int, width: int, scales: list[int]) -> list[torch.Tensor]:
    """Cut what padding added: of each map keep ceil(height / scale) rows and ceil(width / scale) columns.

    Args:
        maps: (B, C, h, w) each, no more than `scales`.
        height: rows of the image before padding.
        width: columns of it.
        scales: what each map's sides were divided by.
    """
    cropped: list[torch.Tensor] = []
    for i, x in enumerate(maps):
        rows, columns = (height + scales[i] - 1) // scales[i], (width + scales[i] - 1) // scales[i]
        cropped.append(x[:, :, :rows, :columns])
    return cropped
