"""CUDA kernels that NVRTC, a part of PyTorch's CUDA packages, compiles at the first call: no toolkit, no headers."""

from __future__ import annotations

from .kernels import Kernels, load_kernels, pointer, value_name, why_unavailable

__all__ = ["Kernels", "load_kernels", "pointer", "value_name", "why_unavailable"]
