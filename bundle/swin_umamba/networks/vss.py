"""The visual state space (VSS) block and the VMamba encoder that both networks share.

Everything here works on channels-last maps (B, H, W, C); only convolutions see (B, C, H, W). Module names follow the
official checkpoints (VMamba, January 2024), so their keys load as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.layers import DropPath as MonaiDropPath
from torch import nn
from torch.utils.checkpoint import checkpoint

from swin_umamba import cpu
from swin_umamba.cuda import conv_silu, layer_norm, plain_conv_silu, plain_layer_norm
from swin_umamba.networks.initialisation import initialise_scan
from swin_umamba.scan import ss2d_scan
from swin_umamba.scan.reference import ss2d_scan_reference

DIRECTIONS = 4
STATE_SIZE = 16
EXPANSION = 2


def dt_rank(channels: int) -> int:
    """Rank of the projection that gives the step size delta: a sixteenth of the block's channels, rounded up."""
    return math.ceil(channels / 16)


def normalise(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float, gate: torch.Tensor | None = None
) -> torch.Tensor:
    """Layer norm over the channels of (..., C), then times SiLU of `gate` (..., C) if there is one."""
    if torch.jit.is_scripting():
        return plain_layer_norm(x, weight, bias, eps, gate)
    elif x.is_cuda:
        return layer_norm(x, weight, bias, eps, gate)
    else:
        return cpu.layer_norm(x, weight, bias, eps, gate)


