"""MONAI's residual blocks of UNETR, with activation checkpointing, and with fused norms."""

from __future__ import annotations

from typing import cast

import torch
from monai.networks.blocks import UnetrBasicBlock, UnetrUpBlock
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn
from torch.nn import functional as F
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


def convolve(layer: nn.Module, x: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
    """Run MONAI's convolution on (B, C, H, W), on a CPU with fewer multiplications where that is faster.

    With `skip` (B, D, H, W), whose channels follow those of x, only where `winograd.convolves` says so.
    """
    inner = inner_convolution(layer)
    if winograd.convolves(inner, x, skip):
        kind = cpu.result_type(x)
        return winograd.convolve(x.to(kind), inner.weight, inner.bias, None if skip is None else skip.to(kind))
    return layer(x)


def inner_convolution(layer: nn.Module) -> nn.Conv2d:
    """Return PyTorch's convolution in MONAI's, which has neither norm nor activation here."""
    return cast(nn.Conv2d, layer.conv)


def project(layer: nn.Module, x: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
    """Run MONAI's 1x1 convolution on (B, C, H, W), followed by the channels of `skip` (B, D, H, W) if there is one."""
    if skip is None:
        return layer(x)
    inner = inner_convolution(layer)
    first, second = inner.weight.flatten(1).split([x.shape[1], skip.shape[1]], dim=1)  # (K, C), (K, D)
    y = F.linear(x.permute(0, 2, 3, 1), first, inner.bias)  # (B, C, H, W) -> (B, H, W, K)
    pixels = skip.permute(0, 2, 3, 1).reshape(-1, skip.shape[1])  # (B, D, H, W) -> (B*H*W, D)
    y.view(-1, y.shape[3]).addmm_(pixels.to(y.dtype), second.t().to(y.dtype))  # autocast leaves it alone
    return y.permute(0, 3, 1, 2)


def residual_block(layer: UnetResBlock, x: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
    """Run MONAI's `layer` on (B, C, H, W), each norm, sum and activation as one operation where there is one.

    The channels of `skip` (B, D, H, W) follow those of x; on a CPU they are read where they are.
    """
    if skip is not None and not winograd.convolves(inner_convolution(layer.conv1), x, skip):
        x, skip = torch.cat((x, skip), dim=1), None
    if not (x.is_cuda or cpu.takes(x)):
        return layer(x)
    slope, first, second = layer.lrelu.negative_slope, layer.norm1, layer.norm2
    y = instance_norm(convolve(layer.conv1, x, skip), first.weight, first.bias, first.eps, slope)
    other = project(layer.conv3, x, skip) if layer.downsample else x
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
        if torch.jit.is_scripting():
            return self.conv_block(torch.cat((x, skip), dim=1))  # the upsampled map first, as in the official weights
        else:
            return residual_block(self.conv_block, x, skip)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) and (B, out_channels, 2H, 2W) to (B, out_channels, 2H, 2W)."""
        if torch.jit.is_scripting():
            return self.merge(x, skip)
        elif self.activation_checkpointing:
            return checkpoint(self.merge, x, skip, use_reentrant=False)
        else:
            return self.merge(x, skip)
