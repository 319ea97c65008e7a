"""Vector code for CPUs, compiled by Numba at the first call: no compiler on the user's machine."""

from __future__ import annotations

from .operators import conv_silu, instance_norm, layer_norm, result_type, takes

__all__ = ["conv_silu", "instance_norm", "layer_norm", "result_type", "takes"]
