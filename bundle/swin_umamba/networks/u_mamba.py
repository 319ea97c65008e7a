"""U-Mamba (Ma et al., arXiv 2401.04722), the convolutional U-Net with Mamba layers, as its code was in January 2024.

The paper's tables come from that code; it is here to be compared with. Its Mamba layers stand in the path itself, with
no residual around them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import nn
from torch.utils.checkpoint import checkpoint

from swin_umamba.errors import InputError
from swin_umamba.networks.arguments import check_backend, check_image, check_integer
from swin_umamba.networks.initialisation import LEAKY_SLOPE, initialise_convolutions
from swin_umamba.networks.mamba import MambaLayer
from swin_umamba.networks.padding import crop_to_scales, pad_to_multiple

LEAKY = ("leakyrelu", {"negative_slope": LEAKY_SLOPE, "inplace": True})
INSTANCE = ("instance", {"affine": True})


class ResidualBlock(nn.Module):
    """nnU-Net's residual block: (B, C, H, W) -> (B, out_channels, H / stride, W / stride).

    Two 3x3 convolutions with instance norm and leaky ReLU; the way around them averages where the block strides, and is
    projected where the channels change.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Convolution(
            2, in_channels, out_channels, strides=stride, adn_ordering="NA", act=LEAKY, norm=INSTANCE
        )
        self.conv2 = Convolution(2, out_channels, out_channels, adn_ordering="N", norm=INSTANCE)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.project: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.project = Convolution(
                2, in_channels, out_channels, kernel_size=1, adn_ordering="N", norm=INSTANCE, bias=False
            )
        self.act = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        return self.act(self.conv2(self.conv1(x)) + self.project(self.pool(x)))


class EncoderStage(nn.Module):
    """Two residual blocks, the first with a stride, and a Mamba layer where there is one."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, mamba: bool, scan_backend: str) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ResidualBlock(in_channels, out_channels, stride=stride), ResidualBlock(out_channels, out_channels)
        )
        self.mamba = MambaLayer(out_channels, scan_backend=scan_backend) if mamba else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        return self.mamba(self.blocks(x))


class DecoderStage(nn.Module):
    """Double the resolution, join the skip, two residual blocks: (B, C, H, W) -> (B, out_channels, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.blocks = nn.Sequential(
            ResidualBlock(2 * out_channels, out_channels), ResidualBlock(out_channels, out_channels)
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) and a skip (B, out_channels, 2H, 2W) to (B, out_channels, 2H, 2W)."""
        return self.blocks(torch.cat((self.up(x), skip), dim=1))


class UMamba(nn.Module):
    """U-Mamba, 2D: nnU-Net's residual encoder and decoder, with Mamba at the bottleneck or after every encoder stage.

    In evaluation the result is one tensor of logits (B, out_channels, H, W). In training with deep supervision it is a
    list, one output for each decoder stage, full resolution first; each is half the one before, rounded up.

    Args:
        in_channels: channels of the image, at least 1.
        out_channels: classes including background, at least 1.
        deep_supervision: return all outputs while training. The heads exist either way.
        features: channels of each stage, at least two; nnU-Net's plan for 320x320 by default. Each stage halves the
            resolution; images are padded to what the last one needs.
        every_stage: Mamba after every encoder stage (U-Mamba_Enc) instead of the last one alone (U-Mamba_Bot).
        scan_backend: "auto" or a name of `swin_umamba.scan`.
        activation_checkpointing: recompute stages in the backward pass.
        drop_path_rate: taken for the sake of one set of arguments for all networks; U-Mamba has no drop path.

    Raises:
        InputError: if an argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        deep_supervision: bool = True,
        features: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
        every_stage: bool = False,
        scan_backend: str = "auto",
        activation_checkpointing: bool = False,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels = check_integer("in_channels", in_channels, 1)
        self.out_channels = check_integer("out_channels", out_channels, 1)
        if len(features) < 2:
            raise InputError(f"features must be at least 2 integers, not {features!r}")
        widths = [check_integer("features", width, 1) for width in features]
        self.deep_supervision = bool(deep_supervision)
        self.activation_checkpointing = activation_checkpointing
        self.scales = [2**i for i in range(len(widths) - 1)]  # of the outputs
        self.stem = Convolution(2, in_channels, widths[0], adn_ordering="NA", act=LEAKY, norm=INSTANCE)
        last = len(widths) - 1
        self.encoder = nn.ModuleList(
            EncoderStage(
                widths[max(i - 1, 0)],
                width,
                stride=2 if i else 1,
                mamba=every_stage or i == last,
                scan_backend=check_backend(scan_backend),
            )
            for i, width in enumerate(widths)
        )
        self.decoder = nn.ModuleList(DecoderStage(widths[i + 1], widths[i]) for i in reversed(range(last)))
        self.heads = nn.ModuleList(nn.Conv2d(widths[i], self.out_channels, 1) for i in reversed(range(last)))
        self._initialise(every_stage)

    def _initialise(self, every_stage: bool) -> None:
        initialise_convolutions(self)
        for layer in self.modules():
            if isinstance(layer, nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, a=LEAKY_SLOPE)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            if every_stage and isinstance(layer, ResidualBlock):
                nn.init.zeros_(layer.get_parameter("conv2.adn.N.weight"))  # blocks start as what goes around them

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Segment images of any size.

        Args:
            x: (B, in_channels, H, W), H and W at least 1.

        Returns:
            Logits (B, out_channels, H, W), or while training with deep supervision the list of them at every scale.
        """
        check_image(x, self.in_channels)
        all_heads = self.training and self.deep_supervision
        multiple = 2 * self.scales[-1]
        features = self.encode(pad_to_multiple(x, multiple, 2 * multiple))  # instance norm needs more than one pixel
        y = features[-1]
        logits: list[torch.Tensor] = []
        for i, (stage, head) in enumerate(zip(self.decoder, self.heads, strict=True)):
            y = self.run(stage, y, features[-2 - i])
            if all_heads or i == len(self.heads) - 1:
                logits.insert(0, head(y))  # (B, C, h, w) -> (B, K, h, w)
        outputs = crop_to_scales(logits, x.shape[2], x.shape[3], self.scales)
        return outputs if all_heads else outputs[0]

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map padded images to the map of every encoder stage, finest first."""
        x = self.stem(x)
        features = []
        for stage in self.encoder:
            x = self.run(stage, x)
            features.append(x)
        return features

    def run(self, stage: nn.Module, *maps: torch.Tensor) -> torch.Tensor:
        """Apply a stage, recomputing it in the backward pass if that was asked for."""
        if self.activation_checkpointing and self.training:
            return checkpoint(stage, *maps, use_reentrant=False)
        return stage(*maps)
