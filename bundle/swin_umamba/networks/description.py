"""Tell from its keys and shapes which network a state dict belongs to, so that errors can say what does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

SWIN_UMAMBA = "Swin-UMamba"
SWIN_UMAMBA_D = "Swin-UMamba-dagger"
SWIN_UMAMBA_OLD = "Swin-UMamba of before March 2024 (no decoder6; 40 million parameters)"
VM_UNET = "VM-UNet"
VMAMBA = "VMamba of January 2024"
VMAMBA_OTHER = "another generation of VMamba (keys like patch_embed.0 or classifier)"
UNKNOWN = "an unknown network"


@dataclass(frozen=True)
class Description:
    """What a state dict says about its network; None where it does not say.

    Attributes:
        network: one of the names above.
        in_channels: channels of the image.
        out_channels: classes including background.
        embed_dim: channels of the first stage.
        depths: blocks of each encoder stage.
    """

    network: str
    in_channels: int | None = None
    out_channels: int | None = None
    embed_dim: int | None = None
    depths: tuple[int, ...] = ()


def describe_state_dict(state: Mapping[str, torch.Tensor]) -> Description:
    """Return what `state` is the state dict of."""
    network = _network_of(state)
    if network == VMAMBA:
        return _describe(state, network, "", "patch_embed.proj.weight", None)
    if network == VM_UNET:
        return _describe(state, network, "", "patch_embed.proj.weight", "final_conv.weight")
    if network == SWIN_UMAMBA_D:
        image = "vssm_encoder.patch_embed.proj.weight"
        return _describe(state, network, "vssm_encoder.", image, "decoder.seg_layers.3.weight")
    if network in (SWIN_UMAMBA, SWIN_UMAMBA_OLD):
        return _describe(state, network, "vssm_encoder.", "stem.0.weight", "out_layers.0.conv.conv.weight")
    return Description(network)


def _network_of(state: Mapping[str, torch.Tensor]) -> str:
    if "vssm_encoder.patch_embed.proj.weight" in state:
        if any(key.startswith("decoder.stages.") for key in state):
            return SWIN_UMAMBA_D
        if "stem.0.weight" in state:
            return SWIN_UMAMBA if "decoder6.transp_conv.conv.weight" in state else SWIN_UMAMBA_OLD
    if any(key.startswith("layers_up.") for key in state):
        return VM_UNET
    if any(key.startswith(("patch_embed.0.", "classifier.")) or ".op." in key for key in state):
        return VMAMBA_OTHER
    if "patch_embed.proj.weight" in state and "layers.0.blocks.0.self_attention.A_logs" in state:
        return VMAMBA
    return UNKNOWN


def _describe(
    state: Mapping[str, torch.Tensor], network: str, prefix: str, image_key: str, head_key: str | None
) -> Description:
    blocks: dict[int, int] = {}
    for key in state:
        match = re.match(rf"{re.escape(prefix)}layers\.(\d+)\.blocks\.(\d+)\.", key)
        if match:
            stage, block = int(match[1]), int(match[2])
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
    return Description(
        network,
        in_channels=_size(state, image_key, 1),
        out_channels=_size(state, head_key, 0) if head_key else None,
        embed_dim=_size(state, f"{prefix}patch_embed.proj.weight", 0),
        depths=tuple(blocks[stage] for stage in sorted(blocks)),
    )


def _size(state: Mapping[str, torch.Tensor], key: str, axis: int) -> int | None:
    return state[key].shape[axis] if key in state and state[key].dim() == 4 else None
