"""MONAI's residual blocks of UNETR, with activation checkpointing."""

from __future__ import annotations

import torch
from monai.networks.blocks import UnetrBasicBlock, UnetrUpBlock
from torch.utils.checkpoint import checkpoint


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
            return checkpoint(self.layer, x, use_reentrant=False)
        else:
            return self.layer(x)


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
        return self.conv_block(torch.cat((x, skip), dim=1))  # the upsampled map first, as in the official weights

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) and (B, out_channels, 2H, 2W) to (B, out_channels, 2H, 2W)."""
        if torch.jit.is_scripting():
            return self.merge(x, skip)
        elif self.activation_checkpointing:
            return checkpoint(self.merge, x, skip, use_reentrant=False)
        else:
            return self.merge(x, skip)
