"""The Mamba block on sequences, as U-Mamba uses it (Gu and Dao, arXiv 2312.00752, figure 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from swin_umamba.networks.initialisation import initialise_scan
from swin_umamba.networks.vss import EXPANSION, STATE_SIZE, dt_rank
from swin_umamba.scan import selective_scan
from swin_umamba.scan.reference import selective_scan_reference

KERNEL_SIZE = 4


class Mamba(nn.Module):
    """Causal convolution, selective scan and gate: (B, L, C) -> (B, L, C). Parameter names are `mamba_ssm`'s.

    Args:
        channels: C; inside are 2C.
        scan_backend: "auto" or a name of `swin_umamba.scan`. A scripted module always uses the plain one.
    """

    def __init__(self, channels: int, *, scan_backend: str = "auto") -> None:
        super().__init__()
        inner, self.rank = EXPANSION * channels, dt_rank(channels)
        self.scan_backend = scan_backend
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, KERNEL_SIZE, groups=inner, padding=KERNEL_SIZE - 1)
        self.x_proj = nn.Linear(inner, self.rank + 2 * STATE_SIZE, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, STATE_SIZE))
        self.D = nn.Parameter(torch.empty(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        initialise_scan(self.x_proj.weight, self.dt_proj.weight, self.dt_proj.bias, self.A_log, self.D)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, L, C) to (B, L, C)."""
        x, gate = self.in_proj(x).chunk(2, dim=-1)  # (B, L, C) -> 2 x (B, L, 2C)
        x = x.transpose(1, 2)  # (B, L, 2C) -> (B, 2C, L)
        x = F.silu(self.conv1d(x)[:, :, : x.shape[2]])
        dt, b, c = self.x_proj(x.transpose(1, 2)).split([self.rank, STATE_SIZE, STATE_SIZE], dim=-1)  # (B, L, R + 2N)
        delta = F.linear(dt, self.dt_proj.weight).transpose(1, 2)  # (B, L, R) -> (B, 2C, L)
        y = self.scan(x, delta, b.transpose(1, 2), c.transpose(1, 2))  # b, c: (B, L, N) -> (B, N, L)
        return self.out_proj(y.transpose(1, 2) * F.silu(gate))

    def scan(self, x: torch.Tensor, delta: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Scan x and delta (B, 2C, L) with b and c (B, N, L); returns (B, 2C, L)."""
        rates = -torch.exp(self.A_log.float())
        if torch.jit.is_scripting():
            return selective_scan_reference(x, delta, rates, b, c, self.D, self.dt_proj.bias, True)
        else:
            return selective_scan(x, delta, rates, b, c, self.D, self.dt_proj.bias, True, self.scan_backend)


class MambaLayer(nn.Module):
    """LayerNorm and Mamba over the pixels of a map in row-major order, in float32: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, *, scan_backend: str = "auto") -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mamba = Mamba(channels, scan_backend=scan_backend)

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the layer in the precision of `x`."""
        tokens = x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, H*W, C)
        return self.mamba(self.norm(tokens)).transpose(1, 2).reshape(x.shape)  # (B, H*W, C) -> (B, C, H, W)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C, H, W), whatever the precision around it."""
        if torch.jit.is_scripting():
            return self.mix(x.float())
        else:
            with torch.autocast(x.device.type, enabled=False):
                return self.mix(x.float())
