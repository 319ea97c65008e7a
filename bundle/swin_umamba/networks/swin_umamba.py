"""Swin-UMamba: the VMamba encoder with a convolutional decoder (arXiv 2402.03302, official code of March 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from monai.networks.blocks import UnetOutBlock
from torch import nn

from swin_umamba import cpu
from swin_umamba.networks.arguments import check_backend, check_depths, check_image, check_integer, check_rate
from swin_umamba.networks.cnn import ResBlock, UpBlock, channels_last, instance_norm, is_faster_channels_last
from swin_umamba.networks.initialisation import initialise_linears
from swin_umamba.networks.padding import crop_to_scales, pad_to_multiple
from swin_umamba.networks.vss import VSSMEncoder


class SwinUMamba(nn.Module):
    """Swin-UMamba, 2D: stem, VMamba encoder, residual blocks on the skips, transposed convolutions up.

    In evaluation the result is one tensor of logits (B, out_channels, H, W). In training with deep supervision it is a
    list of four, at 1, 1/2, 1/4 and 1/8 of the resolution, full resolution first; sizes are rounded up.

    Args:
        in_channels: channels of the image, at least 1.
        out_channels: classes including background, at least 1.
        deep_supervision: return all four outputs while training. The heads exist either way.
        embed_dim: channels of the first stage, E, even; the CNN part starts with E / 2 and ends at 8E.
        depths: VSS blocks of the four stages.
        drop_path_rate: drop path of the encoder's last block, in [0, 1); grows linearly from 0 at the first.
        scan_backend: "auto" or a name of `swin_umamba.scan`.
        activation_checkpointing: recompute blocks in the backward pass: less memory, about a third more time.

    Raises:
        InputError: if an argument is out of its range.

    Example::

        >>> import torch
        >>> from swin_umamba.networks import SwinUMamba
        >>> network = SwinUMamba(1, 14, embed_dim=16, depths=(1, 1, 1, 1)).eval()
        >>> network(torch.zeros(1, 1, 50, 70)).shape
        torch.Size([1, 14, 50, 70])

    Source: arXiv 2402.03302 section 2.3; where paper and official code differ, the code (published weights need it).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        deep_supervision: bool = True,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 9, 2),
        drop_path_rate: float = 0.2,
        scan_backend: str = "auto",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_integer("in_channels", in_channels, 1)
        self.out_channels = check_integer("out_channels", out_channels, 1)
        self.deep_supervision = bool(deep_supervision)
        self.scales = [1, 2, 4, 8]  # of the outputs
        half = check_integer("embed_dim", embed_dim, 2, multiple=2) // 2
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, half, kernel_size=7, stride=2, padding=3),
            nn.InstanceNorm2d(half, affine=True),
        )
        self.vssm_encoder = VSSMEncoder(
            half,
            embed_dim=embed_dim,
            patch_size=2,
            depths=check_depths(depths),
            drop_path_rate=check_rate("drop_path_rate", drop_path_rate),
            scan_backend=check_backend(scan_backend),
            activation_checkpointing=activation_checkpointing,
        )
        initialise_linears(self.vssm_encoder)
        self._build_cnn(half, activation_checkpointing)

    def _build_cnn(self, half: int, activation_checkpointing: bool) -> None:
        widths = [half * 2**i for i in range(5)]  # at 1, 1/2, 1/4, 1/8 and 1/16; the encoder ends at 1/32, as wide
        recompute = {"activation_checkpointing": activation_checkpointing}
        self.encoder1 = ResBlock(self.in_channels, widths[0], **recompute)
        self.encoder2 = ResBlock(widths[0], widths[1], **recompute)
        self.encoder3 = ResBlock(widths[1], widths[2], **recompute)
        self.encoder4 = ResBlock(widths[2], widths[3], **recompute)
        self.encoder5 = ResBlock(widths[3], widths[4], **recompute)
        self.decoder6 = UpBlock(widths[4], widths[4], **recompute)
        self.decoder5 = UpBlock(widths[4], widths[3], **recompute)
        self.decoder4 = UpBlock(widths[3], widths[2], **recompute)
        self.decoder3 = UpBlock(widths[2], widths[1], **recompute)
        self.decoder2 = UpBlock(widths[1], widths[0], **recompute)
        self.decoder1 = ResBlock(widths[0], widths[0], **recompute)
        self.out_layers = nn.ModuleList(UnetOutBlock(2, width, self.out_channels) for width in widths[:4])

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Segment images of any size.

        Args:
            x: (B, in_channels, H, W), H and W at least 1.

        Returns:
            Logits (B, out_channels, H, W), or while training with deep supervision the list of them at every scale.
        """
        if not torch.jit.is_scripting():
            check_image(x, self.in_channels)
        all_heads = self.training and self.deep_supervision
        logits: list[torch.Tensor] = []
        maps = self.decode(pad_to_multiple(x))
        for i, head in enumerate(self.out_layers):
            if i == 0 or all_heads:
                logits.append(head(maps[i]))  # (B, C, h, w) -> (B, K, h, w)
        outputs = crop_to_scales(logits, x.shape[2], x.shape[3], self.scales)
        if all_heads:
            return outputs
        return outputs[0]

    def decode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map padded images (B, in_channels, H, W) to what the heads read: maps at 1, 1/2, 1/4 and 1/8."""
        if torch.jit.is_scripting():
            stem = self.stem(x)  # (B, E/2, H/2, W/2)
        else:
            x = channels_last(x) if is_faster_channels_last(x) else x
            convolution, norm = self.stem[0], cast(nn.InstanceNorm2d, self.stem[1])
            stem = instance_norm(convolution(x), norm.weight, norm.bias, norm.eps, 1.0)  # slope 1: no activation
        stages: list[torch.Tensor] = []
        for feature in self.vssm_encoder(stem):
            feature = feature.permute(0, 3, 1, 2)  # (B, h, w, C) -> (B, C, h, w)
            if torch.jit.is_scripting():
                stages.append(feature.contiguous())
            else:
                stays = feature.dtype != torch.float32 if feature.is_cuda else cpu.takes(feature)
                stages.append(feature if stays else feature.contiguous())
        up16 = self.decoder6(stages[3], self.encoder5(stages[2]))
        up8 = self.decoder5(up16, self.encoder4(stages[1]))
        up4 = self.decoder4(up8, self.encoder3(stages[0]))
        up2 = self.decoder3(up4, self.encoder2(stem))
        up1 = self.decoder1(self.decoder2(up2, self.encoder1(x)))
        return [up1, up2, up4, up8]
