"""VM-UNet (Ruan and Xiang, arXiv 2402.02491), a U-Net of VSS blocks alone, to be compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from swin_umamba.networks.arguments import check_backend, check_depths, check_image, check_integer, check_rate
from swin_umamba.networks.initialisation import initialise_linears
from swin_umamba.networks.padding import crop_to_scales, pad_to_multiple
from swin_umamba.networks.pixels import pixel_logits
from swin_umamba.networks.vss import FinalPatchExpand, PatchEmbed, PatchExpand, PatchMerging, VSSStage

COLORS = 3
FINAL_SHARE = 4  # of the channels, how many stay in full resolution


class DownStage(VSSStage):
    """VSS blocks, then patch merging: (B, H, W, C) -> (B, H / 2, W / 2, 2C); the last stage does not merge."""

    def __init__(self, channels: int, *, last: bool, **options: object) -> None:
        super().__init__(channels, **options)  # type: ignore[arg-type]
        self.downsample = nn.Identity() if last else PatchMerging(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, H / 2, W / 2, 2C)."""
        return self.downsample(super().forward(x))


class UpStage(VSSStage):
    """Patch expansion, then VSS blocks: (B, H, W, 2C) -> (B, 2H, 2W, C); the first stage does not expand."""

    def __init__(self, channels: int, *, first: bool, **options: object) -> None:
        super().__init__(channels, **options)  # type: ignore[arg-type]
        self.upsample = nn.Identity() if first else PatchExpand(2 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, 2C) to (B, 2H, 2W, C)."""
        return super().forward(self.upsample(x))


class VMUNet(nn.Module):
    """VM-UNet, 2D: VMamba encoder on 4x4 patches, decoder of VSS blocks, skips that are added. One output.

    The official code repeats an image of one channel three times, and so does this. It ends two classes with a sigmoid
    inside the network; here logits come out, as of every network.

    Args:
        in_channels: channels of the image, at least 1.
        out_channels: classes including background, at least 1.
        deep_supervision: taken for the sake of one set of arguments for all networks; there is one output.
        embed_dim: E, channels of the finest stage, a multiple of 4; they double at every stage.
        depths: VSS blocks of the encoder's four stages.
        decoder_depths: of the decoder's, coarsest first.
        drop_path_rate: of the encoder's last and the decoder's first block, in [0, 1); linear to 0 outwards.
        scan_backend: "auto" or a name of `swin_umamba.scan`.
        activation_checkpointing: recompute blocks in the backward pass.

    Raises:
        InputError: if an argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        deep_supervision: bool = False,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 2, 2),
        decoder_depths: Sequence[int] = (2, 2, 2, 1),
        drop_path_rate: float = 0.2,
        scan_backend: str = "auto",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_integer("in_channels", in_channels, 1)
        self.out_channels = check_integer("out_channels", out_channels, 1)
        embed_dim = check_integer("embed_dim", embed_dim, FINAL_SHARE, multiple=FINAL_SHARE)
        rate = check_rate("drop_path_rate", drop_path_rate)
        options = {"scan_backend": check_backend(scan_backend), "activation_checkpointing": activation_checkpointing}
        self.patch_embed = PatchEmbed(COLORS if in_channels == 1 else in_channels, embed_dim, patch_size=4)
        widths = [embed_dim * 2**i for i in range(4)]
        down, up = _rates(0, rate, check_depths(depths)), _rates(rate, 0, check_depths(decoder_depths))
        self.layers = nn.ModuleList(
            DownStage(width, last=i == 3, drop_path=down[i], **options) for i, width in enumerate(widths)
        )
        self.layers_up = nn.ModuleList(
            UpStage(width, first=i == 0, drop_path=up[i], **options) for i, width in enumerate(reversed(widths))
        )
        self.final_up = FinalPatchExpand(embed_dim, embed_dim // FINAL_SHARE)
        self.final_conv = nn.Conv2d(embed_dim // FINAL_SHARE, self.out_channels, kernel_size=1)
        initialise_linears(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment images of any size: (B, in_channels, H, W) -> logits (B, out_channels, H, W)."""
        if not torch.jit.is_scripting():
            check_image(x, self.in_channels)
        height, width = x.shape[2], x.shape[3]
        if self.in_channels == 1:
            x = x.repeat(1, COLORS, 1, 1)  # (B, 1, H, W) -> (B, 3, H, W)
        x = self.patch_embed(pad_to_multiple(x))
        skips: list[torch.Tensor] = []
        for down in self.layers:
            skips.append(x)
            x = down(x)
        for i, up in enumerate(self.layers_up):
            x = up(x if i == 0 else x + skips[4 - i])
        if torch.jit.is_scripting():
            logits = self.final_conv(self.final_up(x).permute(0, 3, 1, 2))  # (B, H, W, E/4) -> (B, K, H, W)
        else:
            logits = pixel_logits(self.final_up, self.final_conv, x)
        return crop_to_scales([logits], height, width, [1])[0]


def _rates(first: float, last: float, depths: Sequence[int]) -> list[list[float]]:
    """Return the drop path of every block, stage by stage, linear from first to last."""
    rates = iter(torch.linspace(first, last, sum(depths), dtype=torch.float64).tolist())
    return [[next(rates) for _ in range(depth)] for depth in depths]
