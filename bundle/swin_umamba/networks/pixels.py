"""The way from the patch grid to logits of pixels, at the end of the networks without a convolutional decoder."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from swin_umamba import cpu
from swin_umamba.networks.vss import FinalPatchExpand, depth_to_space, normalise

PATCHES = 512  # that are expanded together on a CPU: 3 MB of float32 at 96 channels, where a slice's map has 39


def pixel_logits(expand: FinalPatchExpand, head: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Expand patches (B, h, w, E) to pixels and classify them by a 1x1 convolution: logits (B, K, 4h, 4w)."""
    if cpu.takes(x):
        return _in_pieces(expand, head, x)
    return head(expand(x).permute(0, 3, 1, 2))  # (B, 4h, 4w, C) -> (B, C, 4h, 4w)


def _in_pieces(expand: FinalPatchExpand, head: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Do the same, some patches at a time, so that the widest map of the network never leaves the caches.

    Norm and head take every pixel by itself, so pixels are put in their places last, when they are logits.
    """
    batch, height, width, channels = x.shape
    norm, weight = expand.norm, head.weight.flatten(1)  # (K, C, 1, 1) -> (K, C)
    logits = []
    for patches in x.reshape(-1, channels).split(PATCHES):
        pixels = expand.expand(patches).view(-1, weight.shape[1])  # (P, 16C) -> (16P, C)
        pixels = normalise(pixels, norm.weight, norm.bias, norm.eps)
        logits.append(F.linear(pixels, weight, head.bias).view(len(patches), -1))  # (16P, K) -> (P, 16K)
    whole = torch.cat(logits).view(batch, height, width, -1)  # (B*h*w, 16K) -> (B, h, w, 16K)
    return depth_to_space(whole, 4).permute(0, 3, 1, 2)  # (B, 4h, 4w, K) -> (B, K, 4h, 4w)
