"""The `reference` backend: runs wherever PyTorch does."""

from __future__ import annotations

import torch

from .backends import BackendStatus


def status() -> BackendStatus:
    """Plain PyTorch is always there."""
    return BackendStatus(True, f"plain PyTorch {torch.__version__}, any device; slow")


def refusal(device_type: str, dtype: torch.dtype, states: int = 16) -> str | None:
    """Return why such a tensor cannot be scanned: integers have no gradient of a scan."""
    return None if dtype.is_floating_point else "only floating point types can be scanned"
