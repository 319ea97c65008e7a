"""Swin-UMamba-dagger: the VMamba encoder with a decoder of VSS blocks as well (arXiv 2402.03302)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from swin_umamba.networks.arguments import check_backend, check_depths, check_image, check_integer, check_rate
from swin_umamba.networks.initialisation import initialise_convolutions, initialise_linears
from swin_umamba.networks.padding import crop_to_scales, pad_to_multiple
from swin_umamba.networks.pixels import pixel_logits
from swin_umamba.networks.vss import FinalPatchExpand, PatchExpand, VSSMEncoder, VSSStage


class VSSDecoder(nn.Module):
    """Three steps of patch expansion, joining of the skip and VSS blocks, then a last expansion to pixels.

    Args:
        embed_dim: E, channels of the finest encoder stage.
        out_channels: classes.
        depth: VSS blocks of each step.
        drop_path_rate: drop path of the first block; it falls linearly to 0 at the last.
        scan_backend: see `SS2D`.
        activation_checkpointing: see `VSSStage`.
    """

    def __init__(
        self,
        embed_dim: int,
        out_channels: int,
        *,
        depth: int,
        drop_path_rate: float,
        scan_backend: str,
        activation_checkpointing: bool,
    ) -> None:
        super().__init__()
        widths = [4 * embed_dim, 2 * embed_dim, embed_dim]
        rates = torch.linspace(drop_path_rate, 0, depth * len(widths), dtype=torch.float64).tolist()
        self.stages = nn.ModuleList(
            VSSStage(
                width,
                drop_path=rates[i * depth : (i + 1) * depth],
                scan_backend=scan_backend,
                activation_checkpointing=activation_checkpointing,
            )
            for i, width in enumerate(widths)
        )
        self.expand_layers = nn.ModuleList([*(PatchExpand(2 * width) for width in widths), FinalPatchExpand(embed_dim)])
        self.seg_layers = nn.ModuleList(nn.Conv2d(width, out_channels, kernel_size=1) for width in [*widths, embed_dim])
        self.concat_back_dim = nn.ModuleList(nn.Linear(2 * width, width) for width in widths)

    def forward(self, features: list[torch.Tensor], all_heads: bool) -> list[torch.Tensor]:
        """Map the encoder's maps to logits, finest first.

        Args:
            features: four maps (B, h, w, C) at 1/4, 1/8, 1/16 and 1/32.
            all_heads: compute all of [1, 1/4, 1/8, 1/16], or only the first.

        Returns:
            Logits (B, out_channels, h, w) each.
        """
        x = features[3]
        outputs: list[torch.Tensor] = []
        steps = zip(self.expand_layers, self.concat_back_dim, self.stages, self.seg_layers)  # noqa: B905 (3 of 4, 3, 3, 4)
        for i, (expand, join, stage, head) in enumerate(steps):
            x = torch.cat((expand(x), features[2 - i]), dim=-1)  # 2 x (B, h, w, C) -> (B, h, w, 2C)
            x = stage(join(x))
            if all_heads:
                outputs.append(head(x.permute(0, 3, 1, 2)))  # (B, h, w, C) -> (B, C, h, w) -> (B, K, h, w)
        if torch.jit.is_scripting():
            x = self.expand_layers[-1](x)  # (B, H/4, W/4, E) -> (B, H, W, E)
            outputs.append(self.seg_layers[-1](x.permute(0, 3, 1, 2)))  # (B, H, W, E) -> (B, E, H, W) -> (B, K, H, W)
        else:
            last = cast(FinalPatchExpand, self.expand_layers[-1]), cast(nn.Conv2d, self.seg_layers[-1])
            outputs.append(pixel_logits(*last, x))
        outputs.reverse()
        return outputs


class SwinUMambaD(nn.Module):
    """Swin-UMamba-dagger, 2D: VMamba encoder on 4x4 patches of the image, VSS decoder; half the size of `SwinUMamba`.

    In evaluation the result is one tensor of logits (B, out_channels, H, W). In training with deep supervision it is a
    list of four, at 1, 1/4, 1/8 and 1/16 of the resolution, full resolution first; sizes are rounded up.

    Args:
        in_channels: channels of the image, at least 1.
        out_channels: classes including background, at least 1.
        deep_supervision: return all four outputs while training. The heads exist either way.
        embed_dim: channels of the first stage, E; they double at every stage.
        depths: VSS blocks of the encoder's four stages.
        decoder_depth: VSS blocks of each of the three decoder stages.
        drop_path_rate: drop path of the encoder's last and the decoder's first block, in [0, 1); linear to 0 outwards.
        scan_backend: "auto" or a name of `swin_umamba.scan`.
        activation_checkpointing: recompute blocks in the backward pass: less memory, about a third more time.

    Raises:
        InputError: if an argument is out of its range.

    Source: arXiv 2402.03302 section 2.4; where paper and official code differ, the code (published weights need it).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        deep_supervision: bool = True,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 9, 2),
        decoder_depth: int = 2,
        drop_path_rate: float = 0.2,
        scan_backend: str = "auto",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_integer("in_channels", in_channels, 1)
        self.out_channels = check_integer("out_channels", out_channels, 1)
        self.deep_supervision = bool(deep_supervision)
        self.scales = [1, 4, 8, 16]  # of the outputs
        self.vssm_encoder = VSSMEncoder(
            in_channels,
            embed_dim=check_integer("embed_dim", embed_dim, 1),
            patch_size=4,
            depths=check_depths(depths),
            drop_path_rate=check_rate("drop_path_rate", drop_path_rate),
            scan_backend=check_backend(scan_backend),
            activation_checkpointing=activation_checkpointing,
        )
        initialise_linears(self.vssm_encoder)
        self.decoder = VSSDecoder(
            embed_dim,
            out_channels,
            depth=check_integer("decoder_depth", decoder_depth, 1),
            drop_path_rate=drop_path_rate,
            scan_backend=scan_backend,
            activation_checkpointing=activation_checkpointing,
        )
        initialise_convolutions(self)

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
        logits = self.decoder(self.vssm_encoder(pad_to_multiple(x)), all_heads)
        outputs = crop_to_scales(logits, x.shape[2], x.shape[3], self.scales)
        if all_heads:
            return outputs
        return outputs[0]
