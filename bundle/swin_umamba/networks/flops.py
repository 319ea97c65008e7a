"""Count floating point operations as the paper's table does (fvcore, one multiply-add = 1, the scan by a formula).

fvcore cannot see into a scan kernel, so while it traces, the scan is one opaque operation that is counted as
9 B L D N + B L D with D = 4 directions x 2C channels (state-spaces/mamba issue 110, used by VMamba since February 2024
and by the second table of Swin-UMamba), plus the two projections before it; the scan of U-Mamba's sequences by the same
formula with D = 2C channels, its projections being layers that fvcore sees. Needs `fvcore`, a development dependency.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import nn

from swin_umamba.networks import mamba, vss


class CountedScan(torch.autograd.Function):
    """Stands in for the scan while tracing: the right shape, no arithmetic, one node in the graph."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, project: torch.Tensor, dt: torch.Tensor, A_logs: torch.Tensor
    ) -> torch.Tensor:
        """Return zeros like the map (B, H, W, D)."""
        return torch.zeros_like(x)


class CountedSequenceScan(torch.autograd.Function):
    """The same for the scan of sequences."""

    @staticmethod
    def forward(
        ctx: Any, u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
    ) -> torch.Tensor:
        """Return zeros like the sequences (B, D, L); all is taken, so that what makes it is counted."""
        return torch.zeros_like(u)


def scan_flops(batch: int, length: int, channels: int, states: int, *, directions: int = 4) -> int:
    """Operations of the recurrence alone: 9 B L D N + B L D, D = directions * channels."""
    return batch * length * directions * channels * (9 * states + 1)


def projection_flops(batch: int, length: int, channels: int, states: int, rank: int, *, directions: int = 4) -> int:
    """Multiply-adds that make dt, B and C of every pixel, and delta of dt."""
    return batch * length * directions * channels * (rank + 2 * states + rank)


def count_flops(network: nn.Module, image: torch.Tensor) -> dict[str, float]:
    """Count the operations of one forward pass.

    Args:
        network: in the mode that is to be counted; the paper counts training mode with deep supervision.
        image: (B, C, H, W).

    Returns:
        Operations by kind ("conv", "linear", "scan", "projection", ...) and their "total".
    """
    from fvcore.nn import FlopCountAnalysis

    def counted(
        x: torch.Tensor, project: torch.Tensor, dt: torch.Tensor, *rest: torch.Tensor, **_: Any
    ) -> torch.Tensor:
        return CountedScan.apply(x, project, dt, rest[1])  # rest: bias, A_logs, Ds

    def counted_sequences(*given: Any) -> torch.Tensor:
        return CountedSequenceScan.apply(*given[:5])  # u, delta, A, B, C

    analysis = FlopCountAnalysis(network, image).set_op_handle("prim::PythonOp.CountedScan", _handle)
    analysis.set_op_handle("prim::PythonOp.CountedSequenceScan", _handle_sequences)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with (
        mock.patch.object(vss, "ss2d_scan", counted),
        mock.patch.object(mamba, "selective_scan", counted_sequences),
    ):
        by_kind = dict(analysis.by_operator())
    return {**by_kind, "total": float(sum(by_kind.values()))}


def _handle(inputs: list[Any], outputs: list[Any]) -> dict[str, float]:
    x, _, dt, rates = (value.type().sizes() for value in inputs)
    length = x[1] * x[2]
    return {
        "scan": float(scan_flops(x[0], length, x[3], rates[1], directions=dt[0])),
        "projection": float(projection_flops(x[0], length, x[3], rates[1], dt[2], directions=dt[0])),
    }


def _handle_sequences(inputs: list[Any], outputs: list[Any]) -> dict[str, float]:
    u, _, rates = (value.type().sizes() for value in inputs[:3])
    return {"scan": float(scan_flops(u[0], u[2], u[1], rates[1], directions=1))}
