"""MONAI's residual blocks of UNETR, with activation checkpointing, and with fused norms."""

from __future__ import annotations

import torch
from torch import nn
from monai.networks.blocks import UnetrBasicBlock, UnetrUpBlock
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch.utils.checkpoint import checkpoint

from swin_umamba import cpu, cuda
from swin_umamba.cpu import winograd


def is_faster_channels_last(x: torch.Tensor) -> bool:
    """Whether convolutions of x are faster channels-last: in half precision on a GPU, without gradients on a CPU."""
    if x.is_cuda:
        return x.dtype != torch.float32 or torch.is_autocast_enabled("cuda")
    return cpu.takes(x)


def instance_norm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, slope: float,
    other: torch.Tensor | None = None, normalise_other: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Normalise x (B, C, H, W), add `other` as it is or normalised, and apply leaky ReLU; slope 1 is none.

    x must be a convolution's result that nobody else reads: without gradients it may be overwritten.
    """
    if x.is_cuda:
        return cuda.instance_norm(x, weight, bias, eps, slope, other, normalise_other)
    return cpu.instance_norm(x, weight, bias, eps, slope, other, normalise_other, overwrite=True)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Lay (B, C, H, W) out with its channels together, also where one channel leaves that open."""
    x = x.contiguous(memory_format=torch.channels_last)
    rows, columns = x.shape[2:]
    return x.as_strided(x.shape, (rows * columns, 1, columns, 1)) if x.shape[1] == 1 else x


def convolve(layer: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """Run MONAI's convolution on (B, C, H, W), on a CPU with fewer multiplications where that is faster."""
    inner = layer.conv
    if winograd.convolves(inner, x):
        return winograd.convolve(x, inner.weight, inner.bias)
    return layer(x)


def residual_block(layer: UnetResBlock, x: torch.Tensor) -> torch.Tensor:
    """Run MONAI's `layer` on (B, C, H, W), each norm, sum and activation as one operation where there is one."""
    if not (x.is_cuda or cpu.takes(x)):
        return layer(x)
    slope, first, second = layer.lrelu.negative_slope, layer.norm1, layer.norm2
    y = instance_norm(convolve(layer.conv1, x), first.weight, first.bias, first.eps, slope)
    other = layer.conv3(x) if layer.downsample else x
    ends = (second.weight, second.bias, second.eps, slope)
    return instance_norm(convolve(layer.conv2, y), *ends, other, normalise_other=layer.downsample)


class ResBlock(UnetrBasicBlock):
    """Two 3x3 convolutions with instance norm, leaky ReLU and a residual: (B, C, H, W) -> (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, activation_checkpointing: bool = False) -> None:
        super().__init__(2, in_channels, out_channels, kernel_size=3, stride=1, norm_name="instance", res_block=True)
        self.activation_checkpointing = activation_checkpointing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, out_channels, H, W)."""
        if torch.jit.is_scripting():
            return self.layer(x)
        elif self.activation_checkpointing:
            return checkpoint(residual_block, self.layer, x, use_reentrant=False)
        else:
            return residual_block(self.layer, x)


class UpBlock(UnetrUpBlock):
    """Double the resolution, join the skip, then a residual block.

    (B, C, H, W) and a skip of (B, out_channels, 2H, 2W) -> (B, out_channels, 2H, 2W).
    """

    def __init__(self, in_channels: int, out_channels: int, *, activation_checkpointing: bool = False) -> None:
        super().__init__(
            2,
            in_channels,
            out_channels,
            kernel_size=3,
            upsample_kernel_size=2,
            norm_name="instance",
            res_block=True,
        )
        self.activation_checkpointing = activation_checkpointing

    def merge(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Compute the block without checkpointing."""
        x = self.transp_conv(x)  # (B, C, H, W) -> (B, out_channels, 2H, 2W)
        x = torch.cat((x, skip), dim=1)  # the upsampled map first, as in the official weights
        if torch.jit.is_scripting():
            return self.conv_block(x)
        else:
            return residual_block(self.conv_block, x)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) and (B, out_channels, 2H, 2W) to (B, out_channels, 2H, 2W)."""
        if torch.jit.is_scripting():
            return self.merge(x, skip)
        elif self.activation_checkpointing:
            return checkpoint(self.merge, x, skip, use_reentrant=False)
        else:
            return self.merge(x, skip)