class SS2D(nn.Module):
    """2D selective scan: the map is read along rows and columns, forwards and backwards, and the four readings add up.

    Args:
        channels: C, channels of the input and the output; inside are 2C.
        scan_backend: name of a backend of `swin_umamba.scan`, or "auto". A scripted module always uses the plain one.

    Source: Swin-UMamba (arXiv 2402.03302) section 2.2, after VMamba (arXiv 2401.10166) section 4.
    """

    def __init__(self, channels: int, *, scan_backend: str = "auto") -> None:
        super().__init__()
        inner, rank = EXPANSION * channels, dt_rank(channels)
        self.scan_backend = scan_backend
        self.x_proj_weight = nn.Parameter(torch.empty(DIRECTIONS, rank + 2 * STATE_SIZE, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(DIRECTIONS, inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(DIRECTIONS, inner))
        self.A_logs = nn.Parameter(torch.empty(DIRECTIONS * inner, STATE_SIZE))
        self.Ds = nn.Parameter(torch.empty(DIRECTIONS * inner))
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, kernel_size=3, padding=1, groups=inner)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        initialise_scan(self.x_proj_weight, self.dt_projs_weight, self.dt_projs_bias, self.A_logs, self.Ds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        x, gate = self.in_proj(x).chunk(2, dim=-1)  # (B, H, W, C) -> 2 x (B, H, W, 2C)
        y = self.scan(self.convolve(x))
        norm = self.out_norm
        return self.out_proj(normalise(y, norm.weight, norm.bias, norm.eps, gate))

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve each channel and apply SiLU: (B, H, W, 2C) to (B, H, W, 2C)."""
        weight, bias = self.conv2d.weight, self.conv2d.bias
        if torch.jit.is_scripting():
            return plain_conv_silu(x, weight, bias)
        elif x.is_cuda:
            return conv_silu(x, weight, bias)
        else:
            return cpu.conv_silu(x, weight, bias)

    def scan(self, x: torch.Tensor) -> torch.Tensor:
        """Run the four scans over (B, H, W, 2C) and return their sum, (B, H, W, 2C)."""
        if torch.jit.is_scripting():
            return ss2d_scan_reference(
                x, self.x_proj_weight, self.dt_projs_weight, self.dt_projs_bias, self.A_logs, self.Ds
            )
        else:
            weights = (self.x_proj_weight, self.dt_projs_weight, self.dt_projs_bias, self.A_logs, self.Ds)
            return ss2d_scan(x, *weights, backend=self.scan_backend)


class DropPath(MonaiDropPath):
    """MONAI's drop path, with the mask made in a way that TorchScript can compile."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero the whole of each sample with probability `drop_prob` while training; x is (B, ...)."""
        if not self.training or self.drop_prob == 0.0:
            return x
        keep = 1.0 - self.drop_prob
        mask = torch.empty([x.shape[0]] + [1] * (x.dim() - 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * (mask / keep)


class VSSBlock(nn.Module):
    """Residual block x + DropPath(SS2D(LayerNorm(x))) on (B, H, W, C); it has no MLP."""

    def __init__(self, channels: int, *, drop_path: float = 0.0, scan_backend: str = "auto") -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(channels)
        self.self_attention = SS2D(channels, scan_backend=scan_backend)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        normalised = normalise(x, self.ln_1.weight, self.ln_1.bias, self.ln_1.eps)
        return x + self.drop_path(self.self_attention(normalised))


class VSSStage(nn.Module):
    """VSS blocks one after the other at one resolution.

    Args:
        channels: C.
        drop_path: one rate in [0, 1) per block; its length is the number of blocks.
        scan_backend: see `SS2D`.
        activation_checkpointing: recompute each block in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        channels: int,
        *,
        drop_path: Sequence[float],
        scan_backend: str = "auto",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.blocks = nn.ModuleList(VSSBlock(channels, drop_path=p, scan_backend=scan_backend) for p in drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        for block in self.blocks:
            if torch.jit.is_scripting():
                x = block(x)
            elif self.activation_checkpointing:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


class PatchEmbed(nn.Module):
    """Cut (B, C, H, W) into patches of `patch_size` and embed each: (B, H / patch_size, W / patch_size, E)."""

    def __init__(self, in_channels: int, embed_dim: int, *, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, H / patch_size, W / patch_size, E)."""
        x = self.proj(x).permute(0, 2, 3, 1)  # (B, E, H/p, W/p) -> (B, H/p, W/p, E)
        return normalise(x, self.norm.weight, self.norm.bias, self.norm.eps)


class PatchMerging(nn.Module):
    """Halve the resolution and double the channels: (B, H, W, C) -> (B, H / 2, W / 2, 2C); H and W even."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, H / 2, W / 2, 2C)."""
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)  # (B, H, W, C) -> (B, H/2, 2, W/2, 2, C)
        # the row inside the 2x2 patch varies fastest: (B, H/2, 2, W/2, 2, C) -> (B, H/2, W/2, 2 columns, 2 rows, C)
        x = x.permute(0, 1, 3, 4, 2, 5)
        x = x.reshape(batch, height // 2, width // 2, 4 * channels)  # -> (B, H/2, W/2, 4C)
        return self.reduction(normalise(x, self.norm.weight, self.norm.bias, self.norm.eps))


def depth_to_space(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Spread channels over space: (B, H, W, factor * factor * C) -> (B, factor * H, factor * W, C)."""
    batch, height, width, channels = x.shape
    channels = channels // (factor * factor)
    x = x.reshape(batch, height, width, factor, factor, channels)  # (B, H, W, p*p*C) -> (B, H, W, p, p, C)
    x = x.permute(0, 1, 3, 2, 4, 5)  # (B, H, W, p, p, C) -> (B, H, p, W, p, C)
    return x.reshape(batch, height * factor, width * factor, channels)  # -> (B, pH, pW, C)


class PatchExpand(nn.Module):
    """Double the resolution and halve the channels: (B, H, W, C) -> (B, 2H, 2W, C / 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(channels // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, 2H, 2W, C / 2)."""
        x = depth_to_space(self.expand(x), 2)
        return normalise(x, self.norm.weight, self.norm.bias, self.norm.eps)


class FinalPatchExpand(nn.Module):
    """Return from the patch grid to pixels: (B, H, W, C) -> (B, 4H, 4W, out_channels), by default C of them."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        self.expand = nn.Linear(channels, 16 * out_channels, bias=False)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, 4H, 4W, out_channels)."""
        x = depth_to_space(self.expand(x), 4)
        return normalise(x, self.norm.weight, self.norm.bias, self.norm.eps)


class VSSMEncoder(nn.Module):
    """VMamba encoder: patch embedding, then four stages of VSS blocks with patch merging between them.

    Args:
        in_channels: channels of the map that is cut into patches.
        embed_dim: E, channels of the first stage; they double at every stage.
        patch_size: side of a patch in pixels of the input.
        depths: blocks of each stage.
        drop_path_rate: drop path of the last block, in [0, 1); it grows linearly from 0 at the first.
        scan_backend: see `SS2D`.
        activation_checkpointing: see `VSSStage`.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        embed_dim: int,
        patch_size: int,
        depths: Sequence[int],
        drop_path_rate: float,
        scan_backend: str = "auto",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), dtype=torch.float64).tolist())
        self.patch_embed = PatchEmbed(in_channels, embed_dim, patch_size=patch_size)
        self.layers = nn.ModuleList(
            VSSStage(
                embed_dim * 2**i,
                drop_path=[next(rates) for _ in range(depth)],
                scan_backend=scan_backend,
                activation_checkpointing=activation_checkpointing,
            )
            for i, depth in enumerate(depths)
        )
        self.downsamples = nn.ModuleList(PatchMerging(embed_dim * 2**i) for i in range(len(depths) - 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map (B, C, H, W) to one map per stage, (B, H / p / 2**i, W / p / 2**i, E * 2**i), finest first."""
        x = self.patch_embed(x)
        features: list[torch.Tensor] = []
        for stage, merge in zip(self.layers, self.downsamples):  # noqa: B905 (one merging less; TorchScript has no strict)
            features.append(stage(x))
            x = merge(features[-1])
        features.append(self.layers[-1](x))
        return features
