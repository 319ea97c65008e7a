"""Any image size in, the same size out: pad to what the encoder can halve five times, crop what comes back."""

from __future__ import annotations

import torch
import torch.nn.functional as F

MULTIPLE = 32


def pad_to_multiple(x: torch.Tensor, multiple: int = MULTIPLE) -> torch.Tensor:
    """Repeat the last row and column of (B, C, H, W) until both sides are multiples of `multiple`.

    The border is repeated rather than mirrored or set to zero: it needs no more than one pixel, and it draws no edge
    that the image does not have, whatever its background is after normalisation. Sizes that fit stay untouched.
    """
    below, right = -x.shape[2] % multiple, -x.shape[3] % multiple
    if below == 0 and right == 0:
        return x
    return F.pad(x, [0, right, 0, below], mode="replicate")


def crop_to_scale(x: torch.Tensor, height: int, width: int, scale: int) -> torch.Tensor:
    """Cut what padding added: keep the first ceil(height / scale) rows and ceil(width / scale) columns."""
    return x[:, :, : (height + scale - 1) // scale, : (width + scale - 1) // scale]
