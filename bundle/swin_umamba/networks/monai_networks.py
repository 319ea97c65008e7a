"""MONAI's networks under one set of arguments with ours, so that one recipe trains them all and models describe them.

Sizes are those of the tables that Swin-UMamba is compared in. `scan_backend` and
`drop_path_rate` are taken and mean nothing to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import UNETR, DynUNet, SegResNet, SwinUNETR
from torch import nn

from swin_umamba.errors import InputError
from swin_umamba.networks.arguments import check_image, check_integer
from swin_umamba.networks.padding import crop_to_scales, pad_to_multiple


class MonaiNetwork(nn.Module):
    """A network of MONAI's for images of any size: (B, in_channels, H, W) -> logits (B, out_channels, H, W).

    Args:
        network: gives logits in the size of its input, or all heads in that size stacked, (B, heads, K, H, W).
        in_channels: channels of the image.
        multiple: of which both sides are made by padding, and at least twice that unless `largest` forbids it: instance
            norm needs more than one pixel at the lowest resolution.
        largest: pixels that a side may have at most; None: any.
        activation_checkpointing: must be false; MONAI's networks have none of ours.

    Raises:
        InputError: if checkpointing is asked for.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        in_channels: int,
        multiple: int,
        activation_checkpointing: bool,
        largest: int | None = None,
    ) -> None:
        super().__init__()
        if activation_checkpointing:
            raise InputError(f"{type(network).__name__} has no activation_checkpointing; legal: false")
        self.network, self.in_channels, self.multiple, self.largest = network, in_channels, multiple, largest
        self.least = 2 * multiple if largest is None else multiple

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Segment images; several heads come as a list, the one of the last layer first."""
        check_image(x, self.in_channels)
        if self.largest is not None and max(x.shape[2:]) > self.largest:
            size = tuple(x.shape[2:])
            raise InputError(f"{type(self.network).__name__} takes images of at most {self.largest} pixels, not {size}")
        logits = self.network(pad_to_multiple(x, self.multiple, self.least))
        if logits.dim() == 4:
            return crop_to_scales([logits], x.shape[2], x.shape[3], [1])[0]
        heads = list(logits.unbind(1))  # (B, heads, K, H, W) -> heads x (B, K, H, W)
        return crop_to_scales(heads, x.shape[2], x.shape[3], [1] * len(heads))


def dynunet(
    in_channels: int,
    out_channels: int,
    *,
    deep_supervision: bool = True,
    features: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
    activation_checkpointing: bool = False,
    drop_path_rate: float = 0.0,
    scan_backend: str = "auto",
) -> MonaiNetwork:
    """Build the plain U-Net that nnU-Net plans for 320x320; `features` are the channels of its stages, at least three.

    MONAI brings all its heads to full resolution; there is one for each decoder stage.
    """
    stages = len(features)
    if stages < 3:
        raise InputError(f"features must be at least 3 integers, not {features!r}")
    network = DynUNet(
        2,
        check_integer("in_channels", in_channels, 1),
        check_integer("out_channels", out_channels, 1),
        kernel_size=[3] * stages,
        strides=[1] + [2] * (stages - 1),
        upsample_kernel_size=[2] * (stages - 1),
        filters=list(features),
        deep_supervision=deep_supervision,
        deep_supr_num=stages - 2,
    )
    return MonaiNetwork(
        network,
        in_channels=in_channels,
        multiple=2 ** (stages - 1),
        activation_checkpointing=activation_checkpointing,
    )


def swin_unetr(
    in_channels: int,
    out_channels: int,
    *,
    deep_supervision: bool = False,
    feature_size: int = 48,
    activation_checkpointing: bool = False,
    drop_path_rate: float = 0.0,
    scan_backend: str = "auto",
) -> MonaiNetwork:
    """Build SwinUNETR, 2D. One output."""
    network = SwinUNETR(
        in_channels,
        out_channels,
        feature_size=feature_size,
        use_checkpoint=activation_checkpointing,
        spatial_dims=2,
    )
    return MonaiNetwork(network, in_channels=in_channels, multiple=32, activation_checkpointing=False)


def unetr(
    in_channels: int,
    out_channels: int,
    *,
    deep_supervision: bool = False,
    img_size: int = 320,
    feature_size: int = 16,
    hidden_size: int = 768,
    num_heads: int = 12,
    activation_checkpointing: bool = False,
    drop_path_rate: float = 0.0,
    scan_backend: str = "auto",
) -> MonaiNetwork:
    """Build UNETR, 2D, for images of at most `img_size` pixels (a multiple of 16), the patch of a model. One output."""
    img_size = check_integer("img_size", img_size, 16, multiple=16)
    network = UNETR(
        in_channels,
        out_channels,
        img_size,
        feature_size=feature_size,
        hidden_size=hidden_size,
        mlp_dim=4 * hidden_size,
        num_heads=num_heads,
        spatial_dims=2,
    )
    return MonaiNetwork(
        network,
        in_channels=in_channels,
        multiple=img_size,
        activation_checkpointing=activation_checkpointing,
        largest=img_size,
    )


def segresnet(
    in_channels: int,
    out_channels: int,
    *,
    deep_supervision: bool = False,
    init_filters: int = 32,
    activation_checkpointing: bool = False,
    drop_path_rate: float = 0.0,
    scan_backend: str = "auto",
) -> MonaiNetwork:
    """Build SegResNet, 2D. One output."""
    network = SegResNet(2, init_filters=init_filters, in_channels=in_channels, out_channels=out_channels)
    return MonaiNetwork(network, in_channels=in_channels, multiple=8, activation_checkpointing=activation_checkpointing)
